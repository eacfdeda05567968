//! Entries as bytes: what stands in the `entry` keyspace.
//!
//! A form of our own, because it is read for years: a version octet, the fields in the order of [`Entry`], integers as LEB128, texts with
//! their length in front, and a CRC-32 of everything before it at the end. It promises that what was written is read back equal,
//! and that any other bytes (cut short, a bit flipped, a later version) are an error and never a panic or a wrong entry.
//!
//! A later version adds its number to [`decode`] and keeps reading the older ones; `encode` writes the newest.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use waypost_types::envelope::DeliverBy;
use waypost_types::{
    Address, Body, Enhanced, MailParameters, MessageId, Notify, Outcome, Recipient, Reply, Return, ReversePath,
    SessionId, Timestamp, Transport,
};

use crate::entry::EARLIER_MAX;
use crate::{Attempt, Delivery, Entry, Kind, Origin, State};

/// The version that [`encode`] writes.
pub const VERSION: u8 = 3;

/// The oldest version that is still read. 1 had no earlier attempts, no word on their security, and no route of an entry's own; 2 did not say
/// why the message was accepted.
const VERSION_MIN: u8 = 1;

/// Version octet and checksum.
const FRAME_BYTES: usize = 5;

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer octets than any entry has.
    Short,
    /// Written by a version that this program does not know: open the queue with that program.
    Version(u8),
    /// The checksum does not fit: damaged on the way to the disk or on it.
    Checksum,
    /// The checksum fits, but the named field cannot be: written by a faulty program.
    Field(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Short => f.write_str("entry cut short"),
            DecodeError::Version(version) => {
                write!(f, "entry of version {version}; this program reads up to {VERSION}: use the newer program")
            }
            DecodeError::Checksum => f.write_str("entry damaged: checksum does not fit"),
            DecodeError::Field(name) => write!(f, "entry's {name} makes no sense"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends an entry to `out`.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(160 + 96 * entry.recipients.len());
    out.push(VERSION);
    Writer { out }.entry(entry);
    let sum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Reads what [`encode`] wrote: the whole of `bytes`, nothing behind it.
pub fn decode(bytes: &[u8]) -> Result<Entry, DecodeError> {
    if bytes.len() < FRAME_BYTES {
        return Err(DecodeError::Short);
    }
    let (content, sum) = bytes.split_at(bytes.len() - 4);
    let version = content[0];
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(DecodeError::Version(version));
    }
    if crc32fast::hash(content).to_le_bytes() != sum {
        return Err(DecodeError::Checksum);
    }
    let mut reader = Reader { rest: &content[1..], version };
    let entry = reader.entry()?;
    if reader.rest.is_empty() { Ok(entry) } else { Err(DecodeError::Field("end")) }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn byte(&mut self, value: u8) {
        self.out.push(value);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn text(&mut self, value: &str) {
        self.number(value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// 0, or 1 and what `write` writes.
    fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        self.out.extend_from_slice(&entry.id.to_bytes());
        self.byte(match entry.kind {
            Kind::Mail => 0,
            Kind::Notice => 1,
        });
        self.number(entry.accepted.0);
        self.number(entry.expires.0);
        self.origin(&entry.origin);
        self.maybe(entry.sender.address(), Self::address);
        self.parameters(&entry.parameters);
        self.number(entry.size);
        self.maybe(entry.held.as_deref(), Self::text);
        self.maybe(entry.route.as_deref(), Self::text);
        self.maybe(entry.why.as_deref(), Self::text);
        self.number(entry.recipients.len() as u64);
        entry.recipients.iter().for_each(|delivery| self.delivery(delivery));
    }

    fn origin(&mut self, origin: &Origin) {
        self.byte(match origin.transport {
            Transport::Mx => 0,
            Transport::Submission => 1,
            Transport::Submissions => 2,
            Transport::Lmtp => 3,
            Transport::Relay => 4,
            Transport::Local => 5,
        });
        self.maybe(origin.session, |w, session| w.number(session.bits()));
        match origin.peer {
            None => self.byte(0),
            Some(IpAddr::V4(address)) => {
                self.byte(4);
                self.out.extend_from_slice(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                self.byte(6);
                self.out.extend_from_slice(&address.octets());
            }
        }
        self.text(&origin.helo);
        self.maybe(origin.user.as_deref(), Self::text);
    }

    /// The local part and the host apart, so that a reader need not look for the `@`.
    fn address(&mut self, address: &Address) {
        self.text(address.local());
        match address.host() {
            waypost_types::Host::Name(domain) => self.text(domain.as_str()),
            literal => self.text(&literal.to_string()),
        }
    }

    fn parameters(&mut self, p: &MailParameters) {
        let body = match p.body {
            Body::SevenBit => 0,
            Body::EightBitMime => 1,
            Body::BinaryMime => 2,
        };
        let ret = match p.ret {
            None => 0,
            Some(Return::Full) => 1,
            Some(Return::Headers) => 2,
        };
        self.byte(body | ret << 2 | u8::from(p.smtputf8) << 4 | u8::from(p.require_tls) << 5);
        self.byte(p.priority as u8);
        self.maybe(p.size, Self::number);
        self.maybe(p.envelope_id.as_deref(), Self::text);
        self.maybe(p.auth.as_deref(), Self::text);
        self.maybe(p.deliver_by, |w, by| {
            w.byte(u8::from(by.return_when_late) | u8::from(by.trace) << 1);
            w.number(by.seconds as u64);
        });
        self.maybe(p.hold_for, |w, span| {
            w.number(span.as_secs());
            w.number(span.subsec_nanos().into());
        });
    }

    fn delivery(&mut self, delivery: &Delivery) {
        let notify = delivery.recipient.notify;
        self.byte(
            u8::from(notify.given)
                | u8::from(notify.success) << 1
                | u8::from(notify.failure) << 2
                | u8::from(notify.delay) << 3
                | u8::from(delivery.delay_reported) << 4,
        );
        self.address(&delivery.recipient.address);
        self.maybe(delivery.recipient.original.as_deref(), Self::text);
        self.number(delivery.attempts.into());
        self.number(delivery.due.0);
        self.state(&delivery.state);
        self.maybe(delivery.last.as_ref(), Self::attempt);
        self.number(delivery.earlier.len() as u64);
        delivery.earlier.iter().for_each(|attempt| self.attempt(attempt));
    }

    fn attempt(&mut self, attempt: &Attempt) {
        self.number(attempt.at.0);
        self.text(&attempt.target);
        self.text(&attempt.security);
        self.reply(&attempt.reply);
    }

    fn state(&mut self, state: &State) {
        let (tag, reply) = match state {
            State::Pending => (0, None),
            State::Done(Outcome::Delivered(reply)) => (1, Some(reply)),
            State::Done(Outcome::Relayed(reply)) => (2, Some(reply)),
            State::Done(Outcome::Expanded) => (3, None),
            State::Done(Outcome::Failed(reply)) => (4, Some(reply)),
            State::Done(Outcome::Delayed(_)) => panic!("a recipient that is done with is not delayed"),
        };
        self.byte(tag);
        if let Some(reply) = reply {
            self.reply(reply);
        }
    }

    fn reply(&mut self, reply: &Reply) {
        self.number(reply.code.into());
        self.maybe(reply.enhanced, |w, Enhanced(class, subject, detail)| {
            w.byte(class);
            w.number(subject.into());
            w.number(detail.into());
        });
        self.text(&reply.text);
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    version: u8,
}

type Field<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Field<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Field<[u8; N]> {
        self.take(N).map(|taken| taken.try_into().expect("as long as was taken"))
    }

    fn byte(&mut self) -> Field<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn number(&mut self) -> Field<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Field("number"))
    }

    fn small<T: TryFrom<u64>>(&mut self, name: &'static str) -> Field<T> {
        T::try_from(self.number()?).map_err(|_| DecodeError::Field(name))
    }

    fn text(&mut self) -> Field<&'a str> {
        let len = self.small("length")?;
        std::str::from_utf8(self.take(len)?).map_err(|_| DecodeError::Field("text"))
    }

    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Field<T>) -> Field<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DecodeError::Field("option")),
        }
    }

    fn boxed(&mut self) -> Field<Box<str>> {
        self.text().map(Box::from)
    }

    fn time(&mut self) -> Field<Timestamp> {
        self.number().map(Timestamp)
    }

    fn entry(&mut self) -> Field<Entry> {
        let id = MessageId::from_bytes(&self.array::<13>()?).ok_or(DecodeError::Field("id"))?;
        let kind = match self.byte()? {
            0 => Kind::Mail,
            1 => Kind::Notice,
            _ => return Err(DecodeError::Field("kind")),
        };
        let (accepted, expires) = (self.time()?, self.time()?);
        let origin = self.origin()?;
        let sender = self.maybe(Self::address)?.map_or(ReversePath::Null, ReversePath::Mailbox);
        let parameters = self.parameters()?;
        let size = self.number()?;
        let held = self.maybe(Self::boxed)?;
        let route = if self.version > 1 { self.maybe(Self::boxed)? } else { None };
        let why = if self.version > 2 { self.maybe(Self::boxed)? } else { None };
        let recipients = self.recipients()?;
        Ok(Entry { id, kind, accepted, expires, origin, sender, parameters, recipients, size, held, route, why })
    }

    fn recipients(&mut self) -> Field<Vec<Delivery>> {
        let count = self.small::<usize>("recipients")?;
        // Whoever wrote it, no recipient takes fewer octets than this: memory is bounded by what was read.
        const DELIVERY_BYTES_MIN: usize = 8;
        if count > self.rest.len() / DELIVERY_BYTES_MIN {
            return Err(DecodeError::Field("recipients"));
        }
        (0..count).map(|_| self.delivery()).collect()
    }

    fn origin(&mut self) -> Field<Origin> {
        let transport = match self.byte()? {
            0 => Transport::Mx,
            1 => Transport::Submission,
            2 => Transport::Submissions,
            3 => Transport::Lmtp,
            4 => Transport::Relay,
            5 => Transport::Local,
            _ => return Err(DecodeError::Field("transport")),
        };
        let session = self.maybe(Self::number)?.map(SessionId::new);
        let peer = match self.byte()? {
            0 => None,
            4 => Some(IpAddr::from(self.array::<4>()?)),
            6 => Some(IpAddr::from(self.array::<16>()?)),
            _ => return Err(DecodeError::Field("peer")),
        };
        Ok(Origin { transport, session, peer, helo: self.boxed()?, user: self.maybe(Self::boxed)? })
    }

    fn address(&mut self) -> Field<Address> {
        let (local, host) = (self.text()?, self.text()?);
        let host = waypost_types::Host::parse(host).map_err(|_| DecodeError::Field("host"))?;
        Address::new(local, host).map_err(|_| DecodeError::Field("address"))
    }

    fn parameters(&mut self) -> Field<MailParameters> {
        let flags = self.byte()?;
        let body = match flags & 3 {
            0 => Body::SevenBit,
            1 => Body::EightBitMime,
            2 => Body::BinaryMime,
            _ => return Err(DecodeError::Field("body")),
        };
        let ret = match flags >> 2 & 3 {
            0 => None,
            1 => Some(Return::Full),
            2 => Some(Return::Headers),
            _ => return Err(DecodeError::Field("ret")),
        };
        Ok(MailParameters {
            body,
            ret,
            smtputf8: flags & 1 << 4 != 0,
            require_tls: flags & 1 << 5 != 0,
            priority: self.byte()? as i8,
            size: self.maybe(Self::number)?,
            envelope_id: self.maybe(Self::boxed)?,
            auth: self.maybe(Self::boxed)?,
            deliver_by: self.maybe(Self::deliver_by)?,
            hold_for: self.maybe(Self::span)?,
        })
    }

    fn deliver_by(&mut self) -> Field<DeliverBy> {
        let flags = self.byte()?;
        Ok(DeliverBy { return_when_late: flags & 1 != 0, trace: flags & 2 != 0, seconds: self.number()? as i64 })
    }

    fn span(&mut self) -> Field<Duration> {
        let seconds = self.number()?;
        let nanos = self.small::<u32>("span")?;
        if nanos < 1_000_000_000 { Ok(Duration::new(seconds, nanos)) } else { Err(DecodeError::Field("span")) }
    }

    fn delivery(&mut self) -> Field<Delivery> {
        let flags = self.byte()?;
        let notify =
            Notify { given: flags & 1 != 0, success: flags & 2 != 0, failure: flags & 4 != 0, delay: flags & 8 != 0 };
        let address = self.address()?;
        let original = self.maybe(Self::boxed)?;
        Ok(Delivery {
            recipient: Recipient { address, original, notify },
            attempts: self.small("attempts")?,
            due: self.time()?,
            state: self.state()?,
            last: self.maybe(Self::attempt)?,
            earlier: if self.version > 1 { self.earlier()? } else { Vec::new() },
            delay_reported: flags & 1 << 4 != 0,
        })
    }

    fn attempt(&mut self) -> Field<Attempt> {
        let (at, target) = (self.time()?, self.boxed()?);
        let security = if self.version > 1 { self.boxed()? } else { Box::default() };
        Ok(Attempt { at, target, security, reply: self.reply()? })
    }

    fn earlier(&mut self) -> Field<Vec<Attempt>> {
        let count = self.small::<usize>("earlier attempts")?;
        if count > EARLIER_MAX {
            return Err(DecodeError::Field("earlier attempts"));
        }
        (0..count).map(|_| self.attempt()).collect()
    }

    fn state(&mut self) -> Field<State> {
        Ok(match self.byte()? {
            0 => State::Pending,
            1 => State::Done(Outcome::Delivered(self.reply()?)),
            2 => State::Done(Outcome::Relayed(self.reply()?)),
            3 => State::Done(Outcome::Expanded),
            4 => State::Done(Outcome::Failed(self.reply()?)),
            _ => return Err(DecodeError::Field("state")),
        })
    }

    fn reply(&mut self) -> Field<Reply> {
        let code = self.small("code")?;
        let enhanced = self.maybe(|r| Ok(Enhanced(r.byte()?, r.small("status")?, r.small("status")?)))?;
        Ok(Reply { code, enhanced, text: Cow::Owned(self.text()?.to_string()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        encode(entry, &mut out);
        out
    }

    fn address() -> impl Strategy<Value = Address> {
        let local = prop_oneof!["[a-z0-9+=%!]{1,20}(\\.[A-Za-z]{1,5})?", "[äöü]{1,9}", "\"[ -!#-\\[\\]-~]{0,20}\"",];
        let host = prop_oneof![
            "[a-z]{1,10}\\.example",
            Just("[192.0.2.7]".to_string()),
            Just("[IPv6:2001:db8::9]".to_string()),
            Just("bücher.example".to_string()),
        ];
        (local, host).prop_filter_map("an address", |(local, host)| Address::parse(&format!("{local}@{host}")).ok())
    }

    fn boxed() -> impl Strategy<Value = Box<str>> {
        "\\PC{0,30}".prop_map(Box::from)
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let enhanced = proptest::option::of((2u8..=5, 0u16..1000, 0u16..1000).prop_map(|(a, b, c)| Enhanced(a, b, c)));
        (200u16..600, enhanced, "[ -~\n]{0,80}").prop_map(|(code, enhanced, text)| Reply {
            code,
            enhanced,
            text: text.into(),
        })
    }

    fn state() -> impl Strategy<Value = State> {
        prop_oneof![
            Just(State::Pending),
            Just(State::Done(Outcome::Expanded)),
            reply().prop_map(|r| State::Done(Outcome::Delivered(r))),
            reply().prop_map(|r| State::Done(Outcome::Relayed(r))),
            reply().prop_map(|r| State::Done(Outcome::Failed(r))),
        ]
    }

    fn delivery() -> impl Strategy<Value = Delivery> {
        let attempt = || {
            (any::<u64>(), boxed(), boxed(), reply()).prop_map(|(at, target, security, reply)| Attempt {
                at: Timestamp(at),
                target,
                security,
                reply,
            })
        };
        let attempts = (proptest::option::of(attempt()), proptest::collection::vec(attempt(), 0..=EARLIER_MAX));
        let recipient =
            (address(), proptest::option::of(boxed()), any::<[bool; 4]>()).prop_map(|(address, original, n)| {
                Recipient {
                    address,
                    original,
                    notify: Notify { given: n[0], success: n[1], failure: n[2], delay: n[3] },
                }
            });
        (recipient, state(), any::<u32>(), any::<u64>(), attempts, any::<bool>()).prop_map(
            |(recipient, state, attempts, due, (last, earlier), delay_reported)| Delivery {
                recipient,
                state,
                attempts,
                due: Timestamp(due),
                last,
                earlier,
                delay_reported,
            },
        )
    }

    fn origin() -> impl Strategy<Value = Origin> {
        let transport = prop_oneof![
            Just(Transport::Mx),
            Just(Transport::Submission),
            Just(Transport::Submissions),
            Just(Transport::Lmtp),
            Just(Transport::Relay),
            Just(Transport::Local)
        ];
        let session = proptest::option::of(any::<u64>().prop_map(SessionId::new));
        let peer = proptest::option::of(any::<IpAddr>());
        (transport, session, peer, boxed(), proptest::option::of(boxed()))
            .prop_map(|(transport, session, peer, helo, user)| Origin { transport, session, peer, helo, user })
    }

    fn parameters() -> impl Strategy<Value = MailParameters> {
        let body = prop_oneof![Just(Body::SevenBit), Just(Body::EightBitMime), Just(Body::BinaryMime)];
        let ret = prop_oneof![Just(None), Just(Some(Return::Full)), Just(Some(Return::Headers))];
        let by = (any::<i64>(), any::<bool>(), any::<bool>())
            .prop_map(|(seconds, return_when_late, trace)| DeliverBy { seconds, return_when_late, trace });
        let texts = (proptest::option::of(boxed()), proptest::option::of(boxed()));
        let size = proptest::option::of(any::<u64>());
        let hold = proptest::option::of(any::<Duration>());
        (size, body, any::<[bool; 2]>(), ret, texts, -9i8..=9, proptest::option::of(by), hold).prop_map(
            |(size, body, flags, ret, (envelope_id, auth), priority, deliver_by, hold_for)| MailParameters {
                size,
                body,
                smtputf8: flags[0],
                require_tls: flags[1],
                ret,
                envelope_id,
                auth,
                priority,
                deliver_by,
                hold_for,
            },
        )
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![Just(Kind::Mail), Just(Kind::Notice)];
        let recipients = proptest::collection::vec(delivery(), 0..5);
        let sender = proptest::option::of(address());
        let id = (any::<u64>(), any::<u64>()).prop_map(|(now, entropy)| MessageId::new(Timestamp(now), entropy));
        let text = || proptest::option::of(boxed());
        let rest = (any::<u64>(), text(), text(), text());
        (id, kind, any::<[u64; 2]>(), origin(), sender, parameters(), recipients, rest).prop_map(
            |(id, kind, times, origin, sender, parameters, recipients, (size, held, route, why))| Entry {
                id,
                kind,
                accepted: Timestamp(times[0]),
                expires: Timestamp(times[1]),
                origin,
                sender: sender.map_or(ReversePath::Null, ReversePath::Mailbox),
                parameters,
                recipients,
                size,
                held,
                route,
                why,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_written_is_read_back(entry in entry()) {
            prop_assert_eq!(decode(&bytes_of(&entry)), Ok(entry));
        }

        #[test]
        fn every_truncation_is_an_error(entry in entry(), cut in any::<proptest::sample::Index>()) {
            let bytes = bytes_of(&entry);
            prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn every_flipped_bit_is_an_error(entry in entry(), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut bytes = bytes_of(&entry);
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        /// Behind a right checksum anything may stand: an error or an entry, never a panic, never much memory.
        #[test]
        fn nonsense_with_a_right_checksum_does_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            bytes.insert(0, VERSION);
            let sum = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&sum.to_le_bytes());
            let _ = decode(&bytes);
        }

        #[test]
        fn a_mutated_entry_with_a_right_checksum_does_not_panic(
            entry in entry(), at in any::<proptest::sample::Index>(), value in any::<u8>()
        ) {
            let mut bytes = bytes_of(&entry);
            bytes.truncate(bytes.len() - 4);
            let at = 1 + at.index(bytes.len() - 1);
            bytes[at] = value;
            let sum = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&sum.to_le_bytes());
            if let Ok(other) = decode(&bytes) {
                prop_assert_eq!(decode(&bytes_of(&other)), Ok(other));
            }
        }
    }

    /// What an earlier program wrote is read for years: these octets are version 1's, and do not change.
    #[test]
    fn entries_of_version_1_are_read() {
        let bytes = from_hex(VERSION_1);
        let (mut expected, _) = crate::conformance::mail(1, &["u@b.example"]);
        expected.recipients[0].last = Some(Attempt {
            at: crate::conformance::NOW,
            target: "mx.b.example".into(),
            security: "".into(),
            reply: crate::conformance::later(),
        });
        expected.recipients[0].attempts = 3;
        assert_eq!(decode(&bytes), Ok(expected));
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    const VERSION_1: &str = "\
        01001a20c23c301779b97f4a7c150081868fe1a034819e8eafa23400010104c00002010e636c69656e742e6578616d706c65 \
        000105616c69636509612e6578616d706c65000000000000006f00010c017509622e6578616d706c65000381868fe1a03400 \
        0180868fe1a0340c6d782e622e6578616d706c65c303010407010a677265796c6973746564e9daa0fd";

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = vec![VERSION + 1, 0, 0];
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(decode(&bytes), Err(DecodeError::Version(VERSION + 1)));
        assert_eq!(decode(&[]), Err(DecodeError::Short));
    }
}
