//! `waypost help`: commands and settings.

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory};

use super::Cli;

/// Explains a command or the settings.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  waypost help queue\n  waypost help settings\n  waypost help settings tls\n  waypost help shaping                        the rules for large receivers\n  waypost help example > waypost.toml"
)]
pub(crate) struct Arguments {
    /// A command, `settings`, `shaping` (the rules for large receivers), `bounces` (what replies and bounces mean), or `example` (a configuration file to begin with)
    topic: Option<String>,
    /// With `settings`: only those whose name, section or Postfix name has this in it
    word: Option<String>,
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    let word = arguments.word.as_deref().unwrap_or("");
    let text = match arguments.topic.as_deref() {
        None => Cli::command().render_long_help().to_string(),
        Some("settings") => waypost_config::manual::settings(word)
            .with_context(|| format!("no setting has `{word}` in its name; try `waypost help settings`"))?,
        Some("bounces") => waypost_config::bounces::SHIPPED.to_string(),
        Some("shaping") => waypost_config::shaping::SHIPPED.to_string(),
        Some("example") => waypost_config::manual::example(),
        Some(topic) => {
            let mut cli = Cli::command();
            let Some(command) = cli.find_subcommand_mut(topic) else {
                bail!("there is no command `{topic}`; try `waypost help`")
            };
            command.render_long_help().to_string()
        }
    };
    print!("{text}");
    Ok(())
}
