//! `waypost user`: the file of those who may log in.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use waypost_login::password_file;

use super::Common;
use crate::first_start::secret;

/// Adds, lists or removes users.
#[derive(Args)]
#[command(
    after_help = "Each user has a mailbox of that name at every domain of `domains.own`, and logs in as NAME or NAME@DOMAIN. \
    Passwords are kept as argon2id hashes and keys for SCRAM-SHA-256 in `users.file`. A running server takes changes on SIGHUP.\n\n\
    Examples:\n  waypost user add alice                 asks for the password\n  \
    echo secret123 | waypost user add bob  takes it from standard input\n  waypost user list"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Add a user, or give one a new password (asked for, or read from standard input)
    Add {
        /// The mailbox's name, without a domain
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a user; the mailbox's mail stays
    Remove {
        /// The mailbox's name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// List the users
    List {
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let (Action::Add { common, .. } | Action::Remove { common, .. } | Action::List { common }) = &arguments.action;
    let config = common.load_without_plugins()?;
    let file = &config.users.file;
    match &arguments.action {
        Action::List { .. } => config.users.accounts.iter().for_each(|account| println!("{}", account.name)),
        Action::Add { name, .. } => {
            check_name(name)?;
            rewrite(file, name, Some(&password_file::line(name, &read_password()?)))?;
            println!("{name} stands in {}; a running server takes it on SIGHUP", file.display());
        }
        Action::Remove { name, .. } => {
            if !config.users.accounts.iter().any(|account| account.name == *name) {
                bail!("there is no user {name} in {}; `waypost user list` shows them", file.display());
            }
            rewrite(file, name, None)?;
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fine) {
        bail!("{name:?} cannot name a mailbox: use letters, digits, `.`, `-` and `_`, and leave the domain away");
    }
    Ok(())
}

fn read_password() -> Result<String> {
    if std::io::stdin().is_terminal() {
        eprint!("Password (it is shown while you type): ");
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("reading the password")?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.chars().count() < 8 {
        bail!("a password needs at least 8 characters");
    }
    Ok(password.to_string())
}

/// Replaces a user's line, keeping everything else as it stands, comments too.
fn rewrite(file: &Path, name: &str, line: Option<&str>) -> Result<()> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let is_user = |text: &&str| text.split_once(':').is_some_and(|(user, _)| user == name);
    let mut lines: Vec<&str> = text.lines().filter(|text| !is_user(text)).collect();
    lines.extend(line);
    secret(file, &(lines.join("\n") + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_replaces_the_old_and_keeps_comments() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("users");
        std::fs::write(&file, "# us\nalice:old\nbob:x\n").expect("write");
        rewrite(&file, "alice", Some("alice:new")).expect("rewritten");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "# us\nbob:x\nalice:new\n");
        rewrite(&file, "bob", None).expect("rewritten");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "# us\nalice:new\n");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "../x", ".x", "a/b", "a@b", "a:b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
