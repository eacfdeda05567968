//! The command line.

mod check;
mod dkim;
mod explain;
mod help;
mod plugin;
mod queue;
mod run;
mod send;
mod spam;
mod suppress;
mod tls_report;
mod user;

#[cfg(test)]
pub(crate) use explain::Forgetful;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use waypost_config::{Config, Mistakes, Source, Surroundings};

const EXAMPLES: &str = "\
Examples:
  waypost run                                   a whole mail site on loopback, in ./waypost-data, no configuration needed
  waypost check /etc/waypost/waypost.toml       every mistake of a configuration at once, with line and remedy
  waypost run --config /etc/waypost/waypost.toml
  waypost run --set listener.mx.bind=127.0.0.1:25 --set log.level=debug
  waypost queue list                            what is waiting; `waypost queue show ID` tells the whole story of a message
  waypost help settings tls                     every setting whose name has `tls` in it

SIGHUP reloads the configuration without dropping a session; SIGTERM drains and exits with 0.";

/// A mail transfer agent whose every decision is put to sandboxed plugins, and whose 250 is a promise on disk.
#[derive(Parser)]
#[command(name = "waypost", version, after_help = EXAMPLES, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server; without a configuration file, a demonstration site on loopback
    Run(run::Arguments),
    /// Check a configuration file and tell every mistake
    Check(check::Arguments),
    /// Make keys that sign mail, tell their records, compare them with DNS, and change them with an overlap
    Dkim(dkim::Arguments),
    /// Tell what the server would say to a client, stage by stage, and where the mail would go
    Explain(explain::Arguments),
    /// Begin, build, test and measure plugins; swap them in a running server, or put new versions on trial
    Plugin(plugin::Arguments),
    /// Look at the queue, and hold, release, retry or remove messages
    Queue(queue::Arguments),
    /// Send a message through the local server: from standard input, or a test message
    Send(send::Arguments),
    /// Teach the spam classifier, and ask what it makes of messages
    Spam(spam::Arguments),
    /// Show and change the list of those who are not written to any more
    Suppress(suppress::Arguments),
    /// Show what became of TLS towards other domains, and send the reports now
    TlsReport(tls_report::Arguments),
    /// Add, list or remove users
    User(user::Arguments),
    /// Explain a command, or the settings: `waypost help settings [WORD]`
    Help(help::Arguments),
    /// Compile plugins into a cache folder: the server's own helper
    #[command(hide = true)]
    Precompile { folder: PathBuf, files: Vec<PathBuf> },
    /// Runs the programs of `[pipe.*]`; the server starts it
    #[command(hide = true)]
    PipeHelper {
        /// What there is to run
        specs: String,
    },
    /// Print the version
    Version,
}

/// Where the configuration comes from: the same for every command that needs one.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// Configuration file; without it the demonstration site
    #[arg(long, short, value_name = "FILE", env = "WAYPOST_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Folder for queue, mail and keys, instead of the one that the configuration names
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Override a setting for this run, such as queue.lifetime=2d; may be given often
    #[arg(long, value_name = "SETTING=VALUE")]
    pub(crate) set: Vec<String>,
}

impl Common {
    /// The demonstration or the file.
    pub(crate) fn source(&self) -> Source {
        self.config.clone().map_or(Source::Demo, Source::File)
    }

    /// Reads the configuration, all overrides applied.
    pub(crate) fn load(&self) -> Result<Config, Mistakes> {
        self.load_within(&surroundings())
    }

    /// The same for commands that ask no plugin: they work also where plugins are not built.
    pub(crate) fn load_without_plugins(&self) -> anyhow::Result<Config> {
        Ok(self.load_within(&Surroundings { plugins_required: false, ..surroundings() })?)
    }

    fn load_within(&self, surroundings: &Surroundings) -> Result<Config, Mistakes> {
        let mut overrides = self.set.clone();
        if let Some(data) = &self.data {
            overrides.push(format!("data={}", toml_string(&data.to_string_lossy())));
        }
        waypost_config::load(&self.source(), &overrides, surroundings)
    }
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn surroundings() -> Surroundings {
    Surroundings {
        folder: std::env::current_dir().unwrap_or_default(),
        hostname: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()),
        plugin_folders: plugin_folders(),
        plugins_required: true,
    }
}

/// Where plugins lie beside the program: where a package puts them, beside the binary, or in a build tree.
fn plugin_folders() -> Vec<PathBuf> {
    let Some(program) = std::env::current_exe().ok().and_then(|path| path.canonicalize().ok()) else {
        return Vec::new();
    };
    let Some(folder) = program.parent() else { return Vec::new() };
    vec![folder.join("../lib/waypost/plugins"), folder.join("plugins"), folder.join("../wasm32-wasip2/release")]
}

/// Runs the command; says what went wrong and what to do, and ends with 1.
pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => run::main(arguments),
        Command::Check(arguments) => check::main(&arguments),
        Command::Dkim(arguments) => dkim::main(&arguments),
        Command::Explain(arguments) => explain::main(&arguments),
        Command::Plugin(arguments) => plugin::main(&arguments),
        Command::Queue(arguments) => queue::main(&arguments),
        Command::Send(arguments) => send::main(&arguments),
        Command::Spam(arguments) => spam::main(&arguments),
        Command::Suppress(arguments) => suppress::main(&arguments),
        Command::TlsReport(arguments) => tls_report::main(&arguments),
        Command::User(arguments) => user::main(&arguments),
        Command::Help(arguments) => help::main(&arguments),
        Command::Precompile { folder, files } => {
            waypost_plugin::precompile(&folder, &files).map_err(anyhow::Error::msg)
        }
        Command::PipeHelper { specs } => crate::pipes::help(&specs),
        Command::Version => {
            println!("waypost {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// An address that can be connected to, for one that is listened on.
pub(crate) fn reachable(mut server: SocketAddr) -> SocketAddr {
    if server.ip().is_unspecified() {
        let loopback = if server.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        server.set_ip(loopback);
    }
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_here() {
        assert_eq!(reachable("0.0.0.0:25".parse().unwrap()), "127.0.0.1:25".parse().unwrap());
        assert_eq!(reachable("[::]:25".parse().unwrap()), "[::1]:25".parse().unwrap());
        assert_eq!(reachable("192.0.2.1:25".parse().unwrap()), "192.0.2.1:25".parse().unwrap());
    }
}
