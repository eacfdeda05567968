//! Messages from files, folders, mbox files and standard input, one after the other, with line ends as on the wire.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Octets of one file: a large mbox. It is held in memory.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Folders within folders.
const DEPTH_MAX: usize = 16;

/// Shows every message, with a name for people.
pub(super) fn each(paths: &[PathBuf], visit: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
    for path in paths {
        if path.as_os_str() == "-" {
            let mut octets = Vec::new();
            std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_end(&mut octets).context("standard input")?;
            split("-", &octets, visit)?;
        } else {
            walk(path, 0, visit)?;
        }
    }
    Ok(())
}

fn walk(path: &Path, depth: usize, visit: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
    let name = path.display().to_string();
    let facts = fs::metadata(path).with_context(|| name.clone())?;
    if !facts.is_dir() {
        let file = fs::File::open(path).with_context(|| name.clone())?;
        let mut octets = Vec::with_capacity(facts.len() as usize + 1);
        file.take(FILE_BYTES_MAX).read_to_end(&mut octets).with_context(|| name.clone())?;
        return split(&name, &octets, visit);
    }
    let mut below: Vec<PathBuf> =
        fs::read_dir(path).with_context(|| name.clone())?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    below.sort();
    for path in below.iter().filter(|path| depth < DEPTH_MAX && is_mail(path)) {
        walk(path, depth + 1, visit)?;
    }
    Ok(())
}

/// Not what mail programs keep beside the mail: half-written messages, indexes.
fn is_mail(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path.is_dir() {
        return name != "tmp";
    }
    !name.starts_with("dovecot") && !name.starts_with('.') && name != "maildirfolder" && name != "subscriptions"
}

/// One message, or those of an mbox file.
fn split(name: &str, octets: &[u8], visit: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
    if octets.trim_ascii().is_empty() {
        return Ok(());
    }
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    let mut after_blank = true;
    for line in octets.split_inclusive(|byte| *byte == b'\n') {
        if after_blank && is_separator(line) {
            starts.push(at);
        }
        after_blank = line.trim_ascii().is_empty();
        at += line.len();
    }
    if starts.first() != Some(&0) {
        return visit(name, &crlf(octets));
    }
    let many = starts.len() > 1;
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(octets.len());
        let one = &octets[*start..end];
        let body = one.iter().position(|byte| *byte == b'\n').map_or(one.len(), |at| at + 1);
        let name = if many { format!("{name}:{}", index + 1) } else { name.to_string() };
        visit(&name, &crlf(&one[body..]))?;
    }
    Ok(())
}

/// `From someone Thu Aug 22 12:36:23 2002`: what separates the messages of an mbox file (RFC 4155).
fn is_separator(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"From ") else { return false };
    let rest = rest.trim_ascii_end();
    let year = rest.len() >= 4 && rest[rest.len() - 4..].iter().all(u8::is_ascii_digit);
    year && rest.contains(&b':') && !rest.starts_with(b" ")
}

fn crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 40);
    for line in octets.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(paths: &[PathBuf]) -> Vec<String> {
        let mut seen = Vec::new();
        each(paths, &mut |_, letter| {
            seen.push(String::from_utf8_lossy(letter).into_owned());
            Ok(())
        })
        .expect("readable");
        seen
    }

    #[test]
    fn files_folders_and_mboxes_are_taken_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, text).expect("written");
        };
        put(
            "box",
            "From a@b Thu Aug 22 12:36:23 2002\nSubject: 1\n\nFrom here on\n\nFrom c@d Fri Aug 23 01:00:00 2002\nSubject: 2\n\nx\n",
        );
        put("dir/cur/1:2,S", "Subject: 3\r\n\r\ny\r\n");
        put("dir/tmp/2", "half");
        put("dir/dovecot.index", "none");
        put("empty", "\n");
        let all = seen(&[folder.path().join("box"), folder.path().join("dir"), folder.path().join("empty")]);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].starts_with("Subject: 1\r\n") && all[0].contains("From here on"), "{}", all[0]);
        assert_eq!((&all[1][..10], &all[2][..]), ("Subject: 2", "Subject: 3\r\n\r\ny\r\n"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = each(&["/nowhere/at/all".into()], &mut |_, _| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere/at/all"));
    }
}
