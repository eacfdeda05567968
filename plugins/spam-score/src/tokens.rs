//! Tokens for the classifier: words, pairs of words that stand near each other (orthogonal sparse bigrams), and a few marks of the
//! header block, each hashed and each once.
//!
//! Only what says something of the message's making is a token. Fields that the way or the archive of a message leaves behind
//! (`Received`, `Date`, `List-*`, `Delivered-To`, `X-…` of other filters) are not, or the classifier would learn where its
//! teacher got the mail from. Numbers are told apart by their length alone.
//!
//! The hashes are what stands in the key-value store: whoever changes what becomes a token, or how it is hashed, changes
//! [`VERSION`] too, so that old counters are left to expire.

use waypost_sdk::addresses;
use waypost_sdk::mailbox;
use waypost_sdk::types::Part;

use crate::body_rules::Body;
use crate::letter::Headers;

/// Of the hashes.
pub const VERSION: u32 = 1;
/// Tokens of one message. A longer one has said by then what it is.
pub const TOKENS_MAX: usize = 1500;
/// Of these, so many at most may come from the header block and the links.
const MARKS_MAX: usize = 250;
/// How many words back a pair reaches.
const WINDOW: usize = 4;
/// A word and its pairs have these bits in common, and so lie side by side in the store: a look-up reads a place a word, not a place
/// a token, which takes a fifth of the time.
const NEIGHBOURS: u64 = 0xffff_ff00_0000_0000;
/// Longer runs are no words: addresses of pages, encoded data.
const WORD_MAX: usize = 24;

/// Tokens, gathered without allocation once the first message has been seen.
#[derive(Default)]
pub struct Tokens {
    list: Vec<u64>,
    /// Open addressing over the hashes themselves; 0 is a free place.
    seen: Vec<u64>,
    max: usize,
}

/// Twice as many places as tokens, at least.
const PLACES: usize = 4096;

impl Tokens {
    /// None so far.
    pub fn clear(&mut self) {
        self.list.clear();
        self.list.reserve(TOKENS_MAX);
        self.seen.clear();
        self.seen.resize(PLACES, 0);
        self.max = TOKENS_MAX;
    }

    /// The tokens, in the order of their first appearance.
    pub fn list(&self) -> &[u64] {
        &self.list
    }

    fn is_full(&self) -> bool {
        self.list.len() >= self.max
    }

    fn push(&mut self, hash: u64) {
        // Small numbers are not for tokens: the store counts messages under one of them.
        let hash = hash | 1 << 63;
        let mut place = hash as usize % PLACES;
        loop {
            match self.seen[place] {
                0 if self.is_full() => return,
                0 => break,
                there if there == hash => return,
                _ => place = (place + 1) % PLACES,
            }
        }
        self.seen[place] = hash;
        self.list.push(hash);
    }

    /// Gathers the tokens of a message.
    pub fn gather(&mut self, headers: &Headers, parts: &[Part], body: &Body) {
        self.clear();
        self.max = MARKS_MAX;
        self.header_marks(headers, parts);
        for host in &body.links.hosts {
            self.host(Kind::Link, host);
        }
        self.max = TOKENS_MAX;
        let subject = headers.decoded("subject").to_ascii_lowercase();
        self.words(Kind::Text, strip_tags(&subject).as_bytes(), true);
        self.words(Kind::Text, &body.text.squeezed, true);
    }

    fn header_marks(&mut self, headers: &Headers, parts: &[Part]) {
        let subject = headers.decoded("subject").to_ascii_lowercase();
        self.words(Kind::Subject, strip_tags(&subject).as_bytes(), true);
        for (kind, field) in [(Kind::From, "from"), (Kind::ReplyTo, "reply-to")] {
            let Some(mailbox) = headers.get(field).map(mailbox::parse).and_then(|all| all.into_iter().next()) else {
                continue;
            };
            self.words(kind, mailbox.name.to_ascii_lowercase().as_bytes(), false);
            let local = addresses::split(&mailbox.address).0.to_ascii_lowercase();
            self.words(kind, local.as_bytes(), false);
            self.host(kind, mailbox.domain().as_bytes());
        }
        let program = headers.get("x-mailer").or(headers.get("user-agent")).unwrap_or_default().to_ascii_lowercase();
        self.words(Kind::Program, program.as_bytes(), false);
        for part in parts.iter().take(8) {
            self.push(Kind::Part.of(word_hash(part.mime_type.as_bytes())));
        }
        if let Some(kind) = headers.get("content-type") {
            let lower = kind.to_ascii_lowercase();
            let charset = lower.split("charset=").nth(1).unwrap_or_default().trim_matches('"');
            let charset = charset.split(['"', ';', ' ']).next().unwrap_or_default();
            self.push(Kind::Charset.of(word_hash(charset.as_bytes())));
        }
        if let Some(encoding) = headers.get("content-transfer-encoding") {
            self.push(Kind::Encoding.of(word_hash(encoding.to_ascii_lowercase().as_bytes())));
        }
        for name in FIELDS {
            if headers.has(name) {
                self.push(Kind::Field.of(word_hash(name.as_bytes())));
            }
        }
        if let Some(id) = headers.get("message-id") {
            self.push(Kind::MessageId.of(shape(id.as_bytes())));
        }
    }

    /// A host name as a whole, and each domain above it but the last.
    fn host(&mut self, kind: Kind, host: &[u8]) {
        let mut rest = host;
        for _ in 0..4 {
            self.push(kind.of(word_hash(rest)));
            let Some(dot) = memchr::memchr(b'.', rest) else { return };
            rest = &rest[dot + 1..];
        }
    }

    /// The words of lowered text, and if wanted their pairs.
    fn words(&mut self, kind: Kind, text: &[u8], pairs: bool) {
        let mut before = [0u64; WINDOW];
        let mut count = 0;
        let mut at = 0;
        while at < text.len() {
            let (mut hash, start) = (FNV_START, at);
            while at < text.len() {
                let class = CLASS[usize::from(text[at])];
                if class == 0 {
                    break;
                }
                hash = (hash ^ u64::from(class)).wrapping_mul(FNV_PRIME);
                at += 1;
            }
            let len = at - start;
            at += 1;
            if !(2..=WORD_MAX).contains(&len) {
                continue;
            }
            if self.is_full() {
                return;
            }
            let word = mix(hash);
            let own = kind.of(word);
            self.push(own);
            if pairs {
                for distance in 1..=WINDOW.min(count) {
                    let other = before[(count - distance) % WINDOW];
                    let pair = mix(other.rotate_left(7 * distance as u32) ^ word);
                    self.push(own & NEIGHBOURS | kind.of(pair) & !NEIGHBOURS);
                }
                before[count % WINDOW] = word;
                count += 1;
            }
        }
    }
}

/// Fields whose presence says something of the program that made the message.
const FIELDS: [&str; 14] = [
    "cc",
    "content-disposition",
    "importance",
    "in-reply-to",
    "mime-version",
    "organization",
    "references",
    "reply-to",
    "user-agent",
    "x-accept-language",
    "x-mailer",
    "x-mimeole",
    "x-msmail-priority",
    "x-priority",
];

/// What a token was taken from: the same word means different things in different places.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Subject,
    From,
    ReplyTo,
    Program,
    Part,
    Charset,
    Encoding,
    Field,
    MessageId,
    Link,
}

impl Kind {
    fn of(self, hash: u64) -> u64 {
        hash.rotate_left(self as u32 * 5) ^ (self as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// `[list] ` and `Re: ` in front of a subject are the way's marks.
fn strip_tags(subject: &str) -> &str {
    let mut rest = subject.trim_start();
    loop {
        let stripped = ["re:", "fwd:", "fw:", "aw:"].iter().find_map(|mark| rest.strip_prefix(mark));
        let stripped = stripped.or_else(|| rest.strip_prefix('[').and_then(|tail| Some(tail.split_once(']')?.1)));
        match stripped {
            Some(tail) => rest = tail.trim_start(),
            None => return rest,
        }
    }
}

/// Letters, digits and signs that make a word, and as what; 0 ends it. All digits are one.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'0'..=b'9' => b'0',
            letter @ (b'a'..=b'z' | b'$' | b'%' | b'\'' | 0x80..) => letter,
            letter @ b'A'..=b'Z' => letter + 32,
            _ => 0,
        };
        byte += 1;
    }
    class
};

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn word_hash(word: &[u8]) -> u64 {
    mix(word.iter().fold(FNV_START, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)))
}

fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 32
}

/// A Message-ID up to its host by kinds of characters: runs of digits, of letters, and the signs between them.
fn shape(id: &[u8]) -> u64 {
    let local = id.split(|byte| *byte == b'@').next().unwrap_or_default();
    let (mut hash, mut last) = (FNV_START, 0);
    for &byte in local.iter().take(60) {
        let class = match byte {
            b'0'..=b'9' => b'0',
            b'a'..=b'z' => b'a',
            b'A'..=b'Z' => b'A',
            other => other,
        };
        if class != last || !class.is_ascii_alphanumeric() {
            hash = (hash ^ u64::from(class)).wrapping_mul(FNV_PRIME);
        }
        last = class;
    }
    mix(hash)
}
