//! ARC (RFC 8617), verified: whether the handlers that sealed a message before us left an unbroken chain, and what they say.
//!
//! Evaluated by ourselves and strictly: a library met 153 cases of ARC's test suite (it took rsa-sha1, repeated tags, `h=` over seals). Here all are
//! met but five, each with its reason in `suite`. Every seal is checked, and the newest message signature. Sealing is not done: ARC is on its way to
//! historic. A pass says nothing about who sealed; [`Arc::vouches`] asks that.

mod set;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use waypost_types::Message;
use waypost_types::header::{self, Field};
use waypost_types::port::{Dns, DnsType};

use self::set::{Algorithm, Set, Validation};
use crate::canonical::{self, Form, hash_body};
use crate::tags::Tags;

/// RFC 8617 §4.2.1: a chain has at most fifty sets.
const SETS_MAX: usize = 50;

/// A message's chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arc {
    /// `none`, `pass` or `fail`.
    pub result: &'static str,
    /// Why it fails.
    pub problem: Option<&'static str>,
    /// The sealers, the oldest first, each with what it found; only of a chain that passes.
    pub seals: Vec<Seal>,
}

/// One sealer and its findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// `d=` of the seal.
    pub domain: String,
    /// The payload of its `ARC-Authentication-Results`.
    pub results: String,
}

impl Arc {
    /// Whether a sealer that is trusted saw the author authenticated: from the newest backwards, as long as every sealer is trusted, one
    /// that says `dmarc=pass`.
    pub fn vouches(&self, trusted: &[String]) -> bool {
        let trusts = |seal: &&Seal| trusted.iter().any(|name| name.eq_ignore_ascii_case(&seal.domain));
        self.seals.iter().rev().take_while(trusts).any(|seal| passed_dmarc(&seal.results))
    }

    fn fail(problem: &'static str) -> Arc {
        Arc { result: "fail", problem: Some(problem), seals: Vec::new() }
    }
}

/// `dmarc=pass` among the clauses, comments left aside.
fn passed_dmarc(results: &str) -> bool {
    let mut depth = 0_u32;
    let bare: String = results
        .chars()
        .filter(|c| {
            depth += u32::from(*c == '(');
            let inside = depth > 0;
            depth = depth.saturating_sub(u32::from(*c == ')'));
            !inside
        })
        .collect();
    bare.split(';').skip(1).filter_map(|clause| clause.split_once('=')).any(|(method, rest)| {
        let result = rest.split_whitespace().next().unwrap_or_default();
        method.trim().eq_ignore_ascii_case("dmarc") && result.eq_ignore_ascii_case("pass")
    })
}

/// Checks a message's chain.
pub async fn verify(dns: &dyn Dns, message: &Message) -> Arc {
    let block = message.header_block();
    let fields: Vec<Field<'_>> = header::fields(&block).collect();
    let chain = match set::collect(&fields) {
        Ok(chain) if chain.is_empty() => return Arc { result: "none", ..Arc::default() },
        Ok(chain) => chain,
        Err(problem) => return Arc::fail(problem),
    };
    match check(dns, message, &block, &fields, &chain).await {
        Ok(()) => Arc {
            result: "pass",
            problem: None,
            seals: chain
                .iter()
                .map(|set| Seal { domain: set.seal.domain.clone(), results: set.results.clone() })
                .collect(),
        },
        Err(problem) => Arc::fail(problem),
    }
}

/// RFC 8617 §5.2, in its order.
async fn check(
    dns: &dyn Dns,
    message: &Message,
    block: &[u8],
    fields: &[Field<'_>],
    chain: &[Set<'_>],
) -> Result<(), &'static str> {
    let newest = chain.last().expect("a chain has a set");
    if newest.seal.validation == Validation::Fail {
        return Err("the last sealer found the chain broken");
    }
    if chain.len() > SETS_MAX {
        return Err("the chain is too long");
    }
    for (at, set) in chain.iter().enumerate() {
        let right = if at == 0 { Validation::None } else { Validation::Pass };
        if set.seal.validation != right {
            return Err("a sealer says what it cannot have found");
        }
    }
    let signed = &newest.signature;
    if hash_body(signed.body_form, message, block.len()).as_ref() != signed.body_hash {
        return Err("the body has changed since the last sealer");
    }
    let mut text = signed_fields(block, fields, &signed.names, signed.header_form);
    canonical_last(signed.header_form, block, newest.signature_field, &mut text);
    let key = key(dns, &signed.selector, &signed.domain).await?;
    key.verify(signed.algorithm, &text, &signed.signature).ok_or("the last message signature does not verify")?;
    for at in (0..chain.len()).rev() {
        let seal = &chain[at].seal;
        let text = sealed(&chain[..=at], block);
        let key = key_of(dns, seal).await?;
        key.verify(seal.algorithm, &text, &seal.signature).ok_or("a seal does not verify")?;
    }
    Ok(())
}

async fn key_of(dns: &dyn Dns, seal: &set::SealTags) -> Result<Key, &'static str> {
    key(dns, &seal.selector, &seal.domain).await
}

/// The fields that `h=` names, each from its last occurrence up (RFC 6376 §5.4.2).
fn signed_fields(block: &[u8], fields: &[Field<'_>], names: &[String], form: Form) -> Vec<u8> {
    let mut used = vec![false; fields.len()];
    let mut text = Vec::with_capacity(4096);
    for name in names {
        let found = (0..fields.len()).rev().find(|at| !used[*at] && fields[*at].is(name));
        if let Some(at) = found {
            used[at] = true;
            canonical_field(form, block, &fields[at], &mut text);
        }
    }
    text
}

fn canonical_field(form: Form, block: &[u8], field: &Field<'_>, text: &mut Vec<u8>) {
    match form {
        Form::Relaxed => canonical::header(Form::Relaxed, field.name, field.value, text),
        Form::Simple => {
            let (name, value) = canonical::simple_parts(block, field);
            canonical::header(Form::Simple, name, value, text);
        }
    }
}

/// The field that is being verified: with `b=` emptied, and without its line end.
fn canonical_last(form: Form, block: &[u8], field: &Field<'_>, text: &mut Vec<u8>) {
    let (name, value) = match form {
        Form::Relaxed => (field.name, field.value),
        Form::Simple => canonical::simple_parts(block, field),
    };
    canonical::header(form, name, &without_signature(value), text);
    text.truncate(text.len() - 2);
}

/// What a seal covers (RFC 8617 §5.1.1): all sets up to its own, the seal itself last.
fn sealed(chain: &[Set<'_>], block: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(4096);
    for (at, set) in chain.iter().enumerate() {
        canonical_field(Form::Relaxed, block, set.results_field, &mut text);
        canonical_field(Form::Relaxed, block, set.signature_field, &mut text);
        if at + 1 < chain.len() {
            canonical_field(Form::Relaxed, block, set.seal_field, &mut text);
        } else {
            canonical_last(Form::Relaxed, block, set.seal_field, &mut text);
        }
    }
    text
}

/// A tag list with the value of `b=` left away, and nothing else changed.
fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for (at, tag) in value.split(|byte| *byte == b';').enumerate() {
        if at > 0 {
            out.push(b';');
        }
        let equals = tag.iter().position(|byte| *byte == b'=');
        match equals {
            Some(equals) if tag[..equals].trim_ascii() == b"b" => out.extend_from_slice(&tag[..=equals]),
            _ => out.extend_from_slice(tag),
        }
    }
    out
}

/// A public key.
struct Key {
    ed25519: bool,
    octets: Vec<u8>,
}

impl Key {
    fn verify(&self, algorithm: Algorithm, text: &[u8], signature: &[u8]) -> Option<()> {
        let hash;
        let (with, message): (&'static dyn VerificationAlgorithm, &[u8]) = match (algorithm, self.ed25519) {
            (Algorithm::RsaSha256, false) => (&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, text),
            (Algorithm::Ed25519Sha256, true) => {
                // RFC 8463 §3: what is signed is the hash.
                hash = digest::digest(&digest::SHA256, text);
                (&signature::ED25519, hash.as_ref())
            }
            _ => return None,
        };
        UnparsedPublicKey::new(with, &self.octets).verify(message, signature).ok()
    }
}

/// RFC 6376 §3.6.1, the part that concerns us.
async fn key(dns: &dyn Dns, selector: &str, domain: &str) -> Result<Key, &'static str> {
    let answer = match dns.lookup(&format!("{selector}._domainkey.{domain}"), DnsType::Txt).await {
        Ok(answer) => answer,
        Err(error) if error.is_transient() => return Err("a key cannot be fetched now"),
        Err(_) => return Err("a key is not there"),
    };
    answer.records.iter().find_map(|text| parse_key(text)).ok_or("a key is damaged, revoked or for something else")
}

fn parse_key(text: &str) -> Option<Key> {
    let tags = Tags::parse(text)?;
    let any = |name: &str, wanted: &str| {
        tags.get(name).is_none_or(|list| list.split(':').any(|word| word.trim() == wanted || word.trim() == "*"))
    };
    if tags.get("v").is_some_and(|version| version != "DKIM1") || !any("h", "sha256") || !any("s", "email") {
        return None;
    }
    let octets = tags.base64("p")?;
    match tags.get("k").unwrap_or("rsa") {
        "rsa" => Some(Key { ed25519: false, octets: bare_rsa(octets) }),
        "ed25519" => Some(Key { ed25519: true, octets }),
        _ => None,
    }
}

/// The RSAPublicKey inside a SubjectPublicKeyInfo; what is none stays as it stands.
fn bare_rsa(der: Vec<u8>) -> Vec<u8> {
    fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
        let (tag, rest) = bytes.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = if first & 0x80 == 0 {
            (usize::from(*first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            let (size, rest) = rest.split_at_checked(count).filter(|_| (1..=3).contains(&count))?;
            (size.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        Some((*tag, content, rest))
    }
    let inner = || {
        let (0x30, outer, _) = next(&der)? else { return None };
        let (0x30, _, rest) = next(outer)? else { return None };
        let (0x03, bits, _) = next(rest)? else { return None };
        bits.strip_prefix(&[0]).map(<[u8]>::to_vec)
    };
    inner().unwrap_or(der)
}

#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
