//! The settings of dns-lists. No list is asked unless the operator names it: each has terms of use.

use serde::Deserialize;
use waypost_sdk::{Addresses, Networks};

use crate::mask::Mask;

/// All settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Permit lists, asked first.
    pub allow: Vec<List>,
    /// Block lists, asked if no permit list permits.
    pub deny: Vec<List>,
    /// The sum of weights that refuses.
    pub refuse_at: f64,
    /// Networks that are never looked up, beyond the private ones.
    pub skip_networks: Networks,
    /// Recipients that listed clients may still write to.
    pub exempt_recipients: Addresses,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            allow: Vec::new(),
            deny: Vec::new(),
            refuse_at: 1.0,
            skip_networks: Networks::default(),
            exempt_recipients: Addresses::parse(["postmaster@", "abuse@"]).expect("both are entries"),
        }
    }
}

/// One list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct List {
    /// The zone that is asked, key included where the list wants one.
    pub zone: String,
    /// The name shown in replies, logs and facts: so that a key in the zone stays secret.
    #[serde(default)]
    pub name: Option<String>,
    /// Answers that count; all proper ones if there are none.
    #[serde(default)]
    pub replies: Vec<Mask>,
    /// Absent: decides alone. A number: added to the sum that `refuse-at` is held against.
    #[serde(default)]
    pub weight: Option<f64>,
    /// The reason in the refusal instead of the list's TXT record; `{ip}` is the client.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whether it knows IPv6 addresses.
    #[serde(default = "yes")]
    pub ipv6: bool,
}

fn yes() -> bool {
    true
}

impl List {
    /// As shown to people.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.zone)
    }

    /// As a fact: `DNSL_ZEN_SPAMHAUS_ORG`.
    pub fn symbol(&self) -> String {
        let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        format!("DNSL_{}", self.shown().chars().map(word).collect::<String>())
    }
}

/// Lists asked about one client; more than that is a mistake, and the host bounds questions anyway.
const LISTS_MAX: usize = 40;
/// Nibbles and dots of an IPv6 address leave this much of a name (RFC 1035 §2.3.4).
const ZONE_MAX: usize = 253 - 64;

impl Config {
    /// What serde cannot see.
    pub fn check(&self) -> Result<(), String> {
        for (kind, lists) in [("allow", &self.allow), ("deny", &self.deny)] {
            for (at, list) in lists.iter().enumerate() {
                check_list(list).map_err(|problem| format!("{kind}[{at}].{problem}"))?;
            }
        }
        if let Some((at, _)) =
            self.allow.iter().enumerate().find(|(_, list)| list.weight.is_some_and(|weight| weight > 0.0))
        {
            return Err(format!("allow[{at}].weight: must be negative (leave it out to permit outright)"));
        }
        if let Some((at, _)) =
            self.deny.iter().enumerate().find(|(_, list)| list.weight.is_some_and(|weight| weight <= 0.0))
        {
            return Err(format!("deny[{at}].weight: must be positive (leave it out to refuse outright)"));
        }
        if !(self.refuse_at > 0.0 && self.refuse_at.is_finite()) {
            return Err("refuse-at: must be positive".into());
        }
        let count = self.allow.len() + self.deny.len();
        if count > LISTS_MAX {
            return Err(format!("{count} lists are configured, at most {LISTS_MAX} can be asked"));
        }
        Ok(())
    }

    /// Whether a recipient is open to listed clients.
    pub fn is_exempt(&self, recipient: &str) -> bool {
        recipient.eq_ignore_ascii_case("postmaster") || self.exempt_recipients.matching(recipient).is_some()
    }
}

fn check_list(list: &List) -> Result<(), String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let zone = &list.zone;
    if zone.len() > ZONE_MAX || !zone.contains('.') || !zone.split('.').all(label) {
        return Err(format!("zone: `{zone}` is no zone of a list (write zen.example.org, without a dot at the end)"));
    }
    let texts = [("name", &list.name), ("reason", &list.reason)];
    for (setting, text) in texts {
        let fine = text
            .as_deref()
            .is_none_or(|text| !text.is_empty() && text.len() <= 200 && text.bytes().all(|b| matches!(b, b' '..=b'~')));
        if !fine {
            return Err(format!("{setting}: write 1 to 200 printable ASCII characters"));
        }
    }
    Ok(())
}
