//! Chains that are made here, sealed with real keys, and then broken in one place each.
//!
//! They go where ARC's public suite (`suite`) does not: Ed25519, forms and keys that it has no case for, what trusted sealers vouch for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::*;
use crate::key::{KeyKind, SecretKey};
use crate::zone::Zone;

/// What a case may change of the set that it seals.
struct Sealer {
    key: SecretKey,
    domain: &'static str,
}

/// The three fields of an instance as texts; `b=` stands at the end of the last two.
#[derive(Clone)]
struct Draft {
    results: String,
    signature: String,
    seal: String,
}

const BODY: &str = "Hey gang,\r\nThis is a test message.\r\n--J.\r\n";
const HEAD: &str =
    "MIME-Version: 1.0\r\nFrom: John Q Doe <jqd@d1.example.org>\r\nTo: arc@dmarc.example\r\nSubject: Example 1\r\n";

impl Sealer {
    fn new(kind: KeyKind, domain: &'static str) -> Sealer {
        Sealer { key: SecretKey::generate(kind), domain }
    }

    fn publish(&self, zone: &mut Zone) {
        zone.add(&format!("dummy._domainkey.{}", self.domain), DnsType::Txt, &self.key.record());
    }

    fn draft(&self, instance: usize, validation: &str) -> Draft {
        let (algorithm, domain) = (self.key.algorithm(), self.domain);
        let hash = hash_body(Form::Relaxed, &message(HEAD, BODY), HEAD.len());
        let hash = STANDARD.encode(hash.as_ref());
        Draft {
            results: format!(" i={instance}; lists.example.org; spf=pass smtp.mfrom=jqd@d1.example; dmarc=pass"),
            signature: format!(
                " i={instance}; a={algorithm}; c=relaxed/relaxed;\r\n\td={domain}; s=dummy; t=12345; h=from:to:subject:mime-version;\r\n\tbh={hash}; b="
            ),
            seal: format!(" i={instance}; a={algorithm}; cv={validation}; d={domain}; s=dummy; t=12345; b="),
        }
    }

    fn sign(&self, text: &[u8]) -> String {
        STANDARD.encode(self.key.sign(digest::digest(&digest::SHA256, text).as_ref()).expect("signed"))
    }

    /// Seals a draft in front of a header block; `alter` sees the fields before each is signed.
    fn seal(&self, draft: &Draft, head: &str) -> String {
        let with_results = format!("ARC-Authentication-Results:{}\r\n{head}", draft.results);
        let mut signature = draft.signature.clone();
        if signature.trim_end().ends_with("b=") {
            let block = format!("ARC-Message-Signature:{signature}\r\n{with_results}");
            let fields: Vec<Field<'_>> = header::fields(block.as_bytes()).collect();
            let names = Tags::parse(&signature).and_then(|tags| tags.get("h")).unwrap_or("from").to_string();
            let names: Vec<String> = names.split(':').map(|name| name.trim().to_string()).collect();
            let form = Tags::parse(&signature).and_then(|tags| tags.get("c")).unwrap_or("simple").to_string();
            let form = if form.starts_with("simple") { Form::Simple } else { Form::Relaxed };
            let mut text = signed_fields(block.as_bytes(), &fields, &names, form);
            canonical_last(form, block.as_bytes(), &fields[0], &mut text);
            signature.push_str(&self.sign(&text));
        }
        let with_signature = format!("ARC-Message-Signature:{signature}\r\n{with_results}");
        let mut seal = draft.seal.clone();
        if seal.trim_end().ends_with("b=") {
            seal.push_str(&self.sign(&self.sealed_text(&seal, &with_signature)));
        }
        format!("ARC-Seal:{seal}\r\n{with_signature}")
    }

    /// What the new seal covers: all ARC fields, by instance.
    fn sealed_text(&self, seal: &str, rest: &str) -> Vec<u8> {
        let mut text = Vec::new();
        let block = format!("ARC-Seal:{seal}\r\n{rest}");
        let fields: Vec<Field<'_>> = header::fields(block.as_bytes()).collect();
        let arc: Vec<&Field<'_>> = fields.iter().filter(|field| field.name.starts_with(b"ARC-")).collect();
        // Newest in front, each as seal, signature, results.
        for three in arc.chunks(3).rev() {
            let last = std::ptr::eq(three[0], arc[0]);
            let rest = three.get(2).into_iter().chain(three.get(1));
            rest.for_each(|field| canonical_field(Form::Relaxed, block.as_bytes(), field, &mut text));
            match last {
                true => canonical_last(Form::Relaxed, block.as_bytes(), three[0], &mut text),
                false => canonical_field(Form::Relaxed, block.as_bytes(), three[0], &mut text),
            }
        }
        text
    }
}

fn message(head: &str, body: &str) -> Message {
    Message::new(Bytes::from(format!("{head}\r\n{body}")))
}

async fn judge(zone: &Zone, head: &str, body: &str) -> Arc {
    verify(zone, &message(head, body)).await
}

/// A zone with one sealer, whose key takes a moment to make.
fn site() -> (Sealer, Zone) {
    let (sealer, mut zone) = (Sealer::new(KeyKind::Ed25519, "example.org"), Zone::default());
    sealer.publish(&mut zone);
    (sealer, zone)
}

#[tokio::test]
async fn chains_of_one_two_and_three_sealers_pass() {
    let (first, mut zone) = site();
    let second = Sealer::new(KeyKind::Rsa, "second.example");
    second.publish(&mut zone);
    assert_eq!(judge(&zone, HEAD, BODY).await.result, "none");
    let mut head = first.seal(&first.draft(1, "none"), HEAD);
    for (at, sealer) in [(2, &second), (3, &first)] {
        let arc = judge(&zone, &head, BODY).await;
        assert_eq!((arc.result, arc.problem, arc.seals.len()), ("pass", None, at - 1));
        head = sealer.seal(&sealer.draft(at, "pass"), &head);
    }
    let arc = judge(&zone, &head, BODY).await;
    assert_eq!((arc.result, arc.problem), ("pass", None));
    let domains: Vec<_> = arc.seals.iter().map(|seal| seal.domain.as_str()).collect();
    assert_eq!(domains, ["example.org", "second.example", "example.org"]);
    let trusts = |names: &[&str]| arc.vouches(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(trusts(&["Example.org"]) && trusts(&["second.example", "example.org"]));
    assert!(!trusts(&["second.example"]), "the newest sealer is not trusted, so nothing before it is");
    // An older sealer cannot be cut out, nor its findings be changed.
    for broken in
        [head.replace("i=2", "i=4"), head.replacen("dmarc=pass", "dmarc=fail", 3), head.replace("12345", "12346")]
    {
        assert_eq!(judge(&zone, &broken, BODY).await.result, "fail");
    }
    let middle: Vec<&str> = head.split_inclusive("\r\n").collect();
    for skip in 0..middle.len() {
        let without: String = middle.iter().enumerate().filter(|(at, _)| *at != skip).map(|(_, line)| *line).collect();
        let arc = judge(&zone, &without, BODY).await;
        assert_ne!(arc.result, "pass", "without line {skip}: {}", middle[skip]);
    }
}

#[tokio::test]
async fn what_the_newest_sealer_signed_may_not_change() {
    let (sealer, zone) = site();
    let head = sealer.seal(&sealer.draft(1, "none"), HEAD);
    assert_eq!(judge(&zone, &head, BODY).await.result, "pass");
    assert_eq!(
        judge(&zone, &head, &format!("{BODY}footer\r\n")).await.problem,
        Some("the body has changed since the last sealer")
    );
    assert_eq!(judge(&zone, &head.replace("Example 1", "Example 2"), BODY).await.result, "fail");
    assert_eq!(judge(&zone, &format!("X-New: 1\r\n{head}"), BODY).await.result, "pass", "what is not in h= may");
    // Relaxed forms survive what relays do.
    let refolded = head.replace("Subject: Example 1", "SUBJECT:  Example\r\n\t1 ");
    assert_eq!(judge(&zone, &refolded, &BODY.replace("test message.", "test  message.  ")).await.result, "pass");
}

/// One change to a draft, and what comes of it when it is sealed so.
type Case = (&'static str, &'static str, &'static str, &'static str);

/// Field, what is replaced, by what, result. The sealer signs what it has written, so that only the rule decides.
const CASES: &[Case] = &[
    // ARC-Authentication-Results
    ("aar", "i=1;", "i = 1 ;", "pass"),
    ("aar", "i=1; ", "", "fail"),
    ("aar", "i=1", "i=", "fail"),
    ("aar", "i=1", "i=0", "fail"),
    ("aar", "i=1", "i=01", "fail"),
    ("aar", "i=1", "i=51", "fail"),
    ("aar", "i=1", "i=a", "fail"),
    ("aar", "i=1", "i=2", "fail"),
    ("aar", " i=1; lists.example.org;", " lists.example.org; i=1;", "fail"),
    ("aar", " lists.example.org; spf=pass smtp.mfrom=jqd@d1.example; dmarc=pass", "", "fail"),
    // ARC-Message-Signature: form
    ("ams", "; a=", " ; a = ", "pass"),
    ("ams", "; c=", ";\r\n\t c = ", "pass"),
    ("ams", "t=12345; ", "t=12345; unknown=1; ", "pass"),
    ("ams", "t=12345; ", "t=12345; t=12345; ", "fail"),
    ("ams", "t=12345; ", "t=12345;; ", "fail"),
    ("ams", "t=12345; ", "t=12345 ", "fail"),
    ("ams", "t=12345; ", "t=12345; 1x=1; ", "fail"),
    ("ams", "t=12345; ", "t=12345; x; ", "fail"),
    ("ams", "a=", "A=", "fail"),
    // each tag
    ("ams", "i=1; ", "", "fail"),
    ("ams", "i=1", "i=", "fail"),
    ("ams", "i=1", "i=0", "fail"),
    ("ams", "i=1", "i=x", "fail"),
    ("ams", "i=1", "i=2", "fail"),
    ("ams", "i=1", "i=-1", "fail"),
    ("ams", "a=ed25519-sha256; ", "", "fail"),
    ("ams", "a=ed25519-sha256", "a=", "fail"),
    ("ams", "a=ed25519-sha256", "a=rsa-sha1", "fail"),
    ("ams", "a=ed25519-sha256", "a=rsa-sha256", "fail"),
    ("ams", "a=ed25519-sha256", "a=ED25519-SHA256", "fail"),
    ("ams", "a=ed25519-sha256", "a=none", "fail"),
    ("ams", "c=relaxed/relaxed;", "", "pass"),
    ("ams", "c=relaxed/relaxed", "c=", "fail"),
    ("ams", "c=relaxed/relaxed", "c=simple/relaxed", "pass"),
    ("ams", "c=relaxed/relaxed", "c=relaxed/simple", "pass"),
    ("ams", "c=relaxed/relaxed", "c=relaxed", "pass"),
    ("ams", "c=relaxed/relaxed", "c=relaxed/strict", "fail"),
    ("ams", "c=relaxed/relaxed", "c=Relaxed/Relaxed", "fail"),
    ("ams", "d=example.org; ", "", "fail"),
    ("ams", "d=example.org", "d=", "fail"),
    ("ams", "d=example.org", "d=EXAMPLE.org", "pass"),
    ("ams", "d=example.org", "d=nokey.example", "fail"),
    ("ams", "d=example.org", "d=-.-", "fail"),
    ("ams", "h=from:to:subject:mime-version;", "", "fail"),
    ("ams", "h=from:to:subject:mime-version", "h=", "fail"),
    ("ams", "h=from:to", "h= From : TO", "pass"),
    ("ams", "h=from:to", "h=to:from", "pass"),
    ("ams", "h=from:to", "h=from:from:to", "pass"),
    ("ams", "h=from:to", "h=from:missing:to", "pass"),
    ("ams", "h=from:to", "h=from::to", "fail"),
    ("ams", "h=from:to", "h=arc-seal:from:to", "fail"),
    ("ams", "h=from:to", "h=from:ARC-Seal:to", "fail"),
    ("ams", "h=from:to", "h=arc-authentication-results:from:to", "pass"),
    ("ams", "s=dummy; ", "", "fail"),
    ("ams", "s=dummy", "s=", "fail"),
    ("ams", "s=dummy", "s=other", "fail"),
    ("ams", "s=dummy", "s=a b", "fail"),
    ("ams", "t=12345; ", "", "pass"),
    ("ams", "t=12345", "t=", "fail"),
    ("ams", "t=12345", "t=soon", "fail"),
    ("ams", "t=12345", "t=12345; l=5", "fail"),
    ("ams", "bh=", "bx=", "fail"),
    ("ams", "bh=", "bh=A", "fail"),
    ("ams", "b=", "b=Zm9v", "fail"),
    ("ams", "b=", "b=not*base64", "fail"),
    ("ams", "; b=", "", "fail"),
    // ARC-Seal: form
    ("as", "; a=", " ; a\r\n\t=\r\n\t", "pass"),
    ("as", "t=12345; ", "t=12345; unknown=1; ", "pass"),
    ("as", "t=12345; ", "t=12345; t=12345; ", "fail"),
    ("as", "t=12345; ", "t=12345;; ", "fail"),
    ("as", "t=12345; ", "t=12345; 1x=1; ", "fail"),
    ("as", "a=", "A=", "fail"),
    // each tag
    ("as", "i=1; ", "", "fail"),
    ("as", "i=1", "i=", "fail"),
    ("as", "i=1", "i=0", "fail"),
    ("as", "i=1", "i=x", "fail"),
    ("as", "i=1", "i=2", "fail"),
    ("as", "a=ed25519-sha256; ", "", "fail"),
    ("as", "a=ed25519-sha256", "a=", "fail"),
    ("as", "a=ed25519-sha256", "a=rsa-sha1", "fail"),
    ("as", "a=ed25519-sha256", "a=x", "fail"),
    ("as", "cv=none; ", "", "fail"),
    ("as", "cv=none", "cv=", "fail"),
    ("as", "cv=none", "cv=pass", "fail"),
    ("as", "cv=none", "cv=fail", "fail"),
    ("as", "cv=none", "cv=maybe", "fail"),
    ("as", "cv=none", "cv=None", "fail"),
    ("as", "d=example.org; ", "", "fail"),
    ("as", "d=example.org", "d=", "fail"),
    ("as", "d=example.org", "d=nokey.example", "fail"),
    ("as", "s=dummy; ", "", "fail"),
    ("as", "s=dummy", "s=", "fail"),
    ("as", "s=dummy", "s=other", "fail"),
    ("as", "t=12345; ", "", "pass"),
    ("as", "t=12345", "t=", "fail"),
    ("as", "t=12345", "t=-5", "fail"),
    ("as", "t=12345; ", "t=12345; h=from; ", "fail"),
    ("as", "t=12345; ", "t=12345; bh=Zm9v; ", "fail"),
    ("as", "t=12345; ", "t=12345; c=relaxed; ", "fail"),
    ("as", "b=", "b=Zm9v", "fail"),
    ("as", "b=", "b=", "pass"),
    ("as", "; b=", "", "fail"),
];

#[tokio::test]
async fn every_tag_is_what_it_must_be() {
    let (sealer, zone) = site();
    let mut wrong = Vec::new();
    for (field, old, new, want) in CASES {
        let mut draft = sealer.draft(1, "none");
        let text = match *field {
            "aar" => &mut draft.results,
            "ams" => &mut draft.signature,
            _ => &mut draft.seal,
        };
        assert!(text.contains(old), "{field} has no {old}");
        *text = text.replacen(old, new, 1);
        let arc = judge(&zone, &sealer.seal(&draft, HEAD), BODY).await;
        if arc.result != *want {
            wrong.push(format!("{field}: {old:?} → {new:?}: {} ({:?}), not {want}", arc.result, arc.problem));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn sets_are_whole_and_unique() {
    let (sealer, zone) = site();
    let head = sealer.seal(&sealer.draft(1, "none"), HEAD);
    for name in ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"] {
        let fields: Vec<Field<'_>> = header::fields(head.as_bytes()).collect();
        let field = fields.iter().find(|field| field.is(name)).expect("it is there");
        let text = &head[field.range.clone()];
        assert_eq!(judge(&zone, &head.replacen(text, "", 1), BODY).await.result, "fail", "{name} is missing");
        assert_eq!(judge(&zone, &format!("{text}{head}"), BODY).await.result, "fail", "{name} twice");
        let lower = head.replacen(name, &name.to_lowercase(), 1);
        assert_eq!(judge(&zone, &lower, BODY).await.result, "pass", "names have no case");
    }
    // A chain begins with its first instance, and does not go on behind a broken one.
    let second = sealer.seal(&sealer.draft(2, "pass"), HEAD);
    assert_eq!(judge(&zone, &second, BODY).await.result, "fail");
    for validation in ["none", "fail"] {
        let head = sealer.seal(&sealer.draft(2, validation), &head);
        assert_eq!(judge(&zone, &head, BODY).await.result, "fail", "cv={validation} in the second seal");
    }
}

#[tokio::test]
async fn keys_are_there_whole_and_for_mail() {
    let (sealer, _) = site();
    let head = sealer.seal(&sealer.draft(1, "none"), HEAD);
    let key = sealer.key.record();
    let public = key.split("p=").nth(1).expect("a key").trim_end_matches(';').to_string();
    for (record, want) in [
        (key.clone(), "pass"),
        (format!("k=ed25519; p={public}"), "pass"),
        (format!("v=DKIM1; k=ed25519; s=*; h=sha256; t=y; p={public}"), "pass"),
        (format!("v=DKIM1; k=ed25519; s=other; p={public}"), "fail"),
        (format!("v=DKIM1; k=ed25519; h=sha1; p={public}"), "fail"),
        (format!("v=DKIM2; k=ed25519; p={public}"), "fail"),
        ("v=DKIM1; k=ed25519; p=".to_string(), "fail"),
        ("v=DKIM1; k=ed25519; p=AAAA".to_string(), "fail"),
        (format!("v=DKIM1; k=rsa; p={public}"), "fail"),
        (format!("v=DKIM1; k=x; p={public}"), "fail"),
        ("nothing".to_string(), "fail"),
    ] {
        let mut zone = Zone::default();
        zone.add("dummy._domainkey.example.org", DnsType::Txt, &record);
        assert_eq!(judge(&zone, &head, BODY).await.result, want, "{record}");
    }
    let mut silent = Zone::default();
    silent.silent.push("dummy._domainkey.example.org".into());
    assert_eq!(judge(&silent, &head, BODY).await.problem, Some("a key cannot be fetched now"));
}

#[test]
fn a_pass_is_read_from_the_clause_and_not_from_a_comment() {
    assert!(passed_dmarc(" lists.example; spf=fail; DMARC = pass (p=none) header.from=a.example"));
    assert!(passed_dmarc("x;dmarc=pass"));
    assert!(!passed_dmarc(" lists.example; spf=pass (dmarc=pass); dmarc=fail"));
    assert!(!passed_dmarc(" dmarc=pass; spf=pass"), "the first part is the sealer's name");
    assert!(!passed_dmarc("x; dmarc=passed"));
}
