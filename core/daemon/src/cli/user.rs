//! `waypost user`: who may log in.

use std::fs;
use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use waypost_server::credential::password_file::hash_password;

use super::Common;
use crate::first_start::secret;

/// Adds, lists or removes users. A user has a mailbox and may log in.
#[derive(Args)]
#[command(after_help = "The password is one line on standard input. A running server takes changes on SIGHUP.\n\n\
    Examples:\n  waypost user add carol < password\n  waypost user list\n  waypost user remove carol")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Add a user, or change a password; the password is read from standard input
    Add(One),
    /// Remove a user; the mailbox stays
    Remove(One),
    /// The names of all users
    List(Common),
}

#[derive(Args)]
struct One {
    /// The mailbox's name, without a domain
    name: String,
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::Add(one) => add(one),
        Action::Remove(one) => remove(one),
        Action::List(common) => {
            let config = common.load().map_err(|mistakes| anyhow!("{mistakes}"))?;
            config.users.accounts.iter().for_each(|account| println!("{}", account.name));
            Ok(())
        }
    }
}

fn add(one: &One) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if one.name.is_empty() || one.name.len() > 64 || one.name.starts_with('.') || !one.name.bytes().all(plain) {
        bail!("`{}` is no mailbox name: letters, digits, `.`, `-`, `_`, at most 64, no domain", one.name);
    }
    if std::io::stdin().is_terminal() {
        eprintln!("Password for {} (it is shown as you type; end with Enter and Ctrl-D):", one.name);
    }
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password)?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.len() < 8 {
        bail!("a password must have at least 8 characters, on standard input");
    }
    let line = format!("{}:{}", one.name, hash_password(password));
    change(one, Some(&line))?;
    println!("{} may log in; tell a running server by SIGHUP", one.name);
    Ok(())
}

fn remove(one: &One) -> Result<()> {
    if !change(one, None)? {
        bail!("there is no user `{}`", one.name);
    }
    println!("{} is removed; tell a running server by SIGHUP", one.name);
    Ok(())
}

/// Replaces the user's line, appends it, or takes it out; says whether there was one.
fn change(one: &One, line: Option<&str>) -> Result<bool> {
    let config = one.common.load().map_err(|mistakes| anyhow!("{mistakes}"))?;
    let path: &Path = &config.users.file;
    let text = if path.exists() {
        fs::read_to_string(path).with_context(|| path.display().to_string())?
    } else {
        String::new()
    };
    let is_theirs = |row: &str| row.split_once(':').is_some_and(|(name, _)| name.trim() == one.name);
    let existed = text.lines().any(is_theirs);
    let mut rows: Vec<&str> = text.lines().filter(|row| !is_theirs(row)).collect();
    rows.extend(line);
    secret(path, &format!("{}\n", rows.join("\n")))?;
    Ok(existed)
}
