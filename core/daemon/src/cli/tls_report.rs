//! `waypost tls-report`: what has been counted for the reports of RFC 8460, and sending them before their time.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use waypost_types::Domain;

use super::Common;
use super::queue::Queue;
use crate::admin::encode;

/// Shows and sends TLS reports; needs the server running with `tls-report.send = true`.
#[derive(Args)]
#[command(after_help = "Examples:\n  waypost tls-report show\n  waypost tls-report send --domain example.com")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print what has been counted, as JSON, a report a line
    Show {
        #[command(flatten)]
        common: Common,
    },
    /// Send the reports now, today's too; what comes today after it makes another one
    Send {
        /// Only the one on this domain
        #[arg(long, value_name = "DOMAIN")]
        domain: Option<Domain>,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn main(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::Show { common } => {
            let answer = Queue::find(common)?.ask("GET", "/tls-reports", "")?;
            answer["reports"].as_array().into_iter().flatten().for_each(|report| println!("{report}"));
            Ok(())
        }
        Action::Send { domain, common } => {
            let query = domain.as_ref().map(|domain| format!("domain={}", encode(domain.as_str()))).unwrap_or_default();
            let answer = Queue::find(common)?.ask("POST", "/tls-reports/send", &query)?;
            let mut failures = 0;
            for it in answer["sent"].as_array().into_iter().flatten() {
                let (domain, day) = (it["domain"].as_str().unwrap_or(""), it["day"].as_str().unwrap_or(""));
                match (it["error"].as_str(), it["sent"].as_u64()) {
                    (Some(error), _) => {
                        failures += 1;
                        eprintln!("{domain} {day}: {error}");
                    }
                    (None, Some(0)) => println!("{domain} {day}: nobody there asks for reports"),
                    (None, count) => println!("{domain} {day}: sent to {} places", count.unwrap_or(0)),
                }
            }
            if failures > 0 { bail!("{failures} reports could not be sent") } else { Ok(()) }
        }
    }
}
