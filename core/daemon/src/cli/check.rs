//! `waypost check`: every mistake at once.

use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;

use super::Common;

/// Checks a configuration and everything that it names, and changes nothing.
#[derive(Args)]
#[command(after_help = "Each mistake is told with file, line, column and remedy. Exits with 0 if there is none.\n\n\
    Examples:\n  waypost check /etc/waypost/waypost.toml\n  waypost check waypost.toml --set queue.lifetime=2d")]
pub(crate) struct Arguments {
    /// The file; the demonstration if there is none
    file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let mut common = arguments.common.clone();
    common.config = arguments.file.clone().or(common.config);
    match common.load() {
        Ok(config) => {
            // What the files say is in the configuration already; databases are opened and their questions tried, plugins are asked what
            // they think of their settings.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(super::explain::try_plugins(&config))?.iter().for_each(|said| println!("note: {said}"));
            config.notes.iter().for_each(|note| println!("note: {note}"));
            println!(
                "ok: {} listeners, {} plugins, {} users",
                config.listeners.len(),
                config.plugins.len(),
                config.users.accounts.len()
            );
            Ok(())
        }
        Err(mistakes) => bail!("{mistakes}"),
    }
}
