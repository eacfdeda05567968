//! The file of users that the configuration names.

use std::path::Path;

use crate::mistake::{Mistake, Place};
use crate::value::{is_name, plain_error};

/// Somebody who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The mailbox's name.
    pub name: String,
    /// `$argon2id$…`, `$2b$…` or `$6$…`, and keys for SCRAM behind a colon.
    pub hash: String,
}

impl std::fmt::Debug for Account {
    /// Never shows the hash.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.name)
    }
}

/// Reads the user file. That it does not exist is a mistake only if somebody named it (`must_exist`).
pub(crate) fn read_users(file: &Path, must_exist: Option<Place>, mistakes: &mut Vec<Mistake>) -> Vec<Account> {
    let Some(text) = read(file, must_exist, "create it with `waypost user add NAME`", mistakes) else {
        return Vec::new();
    };
    let mut accounts: Vec<Account> = Vec::new();
    for (number, line) in meaningful_lines(&text) {
        let place = || Place::file(&file.display().to_string(), number, 1);
        let remedy =
            "write `waypost user add NAME`; each line is name:HASH with an argon2id, bcrypt or sha512-crypt hash";
        match line.split_once(':') {
            Some((name, hash)) if is_name(name) && is_hash(hash) => {
                if accounts.iter().any(|account| account.name == name) {
                    mistakes.push(Mistake::new(
                        place(),
                        format!("user `{name}` stands here twice"),
                        "remove one of the two",
                    ));
                }
                accounts.push(Account { name: name.to_string(), hash: hash.trim_end().to_string() });
            }
            Some((name, _)) if is_name(name) => {
                mistakes.push(Mistake::new(place(), format!("the password of `{name}` is no hash"), remedy));
            }
            _ => mistakes.push(Mistake::new(place(), "this is no user", remedy)),
        }
    }
    accounts
}

/// A hash of a kind that logins understand, at sight; `:` and SCRAM keys may follow.
fn is_hash(text: &str) -> bool {
    ["$argon2id$", "$2a$", "$2b$", "$2y$", "$6$"].iter().any(|kind| text.starts_with(kind))
}

/// Lines from 1, without comments and empty ones.
fn meaningful_lines(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index as u32 + 1, line));
    lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

fn read(file: &Path, must_exist: Option<Place>, remedy: &str, mistakes: &mut Vec<Mistake>) -> Option<String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && must_exist.is_none() => None,
        Err(error) => {
            let place = must_exist.unwrap_or(Place::Default);
            let problem = format!("cannot read {}: {}", file.display(), plain_error(&error));
            mistakes.push(Mistake::new(place, problem, remedy));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("write it");
        file
    }

    #[test]
    fn bad_lines_are_told_with_their_numbers() {
        let users = file("a:$argon2id$x\nb:plain\na:$argon2id$y\n../c:$argon2id$z\n");
        let mut mistakes = Vec::new();
        let accounts = read_users(users.path(), None, &mut mistakes);
        let lines: Vec<_> =
            mistakes.iter().map(|m| if let Place::File { line, .. } = m.place { line } else { 0 }).collect();
        assert_eq!(lines, [2, 3, 4]);
        assert_eq!(format!("{:?}", accounts[0]), "Account(a)");
    }

    #[test]
    fn a_missing_user_file_is_a_mistake_only_if_it_was_named() {
        let mut mistakes = Vec::new();
        let gone = Path::new("/nonexistent/users");
        assert!(read_users(gone, None, &mut mistakes).is_empty() && mistakes.is_empty());
        read_users(gone, Some(Place::Default), &mut mistakes);
        assert_eq!(mistakes.len(), 1);
    }
}
