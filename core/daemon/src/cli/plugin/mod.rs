//! `waypost plugin`: a developer's loop of seconds, and what an operator wants to know of a component before it judges mail.
//!
//! | page | what it holds |
//! |---|---|
//! | `recipe` | `plugin.toml`: how a plugin is built and what it is granted; building |
//! | `new` | the templates of all languages, copied with another name |
//! | `case` | a transaction in TOML and what must come of it |
//! | `world` | canned DNS, tables, keys and clock: what surrounds a case |
//! | `play` | a case put to a jury, stage by stage, as the server would |
//! | `test`, `bench`, `inspect` | the commands of these names, and `check` |
//! | `replay` | recorded transactions put to another version |
//! | `live` | the plugins of a running server: `status`, `swap`, `rollback`, `shadow`, `canary` |

mod bench;
mod case;
mod inspect;
mod live;
mod new;
mod play;
mod recipe;
mod replay;
mod test;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Begin, build, check, test and measure plugins; swap them in a running server, or put new versions on trial.
#[derive(Args)]
#[command(after_help = "A plugin is a folder with a plugin.toml, which sdk/README.md explains, or a .wasm file.\n\n\
    Examples:\n  waypost plugin new greeter --language rust\n  waypost plugin build greeter\n  waypost plugin test greeter\n  \
    waypost plugin test greeter message.eml\n  waypost plugin check filter.wasm --grants dns,kv")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Begin a plugin: a folder with a small working filter in the language of your choice
    New(new::Arguments),
    /// Make the component, as plugin.toml says
    Build {
        /// The plugin's folder
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Compile and start a plugin under the server's limits, and tell its stages, grants and version of the contract
    Check(inspect::CheckArguments),
    /// Play transactions and messages against a plugin, with canned DNS, tables and keys: no server, no network
    Test(test::Arguments),
    /// Measure what a call costs at each stage, and what an instance weighs
    Bench(bench::Arguments),
    /// Tell what a component is, without starting it
    Inspect(inspect::InspectArguments),
    /// Play recorded transactions to another version, and tell what it judges otherwise
    Replay(replay::Arguments),
    /// Tell what the running server's plugins said, and how new versions on trial fare
    Status(live::StatusArguments),
    /// Put another version of a plugin into the running server, without a restart
    Swap(live::SwapArguments),
    /// Go back to the version before the last swap
    Rollback(live::RollbackArguments),
    /// Let a new version judge real mail without effect, and count where it disagrees
    Shadow(live::TrialArguments),
    /// Let a new version judge a share of the sessions
    Canary(live::TrialArguments),
}

/// Which plugin, and how it is set up where no plugin.toml says so.
#[derive(Args, Clone)]
struct Which {
    /// The plugin: a folder with a plugin.toml, or a .wasm file
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// What it may do, instead of what plugin.toml says: dns, kv, crypto, keys, rewrite, credentials
    #[arg(long, value_delimiter = ',', value_name = "GRANT")]
    grants: Option<Vec<String>>,
    /// A TOML file with its settings, over those of plugin.toml
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::New(arguments) => new::main(arguments),
        Action::Build { folder } => recipe::Project::open(folder)?.build(),
        Action::Check(arguments) => inspect::check(arguments),
        Action::Test(arguments) => test::main(arguments),
        Action::Bench(arguments) => bench::main(arguments),
        Action::Inspect(arguments) => inspect::inspect(arguments),
        Action::Replay(arguments) => replay::main(arguments),
        Action::Status(arguments) => live::status(arguments),
        Action::Swap(arguments) => live::swap(arguments),
        Action::Rollback(arguments) => live::rollback(arguments),
        Action::Shadow(arguments) => live::shadow(arguments),
        Action::Canary(arguments) => live::canary(arguments),
    }
}
