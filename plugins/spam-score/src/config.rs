//! The settings of spam-score.

use std::collections::BTreeMap;

use serde::Deserialize;

use waypost_sdk::addresses;

use crate::learn::Kind;
use crate::rules::{RULES, Rule};

/// All settings; every one has a default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// From this score on a message is called spam.
    pub required: f64,
    /// From this score on it is refused; never, unless set.
    pub refuse_at: Option<f64>,
    /// From this score on it is held in the queue; never, unless set.
    pub hold_at: Option<f64>,
    /// Whether mail of our own users is scored.
    pub score_own: bool,
    /// Octets of decoded text that are looked at.
    pub read_bytes_max: u32,
    /// Other weights for rules, by name.
    pub weights: BTreeMap<String, f64>,
    /// Whether each hit is also stated as a fact for other plugins and the log.
    pub state_facts: bool,
    /// Whether to classify by what was learned, where the key-value store is granted.
    pub bayes: bool,
    /// So many messages of each kind must have been learned before the classifier has a say.
    pub learned_min: u32,
    /// How long what was learned is kept.
    pub lifetime_days: u32,
    /// Domains with a classifier of their own.
    pub per_domain: Vec<String>,
    /// Addresses at which our users teach what is spam.
    pub learn_spam: Vec<String>,
    /// Addresses at which our users teach what is not.
    pub learn_ham: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            required: 5.0,
            refuse_at: None,
            hold_at: None,
            score_own: false,
            read_bytes_max: 64 << 10,
            weights: BTreeMap::new(),
            state_facts: true,
            bayes: true,
            learned_min: 50,
            lifetime_days: 365,
            per_domain: Vec::new(),
            learn_spam: Vec::new(),
            learn_ham: Vec::new(),
        }
    }
}

impl Config {
    /// The weight of each rule, in the order of [`Rule`]; an error names what is wrong.
    pub fn all_weights(&self) -> Result<Vec<f64>, String> {
        let mut weights: Vec<f64> = RULES.iter().map(|(_, weight, _)| *weight).collect();
        for (name, weight) in &self.weights {
            let at = RULES.iter().position(|(rule, _, _)| rule == name).ok_or_else(|| unknown(name))?;
            weights[at] = *weight;
        }
        Ok(weights)
    }

    /// What serde cannot see.
    pub fn check(&self) -> Result<(), String> {
        if self.required.is_nan() || self.required <= 0.0 {
            return Err("required: must be positive (5.0 is the default)".into());
        }
        for (setting, limit) in [("refuse-at", self.refuse_at), ("hold-at", self.hold_at)] {
            if limit.is_some_and(|limit| limit.is_nan() || limit < self.required) {
                return Err(format!("{setting}: must not be below `required` ({})", self.required));
            }
        }
        if self.read_bytes_max < 1024 || self.read_bytes_max > 4 << 20 {
            return Err("read-bytes-max: must be from 1024 to 4194304".into());
        }
        if self.lifetime_days == 0 || self.lifetime_days > 3650 {
            return Err("lifetime-days: must be from 1 to 3650".into());
        }
        if let Some(domain) = self.per_domain.iter().find(|domain| !is_domain(domain)) {
            return Err(format!("per-domain: `{domain}` is no domain: write it as in `example.com`"));
        }
        for (setting, addresses) in [("learn-spam", &self.learn_spam), ("learn-ham", &self.learn_ham)] {
            if let Some(address) = addresses.iter().find(|address| !address.contains('@')) {
                return Err(format!("{setting}: `{address}` is no address: write it as in `spam@example.com`"));
            }
        }
        match self.learn_spam.iter().find(|address| self.learn_ham.iter().any(|ham| ham.eq_ignore_ascii_case(address)))
        {
            Some(both) => Err(format!("learn-ham: {both} stands in `learn-spam` too: it can teach one of them")),
            None => Ok(()),
        }
    }

    /// Whether there are addresses at which users teach.
    pub fn teaches(&self) -> bool {
        !self.learn_spam.is_empty() || !self.learn_ham.is_empty()
    }

    /// What an address teaches.
    pub fn teaching(&self, address: &str) -> Option<Kind> {
        let among = |list: &[String]| list.iter().any(|there| there.eq_ignore_ascii_case(address));
        match (among(&self.learn_spam), among(&self.learn_ham)) {
            (true, _) => Some(Kind::Spam),
            (_, true) => Some(Kind::Ham),
            _ => None,
        }
    }

    /// The domain with a classifier of its own that all these addresses are at.
    pub fn own_classifier(&self, addresses: &[String]) -> Option<String> {
        let domain = |address: &String| addresses::split(address).1.to_ascii_lowercase();
        let first = domain(addresses.first()?);
        let own = self.per_domain.iter().any(|known| known.eq_ignore_ascii_case(&first));
        (own && addresses.iter().all(|address| domain(address) == first)).then_some(first)
    }

    /// `lifetime-days` in seconds.
    pub fn lifetime_s(&self) -> u32 {
        self.lifetime_days * 86_400
    }
}

fn is_domain(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    text.contains('.') && text.len() <= 253 && text.bytes().all(fine)
}

/// An unknown rule; perhaps a known one is meant.
fn unknown(name: &str) -> String {
    let head = name.split('_').next().unwrap_or_default();
    let near: Vec<&str> =
        RULES.iter().map(|(rule, _, _)| *rule).filter(|rule| rule.starts_with(head) && !head.is_empty()).collect();
    match near.is_empty() {
        true => format!("weights.{name}: no such rule (the README lists them)"),
        false => format!("weights.{name}: no such rule (there is {})", near.join(", ")),
    }
}

/// The weight of a rule in such a list.
pub fn weight(weights: &[f64], rule: Rule) -> f64 {
    weights[rule as usize]
}
