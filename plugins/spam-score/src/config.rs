//! The settings of spam-score.

use std::collections::BTreeMap;

use serde::Deserialize;

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
}

impl Default for Config {
    fn default() -> Config {
        Config {
            required: 6.0,
            refuse_at: None,
            hold_at: None,
            score_own: false,
            read_bytes_max: 256 << 10,
            weights: BTreeMap::new(),
            state_facts: true,
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
            return Err("required: must be positive (6.0 is the default)".into());
        }
        for (setting, limit) in [("refuse-at", self.refuse_at), ("hold-at", self.hold_at)] {
            if limit.is_some_and(|limit| limit.is_nan() || limit < self.required) {
                return Err(format!("{setting}: must not be below `required` ({})", self.required));
            }
        }
        if self.read_bytes_max < 1024 || self.read_bytes_max > 4 << 20 {
            return Err("read-bytes-max: must be from 1024 to 4194304".into());
        }
        Ok(())
    }
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
