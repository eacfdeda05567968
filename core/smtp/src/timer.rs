//! Every timeout of RFC 5321 §4.5.3.2 as one enum and one table, for both sides.
//!
//! The machines keep one deadline each; this page says how long it is. A client that gives up sooner than the table after the
//! final dot makes duplicates: the server may have taken the message.

use std::time::Duration;

use waypost_types::limits;

/// What is being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Client: the `220` after connecting, §4.5.3.2.1.
    Greeting,
    /// Client: the answer to EHLO, LHLO or HELO. The RFC names none; it costs the server no more than MAIL.
    Hello,
    /// Client: the answer to STARTTLS, and the handshake.
    StartTls,
    /// Client: the answer to AUTH or a line of its exchange.
    Auth,
    /// Client: the answer to MAIL, §4.5.3.2.2.
    Mail,
    /// Client: the answer to RCPT, §4.5.3.2.3.
    Rcpt,
    /// Client: `354` after DATA, §4.5.3.2.4.
    DataInitiation,
    /// Both: the next block of the body, §4.5.3.2.5.
    DataBlock,
    /// Client: the answer to the final dot or the last BDAT, §4.5.3.2.6.
    DataTermination,
    /// Client: the answer to RSET.
    Reset,
    /// Client: the answer to QUIT; nothing depends on it.
    Quit,
    /// Server: the next command, §4.5.3.2.7.
    Command,
}

impl Wait {
    /// How long, unless a policy says otherwise.
    pub fn duration(self) -> Duration {
        const MINUTE: Duration = Duration::from_secs(60);
        match self {
            Wait::Greeting | Wait::Hello | Wait::Mail | Wait::Rcpt | Wait::Reset => 5 * MINUTE,
            Wait::StartTls | Wait::Auth | Wait::DataInitiation => 2 * MINUTE,
            Wait::DataBlock => limits::DATA_TIMEOUT,
            Wait::DataTermination => 10 * MINUTE,
            Wait::Quit => Duration::from_secs(10),
            Wait::Command => limits::COMMAND_TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_timeout_is_shorter_than_the_rfc_asks() {
        let minutes = |wait: Wait| wait.duration().as_secs() / 60;
        assert_eq!(minutes(Wait::Greeting), 5);
        assert_eq!(minutes(Wait::Mail), 5);
        assert_eq!(minutes(Wait::Rcpt), 5);
        assert_eq!(minutes(Wait::DataInitiation), 2);
        assert_eq!(minutes(Wait::DataBlock), 3);
        assert_eq!(minutes(Wait::DataTermination), 10);
        assert_eq!(minutes(Wait::Command), 5);
    }
}
