//! What the owners of mailboxes wrote into their `.forward`: a table from a mailbox's name to the text of its file.
//!
//! Promises: a name never leads out of the place that the operator named; what others than the owner could have written is not believed
//! (sendmail's and Postfix's rule); no file is read beyond [`FILE_BYTES_MAX`]; a file that cannot be read is an error, for which mail
//! waits, and never "no file". What the text means is `waypost-route`'s.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use waypost_types::Soon;
use waypost_types::port::{Found, Table, TableError};

/// Octets of one file.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;
/// For one file: homes lie on network file systems, too.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What stands for the mailbox's name.
const PLACE: &str = "{mailbox}";

/// The table.
#[derive(Clone, Debug)]
pub struct ForwardFiles {
    before: String,
    behind: String,
}

impl ForwardFiles {
    /// Files at `template`, in which `{mailbox}` stands for the mailbox's name.
    pub fn new(template: &Path) -> ForwardFiles {
        let text = template.to_string_lossy();
        let (before, behind) = text.split_once(PLACE).unwrap_or((&text, ""));
        ForwardFiles { before: before.to_string(), behind: behind.to_string() }
    }

    /// `None` for a name that would lead elsewhere.
    fn file(&self, mailbox: &str) -> Option<PathBuf> {
        let bad = mailbox.is_empty() || mailbox.starts_with('.') || mailbox.contains(['/', '\\', '\0']);
        (!bad).then(|| format!("{}{mailbox}{}", self.before, self.behind).into())
    }
}

impl Table for ForwardFiles {
    fn lookup<'a>(&'a self, key: &'a str) -> Soon<'a, Found<'a>> {
        let Some(file) = self.file(key) else { return Soon::Now(Ok(None)) };
        Soon::Later(Box::pin(async move {
            let name = file.display().to_string();
            let read = tokio::task::spawn_blocking(move || read(&file));
            let failed = |why: &dyn std::fmt::Display| TableError(format!("{name}: {why}"));
            match tokio::time::timeout(TIMEOUT, read).await {
                Ok(Ok(Ok(text))) => Ok(text.map(Cow::Owned)),
                Ok(Ok(Err(error))) => Err(failed(&error)),
                Ok(Err(error)) => Err(failed(&error)),
                Err(_) => Err(failed(&"no answer in time")),
            }
        }))
    }

    /// A mailbox is asked for by its whole name.
    fn takes_parts(&self) -> bool {
        false
    }
}

/// The file's text; `None` if there is none. Blocking.
fn read(file: &Path) -> io::Result<Option<String>> {
    let wrong = |text: &str| io::Error::new(ErrorKind::InvalidData, text.to_string());
    // Without O_NONBLOCK a FIFO in its place would hold the thread.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let open = match OpenOptions::new().read(true).custom_flags(nonblocking).open(file) {
        Ok(open) => open,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error),
    };
    let facts = open.metadata()?;
    if !facts.is_file() {
        return Err(wrong("is no file"));
    }
    if facts.mode() & 0o022 != 0 {
        return Err(wrong("others than its owner can write it: chmod go-w"));
    }
    if facts.len() > FILE_BYTES_MAX {
        return Err(wrong("is larger than 64 KiB"));
    }
    let mut text = String::new();
    open.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn ask(files: &ForwardFiles, mailbox: &str) -> Result<Option<String>, String> {
        let found = files.lookup(mailbox).get().await;
        found.map(|text| text.map(Cow::into_owned)).map_err(|error| error.0)
    }

    #[tokio::test]
    async fn only_what_the_owner_wrote_is_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ForwardFiles::new(&folder.path().join("{mailbox}/.forward"));
        let file = folder.path().join("alice/.forward");
        assert_eq!(ask(&files, "alice").await, Ok(None), "no folder");
        create_dir(folder.path().join("alice")).expect("made");
        assert_eq!(ask(&files, "alice").await, Ok(None), "no file");
        write(&file, "bob@far.example\n").expect("written");
        set_permissions(&file, Permissions::from_mode(0o644)).expect("set");
        assert_eq!(ask(&files, "alice").await, Ok(Some("bob@far.example\n".into())));
        set_permissions(&file, Permissions::from_mode(0o666)).expect("set");
        assert!(ask(&files, "alice").await.is_err_and(|error| error.contains("chmod go-w")));
        set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
        write(&file, vec![b'a'; FILE_BYTES_MAX as usize + 1]).expect("written");
        assert!(ask(&files, "alice").await.is_err_and(|error| error.contains("larger")));
        write(&file, [0xff, 0xfe]).expect("written");
        assert!(ask(&files, "alice").await.is_err(), "no text");
        std::fs::remove_file(&file).expect("removed");
        create_dir(&file).expect("made");
        assert!(ask(&files, "alice").await.is_err_and(|error| error.contains("no file")));
    }

    #[tokio::test]
    async fn no_name_leads_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path().join("secret"), "x@far.example").expect("written");
        let files = ForwardFiles::new(&folder.path().join("homes/{mailbox}"));
        for name in ["../secret", "..", ".", "", "a/../../secret", "a\\b"] {
            assert_eq!(ask(&files, name).await, Ok(None), "{name:?}");
        }
    }
}
