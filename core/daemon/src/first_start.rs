//! What is made when it is missing: the data folder, the admin token, the secret of logins, DKIM keys, and the demonstration's user.
//!
//! Files with secrets are made with mode 0600 from the first moment, written under another name and renamed, so that a crash leaves no half of one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use waypost_config::Config;
use waypost_config::model::DkimKey;
use waypost_login::password_file;
use waypost_mailauth::{KeyKind, SecretKey, key};

/// In the data folder: what decides how logins of unknown users look. It must not change, or guessers would see who is made up.
pub(crate) const LOGIN_SECRET: &str = "login-secret";

/// What there is to tell.
pub(crate) struct Made {
    /// The demonstration user's password.
    pub(crate) demo_password: Option<String>,
}

/// Makes whatever is missing.
pub(crate) fn prepare(config: &Config, demo: bool) -> Result<Made> {
    folder(&config.data)?;
    folder(&config.users.mail)?;
    let token = config.data.join("admin-token");
    if !token.exists() {
        secret(&token, &format!("{}\n", random_text(32)))?;
    }
    let login_secret = config.data.join(LOGIN_SECRET);
    if !login_secret.exists() {
        secret(&login_secret, &format!("{}\n", random_text(32)))?;
    }
    for dkim in config.dkim.iter().filter(|dkim| dkim.ours) {
        make_key(dkim)?;
    }
    if !config.bounces.verp.is_empty() && !config.bounces.verp_key.exists() {
        secret(&config.bounces.verp_key, &format!("{}\n", random_text(40)))?;
    }
    if let Some(srs) = &config.srs
        && !srs.key_file.exists()
    {
        secret(
            &srs.key_file,
            &format!("# Keys for rewritten senders (SRS). Put a new one on top to change it.\n{}\n", random_text(40)),
        )?;
    }
    let demo_password = if demo { Some(demo_user(config)?) } else { None };
    if !config.users.file.exists() {
        secret(&config.users.file, "# name:hash, written by `waypost user add NAME`\n")?;
    }
    Ok(Made { demo_password })
}

/// The password of `alice`, made once and kept in a file of its own.
fn demo_user(config: &Config) -> Result<String> {
    let path = config.data.join("demo-password");
    if config.users.file.exists()
        && let Ok(kept) = fs::read_to_string(&path)
    {
        return Ok(kept.trim().to_string());
    }
    let password = random_text(16);
    secret(&config.users.file, &format!("{}\n", password_file::line("alice", &password)))?;
    secret(&path, &format!("{password}\n"))?;
    Ok(password)
}

fn make_key(dkim: &DkimKey) -> Result<()> {
    if dkim.file.exists() {
        return Ok(());
    }
    folder(dkim.file.parent().context("a key file lies in a folder")?)?;
    let made = SecretKey::generate(if dkim.ed25519 { KeyKind::Ed25519 } else { KeyKind::Rsa });
    let line = key::zone_line(dkim.domain.as_str(), &dkim.selector, &made.record());
    // The record first: a key without its record would be used and never published.
    fs::write(dkim.file.with_extension("txt"), format!("{line}\n"))
        .with_context(|| format!("cannot write the record of {}", dkim.file.display()))?;
    secret(&dkim.file, &made.to_pem())
}

/// A folder for the owner alone.
fn folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| {
        format!(
            "cannot make the folder {}: create it for the user that runs waypost, or name another with --data",
            path.display()
        )
    })
}

/// A file for the owner alone, whole or not at all.
pub(crate) fn secret(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        folder(parent)?;
    }
    let next = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        crate::privileges::match_owner(&next)?;
        fs::rename(&next, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Letters and digits that cannot be mistaken for each other; five bits each.
fn random_text(len: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let bytes: [u8; 64] = key::random();
    bytes.iter().take(len).map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}
