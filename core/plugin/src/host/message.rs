//! `message`: reading what is being judged, work on it that the host does faster, and journaled edits.

use aws_lc_rs::digest;
use bytes::Bytes;
use wasmtime::Result;
use wasmtime::component::LinkerInstance;
use waypost_types::Edit;

use super::{action, function};
use crate::case::Ctx;
use crate::fault::Fault;

/// Most octets that one read gives; the contract recommends 16–64 KiB.
const READ_MAX: usize = 1 << 20;
/// Most hits that `find` gives.
const HITS_MAX: usize = 1000;
/// Most tokens that `token-hashes` gives.
const TOKENS_MAX: usize = 20_000;
/// Longest value of an added field.
const VALUE_MAX: usize = 16 << 10;

/// Links `message`.
pub(crate) fn link(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    link_headers(linker)?;
    link_content(linker)?;
    link_work(linker)?;
    link_edits(linker)
}

fn link_headers(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "size", |ctx, ()| Ok(ctx.case.subject()?.message().len() as u64))?;
    function(linker, "header", |ctx, (name,): (String,)| {
        let values = ctx.case.subject()?.header(&name);
        ctx.call.bytes_read += values.iter().map(|value| value.len() as u64).sum::<u64>();
        Ok(values)
    })?;
    function(linker, "headers", |ctx, ()| {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let list: Vec<_> = ctx.case.subject()?.headers().map(|(name, value)| (text(name), value)).collect();
        ctx.call.bytes_read += list.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum::<u64>();
        Ok(list)
    })?;
    function(linker, "raw-headers", |ctx, ()| {
        let block = ctx.case.subject()?.header_block();
        ctx.call.bytes_read += block.len() as u64;
        Ok(block.to_vec())
    })
}

fn link_content(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "read", |ctx, (offset, len): (u64, u32)| {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let data = ctx.case.subject()?.message().read(offset, (len as usize).min(READ_MAX));
        ctx.call.bytes_read += data.len() as u64;
        Ok(data)
    })?;
    function(linker, "parts", |ctx, ()| {
        scan_parts(ctx)?;
        Ok(ctx.case.subject()?.parts().iter().map(|part| part.info.clone()).collect::<Vec<_>>())
    })?;
    function(linker, "read-part", |ctx, (path, offset, len): (String, u64, u32)| {
        let content = part(ctx, &path)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let to = from.saturating_add((len as usize).min(READ_MAX)).min(content.len());
        ctx.call.bytes_read += (to - from) as u64;
        Ok(content[from..to].to_vec())
    })
}

fn link_work(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    function(linker, "find", |ctx, (set,): (String,)| find(ctx, &set))?;
    function(linker, "digest", |ctx, (algorithm, path): (String, Option<String>)| {
        let data = match path {
            Some(path) => part(ctx, &path)?,
            None => ctx.case.subject()?.whole().clone(),
        };
        ctx.scan(data.len())?;
        let algorithm = match algorithm.as_str() {
            "sha256" => &digest::SHA256,
            "sha384" => &digest::SHA384,
            "sha512" => &digest::SHA512,
            "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            other => return Err(Fault::Misuse(format!("no digest `{other}`: sha256, sha384, sha512 or sha1"))),
        };
        Ok(digest::digest(algorithm, &data).as_ref().to_vec())
    })?;
    function(linker, "token-hashes", |ctx, (max,): (u32,)| {
        scan_parts(ctx)?;
        Ok(ctx.case.subject()?.token_hashes((max as usize).min(TOKENS_MAX)))
    })
}

fn link_edits(linker: &mut LinkerInstance<'_, Ctx>) -> Result<()> {
    action(linker, "add-header", |ctx, (name, value): (String, String)| {
        let (name, value) = field(name, value)?;
        edit(ctx, Edit::AppendHeader { name, value })
    })?;
    action(linker, "prepend-header", |ctx, (name, value): (String, String)| {
        let (name, value) = field(name, value)?;
        edit(ctx, Edit::PrependHeader { name, value })
    })?;
    action(linker, "remove-header", |ctx, (name, index): (String, Option<u32>)| {
        edit(ctx, Edit::RemoveHeader { name: field_name(name)?, index })
    })?;
    function(linker, "replace-body", |ctx, (body,): (Vec<u8>,)| {
        if !ctx.shared.grants.rewrite {
            return Ok(Err("the grant `rewrite` is missing".to_string()));
        }
        edit(ctx, Edit::ReplaceBody(Bytes::from(body))).map(Ok)
    })
}

/// An edit makes sense only where there is a message.
fn edit(ctx: &mut Ctx, edit: Edit) -> Result<(), Fault> {
    ctx.case.subject()?;
    ctx.edit(edit)
}

/// Parsing happens once per message; each plugin that makes use of it is charged for it once more than it costs.
fn scan_parts(ctx: &mut Ctx) -> Result<(), Fault> {
    let len = ctx.case.subject()?.message().len();
    ctx.scan(len / 4)
}

fn part(ctx: &mut Ctx, path: &str) -> Result<Bytes, Fault> {
    let part = ctx.case.subject()?.part(path).map(|part| part.content.clone());
    part.ok_or_else(|| Fault::Misuse(format!("the message has no part `{path}`")))
}

fn find(ctx: &mut Ctx, set: &str) -> Result<Vec<(u32, u64)>, Fault> {
    let shared = ctx.shared.clone();
    let Some(patterns) = shared.patterns.get(set) else {
        return Err(Fault::Misuse(format!("its configuration has no pattern set `{set}`")));
    };
    let len = ctx.case.subject()?.message().len();
    ctx.scan(len)?;
    let subject = ctx.case.subject()?;
    let mut hits = Vec::new();
    let mut search = |data: &[u8]| {
        let room = HITS_MAX - hits.len();
        let found = patterns.searcher.find_overlapping_iter(data).take(room);
        hits.extend(found.map(|hit| (hit.pattern().as_u32(), hit.start() as u64)));
    };
    if patterns.decoded {
        subject.texts().for_each(|text| search(text));
    } else {
        search(subject.whole());
    }
    Ok(hits)
}

fn field(name: String, value: String) -> Result<(String, String), Fault> {
    Ok((field_name(name)?, field_value(&value)?))
}

/// RFC 5322 §3.6.8.
fn field_name(name: String) -> Result<String, Fault> {
    let fits = (1..=76).contains(&name.len()) && name.bytes().all(|b| (33..=126).contains(&b) && b != b':');
    if fits { Ok(name) } else { Err(Fault::Misuse(format!("`{}` is no field name", name.escape_debug()))) }
}

/// A value may be folded, but never end the field or the block: each line end must be followed by a blank and by something that
/// is none.
fn field_value(value: &str) -> Result<String, Fault> {
    let unix = value.replace("\r\n", "\n");
    let mut lines = unix.split('\n');
    let first = lines.next().unwrap_or_default();
    let continued = lines.all(|line| line.starts_with([' ', '\t']) && !line.trim_matches([' ', '\t']).is_empty());
    let clean = !unix.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    if !continued || !clean || value.len() > VALUE_MAX || (first.trim().is_empty() && unix.contains("\n\n")) {
        return Err(Fault::Misuse("a field value must be one logical line of at most 16 KiB".into()));
    }
    Ok(unix.replace('\n', "\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_break_out_of_its_field() {
        assert_eq!(field_value("a; b").unwrap(), "a; b");
        assert_eq!(field_value("a;\n\tb").unwrap(), "a;\r\n\tb");
        assert_eq!(field_value("a;\r\n b").unwrap(), "a;\r\n b");
        for value in ["a\r\nB: c", "a\n\nbody", "a\r\n \r\n b", "a\rb", "a\0b", "a\n", "\n\n x"] {
            assert!(field_value(value).is_err(), "{value:?}");
        }
        assert!(field_value(&"x".repeat(VALUE_MAX + 1)).is_err());
    }

    #[test]
    fn a_name_is_a_name() {
        assert!(field_name("X-Spam".into()).is_ok());
        for name in ["", "a b", "a:", "ä", "a\r\n", &"x".repeat(77)] {
            assert!(field_name(name.into()).is_err(), "{name:?}");
        }
    }
}
