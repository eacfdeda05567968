//! Mail clients and TLS examiners that people use, each in all of its modes, on each port: 25 (`mx`), 587 (`submission`), 465 (`submissions`).
//!
//! | page | what it holds |
//! |---|---|
//! | `mail` | swaks, curl, smtplib, nodemailer, msmtp, gsasl: mail and logins |
//! | `tls` | openssl, posttls-finger, sslyze, testssl: what each port's TLS will and will not do |
//!
//! A client that is not there is named aloud and passed over; `make setup-tests` installs them all.

mod mail;
mod tls;

use std::path::PathBuf;

use waypost_tests::say_aloud;
use waypost_tests::waypost::binary;

/// Where `setup.sh test` puts what no Debian package has.
fn clients() -> PathBuf {
    binary().ancestors().nth(2).expect("target/PROFILE/waypost").join("clients")
}

/// Whether a program is there; says so aloud if it is not.
fn has(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let there = program.contains('/') && std::path::Path::new(program).exists()
        || std::env::split_paths(&folders).any(|folder| folder.join(program).is_file());
    if !there {
        say_aloud(&format!("NOT TESTED: {program} is not here; `make setup-tests` installs it"));
    }
    there
}
