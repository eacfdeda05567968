//! The settings of dkim-sign.

use serde::Deserialize;
use waypost_sdk::Networks;

/// Fields that are signed if they are there (RFC 6376 §5.4.1 and what mailing and one-click unsubscribing need, RFC 8058 §4).
const SIGNED: &[&str] = &[
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    "Resent-Date",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Message-ID",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Owner",
    "List-Archive",
    "Feedback-ID",
    "Auto-Submitted",
];
/// Fields that nobody may add behind our back: a second `From` shown instead of ours is the classic.
const OVER_SIGNED: &[&str] = &["From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To"];
/// Fields that change on the way (RFC 6376 §5.4): signing them breaks the signature.
const NEVER: &[&str] = &["Return-Path", "Received", "Comments", "Keywords", "DKIM-Signature", "Delivered-To"];

/// All settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Which key signs for which domain; several for one domain sign together, in this order.
    pub keys: Vec<Key>,
    /// Networks whose mail is signed without login.
    pub networks: Networks,
    /// Fields signed if there.
    pub headers: Vec<String>,
    /// Fields signed once more than they occur.
    pub over_sign: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Config {
            keys: Vec::new(),
            networks: Networks::default(),
            headers: owned(SIGNED),
            over_sign: owned(OVER_SIGNED),
        }
    }
}

/// A key for a domain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Key {
    /// The domain in `From`.
    pub domain: Domain,
    /// The name of the key among the server's keys; it must be granted to this plugin.
    pub key: String,
    /// Whether it also signs for domains below.
    #[serde(default)]
    pub subdomains: bool,
}

/// A domain in lower case.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Domain(String);

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Domain, String> {
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let folded = text.trim_end_matches('.').to_ascii_lowercase();
        if folded.split('.').all(label) {
            Ok(Domain(folded))
        } else {
            Err(format!("`{text}` is no domain (write example.com; names beyond ASCII as xn--…)"))
        }
    }
}

impl Config {
    /// What serde cannot see.
    pub fn check(&self) -> Result<(), String> {
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|b| (33..=126).contains(&b) && b != b':' && b != b';');
        for (setting, names) in [("headers", &self.headers), ("over-sign", &self.over_sign)] {
            if let Some(name) = names.iter().find(|name| !is_name(name)) {
                return Err(format!("{setting}: `{name}` is no field name"));
            }
            if let Some(name) = names.iter().find(|name| listed(NEVER, name)) {
                return Err(format!(
                    "{setting}: `{name}` changes on the way, a signature over it would break (RFC 6376 section 5.4)"
                ));
            }
        }
        if !self.headers.iter().chain(&self.over_sign).any(|name| name.eq_ignore_ascii_case("From")) {
            return Err("headers: `From` must be signed (RFC 6376 section 5.4)".into());
        }
        Ok(())
    }

    /// The keys for a domain: those of the domain itself, else those of the nearest parent that sign below it.
    pub fn keys_for(&self, domain: &str) -> Vec<&Key> {
        let exact = self.keys.iter().filter(|key| key.domain.0 == domain);
        let found: Vec<&Key> = exact.collect();
        if !found.is_empty() {
            return found;
        }
        let parents = domain.match_indices('.').map(|(at, _)| &domain[at + 1..]);
        let of_parent =
            |parent: &str| self.keys.iter().filter(|key| key.subdomains && key.domain.0 == parent).collect::<Vec<_>>();
        parents.map(of_parent).find(|keys| !keys.is_empty()).unwrap_or_default()
    }

    /// The names to sign, each as often as it is to stand in `h=`: as often as it occurs, once more if over-signed.
    pub fn signed_fields(&self, present: &[&str]) -> Vec<String> {
        let occurrences = |name: &str| present.iter().filter(|there| there.eq_ignore_ascii_case(name)).count();
        let over = |name: &str| self.over_sign.iter().any(|over| over.eq_ignore_ascii_case(name));
        let only_over =
            self.over_sign.iter().filter(|name| !self.headers.iter().any(|signed| signed.eq_ignore_ascii_case(name)));
        let names = self.headers.iter().chain(only_over);
        names.flat_map(|name| std::iter::repeat_n(name.clone(), occurrences(name) + usize::from(over(name)))).collect()
    }
}

fn listed(list: &[&str], name: &str) -> bool {
    list.iter().any(|listed| listed.eq_ignore_ascii_case(name))
}
