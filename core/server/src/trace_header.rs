//! The `Received` field (RFC 5321 §4.4, RFC 3848, RFC 8314 §4.3) and the fields that a submission lacks (RFC 6409 §8).

use std::fmt::{self, Write};
use std::net::IpAddr;

use waypost_smtp::parameter::to_utf8_xtext;
use waypost_types::{Address, Envelope, Host, MessageId, SessionFacts, Timestamp};

/// Appends the `Received` field with its final CRLF. With one recipient it is named; with several it is not, so that nobody learns
/// who else was written to.
pub(crate) fn received(
    out: &mut String,
    facts: &SessionFacts,
    envelope: &Envelope,
    hostname: &str,
    id: MessageId,
    now: Timestamp,
) {
    let protocol = facts.protocol(envelope.parameters.smtputf8);
    let wrote = write!(
        out,
        "Received: from {} ({}{})\r\n\tby {hostname} with {protocol} id {id}",
        Helo(&facts.helo, facts.peer.ip()),
        Named(facts.peer_name.as_deref()),
        Literal(facts.peer.ip()),
    );
    wrote.expect("a string takes everything");
    if let Some(tls) = &facts.tls {
        write!(out, "\r\n\t({} {})", tls.version, tls.cipher).expect("a string takes everything");
    }
    if let [only] = envelope.recipients.as_slice() {
        write!(out, "\r\n\tfor <{}>", only.address).expect("a string takes everything");
    }
    write!(out, ";\r\n\t{}\r\n", now.rfc5322()).expect("a string takes everything");
}

/// Appends `Date` and `Message-ID` where they are missing. The id's right side is ours: we made it.
pub(crate) fn completion(
    out: &mut String,
    has_date: bool,
    has_message_id: bool,
    hostname: &str,
    id: MessageId,
    now: Timestamp,
) {
    if !has_date {
        write!(out, "Date: {}\r\n", now.rfc5322()).expect("a string takes everything");
    }
    if !has_message_id {
        write!(out, "Message-ID: <{id}@{hostname}>\r\n").expect("a string takes everything");
    }
}

/// What the client called itself, if it is a name or an address literal; the literal of its address otherwise, since the field's
/// grammar has room for nothing else.
struct Helo<'a>(&'a str, IpAddr);

impl fmt::Display for Helo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As given, not folded: whoever reads the field wants to know what was said.
        match is_plain_name(self.0) || Host::parse(self.0).is_ok() {
            true => f.write_str(self.0),
            false => Literal(self.1).fmt(f),
        }
    }
}

/// The usual case without building anything.
fn is_plain_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
struct Literal(IpAddr);

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "[{address}]"),
            IpAddr::V6(address) => write!(f, "[IPv6:{address}]"),
        }
    }
}

/// The confirmed name with a blank behind it, or nothing.
struct Named<'a>(Option<&'a str>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, "{name} "))
    }
}

/// The value of `ORCPT` for an address that an alias replaced (RFC 3461 §5.2.7): `rfc822;user@example.com`.
pub(crate) fn original(address: &Address) -> Box<str> {
    if address.is_ascii() {
        return format!("rfc822;{address}").into();
    }
    format!("utf-8;{}", to_utf8_xtext(&address.to_string())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use waypost_types::{Recipient, SessionId, TlsFacts, Transport};

    fn facts(helo: &str, peer: &str) -> SessionFacts {
        SessionFacts {
            id: SessionId::new(1),
            transport: Transport::Mx,
            peer: peer.parse().expect("an address"),
            local: "192.0.2.25:25".parse().expect("an address"),
            peer_name: None,
            helo: helo.into(),
            esmtp: true,
            tls: None,
            user: None,
            trusted: false,
        }
    }

    fn field(facts: &SessionFacts, recipients: &[&str]) -> String {
        let recipients = recipients.iter().map(|r| Recipient::new(Address::parse(r).expect("an address"))).collect();
        let envelope = Envelope { recipients, ..Envelope::default() };
        let mut out = String::new();
        let now = Timestamp(1_795_500_670_123);
        received(&mut out, facts, &envelope, "mx.example.com", MessageId::new(now, 7), now);
        out
    }

    #[test]
    fn everything_known_is_said() {
        let mut facts = facts("client.example", "192.0.2.1:4711");
        facts.peer_name = Some("c1.example".into());
        facts.tls = Some(Arc::new(TlsFacts {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256".into(),
            server_name: None,
            client_certificate: None,
            exporter: None,
            resumed: false,
        }));
        let id = MessageId::new(Timestamp(1_795_500_670_123), 7);
        assert_eq!(
            field(&facts, &["u@example.com"]),
            format!(
                "Received: from client.example (c1.example [192.0.2.1])\r\n\tby mx.example.com with ESMTPS id {id}\r\n\
                 \t(TLSv1.3 TLS_AES_128_GCM_SHA256)\r\n\tfor <u@example.com>;\r\n\tTue, 24 Nov 2026 06:11:10 +0000\r\n"
            )
        );
    }

    #[test]
    fn recipients_do_not_learn_of_each_other() {
        let text = field(&facts("a.example", "192.0.2.1:1"), &["u@example.com", "v@example.com"]);
        assert!(!text.contains("for "), "{text}");
    }

    #[test]
    fn what_a_client_calls_itself_cannot_break_the_field() {
        for (helo, shown) in [
            ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
            ("Under_Score.example", "Under_Score.example"),
            ("<script>", "[IPv6:2001:db8::9]"),
            ("a) by evil (", "[IPv6:2001:db8::9]"),
            ("", "[IPv6:2001:db8::9]"),
        ] {
            let text = field(&facts(helo, "[2001:db8::9]:25"), &[]);
            assert!(text.starts_with(&format!("Received: from {shown} ([IPv6:2001:db8::9])\r\n\tby")), "{text}");
        }
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let (now, mut out) = (Timestamp(0), String::new());
        completion(&mut out, true, true, "h.example", MessageId::new(now, 0), now);
        assert_eq!(out, "");
        completion(&mut out, false, false, "h.example", MessageId::new(now, 0), now);
        assert_eq!(out, "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <00000000000000000000@h.example>\r\n");
    }
}
