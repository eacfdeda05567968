//! Who is at the other end of a session, and what is known about the message's authenticity.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::SessionId;

/// The kind of door a session came through. Decides the `with` word of the `Received` field and what plugins are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Mail between hosts, port 25.
    Mx,
    /// Users' mail, RFC 6409, port 587.
    Submission,
    /// Users' mail inside implicit TLS, RFC 8314, port 465.
    Submissions,
    /// RFC 2033.
    Lmtp,
    /// From trusted hosts of our own.
    Relay,
    /// Made on this host: bounces, `waypost send`.
    Local,
}

impl Transport {
    /// The word used in configuration and logs.
    pub fn word(self) -> &'static str {
        match self {
            Transport::Mx => "mx",
            Transport::Submission => "submission",
            Transport::Submissions => "submissions",
            Transport::Lmtp => "lmtp",
            Transport::Relay => "relay",
            Transport::Local => "local",
        }
    }
}

/// What was negotiated by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3`
    pub version: &'static str,
    /// `TLS_AES_256_GCM_SHA384`, as IANA writes it.
    pub cipher: String,
    /// The name the client asked for.
    pub server_name: Option<String>,
    /// The client's certificate, if it showed one.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// `tls-exporter` channel binding (RFC 9266), for SCRAM-…-PLUS.
    pub exporter: Option<Arc<[u8]>>,
    /// Whether the handshake resumed an earlier session.
    pub resumed: bool,
}

/// A certificate of whose key the client has given proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of it, in lower-case hex.
    pub fingerprint: String,
    /// It leads to one of our authorities, or its fingerprint is on our list. What stands in it means nothing otherwise.
    pub verified: bool,
    /// The subject's last common name; empty without one.
    pub common_name: String,
    /// `rfc822Name`s among the subject's alternative names.
    pub emails: Vec<String>,
    /// `dNSName`s among them.
    pub names: Vec<String>,
}

/// Everything known about a session so far. Shared by reference count; a new value is made when something is learned
/// (HELO, TLS, AUTH), so that whoever holds an old one still sees what was true when they asked.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    /// The session's name in the log.
    pub id: SessionId,
    /// The kind of door.
    pub transport: Transport,
    /// The client (after PROXY or XCLIENT, where allowed). IPv4-mapped addresses are unmapped.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// The client's name, forward-confirmed (RFC 8601 §2.7.3 `iprev`); `None` while unknown or unconfirmed.
    pub peer_name: Option<Arc<str>>,
    /// The argument of HELO, EHLO or LHLO as given, control bytes refused; empty before.
    pub helo: Arc<str>,
    /// Whether EHLO or LHLO was used.
    pub esmtp: bool,
    /// Set once the handshake is done.
    pub tls: Option<Arc<TlsFacts>>,
    /// The authenticated user.
    pub user: Option<Arc<str>>,
    /// One of our own hosts: its address is in the relay networks of the door that it came through.
    pub trusted: bool,
}

impl SessionFacts {
    /// A session of which nothing is known: for tests and for work without a client.
    pub fn nobody() -> SessionFacts {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        SessionFacts {
            id: SessionId::new(0),
            transport: Transport::Local,
            peer: nowhere,
            local: nowhere,
            peer_name: None,
            helo: "".into(),
            esmtp: false,
            tls: None,
            user: None,
            trusted: false,
        }
    }

    /// `SMTP`, `ESMTP`, `ESMTPS`, `ESMTPSA`, `LMTP…`: the protocol words of RFC 3848. `utf8` selects the forms of RFC 6531 §4.3.
    pub fn protocol(&self, utf8: bool) -> &'static str {
        let lmtp = self.transport == Transport::Lmtp;
        match (lmtp, utf8, self.esmtp, self.tls.is_some(), self.user.is_some()) {
            (false, false, false, _, _) => "SMTP",
            (false, false, true, false, false) => "ESMTP",
            (false, false, true, true, false) => "ESMTPS",
            (false, false, true, false, true) => "ESMTPA",
            (false, false, true, true, true) => "ESMTPSA",
            (false, true, _, false, false) => "UTF8SMTP",
            (false, true, _, true, false) => "UTF8SMTPS",
            (false, true, _, false, true) => "UTF8SMTPA",
            (false, true, _, true, true) => "UTF8SMTPSA",
            (true, false, _, false, false) => "LMTP",
            (true, false, _, true, false) => "LMTPS",
            (true, false, _, false, true) => "LMTPA",
            (true, false, _, true, true) => "LMTPSA",
            (true, true, _, false, false) => "UTF8LMTP",
            (true, true, _, true, false) => "UTF8LMTPS",
            (true, true, _, false, true) => "UTF8LMTPA",
            (true, true, _, true, true) => "UTF8LMTPSA",
        }
    }
}

/// One finding of mail authentication: a `method=result` clause of RFC 8601.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// `spf`, `dkim`, `dmarc`, `arc`, `iprev`, `auth`.
    pub method: &'static str,
    /// `pass`, `fail`, `softfail`, `neutral`, `none`, `temperror`, `permerror`, `policy`.
    pub result: &'static str,
    /// The identity that was judged: the property's value (`header.d`, `smtp.mailfrom`, …).
    pub domain: Option<String>,
    /// The property's name, such as `smtp.mailfrom`.
    pub property: &'static str,
    /// DKIM: the selector.
    pub selector: Option<String>,
    /// Why, for people: becomes the comment.
    pub detail: Option<String>,
}
