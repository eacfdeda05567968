//! What a port allows: one value per listener, made once, shared by every session of it.
//!
//! A [`Policy`] says how the *protocol* behaves on a port: who may be greeted how, when TLS and AUTH are demanded, how much of
//! everything is taken. Who may relay, which recipients exist and what plugins think is not here; the session asks
//! ([`super::Ask`]). Begin with a preset and change the one field that differs:
//!
//! ```
//! use waypost_smtp::server::{Policy, TlsMode};
//! let policy = Policy { tls: TlsMode::Required, ..Policy::mx("mx.example.com") };
//! assert!(policy.check().is_ok());
//! ```

use std::sync::Arc;
use std::time::Duration;

use waypost_types::{Host, TlsFacts, Transport, limits};

use crate::extension::{Extension, ExtensionSet};
use crate::sasl::Mechanism;

/// Whether a port speaks TLS, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Never: STARTTLS is not offered.
    None,
    /// STARTTLS is offered, and mail is taken without it.
    Opportunistic,
    /// STARTTLS is offered, and nothing but EHLO, NOOP, HELP, RSET and QUIT is answered before it (530 5.7.0).
    Required,
    /// The connection begins with TLS (RFC 8314): the handshake is over before the session is made.
    Implicit,
}

/// Whether a port offers AUTH, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMode {
    /// Never.
    Off,
    /// Offered once TLS is up; mail is taken without it.
    OfferedInsideTls,
    /// Offered once TLS is up, and MAIL is refused before it (530 5.7.0).
    RequiredInsideTls,
    /// Offered even without TLS: passwords cross the network readable. For loopback and sealed networks only.
    DangerouslyOfferedInClear,
    /// As [`AuthMode::DangerouslyOfferedInClear`], and MAIL is refused before it.
    DangerouslyRequiredInClear,
}

impl AuthMode {
    /// Whether AUTH exists on this port at all.
    pub fn is_on(self) -> bool {
        self != AuthMode::Off
    }

    /// Whether AUTH may be used now.
    pub fn is_offered(self, inside_tls: bool) -> bool {
        match self {
            AuthMode::Off => false,
            AuthMode::OfferedInsideTls | AuthMode::RequiredInsideTls => inside_tls,
            AuthMode::DangerouslyOfferedInClear | AuthMode::DangerouslyRequiredInClear => true,
        }
    }

    /// Whether MAIL waits for it.
    pub fn is_required(self) -> bool {
        matches!(self, AuthMode::RequiredInsideTls | AuthMode::DangerouslyRequiredInClear)
    }
}

/// What becomes of lines that end in a bare LF, and of CR that ends no line. Whatever is chosen, only CRLF "." CRLF ever ends a
/// message (CVE-2023-51764 and its kin: smuggled ends of data).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BareNewline {
    /// A bare LF ends a line and is kept as CRLF; a bare CR becomes a blank.
    Normalise,
    /// The message is refused with 550 5.5.2 and the connection closed; at something that looks like a smuggled end, at once.
    /// A command that ends in a bare LF is refused with 500 5.5.2 likewise.
    Refuse,
}

/// What becomes of a client that talks before its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Impatience {
    /// It is served as if it had waited.
    Ignore,
    /// 554 5.5.0 and the connection is closed.
    Refuse,
}

/// One listener's rules.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Our name in the greeting, the EHLO answer and `421`s.
    pub hostname: Arc<str>,
    /// The kind of door. [`Transport::Lmtp`] makes it LMTP: LHLO, and a reply per recipient after the message (RFC 2033).
    pub transport: Transport,
    /// What the greeting says behind `220 hostname `: `ESMTP Waypost`. Must begin with `ESMTP` (or `LMTP`): old clients look for it.
    pub greeting: Arc<str>,
    /// How long to wait before the greeting, to see who talks first; zero greets at once.
    pub greeting_delay: Duration,
    /// TLS.
    pub tls: TlsMode,
    /// AUTH.
    pub auth: AuthMode,
    /// Offered in this order, each where it can be used ([`Mechanism::is_usable`]).
    pub auth_mechanisms: Vec<Mechanism>,
    /// The back end carries out every mechanism that goes beyond passwords and certificates: its messages are passed through.
    pub auth_relayed: bool,
    /// Failed logins before the session is closed with 421.
    pub auth_failures_max: u32,
    /// MAIL needs HELO or EHLO first.
    pub helo_required: bool,
    /// `MAIL FROM:a@b` without angle brackets is refused with 501. Otherwise they are supplied.
    pub strict_paths: bool,
    /// What EHLO offers. STARTTLS, AUTH and REQUIRETLS appear only when they make sense; BINARYMIME needs CHUNKING.
    pub extensions: ExtensionSet,
    /// Octets of a message: `SIZE`.
    pub message_bytes_max: usize,
    /// Octets of a command line; lines of AUTH may have [`limits::AUTH_LINE_BYTES_MAX`] in any case.
    pub command_line_bytes_max: usize,
    /// Recipients of a message; 452 4.5.3 for the excess.
    pub recipients_max: usize,
    /// Messages in one session; 421 for the next.
    pub messages_max: u32,
    /// Commands refused since the last accepted message before the session is closed with 421 (Postfix: `smtpd_hard_error_limit`).
    pub errors_max: u32,
    /// Commands that carry nothing (NOOP, RSET, VRFY, HELP, further EHLOs) since the last accepted message before the session is
    /// closed with 421 (Postfix: `smtpd_junk_command_limit`).
    pub idle_commands_max: u32,
    /// For the next command: from our reply to its line end, however it drips in.
    pub command_timeout: Duration,
    /// Between blocks of a body. A block is at least a KiB, so that a drip does not count as one.
    pub data_timeout: Duration,
    /// Bare LF and CR.
    pub bare_newline: BareNewline,
    /// Errors after which each further one is answered later and later.
    pub tarpit_errors: u32,
    /// And the longest that an answer is kept back; zero: never.
    pub tarpit_max: Duration,
    /// How long a message may be held by FUTURERELEASE.
    pub hold_max: Duration,
    /// Bytes before the greeting.
    pub pregreet: Impatience,
    /// Bytes behind a command that must be the last of its group: HELO, EHLO, AUTH, DATA (RFC 2920 §3.1). Behind STARTTLS they
    /// always end the connection.
    pub unauthorised_pipelining: Impatience,
}

impl Policy {
    /// Port 25: mail from anybody for our own. TLS if the client likes, no AUTH.
    pub fn mx(hostname: &str) -> Policy {
        Policy {
            hostname: hostname.into(),
            transport: Transport::Mx,
            greeting: "ESMTP Waypost".into(),
            greeting_delay: Duration::ZERO,
            tls: TlsMode::Opportunistic,
            auth: AuthMode::Off,
            auth_mechanisms: vec![Mechanism::Plain, Mechanism::Login],
            auth_relayed: false,
            auth_failures_max: 3,
            helo_required: true,
            strict_paths: false,
            extensions: ExtensionSet::standard(),
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            command_line_bytes_max: limits::COMMAND_LINE_BYTES_MAX,
            recipients_max: limits::RECIPIENTS_MAX,
            messages_max: limits::SESSION_MESSAGES_MAX,
            errors_max: limits::SESSION_ERRORS_MAX,
            idle_commands_max: 100,
            command_timeout: limits::COMMAND_TIMEOUT,
            data_timeout: limits::DATA_TIMEOUT,
            bare_newline: BareNewline::Normalise,
            tarpit_errors: limits::TARPIT_ERRORS,
            tarpit_max: limits::TARPIT_MAX,
            hold_max: limits::HOLD_MAX,
            pregreet: Impatience::Refuse,
            unauthorised_pipelining: Impatience::Refuse,
        }
    }

    /// Port 587 (RFC 6409): mail from our users. TLS before anything else, AUTH inside it before MAIL.
    pub fn submission(hostname: &str) -> Policy {
        Policy {
            transport: Transport::Submission,
            tls: TlsMode::Required,
            auth: AuthMode::RequiredInsideTls,
            ..Policy::mx(hostname)
        }
    }

    /// Port 465 (RFC 8314): the same inside implicit TLS.
    pub fn submissions(hostname: &str) -> Policy {
        Policy { transport: Transport::Submissions, tls: TlsMode::Implicit, ..Policy::submission(hostname) }
    }

    /// LMTP (RFC 2033) from a mail server of our own; never on port 25.
    pub fn lmtp(hostname: &str) -> Policy {
        Policy {
            transport: Transport::Lmtp,
            greeting: "LMTP Waypost".into(),
            greeting_delay: Duration::ZERO,
            tarpit_max: Duration::ZERO,
            tls: TlsMode::None,
            pregreet: Impatience::Ignore,
            unauthorised_pipelining: Impatience::Ignore,
            ..Policy::mx(hostname)
        }
    }

    /// From trusted hosts of our own that send a lot and sometimes badly: more errors are borne, haste is not punished.
    pub fn relay(hostname: &str) -> Policy {
        Policy {
            transport: Transport::Relay,
            greeting_delay: Duration::ZERO,
            tarpit_max: Duration::ZERO,
            errors_max: 1000,
            idle_commands_max: 10_000,
            pregreet: Impatience::Ignore,
            unauthorised_pipelining: Impatience::Ignore,
            ..Policy::mx(hostname)
        }
    }

    /// The mechanisms that a session with these TLS facts is offered.
    pub fn mechanisms<'a>(&'a self, tls: Option<&'a TlsFacts>) -> impl Iterator<Item = Mechanism> + 'a {
        self.auth_mechanisms.iter().copied().filter(move |mechanism| mechanism.is_usable(tls))
    }

    /// Whether this is LMTP.
    pub fn is_lmtp(&self) -> bool {
        self.transport == Transport::Lmtp
    }

    /// What would make this policy useless or dangerous, in words for the operator; for whoever builds one from a configuration.
    pub fn check(&self) -> Result<(), &'static str> {
        let in_clear = matches!(self.auth, AuthMode::DangerouslyOfferedInClear | AuthMode::DangerouslyRequiredInClear);
        if Host::parse(&self.hostname).is_err() || !self.hostname.is_ascii() {
            return Err("the host name must be a domain such as mx.example.com, or an address literal");
        }
        if !self.greeting.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err("the greeting must be one line of printable ASCII");
        }
        if self.auth.is_on() && !in_clear && self.tls == TlsMode::None {
            return Err("AUTH is only offered inside TLS, but this port has no TLS: switch TLS on or AUTH off");
        }
        if self.tls == TlsMode::Required && !self.extensions.contains(Extension::StartTls) {
            return Err("TLS is required before mail, but STARTTLS is masked: nobody could ever send");
        }
        if self.auth.is_on() && self.auth_mechanisms.is_empty() {
            return Err("AUTH is on without any mechanism: name at least PLAIN");
        }
        if !self.auth_relayed && self.auth_mechanisms.iter().any(|mechanism| mechanism.is_foreign()) {
            return Err(
                "a mechanism is offered that only a back end such as Dovecot can carry out: take it off the list",
            );
        }
        if self.message_bytes_max == 0 || self.recipients_max == 0 || self.messages_max == 0 {
            return Err("sizes and counts of messages and recipients must not be zero");
        }
        if self.command_line_bytes_max < 512 {
            return Err("command lines need at least 512 octets (RFC 5321 section 4.5.3.1.4)");
        }
        if self.command_timeout.is_zero() || self.data_timeout.is_zero() {
            return Err("timeouts must not be zero");
        }
        if self.extensions.contains(Extension::BinaryMime) && !self.extensions.contains(Extension::Chunking) {
            return Err("BINARYMIME needs CHUNKING (RFC 3030 section 3)");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_hold_together() {
        for make in [Policy::mx, Policy::submission, Policy::submissions, Policy::lmtp, Policy::relay] {
            make("mx.example.com").check().unwrap();
        }
    }

    #[test]
    fn passwords_never_cross_the_network_readable_by_default() {
        for make in [Policy::mx, Policy::submission, Policy::submissions, Policy::lmtp, Policy::relay] {
            assert!(!make("mx.example.com").auth.is_offered(false));
        }
        assert!(Policy::submission("h").auth.is_offered(true) && Policy::submission("h").auth.is_required());
    }

    #[test]
    fn nonsense_is_named() {
        let mx = || Policy::mx("mx.example.com");
        assert!(Policy { hostname: "a b".into(), ..mx() }.check().is_err());
        assert!(Policy { greeting: "ESMTP\r\n".into(), ..mx() }.check().is_err());
        assert!(Policy { tls: TlsMode::None, auth: AuthMode::OfferedInsideTls, ..mx() }.check().is_err());
        assert!(Policy { auth: AuthMode::OfferedInsideTls, auth_mechanisms: vec![], ..mx() }.check().is_err());
        assert!(Policy { recipients_max: 0, ..mx() }.check().is_err());
        assert!(Policy { command_line_bytes_max: 100, ..mx() }.check().is_err());
        assert!(Policy { data_timeout: Duration::ZERO, ..mx() }.check().is_err());
        assert!(Policy { extensions: mx().extensions.without(Extension::Chunking), ..mx() }.check().is_err());
    }
}
