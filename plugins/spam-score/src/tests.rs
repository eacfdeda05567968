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
    assert_eq!(bench.header_put("X-Spam-Score").as_deref(), Some("0.0 / 6.0"));
    assert_eq!(bench.header_put("X-Spam-Status").as_deref(), Some("No, score=0.0 required=6.0 tests=none"));
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
    bench.fact_of_session("DNSL_A", 5.9).letter(HAM.replace("Message-ID", "X-ID"));
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
    assert!(error(r#"{"refuse-at": 3}"#).contains("must not be below `required` (6)"));
    assert!(error(r#"{"weights": {"GTUBES": 1}}"#).starts_with("weights.GTUBES: no such rule"));
    assert!(error(r#"{"weights": {"SPF_FAILED": 1}}"#).contains("there is SPF_FAIL, SPF_SOFTFAIL, SPF_PASS"));
    assert!(error(r#"{"required": "six"}"#).starts_with("required: "));
    assert!(error(r#"{"read-bytes-max": 1}"#).starts_with("read-bytes-max"));
}
