//! The settings of whitelist.

use serde::Deserialize;
use waypost_sdk::{Addresses, Networks, Reply};

/// All settings; every one has a default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Who is permitted.
    pub permit: Lists,
    /// Who is blocked.
    pub block: Lists,
    /// A table asked about the client, in access(5) form.
    pub client_table: Option<TableName>,
    /// A table asked about the sender.
    pub sender_table: Option<TableName>,
    /// A table asked about the recipient.
    pub recipient_table: Option<TableName>,
    /// Recipients that blocks never keep anybody from.
    pub exempt_recipients: Addresses,
    /// Whether blocks of clients wait for RCPT.
    pub delay_reject: bool,
    /// What is said to the blocked.
    pub block_text: ReplyText,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            permit: Lists::default(),
            block: Lists::default(),
            client_table: None,
            sender_table: None,
            recipient_table: None,
            exempt_recipients: Addresses::parse(["postmaster@", "abuse@"]).expect("both are entries"),
            delay_reject: true,
            block_text: ReplyText(String::new()),
        }
    }
}

/// Lists written in the configuration itself.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Lists {
    /// Client networks.
    pub clients: Networks,
    /// Confirmed client names.
    pub names: Addresses,
    /// Sender addresses and domains.
    pub senders: Addresses,
    /// Recipient addresses and domains.
    pub recipients: Addresses,
}

/// Which end of the envelope.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
}

impl Side {
    /// As in replies.
    pub fn word(self) -> &'static str {
        match self {
            Side::Sender => "sender",
            Side::Recipient => "recipient",
        }
    }
}

impl Lists {
    /// The list for one end of the envelope.
    pub fn side(&self, side: Side) -> &Addresses {
        match side {
            Side::Sender => &self.senders,
            Side::Recipient => &self.recipients,
        }
    }
}

impl Config {
    /// The table for one end of the envelope.
    pub fn table(&self, side: Side) -> Option<&str> {
        let table = match side {
            Side::Sender => &self.sender_table,
            Side::Recipient => &self.recipient_table,
        };
        table.as_deref()
    }

    /// Whether anything is said about clients at all.
    pub fn asks_about_clients(&self) -> bool {
        self.may_block_clients() || !self.permit.clients.is_empty() || !self.permit.names.is_empty()
    }

    /// Whether anything is said about client names.
    pub fn asks_about_names(&self) -> bool {
        self.client_table.is_some() || !self.permit.names.is_empty() || !self.block.names.is_empty()
    }

    /// Whether a client can be blocked.
    pub fn may_block_clients(&self) -> bool {
        self.client_table.is_some() || !self.block.clients.is_empty() || !self.block.names.is_empty()
    }

    /// Whether one end of the envelope can be blocked.
    pub fn may_block(&self, side: Side) -> bool {
        self.table(side).is_some() || !self.block.side(side).is_empty()
    }

    /// The reply to `whom`, who is on a list.
    pub fn refusal(&self, whom: &str) -> Reply {
        let text = match self.block_text.0.as_str() {
            "" => format!("{whom} is blocked here"),
            text => format!("{whom}: {text}"),
        };
        Reply::new(550, (5, 7, 1), text)
    }
}

/// The name of a table of the configuration.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct TableName(String);

impl TryFrom<String> for TableName {
    type Error = String;

    fn try_from(name: String) -> Result<TableName, String> {
        let fine = !name.is_empty() && !name.contains(char::is_whitespace);
        if fine { Ok(TableName(name)) } else { Err(format!("`{name}` is no name of a table")) }
    }
}

impl std::ops::Deref for TableName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Text that fits a reply line.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct ReplyText(String);

impl TryFrom<String> for ReplyText {
    type Error = String;

    fn try_from(text: String) -> Result<ReplyText, String> {
        let fine = text.len() <= 200 && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if fine { Ok(ReplyText(text)) } else { Err("write at most 200 printable ASCII characters, on one line".into()) }
    }
}
