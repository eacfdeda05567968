//! mbox: one file for a mailbox, each letter behind a `From ` line (RFC 4155), lines that look like one escaped with `>` (the form that can be undone).
//!
//! Promises: when [`deliver`] returns `Ok` the letter survives a power cut; a letter that could not be written whole is cut off again, now or, after a crash, before
//! the next one is written; no reader that locks meets half of one. Two locks, in this order, as every mail reader takes at least one of them: `NAME.lock` made exclusively,
//! then fcntl on the file. The lock file holds the length from before: what a crash has left behind it is known for what it is. A file
//! that is no plain file, or has two names, is not written to. Blocking: call it off the event loop.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use rustix::fs::{FlockOperation, OFlags, fcntl_lock};
use waypost_types::{Reply, ReversePath, Timestamp};

use super::maildir::{Letter, file_name, refused_name, reply};

/// How long to wait for a lock: a reader rewrites the file meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
const NAP: Duration = Duration::from_millis(50);
/// A lock file older than this was left by somebody who is gone.
const STALE: Duration = Duration::from_secs(600);

/// Appends a letter to the mbox `mailbox` below `mail_dir`, making it if need be. An error is the reply to settle with.
pub fn deliver(mail_dir: &Path, mailbox: &str, letter: Letter<'_>) -> Result<PathBuf, Reply> {
    let Some(path) = file_name(mail_dir, mailbox) else { return Err(refused_name(mailbox)) };
    match append(&path, letter) {
        Ok(()) => Ok(path),
        Err(error) => Err(reply(&path, &error)),
    }
}

fn append(path: &Path, letter: Letter<'_>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let deadline = Instant::now() + PATIENCE;
    let mut lock = Dotlock::take(path, deadline)?;
    let (mut file, new) = open(path)?;
    lock_file(&file, deadline)?;
    lock.mend(&mut file)?;
    let before = file.metadata()?.len();
    lock.promise(before)?;
    let written = write(&mut file, letter).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // If this fails, too, the lock file stays and the next letter mends it.
        file.set_len(before).and_then(|()| file.sync_all()).inspect_err(|_| lock.keep())?;
        return Err(error);
    }
    if new { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Whether it is new, too.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let new = !path.exists();
    // Never through a link, and never waiting for the other end of a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no plain file of one name"));
    }
    Ok((file, new))
}

fn lock_file(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) if Instant::now() < deadline => {
                std::thread::sleep(NAP);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// `NAME.lock`, removed when dropped.
struct Dotlock {
    path: PathBuf,
    file: File,
    /// The length of the mbox before a letter that was never finished.
    broken: Option<u64>,
    kept: bool,
}

impl Dotlock {
    fn take(mbox: &Path, deadline: Instant) -> io::Result<Dotlock> {
        let mut name = mbox.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let mut broken = None;
        loop {
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Dotlock { path, file, broken, kept: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if let Some(left) = Left::of(&path)? {
                        broken = left.length.or(broken);
                        fs::remove_file(&path)?;
                    } else if Instant::now() >= deadline {
                        return Err(io::Error::new(io::ErrorKind::WouldBlock, "another program has locked it"));
                    } else {
                        std::thread::sleep(NAP);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Cuts off what a crash has left of a letter; what another program has written behind it stays.
    fn mend(&mut self, file: &mut File) -> io::Result<()> {
        let Some(length) = self.broken.filter(|length| file.metadata().is_ok_and(|found| found.len() > *length)) else {
            return Ok(());
        };
        let mut rest = Vec::new();
        file.seek(SeekFrom::Start(length))?;
        file.read_to_end(&mut rest)?;
        // Only the first line of a letter of ours begins so.
        let ours = rest.starts_with(b"From ") && memmem::find(&rest, b"\nFrom ").is_none();
        let cut_short = b"From ".starts_with(&rest);
        if ours || cut_short {
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok(())
    }

    /// Writes down what the file is cut to if this process ends before the letter does.
    fn promise(&mut self, length: u64) -> io::Result<()> {
        write!(self.file, "{}\nwaypost {length}\n", std::process::id())?;
        self.file.sync_all()?;
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Dotlock {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A lock file that nobody holds any more.
struct Left {
    length: Option<u64>,
}

impl Left {
    /// `None`: somebody holds it.
    fn of(path: &Path) -> io::Result<Option<Left>> {
        let (text, age) = match fs::File::open(path) {
            Ok(file) => {
                let mut text = String::new();
                let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
                // Somebody else's lock may hold anything.
                let _ = file.take(100).read_to_string(&mut text);
                (text, age)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = text.lines();
        let owner = lines.next().and_then(|line| line.trim().parse::<u32>().ok());
        let length = lines.next().and_then(|line| line.strip_prefix("waypost ")).and_then(|text| text.parse().ok());
        // A process of ours that is gone, or that was another one: it is in our own process that locks are waited for.
        let gone = length.is_some() && owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists());
        Ok((gone || age > STALE).then_some(Left { length }))
    }
}

fn write(file: &mut File, letter: Letter<'_>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    let sender = match letter.sender {
        ReversePath::Null => "MAILER-DAEMON".to_string(),
        // A blank would end it.
        ReversePath::Mailbox(address) => address.to_string().replace(' ', "-"),
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    writeln!(out, "From {sender} {}", asctime(now))?;
    write!(out, "Return-Path: <{}>\nDelivered-To: {}\n", letter.sender, letter.recipient)?;
    let text = letter.message.contiguous();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().copied().find(|byte| *byte != b'>') == Some(b'F') && looks_like_from(line) {
            out.write_all(b">")?;
        }
        out.write_all(line)?;
        out.write_all(b"\n")?;
    }
    out.write_all(b"\n")?;
    out.flush()
}

/// `From `, with any number of `>` in front.
fn looks_like_from(line: &[u8]) -> bool {
    let bare = line.iter().position(|byte| *byte != b'>').unwrap_or(line.len());
    line[bare..].starts_with(b"From ")
}

/// `Mon Nov  2 10:00:00 2026`, in UTC, made of `Mon, 2 Nov 2026 10:00:00 +0000`.
fn asctime(now: Timestamp) -> String {
    let text = now.rfc5322();
    let words: Vec<&str> = text.split_whitespace().collect();
    let [weekday, day, month, year, time, ..] = words.as_slice() else { return text.clone() };
    format!("{} {month} {:>2} {time} {year}", weekday.trim_end_matches(','), day.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bytes::Bytes;
    use waypost_types::{Address, Message};

    use super::*;

    fn put(dir: &Path, text: &str) -> Result<PathBuf, Reply> {
        let message = Message::new(Bytes::copy_from_slice(text.as_bytes()));
        let sender = ReversePath::Mailbox("a@example.org".parse().expect("an address"));
        let recipient: Address = "bob@waypost.test".parse().expect("an address");
        deliver(dir, "bob", Letter { sender: &sender, recipient: &recipient, message: &message })
    }

    #[test]
    fn letters_stand_one_behind_the_other_with_their_from_lines_escaped() {
        let dir = tempfile::tempdir().expect("a folder");
        put(dir.path(), "Subject: 1\r\n\r\nFrom here on\r\n>From there\r\n>>From\r\nno end").expect("delivered");
        let path = put(dir.path(), "Subject: 2\r\n\r\nx\r\n").expect("delivered");
        let text = fs::read_to_string(&path).expect("a file");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("From a@example.org ") && lines[0].len() == "From a@example.org ".len() + 24,
            "{text}"
        );
        assert_eq!(
            lines[1..11],
            [
                "Return-Path: <a@example.org>",
                "Delivered-To: bob@waypost.test",
                "Subject: 1",
                "",
                ">From here on",
                ">>From there",
                ">>From",
                "no end",
                "",
                lines[10]
            ]
        );
        assert!(lines[10].starts_with("From a@example.org ") && text.ends_with("x\n\n"), "{text}");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(!dir.path().join("bob.lock").exists());
        assert_eq!(asctime(Timestamp(1_762_077_600_000)), "Sun Nov  2 10:00:00 2025");
    }

    #[test]
    fn what_a_crash_has_left_is_cut_off_and_what_others_wrote_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = put(dir.path(), "Subject: 1\r\n\r\nx\r\n").expect("delivered");
        let whole = fs::read(&path).expect("a file");
        let crash = |torn: &str| {
            fs::write(&path, [&whole[..], torn.as_bytes()].concat()).expect("written");
            fs::write(dir.path().join("bob.lock"), format!("4194999\nwaypost {}\n", whole.len())).expect("written");
            put(dir.path(), "Subject: 2\r\n\r\ny\r\n").expect("delivered");
            String::from_utf8(fs::read(&path).expect("a file")).expect("text")
        };
        for torn in
            ["Fr", "From a@example.org Mon Nov  2 10:00:00 2026\nSubject: to", "From x y\nSubject: t\n\n>From me\n"]
        {
            let text = crash(torn);
            assert!(text.as_bytes().starts_with(&whole) && text.matches("\nFrom ").count() == 1, "{text}");
            assert!(!text.contains("Subject: t"), "{text}");
        }
        let text = crash("From x y\nSubject: torn\n\nFrom z Mon Nov  2 10:00:00 2026\nSubject: another program's\n\n");
        assert!(text.contains("another program's") && text.contains("Subject: 2"), "{text}");
    }

    #[test]
    fn a_full_disk_leaves_the_mailbox_as_it_was() {
        // Whatever is written there is no space left for.
        let full = Path::new("/dev/full");
        if !full.exists() {
            return eprintln!("skipped: there is no /dev/full");
        }
        let dir = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(full, dir.path().join("bob")).expect("a link");
        let refused = put(dir.path(), "Subject: 1\r\n\r\nx\r\n").expect_err("never through a link");
        assert!(refused.is_transient(), "{refused}");
        assert!(!dir.path().join("bob.lock").exists());
    }

    #[test]
    fn a_locked_mailbox_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = put(dir.path(), "Subject: 1\r\n\r\nx\r\n").expect("delivered");
        let lock = dir.path().join("bob.lock");
        fs::write(&lock, format!("{}\n", std::process::id())).expect("written");
        let (theirs, folder) = (lock.clone(), dir.path().to_path_buf());
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            fs::remove_file(theirs).expect("removed");
        });
        let begun = Instant::now();
        put(&folder, "Subject: 2\r\n\r\ny\r\n").expect("delivered");
        assert!(begun.elapsed() >= Duration::from_millis(150));
        reader.join().expect("done");
        // Two at once in this process: the lock file keeps them apart, for fcntl does not within a process.
        let at_once: Vec<_> = (0..8)
            .map(|n| {
                let folder = folder.clone();
                std::thread::spawn(move || put(&folder, &format!("Subject: n{n}\r\n\r\nz\r\n")).expect("delivered"))
            })
            .collect();
        at_once.into_iter().for_each(|one| drop(one.join().expect("done")));
        let text = fs::read_to_string(&path).expect("a file");
        assert_eq!(text.matches("From a@example.org").count(), 10, "{text}");
    }
}
