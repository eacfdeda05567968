//! What was learned: counters of tokens in the key-value store, and who was told what.
//!
//! | key | value |
//! |---|---|
//! | `t` version `.` epoch `.` domain, and a token's number | messages with it learned as spam, and as ham |
//! | the same and number 0 | messages learned as spam, and as ham |
//! | `m` epoch `.` domain `.` and a message's digest | `s` or `h`: as what it was learned |
//! | `epoch` | counts how often everything was forgotten |
//!
//! A message that is learned twice counts once, and one that is learned as the other kind moves. Everything expires some time
//! after it was last learned, which bounds the table together with the store's own quota. What is forgotten as a whole is left to
//! expire under its old epoch.

use waypost_sdk::Host;

use crate::bayes::{self, Pair};
use crate::tokens::{Tokens, VERSION};

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unwanted.
    Spam,
    /// Wanted.
    Ham,
}

/// What learning a message changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was new.
    Learned,
    /// It had been learned as the other kind.
    Moved,
    /// It had been learned so already, or there was nothing to forget.
    Nothing,
    /// It is as if it had never been learned.
    Forgotten,
}

impl Change {
    /// For people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Change::Learned => "learned",
            Change::Moved => "moved",
            Change::Nothing => "nothing",
            Change::Forgotten => "forgotten",
        }
    }
}

impl Kind {
    fn word(self) -> &'static [u8] {
        match self {
            Kind::Spam => b"s",
            Kind::Ham => b"h",
        }
    }

    fn of(word: &[u8]) -> Option<Kind> {
        match word {
            b"s" => Some(Kind::Spam),
            b"h" => Some(Kind::Ham),
            _ => None,
        }
    }

    fn pair(self, by: i32) -> (i32, i32) {
        match self {
            Kind::Spam => (by, 0),
            Kind::Ham => (0, by),
        }
    }
}

/// The number under which messages are counted.
const MESSAGES: u64 = 0;
const EPOCH_KEY: &[u8] = b"epoch";
/// An epoch that another instance began is noticed after so long.
const EPOCH_AGE_MS: u64 = 10_000;

/// The classifier with the room that it works in.
#[derive(Default)]
pub struct Memory {
    /// The tokens of the message at hand.
    pub tokens: Tokens,
    scratch: Vec<f32>,
    numbers: Vec<u64>,
    epoch: u64,
    epoch_read_ms: Option<u64>,
}

impl Memory {
    /// What the tokens at hand say, by what was learned for `domain` (empty: for everybody): how likely spam is. `None` where fewer
    /// than `learned_min` messages of either kind have been learned, or too few tokens are known.
    pub fn classify(&mut self, host: &Host, domain: &str, learned_min: u32) -> Option<f64> {
        let prefix = self.prefix(host, domain);
        self.numbers.clear();
        self.numbers.push(MESSAGES);
        self.numbers.extend_from_slice(self.tokens.list());
        let counters = host.kv().get_many_u64(&prefix, &self.numbers);
        let (learned, counters) = counters.split_first()?;
        if learned.0.min(learned.1) < learned_min {
            return None;
        }
        bayes::classify(*learned, counters, &mut self.scratch)
    }

    /// Learns the message whose tokens are at hand, or forgets it.
    pub fn learn(&mut self, host: &Host, domain: &str, kind: Option<Kind>, lifetime_s: u32) -> Change {
        let kv = host.kv();
        let prefix = self.prefix(host, domain);
        let record = self.record(domain);
        let old = kv.get(&record).and_then(|word| Kind::of(&word));
        if old == kind {
            return Change::Nothing;
        }
        self.numbers.clear();
        self.numbers.push(MESSAGES);
        self.numbers.extend_from_slice(self.tokens.list());
        let (minus, plus) = (old.map_or((0, 0), |old| old.pair(-1)), kind.map_or((0, 0), |kind| kind.pair(1)));
        kv.add_many_u64(&prefix, &self.numbers, minus.0 + plus.0, minus.1 + plus.1, Some(lifetime_s));
        match kind {
            Some(kind) => kv.set(&record, kind.word(), Some(lifetime_s)),
            None => kv.set(&record, b"", Some(1)),
        }
        match (old, kind) {
            (_, None) => Change::Forgotten,
            (None, _) => Change::Learned,
            _ => Change::Moved,
        }
    }

    /// How many messages have been learned as spam, and as ham.
    pub fn learned(&mut self, host: &Host, domain: &str) -> Pair {
        let prefix = self.prefix(host, domain);
        host.kv().get_many_u64(&prefix, &[MESSAGES]).first().copied().unwrap_or_default()
    }

    /// Forgets everything.
    pub fn forget_all(&mut self, host: &Host) {
        self.epoch = host.kv().incr(EPOCH_KEY, 1, None).unsigned_abs();
    }

    fn prefix(&mut self, host: &Host, domain: &str) -> String {
        let now = host.env().now_ms();
        if self.epoch_read_ms.is_none_or(|read| now.saturating_sub(read) >= EPOCH_AGE_MS) {
            let stored = host.kv().get(EPOCH_KEY).and_then(|value| value.try_into().ok());
            self.epoch = stored.map_or(0, u64::from_le_bytes);
            self.epoch_read_ms = Some(now);
        }
        format!("t{VERSION}.{}.{domain}", self.epoch)
    }

    /// Two messages with the same tokens are the same as far as anybody here can tell.
    fn record(&self, domain: &str) -> Vec<u8> {
        let (sum, product) = self.tokens.list().iter().fold((0u64, 1u64), |(sum, product), token| {
            (sum.wrapping_add(token.wrapping_mul(0x9e37_79b9_7f4a_7c15)), product.wrapping_mul(token << 1 | 1))
        });
        let mut key = format!("m{}.{domain}.", self.epoch).into_bytes();
        key.extend_from_slice(&sum.to_be_bytes());
        key.extend_from_slice(&product.to_be_bytes());
        key
    }
}
