//! From `[bounces]` to the table of categories, the suppression list, what was sent lately, and senders for each recipient.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use waypost_config::Config;
use waypost_config::bounces::Category as Named;
use waypost_config::model::Mailer as Sender;
use waypost_queue::bounce::{Category, Patterns, Table};
use waypost_queue::suppress::{Sent, Suppression};
use waypost_route::Verp;
use waypost_route::verp::Mailer;
use waypost_types::port::KeyValue;

/// All of it; clones share it.
#[derive(Clone)]
pub(crate) struct Bounces {
    pub(crate) table: Table,
    pub(crate) suppression: Suppression,
    sent: Option<Sent>,
    verp: Option<Verp>,
    recognise: bool,
}

/// What replies mean.
pub(crate) fn table(config: &Config) -> Table {
    let category = |named: &Named| Category {
        name: named.name.as_str().into(),
        hard: named.hard,
        patterns: Patterns {
            texts: named.texts.iter().map(|text| text.as_str().into()).collect(),
            // That they are statuses was checked.
            statuses: named.statuses.iter().filter_map(|text| text.parse().ok()).collect(),
        },
    };
    Table::new(config.bounces.categories.iter().map(category).collect())
}

/// The list in a store.
pub(crate) fn suppression(config: &Config, store: Arc<dyn KeyValue>) -> Result<Suppression> {
    let categories = config.bounces.suppress.iter().map(|name| name.as_str().into()).collect();
    let opened = Suppression::open(store, config.bounces.suppress_for, categories);
    opened.map_err(|error| anyhow!("the suppression list cannot be read: {error:?}"))
}

impl Bounces {
    /// Opens everything.
    pub(crate) fn open(config: &Config, store: Arc<dyn KeyValue>) -> Result<Bounces> {
        Ok(Bounces {
            table: table(config),
            suppression: suppression(config, store.clone())?,
            sent: config.bounces.remember.map(|span| Sent::new(store, span)),
            verp: verp(config)?,
            recognise: config.bounces.recognise,
        })
    }

    /// What comes in.
    pub(crate) fn incoming(&self) -> waypost_server::Bounces {
        waypost_server::Bounces {
            table: self.recognise.then(|| self.table.clone()),
            verp: self.verp.clone(),
            sent: self.sent.clone(),
            suppression: Some(self.suppression.clone()),
        }
    }

    /// What goes out.
    pub(crate) fn outgoing(&self, options: &mut waypost_deliver::Options) {
        options.table = self.table.clone();
        options.verp = self.verp.clone();
        options.suppression = Some(self.suppression.clone());
    }
}

fn verp(config: &Config) -> Result<Option<Verp>> {
    if config.bounces.verp.is_empty() {
        return Ok(None);
    }
    let file = &config.bounces.verp_key;
    let key = std::fs::read_to_string(file).with_context(|| format!("the key of bounces.verp: {}", file.display()))?;
    let mailer = |sender: &Sender| match sender {
        Sender::Address(address) => Mailer::Address(address.clone()),
        Sender::Domain(domain) => Mailer::Domain(domain.clone()),
    };
    // That there is one of the two was checked.
    let separator = if config.users.separators.contains('+') { '+' } else { '-' };
    let mailers = config.bounces.verp.iter().map(mailer).collect();
    Ok(Some(Verp::new(mailers, separator, key.trim().as_bytes())))
}
