//! What spam-score does, stage by stage, on the bench.

use waypost_sdk::Bench;
use waypost_sdk::script::Edit;

use super::*;

const HAM: &str = "Received: from mx.example.org by mx.example.com; Thu, 22 Aug 2002 12:26:30 -0400\nFrom: Ann <ann@example.org>\nTo: bob@example.com\nSubject: lunch tomorrow\nDate: Thu, 22 Aug 2002 12:26:25 -0400\nMessage-ID: <a1@example.org>\n\nHi Bob,\n\nshall we meet at noon?\n\nAnn\n";
const SPAM: &str = "Received: from mx.example.org by mx.example.com; Thu, 22 Aug 2002 12:26:30 -0400\nFrom: \"Rich\" <rich8812@example.biz>\nTo: undisclosed-recipients:;\nSubject: MAKE $5000 PER WEEK NOW!!!      qzxkw\nDate: Thu, 29 Aug 2002 12:26:25 -0400\nContent-Type: text/html\n\n<html><b>Make money</b> from home! <a href=\"http://192.0.2.7/x?id=bob@example.com\">Click here</a> to order now. This is not spam. To be removed from our list reply.</html>\n";

fn bench(settings: &str) -> Bench<SpamScore> {
    let mut bench = Bench::start(settings).unwrap();
    bench.client("198.51.100.7").script().session.helo = "mx.example.org".into();
    bench.mail("ann@example.org").unwrap();
    bench
}

fn names(bench: &Bench<SpamScore>) -> Vec<String> {
    bench.facts().iter().map(|fact| fact.split(' ').next().unwrap().to_string()).collect()
}

fn hit(letter: &str) -> Vec<String> {
    let mut bench = bench("");
    bench.letter(letter);
    bench.message().unwrap();
    names(&bench)
}

#[test]
fn ham_is_not_flagged() {
    let mut bench = bench("");
    bench.letter(HAM);
    assert_eq!(bench.message(), Ok(Action::Next));
    assert_eq!(names(&bench), Vec::<String>::new());
    assert_eq!(bench.header_put("X-Spam-Score").as_deref(), Some("0.0 / 5.0"));
    assert_eq!(bench.header_put("X-Spam-Status").as_deref(), Some("No, score=0.0 required=5.0 tests=none"));
    assert_eq!(bench.header_put("X-Spam-Flag"), None);
}

#[test]
fn spam_is_flagged_and_let_through() {
    let mut bench = bench("");
    bench.letter(SPAM);
    assert_eq!(bench.message(), Ok(Action::Next));
    assert_eq!(bench.header_put("X-Spam-Flag").as_deref(), Some("YES"));
    let status = bench.header_put("X-Spam-Status").unwrap();
    assert!(status.starts_with("Yes, score="), "{status}");
    assert!(status.split("\r\n").all(|line| line.len() <= 80), "{status}");
    let names = names(&bench);
    for rule in [
        "DATE_FUTURE",
        "FROM_DIGITS",
        "FROM_ODD_TLD",
        "TO_UNDISCLOSED",
        "SUBJECT_CAPS",
        "SUBJECT_GAP",
        "SUBJECT_MONEY",
        "MISSING_MID",
        "HTML_ONLY",
        "LINK_NUMERIC",
        "LINK_TRACKED",
        "PHRASE_MONEY",
        "PHRASE_CALL",
        "PHRASE_REMOVAL",
    ] {
        assert!(names.iter().any(|name| name == rule), "{rule} not in {names:?}");
    }
}

#[test]
fn refusing_and_holding_are_asked_for() {
    let mut refusing = bench(r#"{"refuse-at": 10, "hold-at": 6}"#);
    refusing.letter(SPAM);
    assert!(
        matches!(refusing.message(), Ok(Action::Reject(reply)) if reply.code == 550 && reply.text.contains("score"))
    );
    let mut holding = bench(r#"{"refuse-at": 1000, "hold-at": 6}"#);
    holding.letter(SPAM);
    assert!(matches!(holding.message(), Ok(Action::Quarantine(_))));
    holding.reset();
    holding.mail("ann@example.org").unwrap();
    holding.letter(HAM);
    assert_eq!(holding.message(), Ok(Action::Next));
}

#[test]
fn own_and_whitelisted_mail_is_not_scored() {
    let mut users = bench("");
    users.logged_in("bob").letter(SPAM);
    assert_eq!(users.message(), Ok(Action::Next));
    assert!(users.edits().is_empty());
    let mut permitted = bench("");
    permitted.fact_of_session(WHITELISTED, 0.0).letter(SPAM);
    permitted.message().unwrap();
    assert!(permitted.edits().is_empty());
    let mut all = bench(r#"{"score-own": true}"#);
    all.logged_in("bob").letter(SPAM);
    all.message().unwrap();
    assert!(all.header_put("X-Spam-Flag").is_some());
}

#[test]
fn forged_fields_of_ours_are_taken_out() {
    let mut bench = bench("");
    bench.letter(format!("X-Spam-Flag: NO\nx-spam-status: No\n{HAM}"));
    bench.message().unwrap();
    let removed: Vec<_> =
        bench.edits().into_iter().filter(|edit| matches!(edit, Edit::RemoveHeader { nth: None, .. })).collect();
    assert_eq!(removed.len(), 2);
}

#[test]
fn facts_of_others_count() {
    let mut bench = bench("");
    bench.fact_of_session("DNSL_A", 4.9).letter(HAM.replace("Message-ID", "X-ID"));
    bench.message().unwrap();
    assert!(bench.header_put("X-Spam-Flag").is_some(), "{:?}", bench.header_put("X-Spam-Status"));
}

#[test]
fn authentication_findings_count() {
    let mut bench = bench("");
    bench.finding("spf", "fail", Some("example.org")).finding("dmarc", "fail", Some("example.org")).letter(HAM);
    bench.message().unwrap();
    assert_eq!(names(&bench), ["SPF_FAIL", "DMARC_FAIL"]);
}

#[test]
fn gtube_is_spam() {
    let letter = format!("{HAM}XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\n");
    assert!(hit(&letter).contains(&"GTUBE".to_string()));
}

#[test]
fn programs_attached_are_seen_by_name() {
    let letter = format!(
        "{}Content-Type: multipart/mixed; boundary=B\nMIME-Version: 1.0\n\n--B\n\nlook\n--B\nContent-Type: audio/x-wav; name=\"photo.jpg.pif\"\nContent-Disposition: attachment; filename=\"photo.jpg.pif\"\n\nMZ\n--B--\n",
        HAM.split("\n\n").next().unwrap().to_string() + "\n"
    );
    let names = hit(&letter);
    for rule in ["ATTACH_EXECUTABLE", "ATTACH_DOUBLE_EXTENSION", "ATTACH_ODD_TYPE"] {
        assert!(names.iter().any(|name| name == rule), "{rule} not in {names:?}");
    }
}

#[test]
fn reading_is_bounded() {
    let mut bench = bench(r#"{"read-bytes-max": 4096}"#);
    bench.letter(format!("{HAM}{}", "lorem ipsum dolor sit amet\n".repeat(40_000)));
    bench.message().unwrap();
    assert!(bench.script().message.octets_read < 6000);
}

#[test]
fn odd_messages_are_survived() {
    for letter in [
        "",
        "\n",
        "\n\n",
        ":\n: x\n\n",
        "From:\nTo:\nSubject:\nDate:\nMessage-ID:\nReceived:\nContent-Type:\n\n",
        "Content-Type: multipart/mixed\n\n--",
        "Subject: =?utf-8?B?",
        "From: <@@@>\nX-Mailer: é\n\né",
    ] {
        hit(letter);
    }
    let mut noise = vec![0u8; 5000];
    let mut state = 1u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let mut bench = bench("");
    bench.letter([b"Content-Type: text/html\n\n".as_slice(), &noise].concat());
    bench.message().unwrap();
}

#[test]
fn mistakes_in_the_settings_name_place_and_remedy() {
    let error = |settings: &str| Bench::<SpamScore>::start(settings).err().unwrap();
    assert!(error(r#"{"required": 0}"#).starts_with("required: must be positive"));
    assert!(error(r#"{"refuse-at": 3}"#).contains("must not be below `required` (5)"));
    assert!(error(r#"{"weights": {"GTUBES": 1}}"#).starts_with("weights.GTUBES: no such rule"));
    assert!(error(r#"{"weights": {"SPF_FAILED": 1}}"#).contains("there is SPF_FAIL, SPF_SOFTFAIL, SPF_PASS"));
    assert!(error(r#"{"required": "six"}"#).starts_with("required: "));
    assert!(error(r#"{"read-bytes-max": 1}"#).starts_with("read-bytes-max"));
}

/// Letters of two kinds that share no words beside the everyday ones.
fn lesson(spam: bool, number: usize) -> String {
    let words: [&str; 12] = if spam {
        [
            "cheap", "pills", "casino", "bonus", "winner", "replica", "watches", "loans", "approved", "discreet",
            "shipping", "jackpot",
        ]
    } else {
        [
            "compiler", "patch", "kernel", "meeting", "minutes", "branch", "review", "draft", "seminar", "thesis",
            "lecture", "garden",
        ]
    };
    let picked: Vec<&str> = (0..40).map(|at| words[(at * 7 + number * 5 + at / 3) % words.len()]).collect();
    // Numbers are told apart by their length alone; this makes each letter another.
    let name: String = number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'k')).collect();
    format!(
        "Received: from mx.example.org by mx.example.com; Thu, 22 Aug 2002 12:26:30 -0400\nFrom: Ann <ann@example.org>\nTo: bob@example.com\nSubject: {} {}\nDate: Thu, 22 Aug 2002 12:26:25 -0400\nMessage-ID: <a1@example.org>\n\nHi Bob, it is {name} here\n\n{}\n",
        picked[0],
        picked[5],
        picked.join(" ")
    )
}

fn taught(settings: &str) -> Bench<SpamScore> {
    let mut bench = bench(settings);
    for number in 0..60 {
        for (spam, command) in [(true, "learn-spam"), (false, "learn-ham")] {
            bench.letter(lesson(spam, number));
            bench.command(command, "").unwrap();
        }
    }
    bench.reset();
    bench
}

fn facts_of(bench: &mut Bench<SpamScore>, letter: &str) -> Vec<String> {
    bench.reset();
    bench.mail("ann@example.org").unwrap();
    bench.letter(letter);
    bench.message().unwrap();
    names(bench)
}

#[test]
fn what_was_learned_is_recognised() {
    let mut bench = taught("");
    assert!(facts_of(&mut bench, &lesson(true, 1000)).contains(&"BAYES_SPAM".into()));
    assert!(facts_of(&mut bench, &lesson(false, 1000)).contains(&"BAYES_HAM".into()));
    let score: String = {
        bench.letter(lesson(true, 1000));
        bench.command("score", "").unwrap()
    };
    assert!(score.contains("\"BAYES_SPAM\"") && score.starts_with("{\"score\":"), "{score}");
}

#[test]
fn too_little_learned_has_no_say() {
    let mut bench = taught(r#"{"learned-min": 61}"#);
    assert_eq!(facts_of(&mut bench, &lesson(true, 1000)), Vec::<String>::new());
    assert!(bench.command("stats", "").unwrap().contains("\"in_use\":false"));
}

#[test]
fn a_message_counts_once_moves_and_is_forgotten() {
    let mut bench = bench("");
    let mut command = |name: &str| {
        bench.letter(lesson(true, 1));
        let said = bench.command(name, "").unwrap();
        let stats = bench.command("stats", "").unwrap();
        let counts = stats.split("\"spam\":").nth(1).unwrap().split(",\"in_use").next().unwrap().to_string();
        (said, counts)
    };
    let is = |said: &str, counts: &str| (said.to_string(), counts.to_string());
    assert_eq!(command("learn-spam"), is("learned", "1,\"ham\":0"));
    assert_eq!(command("learn-spam"), is("nothing", "1,\"ham\":0"));
    assert_eq!(command("learn-ham"), is("moved", "0,\"ham\":1"));
    assert_eq!(command("forget"), is("forgotten", "0,\"ham\":0"));
    assert_eq!(command("forget"), is("nothing", "0,\"ham\":0"));
    assert_eq!(command("learn-ham"), is("learned", "0,\"ham\":1"));
    assert_eq!(command("forget-all"), is("forgotten", "0,\"ham\":0"));
    assert_eq!(command("learn-ham"), is("learned", "0,\"ham\":1"));
    let script = bench.script();
    assert!(script.kv.counters.iter().filter(|((prefix, _), _)| prefix == "t1.0.").all(|(_, pair)| pair.0 == 0));
}

#[test]
fn users_teach_by_mail_and_strangers_do_not() {
    let settings = r#"{"learn-spam": ["spam@example.com"], "learn-ham": ["ham@example.com"]}"#;
    let attached = |inner: String| {
        format!(
            "From: bob@example.com\nSubject: Fwd\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\nsee\n--B\nContent-Type: message/rfc822\n\n{inner}\n--B--\n"
        )
    };
    let mut user = bench(settings);
    user.logged_in("bob");
    let send = |bench: &mut Bench<SpamScore>, to: &[&str], letter: String| {
        bench.reset();
        bench.mail("bob@example.com").unwrap();
        to.iter().for_each(|to| {
            bench.rcpt(to).unwrap();
        });
        bench.letter(letter);
        bench.message().unwrap()
    };
    assert_eq!(send(&mut user, &["SPAM@example.com"], attached(lesson(true, 1))), Action::Discard);
    assert!(user.command("stats", "").unwrap().contains("\"spam\":1,\"ham\":0"));
    // What was attached is known by itself; forwarded inline it is another message, and other recipients still get it.
    user.letter(lesson(true, 1));
    assert_eq!(user.command("learn-spam", "").unwrap(), "nothing");
    assert_eq!(send(&mut user, &["ham@example.com", "ann@example.org"], lesson(false, 1)), Action::Next);
    assert!(user.command("stats", "").unwrap().contains("\"spam\":1,\"ham\":1"));
    let mut stranger = bench(settings);
    assert_eq!(send(&mut stranger, &["spam@example.com"], attached(lesson(true, 1))), Action::Next);
    assert!(stranger.command("stats", "").unwrap().contains("\"spam\":0,\"ham\":0"));
}

#[test]
fn a_domain_may_learn_for_itself() {
    let mut bench = bench(r#"{"per-domain": ["Example.net"], "learned-min": 20}"#);
    for number in 0..30 {
        // At example.net the tables are turned.
        for (spam, command) in [(true, "learn-ham"), (false, "learn-spam")] {
            bench.letter(lesson(spam, number));
            bench.command(command, "example.net").unwrap();
        }
    }
    assert!(bench.command("learn-ham", "example.com").unwrap_err().contains("per-domain"));
    let mut judged = |to: &str| {
        bench.reset();
        bench.mail("ann@example.org").unwrap();
        bench.rcpt(to).unwrap();
        bench.letter(lesson(true, 1000));
        bench.message().unwrap();
        names(&bench)
    };
    let own = judged("bob@example.NET");
    assert!(own.contains(&"BAYES_HAM".into()), "{own:?}");
    assert!(!judged("bob@example.com").iter().any(|name| name.starts_with("BAYES")));
}

#[test]
fn without_a_store_the_rules_work_alone() {
    let host_without = |settings: &str| {
        let bench = bench(settings);
        bench.script().env.denied.push("kv".into());
        bench
    };
    // The grant is looked at when the plugin starts, which the bench has done by then: the setting says the same.
    let mut off = host_without(r#"{"bayes": false}"#);
    off.letter(SPAM);
    off.message().unwrap();
    assert!(off.header_put("X-Spam-Flag").is_some());
    assert!(off.command("learn-spam", "").unwrap_err().contains("grant `kv`"));
    assert!(off.script().kv.counters.is_empty());
}

#[test]
fn levels_are_stars() {
    let mut bench = bench("");
    bench.letter(SPAM);
    bench.message().unwrap();
    let score: f64 = bench.header_put("X-Spam-Score").unwrap().split(' ').next().unwrap().parse().unwrap();
    let stars = bench.header_put("X-Spam-Level").unwrap();
    assert!(stars.bytes().all(|star| star == b'*') && (score - stars.len() as f64).abs() <= 1.0, "{score} {stars}");
}
