//! ARC sets (RFC 8617 §4): found among the header fields and taken apart, or the reason why they are no chain.

use waypost_types::Domain;
use waypost_types::header::Field;

use crate::canonical::Form;
use crate::tags::Tags;

/// One instance: three fields that belong together.
#[derive(Debug)]
pub(super) struct Set<'a> {
    pub(super) results_field: &'a Field<'a>,
    pub(super) signature_field: &'a Field<'a>,
    pub(super) seal_field: &'a Field<'a>,
    pub(super) results: String,
    pub(super) signature: SignatureTags,
    pub(super) seal: SealTags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    RsaSha256,
    Ed25519Sha256,
}

/// `cv=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validation {
    None,
    Pass,
    Fail,
}

/// `ARC-Message-Signature`
#[derive(Debug)]
pub(super) struct SignatureTags {
    pub(super) algorithm: Algorithm,
    pub(super) domain: String,
    pub(super) selector: String,
    pub(super) signature: Vec<u8>,
    pub(super) body_hash: Vec<u8>,
    pub(super) names: Vec<String>,
    pub(super) header_form: Form,
    pub(super) body_form: Form,
}

/// `ARC-Seal`
#[derive(Debug)]
pub(super) struct SealTags {
    pub(super) algorithm: Algorithm,
    pub(super) domain: String,
    pub(super) selector: String,
    pub(super) signature: Vec<u8>,
    pub(super) validation: Validation,
}

/// The fields of one instance, as they are found.
#[derive(Default)]
struct Pieces<'a> {
    results: Option<(&'a Field<'a>, String)>,
    signature: Option<(&'a Field<'a>, SignatureTags)>,
    seal: Option<(&'a Field<'a>, SealTags)>,
}

/// The chain, from the first instance to the last; empty without any ARC field.
pub(super) fn collect<'a>(fields: &'a [Field<'a>]) -> Result<Vec<Set<'a>>, &'static str> {
    let mut pieces: Vec<Pieces<'_>> = Vec::new();
    for field in fields {
        let kind = [RESULTS, SIGNATURE, SEAL].into_iter().find(|name| field.is(name));
        let Some(kind) = kind else { continue };
        let text = std::str::from_utf8(field.value).map_err(|_| "an ARC field is no text")?;
        let (instance, place) = match kind {
            RESULTS => {
                let (instance, results) = read_results(text).ok_or("ARC-Authentication-Results is malformed")?;
                (instance, Found::Results(results))
            }
            SIGNATURE => {
                let (instance, tags) = read_signature(text).ok_or("ARC-Message-Signature is malformed")?;
                (instance, Found::Signature(tags))
            }
            _ => {
                let (instance, tags) = read_seal(text).ok_or("ARC-Seal is malformed")?;
                (instance, Found::Seal(tags))
            }
        };
        if pieces.len() < instance {
            pieces.resize_with(instance, Pieces::default);
        }
        pieces[instance - 1].put(field, place)?;
    }
    pieces.into_iter().map(Pieces::whole).collect()
}

const RESULTS: &str = "ARC-Authentication-Results";
const SIGNATURE: &str = "ARC-Message-Signature";
const SEAL: &str = "ARC-Seal";

enum Found {
    Results(String),
    Signature(SignatureTags),
    Seal(SealTags),
}

impl<'a> Pieces<'a> {
    fn put(&mut self, field: &'a Field<'a>, found: Found) -> Result<(), &'static str> {
        let twice = match found {
            Found::Results(results) => self.results.replace((field, results)).is_some(),
            Found::Signature(tags) => self.signature.replace((field, tags)).is_some(),
            Found::Seal(tags) => self.seal.replace((field, tags)).is_some(),
        };
        if twice { Err("an ARC field is there twice") } else { Ok(()) }
    }

    fn whole(self) -> Result<Set<'a>, &'static str> {
        match (self.results, self.signature, self.seal) {
            (Some((results_field, results)), Some((signature_field, signature)), Some((seal_field, seal))) => {
                Ok(Set { results_field, signature_field, seal_field, results, signature, seal })
            }
            _ => Err("an ARC set is incomplete"),
        }
    }
}

/// 1 to 50 (§4.2.1), written as a number and nothing else.
fn instance(text: &str) -> Option<usize> {
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten().filter(|number| (1..=super::SETS_MAX).contains(number))
}

/// `i=1;` comes first, and then what an `Authentication-Results` field holds. What that says is for whoever trusts the sealer.
fn read_results(text: &str) -> Option<(usize, String)> {
    let (first, rest) = text.split_once(';')?;
    let (name, value) = first.split_once('=')?;
    let blank = |text: &str| text.trim_matches([' ', '\t', '\r', '\n']).is_empty();
    let trimmed = value.trim_matches([' ', '\t', '\r', '\n']);
    if name.trim_matches([' ', '\t', '\r', '\n']) != "i" || blank(rest) {
        return None;
    }
    Some((instance(trimmed)?, rest.to_string()))
}

fn read_signature(text: &str) -> Option<(usize, SignatureTags)> {
    let tags = Tags::parse(text)?;
    let names: Vec<String> = tags.need("h")?.split(':').map(|name| name.trim().to_string()).collect();
    let named =
        |name: &String| !name.is_empty() && name.bytes().all(|b| matches!(b, 33..=126) && b != b':' && b != b';');
    // §4.1.2: a seal is never covered; `l=` would leave the rest of the body to anybody.
    if !names.iter().all(named) || names.iter().any(|name| name.eq_ignore_ascii_case(SEAL)) || tags.get("l").is_some() {
        return None;
    }
    let (header_form, body_form) = forms(tags.get("c"))?;
    is_time(&tags, "t").then_some(())?;
    is_time(&tags, "x").then_some(())?;
    let tags_read = SignatureTags {
        algorithm: algorithm(&tags)?,
        domain: domain(&tags)?,
        selector: selector(&tags)?,
        signature: tags.base64("b")?,
        body_hash: tags.base64("bh")?,
        names,
        header_form,
        body_form,
    };
    Some((instance(tags.need("i")?)?, tags_read))
}

fn read_seal(text: &str) -> Option<(usize, SealTags)> {
    let tags = Tags::parse(text)?;
    // §4.1.3: with these it is no seal.
    if ["h", "bh", "c", "l"].iter().any(|name| tags.get(name).is_some()) || !is_time(&tags, "t") {
        return None;
    }
    let validation = match tags.need("cv")? {
        "none" => Validation::None,
        "pass" => Validation::Pass,
        "fail" => Validation::Fail,
        _ => return None,
    };
    let tags_read = SealTags {
        algorithm: algorithm(&tags)?,
        domain: domain(&tags)?,
        selector: selector(&tags)?,
        signature: tags.base64("b")?,
        validation,
    };
    Some((instance(tags.need("i")?)?, tags_read))
}

/// rsa-sha1 is gone (RFC 8301).
fn algorithm(tags: &Tags<'_>) -> Option<Algorithm> {
    match tags.need("a")? {
        "rsa-sha256" => Some(Algorithm::RsaSha256),
        "ed25519-sha256" => Some(Algorithm::Ed25519Sha256),
        _ => None,
    }
}

fn domain(tags: &Tags<'_>) -> Option<String> {
    Domain::parse(tags.need("d")?).ok().map(|domain| domain.as_str().to_string())
}

fn selector(tags: &Tags<'_>) -> Option<String> {
    let text = tags.need("s")?;
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    text.split('.').all(label).then(|| text.to_string())
}

/// A time, if it is there, is a number.
fn is_time(tags: &Tags<'_>, name: &str) -> bool {
    tags.get(name).is_none_or(|text| !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit()))
}

/// `c=`: simple where it says nothing (RFC 6376 §3.5).
fn forms(text: Option<&str>) -> Option<(Form, Form)> {
    let Some(text) = text else { return Some((Form::Simple, Form::Simple)) };
    let form = |word: &str| [Form::Simple, Form::Relaxed].into_iter().find(|form| form.word() == word);
    match text.split_once('/') {
        Some((header, body)) => Some((form(header)?, form(body)?)),
        None => Some((form(text)?, Form::Simple)),
    }
}
