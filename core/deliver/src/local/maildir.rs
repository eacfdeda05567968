//! Maildir, as qmail defined it: written to `tmp`, synced, moved to `new`, and the folder synced.
//!
//! Promises: when [`deliver`] returns `Ok` the message survives a power cut; a reader never sees half a message; the mailbox's name never
//! leads out of the mail directory; files are 0600 and folders 0700. Lines end in LF, as readers of Maildirs expect, with `Return-Path`
//! (RFC 5321 §4.4) and `Delivered-To` in front. Blocking: call it off the event loop.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memchr;
use waypost_types::{Address, Enhanced, Message, Reply, ReversePath};

/// What is delivered.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// For `Return-Path`.
    pub sender: &'a ReversePath,
    /// For `Delivered-To`.
    pub recipient: &'a Address,
    /// The message.
    pub message: &'a Message,
}

/// Puts a letter into the Maildir `mailbox` below `mail_dir`, making it if need be. `host` becomes a part of the file's name. Gives the
/// file's path; an error is the reply to settle with.
pub fn deliver(mail_dir: &Path, mailbox: &str, host: &str, letter: Letter<'_>) -> Result<PathBuf, Reply> {
    let Some(folder) = file_name(mail_dir, mailbox) else { return Err(refused_name(mailbox)) };
    make(&folder).and_then(|()| write(&folder, host, letter)).map_err(|error| reply(&folder, &error))
}

/// What is said of a name that cannot be one.
pub(super) fn refused_name(mailbox: &str) -> Reply {
    Reply::new(550, Enhanced(5, 1, 1), format!("the mailbox name {mailbox:?} cannot be a file's name"))
}

/// The mailbox's file or folder; `None` for a name that could lead elsewhere or hides it.
pub(super) fn file_name(mail_dir: &Path, mailbox: &str) -> Option<PathBuf> {
    let bad = mailbox.is_empty()
        || mailbox.len() > 255
        || mailbox.starts_with('.')
        || mailbox.contains(['/', '\\'])
        || mailbox.chars().any(char::is_control);
    (!bad).then(|| mail_dir.join(mailbox))
}

/// Makes `cur`, `new` and `tmp`. `new` comes last: where it is, everything is.
fn make(folder: &Path) -> io::Result<()> {
    if folder.join("new").is_dir() {
        return Ok(());
    }
    for part in ["cur", "tmp", "new"] {
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join(part))?;
    }
    sync_folder(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

fn write(folder: &Path, host: &str, letter: Letter<'_>) -> io::Result<PathBuf> {
    let name = unique_name(host);
    let temporary = folder.join("tmp").join(&name);
    let written = write_temporary(&temporary, letter).and_then(|size| {
        let mut name = OsString::from(&name);
        name.push(format!(",S={size}"));
        let path = folder.join("new").join(name);
        fs::rename(&temporary, &path)?;
        sync_folder(&folder.join("new"))?;
        Ok(path)
    });
    if written.is_err() {
        // It was not delivered, and will be tried again under another name.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_temporary(path: &Path, letter: Letter<'_>) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::with_capacity(letter.message.len().clamp(1024, 64 * 1024) + 512, file);
    write!(out, "Return-Path: <{}>\nDelivered-To: {}\n", letter.sender, letter.recipient)?;
    write_lines(&mut out, letter.message)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// CRLF becomes LF, also where it straddles two ranges; a bare CR stays.
fn write_lines(out: &mut impl Write, message: &Message) -> io::Result<()> {
    let mut pending_cr = false;
    for segment in message.segments() {
        let mut rest = &segment[..];
        if std::mem::take(&mut pending_cr) && rest.first() != Some(&b'\n') {
            out.write_all(b"\r")?;
        }
        while let Some(at) = memchr(b'\r', rest) {
            out.write_all(&rest[..at])?;
            rest = &rest[at + 1..];
            match rest.first() {
                Some(b'\n') => {}
                Some(_) => out.write_all(b"\r")?,
                None => pending_cr = true,
            }
        }
        out.write_all(rest)?;
    }
    if pending_cr { out.write_all(b"\r") } else { Ok(()) }
}

/// `seconds.MmicrosPpidQcount.host`: nobody else on this host can come up with it, and `create_new` would notice.
fn unique_name(host: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let host = host.replace('/', "\\057").replace(':', "\\072");
    format!("{}.M{}P{}Q{count}.{host}", now.as_secs(), now.subsec_micros(), std::process::id())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn reply(folder: &Path, error: &io::Error) -> Reply {
    let (code, status, remedy) = match error.kind() {
        io::ErrorKind::StorageFull => (452, Enhanced(4, 3, 1), "make room on its file system"),
        io::ErrorKind::QuotaExceeded => (452, Enhanced(4, 2, 2), "the mailbox is over its quota"),
        io::ErrorKind::PermissionDenied => (451, Enhanced(4, 3, 0), "let the server's user write there"),
        _ => (451, Enhanced(4, 3, 0), "it will be tried again"),
    };
    Reply::new(code, status, format!("cannot deliver to {}: {error}; {remedy}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bytes::Bytes;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn put(dir: &Path, mailbox: &str, parts: &[&'static str]) -> Result<PathBuf, Reply> {
        let message = Message::from_segments(parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect());
        let sender = ReversePath::Mailbox(address("a@example.org"));
        let letter = Letter { sender: &sender, recipient: &address("bob@waypost.test"), message: &message };
        deliver(dir, mailbox, "mx:1/x", letter)
    }

    #[test]
    fn a_letter_lands_in_new_with_its_trace_and_unix_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = put(dir.path(), "bob", &["Subject: x\r", "\n\r\nbare\rcr\r\n", "end\r\n"]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "Return-Path: <a@example.org>\nDelivered-To: bob@waypost.test\nSubject: x\n\nbare\rcr\nend\n");
        assert_eq!(path.parent().unwrap(), dir.path().join("bob/new"));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.ends_with(&format!(".mx\\0721\\057x,S={}", text.len())), "{name}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&dir.path().join("bob"))), (0o600, 0o700));
        assert_eq!(fs::read_dir(dir.path().join("bob/tmp")).unwrap().count(), 0);
    }

    #[test]
    fn names_are_never_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let paths: std::collections::HashSet<_> =
            (0..50).map(|_| put(dir.path(), "bob", &["A: b\r\n"]).unwrap()).collect();
        assert_eq!(paths.len(), 50);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("mail");
        for name in ["", ".", "..", "../x", "/etc", "a/b", "a\0b", ".hidden", "a\nb", "a\\b", &"x".repeat(300)] {
            let reply = put(&root, name, &["A: b\r\n"]).unwrap_err();
            assert!(reply.is_permanent(), "{name:?}: {reply}");
        }
        assert!(!root.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_delay() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bob"), "a file").unwrap();
        let reply = put(dir.path(), "bob", &["A: b\r\n"]).unwrap_err();
        assert!(reply.is_transient() && reply.text.contains("bob"), "{reply}");
    }
}
