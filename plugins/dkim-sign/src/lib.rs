//! Signs outgoing mail with DKIM (RFC 6376, RFC 8463).
//!
//! At stage `queue`, after every other change, mail of our own users, hosts and networks gets one `DKIM-Signature` for each key of
//! the domain in its `From`: commonly an RSA key and an Ed25519 key. The server makes the signatures and hashes the body; the
//! private keys never enter this plugin, which only decides whether, with which keys and over which fields.

pub mod config;
pub mod fields;

use config::{Config, Key};
use waypost_sdk::{Action, BodyNeed, Host, Outcome, Plugin, Registration, TransportKind, mailbox};

/// The plugin.
pub struct DkimSign {
    config: Config,
}

impl Plugin for DkimSign {
    fn init(host: &Host) -> Result<(Self, Registration), String> {
        let config: Config = waypost_sdk::settings(host)?;
        config.check()?;
        if config.keys.is_empty() {
            host.env().warn("no keys are configured, so nothing will be signed (set `keys`)");
        }
        Ok((DkimSign { config }, Registration::new("dkim-sign", env!("CARGO_PKG_VERSION")).reading(BodyNeed::HEADERS)))
    }

    fn queue(&mut self, host: &Host, _queue_id: &str) -> Outcome {
        if self.config.keys.is_empty() || !self.is_ours(host) {
            return Ok(Action::Next);
        }
        let block = host.message().raw_headers();
        let names = fields::names(&block);
        let domain = self.domain(host);
        let keys = self.config.keys_for(&domain);
        if keys.is_empty() {
            host.env().debug(|| format!("no key for `{domain}`"));
            return Ok(Action::Next);
        }
        let signed = self.config.signed_fields(&names);
        sign(host, &keys, &signed)?;
        Ok(Action::Next)
    }
}

impl DkimSign {
    /// Whether we answer for this mail: it was submitted by a user, made here, or comes from a network of ours.
    fn is_ours(&self, host: &Host) -> bool {
        let session = host.session();
        let submitted =
            matches!(session.transport(), TransportKind::Submission | TransportKind::Smtps | TransportKind::Local);
        let known = || session.client_address().is_some_and(|address| self.config.networks.contains(address));
        submitted || session.auth_user().is_some() || known()
    }

    /// The domain that the signature must match: of the author (`Sender` decides among several), else of the envelope sender.
    fn domain(&self, host: &Host) -> String {
        let message = host.message();
        let first = |name| message.header(name).first().map(|field| mailbox::parse(field)).unwrap_or_default();
        let authors = first("From");
        let chosen = if authors.len() > 1 {
            first("Sender").into_iter().chain(authors).next()
        } else {
            authors.into_iter().next()
        };
        match chosen.map(|mailbox| mailbox.domain()).filter(|domain| !domain.is_empty()) {
            Some(domain) => domain,
            None => mailbox::Mailbox { name: String::new(), address: host.envelope().sender() }.domain(),
        }
    }
}

/// One signature a key. The first key's field ends on top: verifiers that try only one, try that.
fn sign(host: &Host, keys: &[&Key], fields: &[String]) -> Result<(), String> {
    let signatures: Result<Vec<String>, String> = keys
        .iter()
        .map(|key| host.crypto().dkim_sign(&key.key, fields).map_err(|why| format!("key `{}`: {why}", key.key)))
        .collect();
    for signature in signatures?.iter().rev() {
        host.message().prepend_header("DKIM-Signature", signature);
    }
    Ok(())
}

waypost_sdk::export!(DkimSign: queue);

#[cfg(test)]
mod tests {
    use waypost_sdk::Bench;
    use waypost_sdk::script::Edit;

    use super::*;

    const KEYS: &str = r#"{"keys": [{"domain": "example.com", "key": "rsa"}, {"domain": "example.com", "key": "ed25519"},
        {"domain": "example.org", "key": "org", "subdomains": true}], "networks": ["10.0.0.0/8"]}"#;
    const LETTER: &str =
        "From: Alice <alice@Example.com>\nTo: b@example.net\nSubject: hi\nDate: now\nX-Other: 1\n\nhello\n";

    fn bench(settings: &str) -> Bench<DkimSign> {
        let bench = Bench::start(settings).unwrap();
        bench.script().crypto.keys = ["rsa", "ed25519", "org"].map(String::from).to_vec();
        bench
    }

    fn signed_by(bench: &Bench<DkimSign>) -> Vec<String> {
        bench.script().crypto.dkim_asked.iter().map(|(key, _)| key.clone()).collect()
    }

    #[test]
    fn a_user_is_signed_with_every_key_of_the_domain_the_first_on_top() {
        let mut bench = bench(KEYS);
        bench.client("203.0.113.9").logged_in("alice").letter(LETTER);
        assert_eq!(bench.queue("q1"), Ok(Action::Next));
        assert_eq!(signed_by(&bench), ["rsa", "ed25519"]);
        let edits = bench.edits();
        let put: Vec<&str> = edits
            .iter()
            .map(|edit| match edit {
                Edit::PrependHeader { name, value } if name == "DKIM-Signature" => value.split("; ").nth(1).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(put, ["s=ed25519", "s=rsa"], "each goes in front of the one before");
    }

    #[test]
    fn fields_that_matter_are_signed_once_more_than_they_occur() {
        let mut bench = bench(KEYS);
        bench.client("203.0.113.9").logged_in("alice").letter(LETTER);
        bench.queue("q1").unwrap();
        let fields = bench.script().crypto.dkim_asked[0].1.join(":").to_lowercase();
        let count = |name: &str| fields.split(':').filter(|field| *field == name).count();
        assert_eq!([count("from"), count("to"), count("subject"), count("date")], [2, 2, 2, 2]);
        assert_eq!(
            [count("cc"), count("reply-to"), count("message-id")],
            [1, 1, 1],
            "absent ones cannot be added later"
        );
        assert_eq!([count("x-other"), count("mime-version"), count("received")], [0, 0, 0]);
    }

    #[test]
    fn strangers_are_not_signed_whatever_they_claim() {
        let mut bench = bench(KEYS);
        bench.client("203.0.113.9").letter(LETTER);
        bench.queue("q1").unwrap();
        assert!(bench.edits().is_empty());
        bench.client("10.1.2.3").letter(LETTER);
        bench.queue("q2").unwrap();
        assert_eq!(signed_by(&bench), ["rsa", "ed25519"], "our own network");
    }

    #[test]
    fn the_author_decides_and_the_envelope_only_without_one() {
        let cases = [
            ("From: a@example.com, b@else.example\nSender: s@sub.example.org\n\n", "", vec!["org"]),
            ("From: a@else.example\n\n", "x@example.com", vec![]),
            ("From: \"x@example.com\" <a@else.example>\n\n", "", vec![]),
            ("Subject: none\n\n", "x@example.org", vec!["org"]),
            ("From: a@sub.example.com\n\n", "", vec![]),
            ("From: a@sub.example.org\n\n", "", vec!["org"]),
            ("From: a@notexample.org\n\n", "", vec![]),
        ];
        for (letter, sender, keys) in cases {
            let mut bench = bench(KEYS);
            bench.client("203.0.113.9").logged_in("alice");
            bench.mail(sender).unwrap();
            bench.letter(letter);
            bench.queue("q1").unwrap();
            assert_eq!(signed_by(&bench), keys, "{letter}");
        }
    }

    #[test]
    fn a_key_that_fails_fails_the_hook_and_nothing_is_half_signed() {
        let mut bench = bench(KEYS);
        bench.script().crypto.keys = vec!["rsa".into()];
        bench.client("203.0.113.9").logged_in("alice").letter(LETTER);
        assert_eq!(bench.queue("q1"), Err("key `ed25519`: key `ed25519` is not granted".into()));
        assert!(bench.edits().is_empty());
    }

    #[test]
    fn mistakes_in_the_settings_name_place_and_remedy() {
        let error = |settings: &str| Bench::<DkimSign>::start(settings).err().unwrap();
        assert!(error(r#"{"keys": [{"domain": "example.com"}]}"#).contains("keys[0]: missing field `key`"));
        assert!(error(r#"{"keys": [{"domain": "a@b", "key": "k"}]}"#).contains("`a@b` is no domain"));
        assert!(error(r#"{"headers": ["Subject"], "over-sign": []}"#).contains("From"));
        assert!(error(r#"{"headers": ["From", "Sub ject"]}"#).contains("`Sub ject`"));
        assert!(error(r#"{"over-sign": ["Received"]}"#).contains("Received"));
        assert_eq!(Bench::<DkimSign>::start("").unwrap().logs().len(), 1, "no keys is allowed, and said");
    }
}
