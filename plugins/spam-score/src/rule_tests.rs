//! Every rule has a message that hits it, and the everyday message that they were made from hits none.

use waypost_sdk::Bench;

use crate::SpamScore;
use crate::rules::RULES;

const BASE: [&str; 6] = [
    "Received: from mx.example.org by mx.example.com; Thu, 22 Aug 2002 12:26:30 -0400",
    "From: Ann <ann@example.org>",
    "To: bob@example.com",
    "Subject: lunch tomorrow",
    "Date: Thu, 22 Aug 2002 12:26:25 -0400",
    "Message-ID: <a1@example.org>",
];
const BODY: &str = "Hi Bob,\n\nshall we meet at noon?\n\nAnn\n";

/// A rule, what is changed of the header block (`-Name` takes a field out, `+Name: x` puts in another, `Name: x` replaces or adds), and
/// the body (empty: the everyday one).
type Row = (&'static str, &'static [&'static str], &'static str);

const HTML: &str = "Content-Type: text/html\nMIME-Version: 1.0";
const ALTERNATIVE: &str = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B";

const ROWS: &[Row] = &[
    ("GTUBE", &[], "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"),
    ("MISSING_DATE", &["-Date"], ""),
    ("MISSING_FROM", &["-From"], ""),
    ("MISSING_MID", &["-Message-ID"], ""),
    ("MISSING_TO", &["-To"], ""),
    ("MISSING_SUBJECT", &["-Subject"], ""),
    ("DUPLICATE_FIELD", &["+Subject: again"], ""),
    ("DATE_INVALID", &["Date: yesterday"], ""),
    ("DATE_FUTURE", &["Date: Fri, 23 Aug 2002 12:26:25 -0400"], ""),
    ("DATE_PAST", &["Date: Mon, 12 Aug 2002 12:26:25 -0400"], ""),
    ("FROM_NO_ADDRESS", &["From: Ann"], ""),
    ("FROM_NAME_IS_ADDRESS", &["From: \"service@bank.example\" <ann@example.org>"], ""),
    ("FROM_DIGITS", &["From: ann48213@example.org"], ""),
    ("FROM_8BIT", &["From: \u{fffd}\u{fffd} <ann@example.org>"], ""),
    ("FROM_ODD_TLD", &["From: ann@example.biz"], ""),
    ("TO_UNDISCLOSED", &["To: undisclosed-recipients:;"], ""),
    ("TO_IS_FROM", &["To: ann@example.org"], ""),
    ("REPLY_TO_ELSEWHERE", &["Reply-To: ann@elsewhere.example"], ""),
    ("REPLY_TO_FREEMAIL", &["Reply-To: ann@hotmail.com"], ""),
    ("SUBJECT_CAPS", &["Subject: LUNCH TOMORROW AGAIN"], ""),
    ("SUBJECT_EXCLAIM", &["Subject: lunch tomorrow!!"], ""),
    ("SUBJECT_MONEY", &["Subject: lunch for $20"], ""),
    ("SUBJECT_GAP", &["Subject: lunch tomorrow        qzxkw"], ""),
    ("SUBJECT_SPACED", &["Subject: L u n c h tomorrow"], ""),
    ("SUBJECT_8BIT", &["Subject: \u{fffd}\u{fffd}\u{fffd}"], ""),
    ("SUBJECT_ADV", &["Subject: ADV: lunch"], ""),
    ("SUBJECT_ADDRESSES_YOU", &["Subject: carol, lunch?"], ""),
    ("SUBJECT_PHRASE", &["Subject: lowest mortgage rates"], ""),
    ("FAKE_REPLY", &["Subject: Re: lunch"], ""),
    ("MID_ODD", &["Message-ID: <a1>"], ""),
    ("MUA_FORGED", &["X-Mailer: Microsoft Outlook Express 6.00"], ""),
    ("MUA_BULK", &["X-Mailer: MailKing"], ""),
    ("PRIORITY_HIGH", &["X-Priority: 1"], ""),
    (
        "RECEIVED_NUMERIC",
        &["Received: from 64.1.2.3 (mx.example.org [64.1.2.3]) by us; Thu, 22 Aug 2002 12:26:30 -0400"],
        "",
    ),
    ("HELO_ODD", &["Received: from pc (mx.example.org [64.1.2.3]) by us; Thu, 22 Aug 2002 12:26:30 -0400"], ""),
    (
        "CLIENT_DYNAMIC",
        &["Received: from mx.x.example (dsl-64-1.x.example [64.1.2.3]) by us; Thu, 22 Aug 2002 12:26:30 -0400"],
        "",
    ),
    ("HELO_UNPROVEN", &["Received: from mx.example.org ([64.1.2.3]) by us; Thu, 22 Aug 2002 12:26:30 -0400"], ""),
    (
        "FREEMAIL_FORGED",
        &[
            "From: ann@yahoo.com",
            "Received: from mx.x.example (mx.x.example [64.1.2.3]) by us; Thu, 22 Aug 2002 12:26:30 -0400",
        ],
        "",
    ),
    (
        "MID_BY_RELAY",
        &[
            "Message-ID: <200208221626.g7MGQhZ17715@us.example>",
            "Received: from mx.x.example (mx.x.example [64.1.2.3]) by us id g7MGQhZ17715; Thu, 22 Aug 2002 12:26:30 -0400",
        ],
        "",
    ),
    ("CLIENT_OF_AUTHOR", &["Received: from x (mx7.example.org [64.1.2.3]) by us; Thu, 22 Aug 2002 12:26:30 -0400"], ""),
    ("MIME_VERSION_MISSING", &["Content-Type: text/plain"], ""),
    ("HTML_ONLY", &[HTML], "<p>shall we meet?</p>"),
    (
        "TEXT_BASE64",
        &["MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: base64"],
        "c2hhbGwgd2UgbWVldCBhdCBub29uPw==\n",
    ),
    ("CHARSET_MISSING", &["MIME-Version: 1.0\nContent-Type: text/plain"], "ääääääääää"),
    ("BODY_EMPTY", &[], "\n"),
    (
        "ATTACH_EXECUTABLE",
        &[ALTERNATIVE],
        "--B\n\nlook\n--B\nContent-Type: application/octet-stream; name=a.exe\n\nMZ\n--B--\n",
    ),
    (
        "ATTACH_DOUBLE_EXTENSION",
        &[ALTERNATIVE],
        "--B\n\nlook\n--B\nContent-Type: application/octet-stream; name=\"a.pdf.exe\"\n\nMZ\n--B--\n",
    ),
    (
        "ATTACH_MACRO",
        &[ALTERNATIVE],
        "--B\n\nlook\n--B\nContent-Type: application/octet-stream; name=a.docm\n\nPK\n--B--\n",
    ),
    ("ATTACH_ODD_TYPE", &[ALTERNATIVE], "--B\n\nlook\n--B\nContent-Type: audio/x-wav; name=a.scr\n\nMZ\n--B--\n"),
    ("HTML_IMAGE_ONLY", &[HTML], "<img src=http://a.example/x.gif>"),
    ("HTML_FORM", &[HTML], "<form action=x><p>text</p></form>"),
    ("HTML_SCRIPT", &[HTML], "<script>x()</script><p>text</p>"),
    ("HTML_WEB_BUG", &[HTML], "<p>text</p><img src=http://a.example/x width=1 height=1>"),
    ("HTML_SPLIT_WORDS", &[HTML], "v<!-- a -->i<!-- b -->a<!-- c -->gra"),
    ("HTML_BIG_FONT", &[HTML], "<font size=7 color=red>text</font>"),
    (
        "HTML_ENTITIES",
        &[HTML],
        "&#97;&#98;&#99;&#97;&#98;&#99;&#97;&#98;&#99;&#97;&#98;&#99;&#97;&#98;&#99;&#97;&#98;&#99;&#97;&#98;&#99;",
    ),
    ("HTML_SHORT", &[HTML], "<p>shall we meet?</p>"),
    ("LINK_MISLEADING", &[HTML], "<a href=http://evil.example/>www.bank.example</a>"),
    ("LINK_NUMERIC", &[], "see http://192.0.2.9/x now"),
    ("LINK_MASKED", &[], "see http://www.bank.example@evil.example/ now"),
    ("LINK_ODD_TLD", &[], "see http://a.xyz/ now"),
    ("LINK_SHORTENER", &[], "see http://bit.ly/x now"),
    ("LINK_TRACKED", &[], "see http://a.example/?u=bob@example.com now"),
    ("LINK_REMOVE", &[], "see http://a.example/remove now"),
    ("PHRASE_MONEY", &[], "you can make money here"),
    ("PHRASE_OFFER", &[], "it is absolutely free"),
    ("PHRASE_CALL", &[], "please click here"),
    ("PHRASE_REMOVAL", &[], "write back to be removed"),
    ("PHRASE_PHARMA", &[], "buy viagra"),
    ("PHRASE_ADULT", &[], "hot girls"),
    ("PHRASE_ADVANCE_FEE", &[], "the next of kin"),
    ("PHRASE_PHISHING", &[], "verify your account"),
    ("PHRASE_BULK", &[], "we sell bulk email"),
    ("BODY_DOLLARS", &[], "$1 and $2 and $3 and $4"),
    ("BODY_EXCLAIM", &[], "now! now! now! now! now! now!"),
    ("BODY_RANDOM", &[], "see you\nxkqwzrtpl"),
    ("BODY_SHORT_LINK", &[], "see http://a.example/ now"),
    ("REPLY_REAL", &["In-Reply-To: <b@example.com>", "Subject: Re: lunch"], "> shall we meet?\n\nyes\n"),
    ("LIST_MAIL", &["List-Id: <l.example.org>", "List-Post: <mailto:l@example.org>"], ""),
    ("LINKS_HOME", &[], "http://www.example.org/1 http://www.example.org/2 http://news.example.org/3 are ours\n"),
    ("NEWSLETTER", &[], "In this issue: lunch. To subscribe write to us. Read our privacy policy.\n"),
    ("SIGNED_OFF", &[], "hi\n\n-- \nAnn\n"),
];

/// Rules that a letter alone does not hit, and the tests that do.
const ELSEWHERE: [&str; 13] = [
    "BAYES_SPAM", // tests::what_was_learned_is_recognised
    "BAYES_HAM",
    "CLIENT_UNNAMED", // findings_of_authentication, below
    "NULL_SENDER_ODD",
    "SPF_FAIL",
    "SPF_SOFTFAIL",
    "SPF_PASS",
    "DKIM_FAIL",
    "DKIM_PASS",
    "DMARC_FAIL",
    "DMARC_PASS",
    "BODY_CAPS", // long_texts, below
    "HTML_HIDDEN",
];

fn letter(changes: &[&str], body: &str) -> String {
    let mut fields: Vec<String> = BASE.iter().map(|field| field.to_string()).collect();
    let named = |field: &str, name: &str| field.split(':').next().unwrap().eq_ignore_ascii_case(name);
    for change in changes {
        match change.split_at(1) {
            ("-", name) => fields.retain(|field| !named(field, name)),
            ("+", field) => fields.push(field.to_string()),
            _ => {
                let name = change.split(':').next().unwrap();
                match fields.iter_mut().find(|field| named(field, name)) {
                    Some(field) => *field = change.to_string(),
                    None => fields.push(change.to_string()),
                }
            }
        }
    }
    format!("{}\n\n{}", fields.join("\n"), if body.is_empty() { BODY } else { body })
}

fn judged(letter: &str, prepare: impl FnOnce(&mut Bench<SpamScore>)) -> Vec<String> {
    let mut bench: Bench<SpamScore> = Bench::start("").unwrap();
    bench.client("198.51.100.7").mail("ann@example.org").unwrap();
    bench.rcpt("carol@example.com").unwrap();
    bench.letter(letter);
    prepare(&mut bench);
    bench.message().unwrap();
    bench.facts().iter().map(|fact| fact.split(' ').next().unwrap().to_string()).collect()
}

#[test]
fn every_rule_is_hit_by_its_letter() {
    assert_eq!(judged(&letter(&[], ""), |_| ()), Vec::<String>::new());
    for (rule, changes, body) in ROWS {
        let hit = judged(&letter(changes, body), |_| ());
        assert!(hit.iter().any(|name| name == rule), "{rule} is not among {hit:?}");
    }
}

#[test]
fn no_rule_is_without_a_test() {
    for (rule, _, _) in RULES {
        let tested = ROWS.iter().any(|(name, ..)| name == rule) || ELSEWHERE.contains(rule);
        assert!(tested, "{rule}");
    }
}

#[test]
fn findings_of_authentication() {
    let findings = [
        ("spf", "fail", "SPF_FAIL"),
        ("spf", "softfail", "SPF_SOFTFAIL"),
        ("spf", "pass", "SPF_PASS"),
        ("dkim", "fail", "DKIM_FAIL"),
        ("dkim", "pass", "DKIM_PASS"),
        ("dmarc", "fail", "DMARC_FAIL"),
        ("dmarc", "pass", "DMARC_PASS"),
        ("iprev", "fail", "CLIENT_UNNAMED"),
    ];
    for (method, result, rule) in findings {
        let hit = judged(&letter(&[], ""), |bench| {
            bench.finding(method, result, None);
        });
        assert_eq!(hit, [rule]);
    }
    let hit = judged(&letter(&[], ""), |bench| bench.script().envelope.sender.clear());
    assert_eq!(hit, ["NULL_SENDER_ODD"]);
}

#[test]
fn long_texts() {
    let shouted = "WE SELL EVERYTHING AND MORE\n".repeat(20);
    assert!(judged(&letter(&[], &shouted), |_| ()).contains(&"BODY_CAPS".into()));
    let hidden = format!("<p style='display:none'>{}</p><p>shown</p>", "garden seminar thesis ".repeat(30));
    assert!(judged(&letter(&[HTML], &hidden), |_| ()).contains(&"HTML_HIDDEN".into()));
}

#[test]
fn the_manual_lists_every_rule_with_its_weight() {
    let manual = include_str!("../README.md");
    for (rule, weight, meaning) in RULES {
        let row = format!("| `{rule}` | {weight:.1} | {meaning} |");
        assert!(manual.contains(&row), "{row}");
    }
}
