//! `waypost dkim`: keys made, their records told, and what DNS says of them compared; and the way from one key to the next.
//!
//! A key is changed with an overlap: the new one is made beside the old one, its record is published, and only when DNS gives it out
//! does the configuration name it. The old record stays while mail that it signed is under way.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use waypost_config::Config;
use waypost_config::model::DkimKey;
use waypost_mailauth::{KeyKind, SecretKey, key};
use waypost_resolve::Resolver;
use waypost_types::Domain;
use waypost_types::port::{Dns, DnsError, DnsType};

use super::Common;
use crate::assemble;
use crate::first_start::secret;

/// Keys that sign mail, and their records in DNS.
#[derive(Args)]
#[command(
    after_help = "Keys of `[dkim.NAME]` whose `file` is not set are made at the first start; `new` makes them sooner. A running server takes a changed \
    configuration on SIGHUP.\n\n\
    Examples:\n  waypost dkim new main --domain example.com --selector r2026\n  waypost dkim publish\n  waypost dkim check\n  waypost dkim rotate main --selector r2027"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key, and tell its record and what to write into the configuration
    New {
        /// The name of the section, `[dkim.NAME]`
        name: String,
        /// Whose mail it signs
        #[arg(long)]
        domain: String,
        /// Its name in DNS; `NAME` unless given
        #[arg(long)]
        selector: Option<String>,
        /// rsa (2048 bits) or ed25519
        #[arg(long, default_value = "rsa")]
        algorithm: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print the records of all keys, or of one, as lines of a zone file
    Publish {
        /// The section's name
        name: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Make the next key for a section, to be used once its record is published
    Rotate {
        /// The section's name
        name: String,
        /// The new key's name in DNS
        #[arg(long)]
        selector: String,
        #[command(flatten)]
        common: Common,
    },
    /// Ask DNS for the records of all keys, and compare; ends with 1 if mail would not verify
    Check {
        /// The section's name
        name: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::New { name, domain, selector, algorithm, common } => {
            new(&common.load_without_plugins()?, name, domain, selector.as_deref().unwrap_or(name), algorithm)
        }
        Action::Publish { name, common } => publish(&common.load_without_plugins()?, name.as_deref()),
        Action::Rotate { name, selector, common } => rotate(&common.load_without_plugins()?, name, selector),
        Action::Check { name, json, common } => check(&common.load_without_plugins()?, name.as_deref(), *json),
    }
}

/// A selector is one or more labels of a domain name, a section's name a file's name.
fn check_names(name: &str, selector: &str) -> Result<()> {
    let letters = |text: &str, more: &str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(char::from(b)))
    };
    if !letters(name, "-_") {
        bail!("`{name}` cannot name a key: use letters, digits, `-` and `_`");
    }
    if !letters(selector, "-.") || selector.starts_with(['.', '-']) || selector.ends_with(['.', '-']) {
        bail!("`{selector}` cannot be a selector: use letters, digits and hyphens");
    }
    Ok(())
}

fn new(config: &Config, name: &str, domain: &str, selector: &str, algorithm: &str) -> Result<()> {
    check_names(name, selector)?;
    let domain = Domain::parse(domain).map_err(|error| anyhow!("--domain: {error}"))?;
    let kind = match algorithm {
        "rsa" => KeyKind::Rsa,
        "ed25519" => KeyKind::Ed25519,
        other => bail!("--algorithm: `{other}` is neither rsa nor ed25519"),
    };
    let file = config.data.join("dkim").join(format!("{name}.pem"));
    let line = make(&file, &domain, selector, kind)?;
    println!("{} was made. Publish\n\n{line}\n\nand write into the configuration\n", file.display());
    println!("[dkim.{name}]\ndomain = \"{domain}\"\nselector = \"{selector}\"");
    if kind == KeyKind::Ed25519 {
        println!("algorithm = \"ed25519\"");
    }
    println!("\nthen `waypost dkim check {name}`, and add it to `keys` of the plugin that signs.");
    Ok(())
}

/// Makes a key and its record; gives the record. What is there is not overwritten.
fn make(file: &Path, domain: &Domain, selector: &str, kind: KeyKind) -> Result<String> {
    if file.exists() {
        bail!("{} is there already: choose another name, or `waypost dkim rotate`", file.display());
    }
    let made = SecretKey::generate(kind);
    let line = key::zone_line(domain.as_str(), selector, &made.record());
    secret(file, &made.to_pem())?;
    let record = file.with_extension("txt");
    fs::write(&record, format!("{line}\n")).with_context(|| record.display().to_string())?;
    Ok(line)
}

fn chosen<'c>(config: &'c Config, name: Option<&str>) -> Result<Vec<&'c DkimKey>> {
    let keys: Vec<_> = config.dkim.iter().filter(|key| name.is_none_or(|name| key.name == name)).collect();
    match (keys.is_empty(), name) {
        (true, Some(name)) => bail!("there is no [dkim.{name}] in the configuration"),
        (true, None) => {
            bail!("there is no [dkim.*] in the configuration: `waypost dkim new NAME --domain DOMAIN` begins one")
        }
        _ => Ok(keys),
    }
}

fn read(file: &Path) -> Result<SecretKey> {
    let pem = fs::read_to_string(file).with_context(|| {
        format!("{}: the server makes it at its first start, `waypost dkim new` now", file.display())
    })?;
    SecretKey::from_pem(&pem).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn publish(config: &Config, name: Option<&str>) -> Result<()> {
    for dkim in chosen(config, name)? {
        println!("{}", key::zone_line(dkim.domain.as_str(), &dkim.selector, &read(&dkim.file)?.record()));
    }
    Ok(())
}

/// Where the next key of a section lies until the configuration names it.
fn next_file(config: &Config, name: &str, selector: &str) -> PathBuf {
    config.data.join("dkim").join(format!("{name}.{selector}.pem"))
}

fn rotate(config: &Config, name: &str, selector: &str) -> Result<()> {
    check_names(name, selector)?;
    let old = chosen(config, Some(name))?[0];
    if config.dkim.iter().any(|key| key.domain == old.domain && *key.selector == *selector) {
        bail!("{selector} is in use at {}: choose another selector", old.domain);
    }
    let kind = if old.ed25519 { KeyKind::Ed25519 } else { KeyKind::Rsa };
    let file = next_file(config, name, selector);
    let line = make(&file, &old.domain, selector, kind)?;
    let days = config.queue.lifetime.as_secs().div_ceil(86_400) + 7;
    println!("{} was made; [dkim.{name}] still signs with the old key.\n", file.display());
    println!("1. Publish\n\n   {line}\n");
    println!("2. When `waypost dkim check {name}` finds it, write into [dkim.{name}]\n");
    println!(
        "   selector = \"{selector}\"\n   file = {}\n\n   and reload the server (SIGHUP).\n",
        Value::from(file.display().to_string())
    );
    println!(
        "3. Leave the old record for {days} days: mail that it signed is under way. Then set it to \"v=DKIM1; p=\"."
    );
    println!("   It is {}._domainkey.{}.", old.selector, old.domain);
    Ok(())
}

/// What DNS says of a key.
struct Finding {
    name: String,
    record: String,
    state: &'static str,
    good: bool,
    /// Waits to be named by the configuration.
    next: bool,
    detail: String,
}

fn check(config: &Config, name: Option<&str>, as_json: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let resolver = Resolver::new(assemble::resolver_options(config)).map_err(|error| anyhow!("dns: {error}"))?;
        let mut found = Vec::new();
        for dkim in chosen(config, name)? {
            found.push(compare(&resolver, &dkim.name, &dkim.domain, &dkim.selector, &dkim.file, false).await?);
            for (selector, file) in waiting(config, &dkim.name)? {
                found.push(compare(&resolver, &dkim.name, &dkim.domain, &selector, &file, true).await?);
            }
        }
        anyhow::Ok(found)
    })?;
    for one in &found {
        let next = if one.next { " (next)" } else { "" };
        match as_json {
            true => println!(
                "{}",
                json!({ "name": one.name, "record": one.record, "state": one.state, "good": one.good, "next": one.next, "detail": one.detail })
            ),
            false => println!("{}{next}: {}: {}{}", one.name, one.record, one.state, one.detail),
        }
    }
    let bad = found.iter().filter(|one| !one.good && !one.next).count();
    if bad > 0 {
        bail!("{bad} keys sign mail that nobody can verify: publish their records (`waypost dkim publish`)")
    } else {
        Ok(())
    }
}

/// Keys that `rotate` has made and the configuration does not name yet: selector and file.
fn waiting(config: &Config, name: &str) -> Result<Vec<(String, PathBuf)>> {
    let folder = config.data.join("dkim");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).into_iter().flatten() {
        let file = entry?.path();
        let stem = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".pem"));
        let selector = stem.and_then(|stem| stem.strip_prefix(name)?.strip_prefix('.'));
        if let Some(selector) = selector.filter(|_| !config.dkim.iter().any(|key| key.file == file)) {
            found.push((selector.to_string(), file));
        }
    }
    found.sort();
    Ok(found)
}

async fn compare(
    resolver: &Resolver,
    name: &str,
    domain: &Domain,
    selector: &str,
    file: &Path,
    next: bool,
) -> Result<Finding> {
    let own = read(file)?.record();
    let record = format!("{selector}._domainkey.{domain}");
    let (state, good, detail) = match resolver.lookup(&record, DnsType::Txt).await {
        Ok(answer) => judge(&own, &answer.records),
        Err(DnsError::NxDomain | DnsError::NoData) => ("not published", false, String::new()),
        Err(error) => ("cannot be asked now", false, format!(": {error}")),
    };
    Ok(Finding { name: name.to_string(), record, state, good, next, detail })
}

/// Compares by what verifiers read: the tags, whatever their order and blanks.
fn judge(own: &str, published: &[String]) -> (&'static str, bool, String) {
    if published.len() > 1 {
        let problem = format!(": {} records where verifiers want one", published.len());
        return ("ambiguous", false, problem);
    }
    let Some(text) = published.first() else { return ("not published", false, String::new()) };
    let (own, there) = (tags(own), tags(text));
    let tag = |list: &[(String, String)], name: &str| {
        list.iter().find(|(tag, _)| tag == name).map(|(_, value)| value.clone())
    };
    let kind = |list: &[(String, String)]| tag(list, "k").unwrap_or_else(|| "rsa".into());
    match tag(&there, "p") {
        None => ("no key record", false, format!(": `{text}`")),
        Some(p) if p.is_empty() => ("revoked", false, ": p= is empty".into()),
        Some(p) if Some(&p) != tag(&own, "p").as_ref() => ("another key", false, ": p= is not this key's".into()),
        Some(_) if kind(&there) != kind(&own) => ("wrong kind", false, format!(": k={}", kind(&there))),
        Some(_) if tag(&there, "t").is_some_and(|t| t.split(':').any(|flag| flag == "y")) => {
            ("published", true, ", as a test (t=y): verifiers ignore it".into())
        }
        Some(_) => ("published", true, String::new()),
    }
}

fn tags(record: &str) -> Vec<(String, String)> {
    let tag = |tag: &str| {
        let (name, value) = tag.split_once('=')?;
        Some((name.trim().to_string(), value.split_ascii_whitespace().collect::<String>()))
    };
    record.split(';').filter_map(tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_compared_as_verifiers_read_them() {
        let own = "v=DKIM1; k=rsa; p=AAAA";
        let state =
            |published: &[&str]| judge(own, &published.iter().map(|text| text.to_string()).collect::<Vec<_>>()).0;
        assert_eq!(state(&["v=DKIM1; p=AA AA"]), "published");
        assert_eq!(state(&["p=AAAA;k=rsa"]), "published");
        assert_eq!(state(&["v=DKIM1; k=rsa; p=BBBB"]), "another key");
        assert_eq!(state(&["v=DKIM1; k=ed25519; p=AAAA"]), "wrong kind");
        assert_eq!(state(&["v=DKIM1; p="]), "revoked");
        assert_eq!(state(&["hello"]), "no key record");
        assert_eq!(state(&[own, own]), "ambiguous");
        assert_eq!(state(&[]), "not published");
    }

    #[test]
    fn names_that_cannot_stand_in_dns_or_a_folder_are_told() {
        for (name, selector) in [("../x", "s"), ("x", "a b"), ("x", ".s"), ("", "s"), ("x", "s-")] {
            assert!(check_names(name, selector).is_err(), "{name} {selector}");
        }
        assert!(check_names("main", "r2026.mail").is_ok());
    }
}
