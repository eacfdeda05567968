//! The envelope: who sends, who receives, and what MAIL and RCPT said about it.

use std::time::Duration;

use crate::{Address, ReversePath};

/// BODY= of MAIL, RFC 6152 and RFC 3030.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Body {
    /// The default: lines of seven-bit characters.
    #[default]
    SevenBit,
    /// 8BITMIME.
    EightBitMime,
    /// BINARYMIME: only with BDAT.
    BinaryMime,
}

/// RET= of MAIL, RFC 3461 §4.3: how much of the message a failure report returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Return {
    /// The whole message.
    Full,
    /// Its headers.
    Headers,
}

/// NOTIFY= of RCPT, RFC 3461 §4.1, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notify {
    /// The parameter was given; otherwise failure (and, by our choice, delay) is the default.
    pub given: bool,
    /// Report success.
    pub success: bool,
    /// Report failure.
    pub failure: bool,
    /// Report delay.
    pub delay: bool,
}

impl Default for Notify {
    fn default() -> Notify {
        Notify { given: false, success: false, failure: true, delay: true }
    }
}

impl Notify {
    /// NOTIFY=NEVER.
    pub const NEVER: Notify = Notify { given: true, success: false, failure: false, delay: false };
}

/// DELIVERBY of RFC 2852 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliverBy {
    /// From the time of MAIL; negative when it has passed on the way.
    pub seconds: i64,
    /// `R` (return when late) instead of `N` (notify when late).
    pub return_when_late: bool,
    /// `T`: trace requested.
    pub trace: bool,
}

/// The parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE=, RFC 1870: the client's estimate in octets.
    pub size: Option<u64>,
    /// BODY=.
    pub body: Body,
    /// SMTPUTF8, RFC 6531.
    pub smtputf8: bool,
    /// REQUIRETLS, RFC 8689.
    pub require_tls: bool,
    /// RET=.
    pub ret: Option<Return>,
    /// ENVID=, xtext decoded.
    pub envelope_id: Option<Box<str>>,
    /// AUTH= of RFC 4954 §5, xtext decoded; `<>` is kept as such.
    pub auth: Option<Box<str>>,
    /// MT-PRIORITY=, RFC 6710: −9 to 9.
    pub priority: i8,
    /// BY=.
    pub deliver_by: Option<DeliverBy>,
    /// HOLDFOR= of RFC 4865 (HOLDUNTIL= is turned into this).
    pub hold_for: Option<Duration>,
}

/// One recipient as accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where it goes now.
    pub address: Address,
    /// ORCPT= as given (`rfc822;user@example.com`, xtext decoded), or made by us when an alias replaced the address.
    pub original: Option<Box<str>>,
    /// NOTIFY=.
    pub notify: Notify,
}

impl Recipient {
    /// A recipient without parameters.
    pub fn new(address: Address) -> Recipient {
        Recipient { address, original: None, notify: Notify::default() }
    }
}

/// Sender, parameters and recipients of one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The argument of MAIL.
    pub sender: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// In the order in which they were accepted.
    pub recipients: Vec<Recipient>,
}
