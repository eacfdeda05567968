//! Signing what leaves: RFC 6376 with SHA-256, RFC 8463.
//!
//! A signature covers the whole body (no `l=`), names every header field that was asked for once more than it occurs, so that none can be added
//! without breaking it (over-signing), and is folded so that no line is long. The message is hashed segment by segment.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use waypost_types::header::{self, Field};
use waypost_types::port::Sign;
use waypost_types::{Domain, Message};

use crate::canonical::{self, Form, hash_body};
use crate::key::SecretKey;

/// Lines of a signature end before this column.
const COLUMNS: usize = 76;

/// A private key and how it signs.
#[derive(Debug)]
pub struct SigningKey {
    /// `d=`.
    pub domain: Domain,
    /// `s=`.
    pub selector: Box<str>,
    /// The key.
    pub secret: SecretKey,
    /// `c=`, first half.
    pub header_form: Form,
    /// `c=`, second half.
    pub body_form: Form,
    /// Names fields once more than they occur.
    pub oversign: bool,
    /// `x=`: how long the signature is good; for ever if `None`.
    pub lifetime: Option<Duration>,
}

impl SigningKey {
    /// A key that signs relaxed/relaxed, over-signs, and does not expire.
    pub fn new(domain: Domain, selector: &str, secret: SecretKey) -> SigningKey {
        SigningKey {
            domain,
            selector: selector.into(),
            secret,
            header_form: Form::Relaxed,
            body_form: Form::Relaxed,
            oversign: true,
            lifetime: None,
        }
    }

    /// The value of the `DKIM-Signature` field for a message, over the fields named. `now` is `t=`, in seconds.
    pub fn sign(&self, names: &[String], message: &Message, now: u64) -> Result<String, String> {
        let block = message.header_block();
        let body_hash = hash_body(self.body_form, message, block.len());
        let fields: Vec<Field<'_>> = header::fields(&block).collect();
        let (listed, mut text) = self.hash_input(names, &block, &fields);
        let mut value = self.unsigned(&listed, body_hash.as_ref(), now);
        // RFC 6376 §3.7: the field itself, with an empty `b=` and without its line end, comes last. The blank is the one that stands
        // behind the colon when the field is written.
        canonical::header(self.header_form, b"DKIM-Signature", format!(" {value}").as_bytes(), &mut text);
        text.truncate(text.len() - 2);
        let signature = self.secret.sign(digest::digest(&digest::SHA256, &text).as_ref())?;
        fold_base64(&mut value, &STANDARD.encode(signature));
        Ok(value)
    }

    /// The names for `h=` and the canonical fields that they stand for, in order.
    fn hash_input<'n>(&self, names: &'n [String], block: &[u8], fields: &[Field<'_>]) -> (Vec<&'n str>, Vec<u8>) {
        let mut listed: Vec<&str> = Vec::with_capacity(names.len() * 2);
        let mut text = Vec::with_capacity(4096);
        // From is not optional (§5.4).
        let from = (!names.iter().any(|name| name.eq_ignore_ascii_case("from"))).then_some("from");
        for name in from.into_iter().chain(names.iter().map(String::as_str)) {
            if listed.iter().any(|listed| listed.eq_ignore_ascii_case(name)) {
                continue;
            }
            // From the last occurrence up (§5.4.2).
            for field in fields.iter().rev().filter(|field| field.is(name)) {
                listed.push(name);
                self.canonical_field(block, field, &mut text);
            }
            if self.oversign {
                listed.push(name);
            }
        }
        (listed, text)
    }

    fn canonical_field(&self, block: &[u8], field: &Field<'_>, text: &mut Vec<u8>) {
        match self.header_form {
            Form::Relaxed => canonical::header(Form::Relaxed, field.name, field.value, text),
            Form::Simple => {
                let (name, value) = canonical::simple_parts(block, field);
                canonical::header(Form::Simple, name, value, text);
            }
        }
    }

    /// Everything up to and with `b=`.
    fn unsigned(&self, listed: &[&str], body_hash: &[u8], now: u64) -> String {
        let mut value = String::with_capacity(1024);
        let (header, body) = (self.header_form.word(), self.body_form.word());
        let algorithm = self.secret.algorithm();
        write!(value, "v=1; a={algorithm}; c={header}/{body};\r\n\td={}; s={};", self.domain, self.selector)
            .expect("a string takes everything");
        write!(value, "\r\n\tt={now};").expect("a string takes everything");
        if let Some(lifetime) = self.lifetime {
            write!(value, " x={};", now + lifetime.as_secs()).expect("a string takes everything");
        }
        write!(value, "\r\n\tbh={};\r\n\th=", STANDARD.encode(body_hash)).expect("a string takes everything");
        fold_names(&mut value, listed);
        value.push_str(";\r\n\tb=");
        value
    }
}

/// `from:to:subject`, in lower case, folded behind colons.
fn fold_names(value: &mut String, names: &[&str]) {
    let mut column = 10;
    for (at, name) in names.iter().enumerate() {
        if column + name.len() + 1 > COLUMNS {
            value.push_str("\r\n\t ");
            column = 9;
        }
        value.extend(name.chars().map(|c| c.to_ascii_lowercase()));
        if at + 1 < names.len() {
            value.push(':');
        }
        column += name.len() + 1;
    }
}

/// Begins right behind `b=`: a verifier that empties `b=` must be left with what was hashed.
fn fold_base64(value: &mut String, text: &str) {
    let first = text.len().min(COLUMNS - 10);
    value.push_str(&text[..first]);
    for line in text.as_bytes()[first..].chunks(COLUMNS - 9) {
        value.push_str("\r\n\t ");
        value.extend(line.iter().map(|&b| char::from(b)));
    }
}

/// A ring of private keys, by name. The keys never leave it.
#[derive(Debug, Default)]
pub struct Keys {
    keys: HashMap<Box<str>, SigningKey>,
}

impl Keys {
    /// An empty ring.
    pub fn new() -> Keys {
        Keys::default()
    }

    /// Puts a key on the ring.
    pub fn insert(&mut self, name: &str, key: SigningKey) {
        self.keys.insert(name.into(), key);
    }

    /// A key, to be published or checked.
    pub fn get(&self, name: &str) -> Option<&SigningKey> {
        self.keys.get(name)
    }

    /// The names of all keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(|name| &**name)
    }

    fn find(&self, name: &str) -> Result<&SigningKey, String> {
        self.keys.get(name).ok_or_else(|| format!("no key is called {name}; see [dkim.keys] in the configuration"))
    }
}

impl Sign for Keys {
    fn sign(&self, key: &str, digest: &[u8]) -> Result<Vec<u8>, String> {
        self.find(key)?.secret.sign(digest)
    }

    fn dkim(&self, key: &str, headers: &[String], message: &Message) -> Result<String, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.find(key)?.sign(headers, message, now)
    }
}

#[cfg(test)]
mod tests;
