//! XCLIENT and XFORWARD: what a host of our own says about the client that it speaks for (Postfix's XCLIENT_README and
//! XFORWARD_README; there is no RFC).
//!
//! XCLIENT puts another client in the place of the one that is connected: everything that was said is forgotten, and the session
//! begins again at its greeting. XFORWARD only tells a content filter's next hop where the message of one transaction came from.
//! Both are known where the caller offered them ([`super::Session::offer`]) and nowhere else; whoever may use them can be anybody.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use waypost_types::{Domain, SessionFacts};

use super::state::About;
use super::{Ask, Session, words};
use crate::extension::Extension;
use crate::parameter::xtext;

/// The attributes of XCLIENT that are understood, as EHLO lists them.
pub(super) const CLIENT_ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";
/// Those of XFORWARD.
pub(super) const FORWARD_ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO IDENT SOURCE";

/// Where the message of a transaction came from, by XFORWARD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// ADDR=
    pub address: Option<IpAddr>,
    /// NAME=
    pub name: Option<Box<str>>,
    /// HELO=
    pub helo: Option<Box<str>>,
    /// IDENT=: the message's name at the host that filtered it.
    pub ident: Option<Box<str>>,
}

/// A value: known, or said to be unknown (`[UNAVAILABLE]`, `[TEMPUNAVAIL]`, an empty one).
type Known = Option<Box<str>>;

/// Reads `NAME=value …`, each word handed to `take`; `None` if one is malformed or not taken.
fn attributes(argument: &str, mut take: impl FnMut(&str, Known) -> Option<()>) -> Option<()> {
    for word in argument.split_ascii_whitespace() {
        let (name, value) = word.split_once('=')?;
        let value = xtext(value)?;
        let known = !value.is_empty()
            && !value.eq_ignore_ascii_case("[UNAVAILABLE]")
            && !value.eq_ignore_ascii_case("[TEMPUNAVAIL]");
        take(&name.to_ascii_uppercase(), known.then_some(value))?;
    }
    Some(())
}

fn put<T>(slot: &mut T, value: T) -> Option<()> {
    *slot = value;
    Some(())
}

/// `192.0.2.1`, `IPV6:2001:db8::1`
fn address(text: &str) -> Option<IpAddr> {
    let tagged = text.get(..5).is_some_and(|tag| tag.eq_ignore_ascii_case("IPV6:"));
    let ip: IpAddr = if tagged { &text[5..] } else { text }.parse().ok()?;
    Some(ip.to_canonical())
}

/// What XCLIENT makes of the facts. An unknown address or port leaves what was known.
fn client(facts: &mut SessionFacts, argument: &str) -> Option<()> {
    let (mut peer, mut local) = (facts.peer, facts.local);
    let set_address = |at: &mut SocketAddr, value: Known| {
        if let Some(value) = value {
            at.set_ip(address(&value)?);
        }
        Some(())
    };
    let set_port = |at: &mut SocketAddr, value: Known| {
        if let Some(value) = value {
            at.set_port(value.parse().ok()?);
        }
        Some(())
    };
    attributes(argument, |name, value| match name {
        "ADDR" => set_address(&mut peer, value),
        "PORT" => set_port(&mut peer, value),
        "DESTADDR" => set_address(&mut local, value),
        "DESTPORT" => set_port(&mut local, value),
        // It is written into Received as a name.
        "NAME" if value.as_deref().is_some_and(|name| Domain::parse(name).is_err()) => None,
        "NAME" => put(&mut facts.peer_name, value.map(Arc::from)),
        "HELO" => put(&mut facts.helo, value.map_or_else(|| "".into(), Arc::from)),
        "LOGIN" => put(&mut facts.user, value.map(Arc::from)),
        "PROTO" => match value.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None => Some(()),
            Some("SMTP") => put(&mut facts.esmtp, false),
            Some("ESMTP") => put(&mut facts.esmtp, true),
            Some(_) => None,
        },
        _ => None,
    })?;
    (facts.peer, facts.local) = (peer, local);
    Some(())
}

fn forwarded(known: &mut Forwarded, argument: &str) -> Option<()> {
    attributes(argument, |name, value| match name {
        "ADDR" => {
            known.address = match value {
                Some(value) => Some(address(&value)?),
                None => None,
            };
            Some(())
        }
        "NAME" => put(&mut known.name, value),
        "HELO" => put(&mut known.helo, value),
        "IDENT" => put(&mut known.ident, value),
        "PORT" | "PROTO" | "SOURCE" => Some(()),
        _ => None,
    })
}

impl Session {
    pub(super) fn on_xclient(&mut self, argument: &str) {
        if !self.offers(Extension::XClient) {
            return self.refuse(&words::NOT_IMPLEMENTED);
        }
        if self.transaction.is_some() {
            return self.refuse(&words::IN_TRANSACTION);
        }
        let mut facts = SessionFacts::clone(&self.facts);
        // Who the last one was does not rub off on the next.
        (facts.peer_name, facts.user, facts.helo, facts.esmtp) = (None, None, "".into(), false);
        if client(&mut facts, argument).is_none() {
            return self.refuse(&words::BAD_ATTRIBUTE);
        }
        self.facts = Arc::new(facts);
        self.forwarded = None;
        self.ask(About::Proxied, Ask::Proxied);
    }

    pub(super) fn on_xforward(&mut self, argument: &str) {
        if !self.offers(Extension::XForward) {
            return self.refuse(&words::NOT_IMPLEMENTED);
        }
        if self.transaction.is_some() {
            return self.refuse(&words::IN_TRANSACTION);
        }
        let mut known = self.forwarded.as_deref().cloned().unwrap_or_default();
        match forwarded(&mut known, argument) {
            Some(()) => {
                self.forwarded = Some(Box::new(known));
                self.say(&words::OK);
            }
            None => self.refuse(&words::BAD_ATTRIBUTE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_types::{SessionId, Transport};

    fn facts() -> SessionFacts {
        SessionFacts {
            id: SessionId::new(1),
            transport: Transport::Mx,
            peer: "127.0.0.1:1".parse().unwrap(),
            local: "127.0.0.1:25".parse().unwrap(),
            peer_name: None,
            helo: "".into(),
            esmtp: false,
            tls: None,
            user: None,
            trusted: false,
        }
    }

    #[test]
    fn clients_are_replaced() {
        let mut known = facts();
        let said = "NAME=spike.example ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=a+2Bb LOGIN=alice DESTADDR=IPV6:2001:db8::1 DESTPORT=587";
        client(&mut known, said).unwrap();
        assert_eq!(
            (known.peer, known.local),
            ("192.0.2.7:4711".parse().unwrap(), "[2001:db8::1]:587".parse().unwrap())
        );
        assert_eq!((known.peer_name.as_deref(), known.user.as_deref()), (Some("spike.example"), Some("alice")));
        assert_eq!((&*known.helo, known.esmtp), ("a+b", true));
        client(&mut known, "NAME=[UNAVAILABLE] ADDR=IPV6:::ffff:192.0.2.8 PORT=[UNAVAILABLE]").unwrap();
        assert_eq!((known.peer, known.peer_name), ("192.0.2.8:4711".parse().unwrap(), None));
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        for said in
            ["ADDR=nowhere", "PORT=99999", "PROTO=LMTP", "FOO=1", "NAME", "HELO=a+0Db", "NAME=a=b", "NAME=a+20b"]
        {
            assert_eq!(client(&mut facts(), said), None, "{said}");
        }
    }

    #[test]
    fn origins_gather() {
        let mut known = Forwarded::default();
        forwarded(&mut known, "NAME=a.example ADDR=192.0.2.1 PORT=25 SOURCE=REMOTE").unwrap();
        forwarded(&mut known, "HELO=x IDENT=4711 NAME=[UNAVAILABLE]").unwrap();
        let (address, helo, ident) = (known.address.unwrap().to_string(), known.helo.unwrap(), known.ident.unwrap());
        assert_eq!((address.as_str(), known.name, &*helo, &*ident), ("192.0.2.1", None, "x", "4711"));
        assert_eq!(forwarded(&mut Forwarded::default(), "COLOUR=red"), None);
    }
}
