//! `waypost run`: the server.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use waypost_config::{Config, Source};
use waypost_types::{Event, Observer};

use super::Common;
use crate::observe::{self, Format};
use crate::privileges::{self, InForce};
use crate::site::{self, Site};
use crate::{assemble, first_start, supervisor};

/// Starts the server in the foreground.
#[derive(Args)]
#[command(
    after_help = "Without --config a demonstration site runs on loopback: mail on 2525, submission on 2587, submissions on 2465, admin on 8025.\n\
    SIGHUP reloads without dropping a session. SIGTERM or SIGINT stops taking mail, lets transactions end, and exits with 0; a second one ends at once.\n\n\
    Examples:\n  waypost run\n  waypost run --data /tmp/try --set listener.mx.bind=127.0.0.1:2626\n  waypost run --config /etc/waypost/waypost.toml"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(arguments: Arguments) -> Result<()> {
    let common = arguments.common;
    let config = common.load().map_err(|mistakes| anyhow!("{mistakes}"))?;
    let open_files = raise_open_files();
    // Ports first: a port in use is the commonest mistake, and said before anything is made or opened.
    let sockets = assemble::bind(&config)?;
    let demo = common.source() == Source::Demo;
    let made = first_start::prepare(&config, demo)?;
    // While there is power to share out.
    let _helper = crate::pipes::start(&config)?;
    // While there is one thread: all others inherit it.
    let in_force = privileges::give_up(&config, || precompile(&config))?;
    let format = format_of(&config);
    let (writer, level) = observe::start(format, config.log.level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("waypost")
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let site = Site::start(config, sockets, open_files, writer.clone(), level, move || common.load()).await?;
        config_notes(&site);
        tell_privileges(&site, &in_force);
        supervisor::ready();
        if demo {
            writer.flush();
            welcome(&site, &made, format);
        }
        site::serve(site).await
    });
    // Work that does not end by itself (a stuck disk, a lookup) must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    writer.flush();
    result
}

/// Plugins that were never compiled are compiled by another process, whose memory goes with it. What it cannot do is tried again, and told,
/// when they are loaded.
fn precompile(config: &Config) {
    let (cache, files) = (assemble::plugin_cache(config), assemble::plugin_files(config));
    let missing = waypost_plugin::uncompiled(&cache, &files);
    if let (false, Ok(program)) = (missing.is_empty(), std::env::current_exe()) {
        let _ = Command::new(program).arg("precompile").arg(cache).args(missing).stdin(Stdio::null()).status();
    }
}

fn config_notes(site: &Site) {
    for note in &site.config().notes {
        site.observe().observe(Event::Notice { level: "warn", message: note });
    }
}

fn tell_privileges(site: &Site, in_force: &InForce) {
    let level = if in_force.lacks.is_empty() { "info" } else { "warn" };
    let mut message = format!("running with: {}", in_force.text);
    for lack in &in_force.lacks {
        message.push_str("; ");
        message.push_str(lack);
    }
    site.observe().observe(Event::Notice { level, message: &message });
}

fn format_of(config: &Config) -> Format {
    let terminal = std::io::stdout().is_terminal();
    match config.log.format {
        "json" => Format::Json,
        "text" => Format::Text { ansi: terminal },
        _ if terminal => Format::Text { ansi: true },
        _ => Format::Json,
    }
}

/// A descriptor for every session: the soft limit is often 1024. Returns what holds now.
fn raise_open_files() -> usize {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum };
    // If it is refused, the limit stays what it was.
    let done = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_ok();
    let limit = if done { limits.maximum } else { limits.current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The last lines on the terminal of whoever tries it for the first time. Beside a JSON log they go to standard error.
fn welcome(site: &Site, made: &first_start::Made, format: Format) {
    let config = site.config();
    let port = |name: &str| {
        config.listeners.iter().find(|l| l.name == name).and_then(|l| l.bind.first()).map(|a| a.to_string())
    };
    let mx = port("mx").unwrap_or_else(|| "127.0.0.1:2525".into());
    let domain = config.domains.own.first().map_or("waypost.test", |domain| domain.as_str());
    let mut text = format!("\nWaypost is ready. Everything it keeps is in {}.\n", config.data.display());
    if let (Some(submission), Some(password)) = (port("submission"), &made.demo_password) {
        text.push_str(&format!(
            "Log in to submit mail ({submission}, STARTTLS) as alice@{domain} with password {password}\n  \
             (kept in {}).\n",
            config.data.join("demo-password").display()
        ));
    }
    if let Some(admin) = config.admin.first() {
        text.push_str(&format!("The admin page is http://{admin}/\n"));
    }
    text.push_str(&format!(
        "\nSend a first message:\n  swaks --server {mx} --tls --to alice@{domain}\nand see it arrive:\n  ls {}\n",
        config.users.mail.join("alice/new").display()
    ));
    match format {
        Format::Json => eprint!("{text}"),
        Format::Text { .. } => print!("{text}"),
    }
    let _ = std::io::stdout().flush();
}
