//! Tokens for classifiers, hashed by the host so that a body need not enter a plugin.
//!
//! Words and orthogonal sparse bigrams (a word with each of the four before it, and their distance), as Bayes filters for mail
//! have used them since CRM114. The hash is FNV-1a with a final mix; it is part of what plugins keep on disk: never change it.

use std::collections::HashSet;

/// Words longer than this are no words; their first octets stand for them.
const WORD_MAX: usize = 40;
/// How many words back a pair reaches.
const WINDOW: usize = 4;

/// Gathers tokens, each once, up to a number.
pub(crate) struct Tokens {
    max: usize,
    seen: HashSet<u64, Same>,
    order: Vec<u64>,
}

impl Tokens {
    pub(crate) fn new(max: usize) -> Tokens {
        Tokens { max, seen: HashSet::default(), order: Vec::new() }
    }

    /// Adds the tokens of `text`. Pairs do not reach from one text into the next.
    pub(crate) fn add(&mut self, text: &str) {
        let mut before = [0u64; WINDOW];
        for (count, word) in words(text).enumerate() {
            if self.order.len() >= self.max {
                return;
            }
            let hash = word_hash(word);
            self.push(hash);
            for distance in 1..=WINDOW.min(count) {
                self.push(mix(before[(count - distance) % WINDOW].rotate_left(distance as u32) ^ hash));
            }
            before[count % WINDOW] = hash;
        }
    }

    pub(crate) fn finish(self) -> Vec<u64> {
        self.order
    }

    fn push(&mut self, hash: u64) {
        if self.order.len() < self.max && self.seen.insert(hash) {
            self.order.push(hash);
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let parts = |c: char| !c.is_alphanumeric() && !matches!(c, '$' | '€' | '\'' | '-');
    text.split(parts).filter(|word| !word.is_empty())
}

/// In lower case, so that shouting is no other word.
fn word_hash(word: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut left = WORD_MAX;
    for c in word.chars().flat_map(char::to_lowercase) {
        let mut bytes = [0; 4];
        let bytes = c.encode_utf8(&mut bytes).as_bytes();
        if bytes.len() > left {
            break;
        }
        left -= bytes.len();
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    mix(hash)
}

fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

/// The hashes are mixed already.
#[derive(Clone, Copy, Default)]
struct Same(u64);

impl std::hash::BuildHasher for Same {
    type Hasher = Same;
    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

impl std::hash::Hasher for Same {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole numbers are hashed")
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str, max: usize) -> Vec<u64> {
        let mut tokens = Tokens::new(max);
        tokens.add(text);
        tokens.finish()
    }

    #[test]
    fn words_and_pairs_each_once_in_any_case() {
        assert_eq!(tokens("Buy now", 100).len(), 3);
        assert_eq!(tokens("BUY, now!", 100), tokens("buy now", 100));
        assert_eq!(tokens("a a", 100).len(), 2, "the word, and its pair with itself");
        assert_ne!(tokens("a x b", 100), tokens("a b x", 100));
    }

    #[test]
    fn the_number_is_bounded() {
        assert_eq!(tokens("a b c d e f g h", 5).len(), 5);
        assert!(tokens("", 5).is_empty());
    }

    #[test]
    fn hashes_stay_what_they_are_because_plugins_keep_them() {
        assert_eq!(tokens("waypost", 1), [word_hash("waypost")]);
        assert_eq!(word_hash("waypost"), word_hash("WAYPOST"));
        assert_eq!(word_hash(""), mix(0xcbf2_9ce4_8422_2325));
    }
}
