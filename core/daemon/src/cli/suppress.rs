//! `waypost suppress`: who is not written to any more, and why.
//!
//! Asked of the running server, or of the store itself when none runs, as the queue is.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use waypost_types::Address;

use super::Common;
use super::queue::Queue;
use crate::admin::encode;

/// Shows and changes the suppression list.
#[derive(Args)]
#[command(
    after_help = "Mail to an address on the list is refused with 550 5.7.1, or returned to its sender, naming the list. What puts addresses on it by itself\n\
    says `bounces.suppress` (`waypost help settings bounces`).\n\n\
    Examples:\n  waypost suppress list\n  waypost suppress add joe@example.com --reason 'asked by telephone'\n  waypost suppress remove joe@example.com"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the addresses with their reasons, in order
    List {
        /// As JSON, an object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Put addresses on the list
    Add {
        /// Whom
        #[arg(required = true)]
        addresses: Vec<Address>,
        /// Why: told to whoever writes to them
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        common: Common,
    },
    /// Take addresses off the list
    Remove {
        /// Whom
        #[arg(required = true)]
        addresses: Vec<Address>,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::List { json, common } => list(&Queue::find(common)?, *json),
        Action::Add { addresses, reason, common } => {
            change(common, addresses, "add", &format!("&reason={}", encode(reason)), "not written to any more")
        }
        Action::Remove { addresses, common } => change(common, addresses, "remove", "", "written to again"),
    }
}

fn list(queue: &Queue, json: bool) -> Result<()> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let page = queue.ask("GET", "/suppress", &format!("after={}", encode(&after)))?;
        for row in page["suppressed"].as_array().into_iter().flatten() {
            count += 1;
            let text = |name: &str| row[name].as_str().unwrap_or("");
            match json {
                true => println!("{row}"),
                false => {
                    println!("{}  since {}  {}  {}", text("address"), text("since"), text("category"), text("reason"))
                }
            }
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_string(),
            None => break,
        }
    }
    if !json {
        println!("{count} addresses");
    }
    Ok(())
}

/// Goes on after a failure, and tells all failures.
fn change(common: &Common, addresses: &[Address], word: &str, more: &str, done: &str) -> Result<()> {
    let queue = Queue::find(common)?;
    let mut failures = 0;
    for address in addresses {
        let query = format!("address={}{more}", encode(&address.to_string()));
        match queue.ask("POST", &format!("/suppress/{word}"), &query) {
            Ok(_) => println!("{address}: {done}"),
            Err(error) => {
                failures += 1;
                eprintln!("{error:#}");
            }
        }
    }
    if failures > 0 { bail!("{failures} addresses were left as they were") } else { Ok(()) }
}
