//! Delivery reports: RFC 3464 in a `multipart/report` (RFC 6522), asked for as RFC 3461 says, in the international form of RFC 6533 where needed.
//!
//! [`wanted`] decides whether a recipient is to be reported; [`report`] makes the message and its entry, to be a child of the settlement that causes it
//! (so that there is never a failure without its report, nor the other way round). Promises: never an answer to the null sender or to a report; lines of ours end in CRLF and stay
//! below 998 octets; nothing that a peer or a client said (replies, ORCPT, ENVID) can break a line or a header; the original's octets are shared, not copied.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waypost_types::{
    Address, Body, Domain, Message, MessageId, Notify, Outcome, Recipient, Reply, Return, ReversePath, Timestamp,
    Transport, header, limits,
};

use crate::{Delivery, Entry, Kind, Origin, Settled, State};

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It will not be delivered.
    Failure,
    /// It is not delivered yet.
    Delay,
    /// It has been delivered, relayed to a host that does not report, or expanded.
    Success,
}

impl Reason {
    /// One word for logs: `failure`, `delay`, `success`.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Failure => "failure",
            Reason::Delay => "delay",
            Reason::Success => "success",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Reason::Failure => "Undelivered mail",
            Reason::Delay => "Delayed mail",
            Reason::Success => "Delivered mail",
        }
    }
}

/// Who reports, and how.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// Our name: `Reporting-MTA`.
    pub host: Domain,
    /// The `From` of reports.
    pub from: Address,
    /// A failure returns messages up to this size whole when RET does not say; longer ones, always, as headers.
    pub return_bytes_max: u64,
    /// How long we try to deliver a report.
    pub lifetime: Duration,
    /// A message is reported as delayed when it has waited this long.
    pub delay_after: Duration,
}

impl Reporter {
    /// `MAILER-DAEMON` at `host`; Postfix's 50 000 octets; 4 hours until a delay is reported.
    pub fn new(host: Domain) -> Reporter {
        let at = waypost_types::Host::Name(host.clone());
        Reporter {
            from: Address::new("MAILER-DAEMON", at).expect("a dot-string of 13 octets"),
            host,
            return_bytes_max: 50_000,
            lifetime: limits::NOTICE_LIFETIME,
            delay_after: Duration::from_secs(4 * 3600),
        }
    }
}

/// The envelope and names of one report.
#[derive(Clone, Copy, Debug)]
pub struct Making {
    /// The report's own id.
    pub id: MessageId,
    /// Now.
    pub now: Timestamp,
    /// 64 random bits for the boundary, so that nobody can write it into a message beforehand.
    pub random: u64,
}

/// Whether, and as what, one recipient of `entry` is to be reported after `news`. `passed_on`: the peer that took it offers DSN and
/// was given NOTIFY, so that the duty to report success is its own (RFC 3461 §5.2.2).
pub fn wanted(reporter: &Reporter, entry: &Entry, news: &Settled, passed_on: bool, now: Timestamp) -> Option<Reason> {
    if entry.kind == Kind::Notice || entry.sender == ReversePath::Null {
        return None;
    }
    let delivery = &entry.recipients[news.index as usize];
    let notify = delivery.recipient.notify;
    match &news.outcome {
        Outcome::Failed(_) => notify.failure.then_some(Reason::Failure),
        Outcome::Delayed(_) => {
            let late = now.since(entry.accepted) >= delay_after(reporter, entry);
            (notify.delay && late && !delivery.delay_reported).then_some(Reason::Delay)
        }
        Outcome::Relayed(_) if passed_on => None,
        Outcome::Delivered(_) | Outcome::Relayed(_) | Outcome::Expanded => notify.success.then_some(Reason::Success),
    }
}

/// When a message counts as late: RFC 2852 §4, mode N, is the sender's own idea of it.
fn delay_after(reporter: &Reporter, entry: &Entry) -> Duration {
    let by = entry.parameters.deliver_by.filter(|by| !by.return_when_late);
    let wanted = by.map(|by| Duration::from_secs(by.seconds.max(0).unsigned_abs()));
    wanted.map_or(reporter.delay_after, |wanted| wanted.min(reporter.delay_after))
}

/// A report about some recipients of `entry`, which is as it is after the settlement ([`Entry::settled`]).
///
/// `original` is the message, or its header block alone if [`returns_whole`] says that this is enough.
///
/// # Panics
/// If `entry` has no sender to report to, or a recipient's index is out of range.
pub fn report(
    reporter: &Reporter,
    entry: &Entry,
    reason: Reason,
    recipients: &[u32],
    original: &Message,
    making: Making,
) -> (Entry, Message) {
    let sender = entry.sender.address().expect("reports have somebody to go to");
    let deliveries: Vec<&Delivery> = recipients.iter().map(|&index| &entry.recipients[index as usize]).collect();
    let global =
        entry.parameters.smtputf8 || !sender.is_ascii() || deliveries.iter().any(|d| !d.recipient.address.is_ascii());
    let page = Page { reporter, entry, reason, deliveries, making, global };
    let message = page.message(sender, original);
    let eight_bit = message.segments().iter().any(|segment| !segment.is_ascii());
    (page.envelope(sender, message.len() as u64, eight_bit), message)
}

/// Whether a report returns the message whole: otherwise the header block is enough, and the body need not be read.
pub fn returns_whole(reporter: &Reporter, entry: &Entry, reason: Reason) -> bool {
    reason == Reason::Failure
        && entry.parameters.ret != Some(Return::Headers)
        && entry.size <= reporter.return_bytes_max
        // RFC 8689 §5: what demanded TLS does not travel back in a report. RFC 3030: nor does what only BDAT can carry.
        && !entry.parameters.require_tls
        && entry.parameters.body != Body::BinaryMime
}

/// Header octets that are returned at most.
const RETURNED_HEADER_BYTES_MAX: usize = 64 * 1024;
/// RFC 5322 §2.1.1, without the CRLF.
const LINE_BYTES_MAX: usize = 998;

struct Page<'a> {
    reporter: &'a Reporter,
    entry: &'a Entry,
    reason: Reason,
    deliveries: Vec<&'a Delivery>,
    making: Making,
    global: bool,
}

impl Page<'_> {
    fn envelope(&self, sender: &Address, size: u64, eight_bit: bool) -> Entry {
        let now = self.making.now;
        let mut recipient = Recipient::new(sender.clone());
        recipient.notify = Notify::NEVER;
        let mut entry = Entry {
            id: self.making.id,
            kind: Kind::Notice,
            accepted: now,
            expires: now.after(self.reporter.lifetime),
            origin: Origin {
                transport: Transport::Local,
                session: None,
                peer: None,
                helo: self.reporter.host.as_str().into(),
                user: None,
            },
            sender: ReversePath::Null,
            parameters: Default::default(),
            recipients: vec![Delivery::new(recipient, now)],
            size,
            held: None,
            route: None,
            why: None,
        };
        entry.parameters.smtputf8 = self.global;
        entry.parameters.require_tls = self.entry.parameters.require_tls;
        entry.parameters.body = if eight_bit { Body::EightBitMime } else { Body::SevenBit };
        entry
    }

    fn message(&self, sender: &Address, original: &Message) -> Message {
        let mut front = String::with_capacity(2048);
        let boundary = format!("={}.{:016x}", self.making.id, self.making.random);
        let whole = returns_whole(self.reporter, self.entry, self.reason);
        let returned =
            if whole { original.segments().to_vec() } else { vec![returned_header(&original.header_block())] };
        let eight_bit = !returned.iter().all(|part| part.is_ascii());
        self.head(&mut front, sender, original, &boundary, eight_bit);
        self.words(&mut front, &boundary);
        self.status(&mut front, &boundary);
        let kind = match (whole, self.global) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        let name = if whole { "Message" } else { "Message headers" };
        part(&mut front, &boundary, name, kind, eight_bit);
        let mut segments = vec![Bytes::from(front)];
        segments.extend(returned);
        segments.push(Bytes::from(format!("\r\n--{boundary}--\r\n")));
        Message::from_segments(segments)
    }

    fn head(&self, out: &mut String, sender: &Address, original: &Message, boundary: &str, eight_bit: bool) {
        let (host, id) = (&self.reporter.host, self.making.id);
        field(out, "From", &format!("Mail Delivery System <{}>", self.reporter.from));
        field(out, "To", &format!("<{sender}>"));
        field(out, "Subject", self.reason.subject());
        field(out, "Date", &self.making.now.rfc5322());
        field(out, "Message-ID", &format!("<{id}.report@{host}>"));
        if let Some(about) = message_id(original) {
            field(out, "In-Reply-To", &about);
            field(out, "References", &about);
        }
        // RFC 3834 §5: nobody is to answer this.
        field(out, "Auto-Submitted", "auto-replied");
        field(out, "MIME-Version", "1.0");
        // Folded by hand: the value holds its own fold.
        let _ = write!(
            out,
            "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n"
        );
        field(out, "Content-Transfer-Encoding", encoding(eight_bit || self.global));
        out.push_str("\r\nThis is a MIME report about mail that you sent.\r\n");
    }

    /// The part for people.
    fn words(&self, out: &mut String, boundary: &str) {
        let charset = if self.global { "text/plain; charset=utf-8" } else { "text/plain; charset=us-ascii" };
        part(out, boundary, "Notification", charset, self.global);
        let _ = write!(out, "This is the mail system at {}.\r\n\r\n", self.reporter.host);
        out.push_str(match self.reason {
            Reason::Failure => "Your message could not be delivered to:\r\n\r\n",
            Reason::Delay => "Your message has not been delivered yet. You need not send it again:\r\nit will be tried further for:\r\n\r\n",
            Reason::Success => "Your message has been delivered to, or taken over by the system of:\r\n\r\n",
        });
        for delivery in &self.deliveries {
            let text = match reply_of(delivery) {
                Some(reply) => format!("  <{}>: {reply}", delivery.recipient.address),
                None => format!("  <{}>", delivery.recipient.address),
            };
            folded(out, &self.clean(&text), "    ");
        }
        if self.reason == Reason::Delay {
            let _ = write!(out, "\r\nIt will be given up at {}.\r\n", self.entry.expires.rfc5322());
        }
        let _ = write!(out, "\r\nIts name in our logs is {}.\r\n", self.entry.id);
    }

    /// The part for programs: RFC 3464 §2.
    fn status(&self, out: &mut String, boundary: &str) {
        let kind = if self.global { "message/global-delivery-status" } else { "message/delivery-status" };
        part(out, boundary, "Delivery report", kind, self.global);
        field(out, "Reporting-MTA", &format!("dns; {}", self.reporter.host));
        if let Some(id) = &self.entry.parameters.envelope_id {
            field(out, "Original-Envelope-Id", &self.clean(id));
        }
        if let Ok(helo) = Domain::parse(&self.entry.origin.helo) {
            field(out, "Received-From-MTA", &format!("dns; {helo}"));
        }
        field(out, "Arrival-Date", &self.entry.accepted.rfc5322());
        self.deliveries.iter().for_each(|delivery| self.recipient(out, delivery));
    }

    fn recipient(&self, out: &mut String, delivery: &Delivery) {
        out.push_str("\r\n");
        if let Some(original) = &delivery.recipient.original {
            field(out, "Original-Recipient", &self.clean(&original.replacen(';', "; ", 1).replacen(";  ", "; ", 1)));
        }
        let address = &delivery.recipient.address;
        let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
        field(out, "Final-Recipient", &format!("{kind}; {address}"));
        field(out, "Action", action(&delivery.state));
        let reply = reply_of(delivery);
        field(out, "Status", &reply.map_or("2.0.0".into(), |reply| reply.status().to_string()));
        if let Some(host) = delivery.last.as_ref().and_then(|attempt| remote_name(&attempt.target)) {
            field(out, "Remote-MTA", &format!("dns; {host}"));
        }
        if let Some(reply) = reply {
            field(out, "Diagnostic-Code", &format!("smtp; {}", self.clean(&reply.to_string())));
        }
        if let Some(attempt) = &delivery.last {
            field(out, "Last-Attempt-Date", &attempt.at.rfc5322());
        }
        if self.reason == Reason::Delay {
            field(out, "Will-Retry-Until", &self.entry.expires.rfc5322());
        }
    }

    /// What others said, made safe for a header: no control characters, and none beyond ASCII unless the report is international.
    fn clean(&self, text: &str) -> String {
        let ok = |c: char| !c.is_control() && (self.global || c.is_ascii());
        text.chars().map(|c| if ok(c) { c } else { '?' }).collect()
    }
}

fn reply_of(delivery: &Delivery) -> Option<&Reply> {
    match &delivery.state {
        State::Done(outcome) => outcome.reply(),
        State::Pending => delivery.last.as_ref().map(|attempt| &attempt.reply),
    }
}

fn action(state: &State) -> &'static str {
    match state {
        State::Pending => "delayed",
        State::Done(outcome) => outcome.word(),
    }
}

/// The host of an attempt's target such as `mx.b.example[192.0.2.1]:25`; `None` for mailboxes.
fn remote_name(target: &str) -> Option<Domain> {
    let name = target.split(['[', ':', ' ']).next()?;
    Domain::parse(name).ok().filter(Domain::is_qualified)
}

/// The original's `Message-ID`, if it can be repeated in a header of ours.
fn message_id(original: &Message) -> Option<Arc<str>> {
    let block = original.header_block();
    let id = header::fields(&block).find(|field| field.is("Message-ID"))?.unfolded();
    let whole = id.starts_with('<') && id.ends_with('>') && id.len() <= 250;
    (whole && id.bytes().all(|b| b.is_ascii_graphic())).then(|| id.into())
}

/// RFC 2045 §6.4: what contains an eight-bit part is eight-bit itself.
fn encoding(eight_bit: bool) -> &'static str {
    if eight_bit { "8bit" } else { "7bit" }
}

fn part(out: &mut String, boundary: &str, description: &str, kind: &str, eight_bit: bool) {
    let _ = write!(out, "\r\n--{boundary}\r\n");
    field(out, "Content-Description", description);
    field(out, "Content-Type", kind);
    field(out, "Content-Transfer-Encoding", encoding(eight_bit));
    out.push_str("\r\n");
}

fn field(out: &mut String, name: &str, value: &str) {
    folded(out, &format!("{name}: {value}"), "\t");
}

/// A line of any length, folded at blanks where it grows beyond 78 characters, and anywhere before it grows beyond what a line may be.
fn folded(out: &mut String, line: &str, indent: &str) {
    let mut rest = line;
    let mut width = 78;
    while rest.len() > width {
        let at = fold_at(rest, width);
        let (front, back) = rest.split_at(at);
        out.push_str(front.trim_end_matches(' '));
        out.push_str("\r\n");
        out.push_str(indent);
        rest = back.trim_start_matches(' ');
        width = 78 - indent.len();
    }
    out.push_str(rest);
    out.push_str("\r\n");
}

/// The last blank before `width`, or else the first one behind it, or else as much as fits a line.
fn fold_at(text: &str, width: usize) -> usize {
    let bytes = text.as_bytes();
    // Not behind the field's name: a first line that is empty but for it is obsolete syntax.
    let floor = text.find(": ").map_or(1, |colon| colon + 2).min(width);
    let before = bytes[floor..width].iter().rposition(|&b| b == b' ').map(|at| floor + at);
    let behind = || bytes[width..].iter().position(|&b| b == b' ').map(|at| width + at);
    let at = before.filter(|at| *at > 0).or_else(behind).unwrap_or(bytes.len());
    (0..=at.min(900)).rev().find(|at| text.is_char_boundary(*at)).expect("the front is a boundary")
}

/// A header block to return: bounded, its lines too.
fn returned_header(block: &Bytes) -> Bytes {
    let fits = |line: &[u8]| line.len() <= LINE_BYTES_MAX;
    if block.len() <= RETURNED_HEADER_BYTES_MAX && block.split(|&b| b == b'\n').all(fits) {
        return block.clone();
    }
    let mut out = Vec::with_capacity(block.len().min(RETURNED_HEADER_BYTES_MAX));
    for line in block.split_inclusive(|&b| b == b'\n') {
        if out.len() + line.len() > RETURNED_HEADER_BYTES_MAX {
            break;
        }
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        for (n, piece) in text.chunks(900).enumerate() {
            out.extend_from_slice(if n == 0 { b"" } else { b"\r\n " });
            out.extend_from_slice(piece);
        }
        out.extend_from_slice(b"\r\n");
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{NOW, later, mail, news};
    use crate::{Attempt, Settlement};
    use waypost_types::Enhanced;

    fn reporter() -> Reporter {
        Reporter::new(Domain::parse("mx.example").unwrap())
    }

    fn making() -> Making {
        Making { id: MessageId::new(NOW, 77), now: NOW, random: 0xfeed }
    }

    fn no_such_user() -> Reply {
        Reply::new(550, Enhanced(5, 1, 1), "no such user\nask postmaster")
    }

    fn made(entry: &Entry, reason: Reason, outcomes: Vec<Settled>, original: &Message) -> (Entry, String) {
        let recipients: Vec<u32> = outcomes.iter().map(|o| o.index).collect();
        let after = entry.settled(&Settlement { recipients: outcomes, ..Settlement::default() });
        let (report, message) = report(&reporter(), &after, reason, &recipients, original, making());
        assert_eq!(report.size, message.len() as u64);
        let text = String::from_utf8(message.contiguous().to_vec()).unwrap();
        assert_wire(&text);
        (report, text)
    }

    fn assert_wire(text: &str) {
        for line in text.split_inclusive('\n') {
            assert!(line.ends_with("\r\n") && line.len() <= LINE_BYTES_MAX + 2, "{line:?}");
            assert!(!line[..line.len() - 2].contains(['\r', '\n', '\0']), "{line:?}");
        }
    }

    #[test]
    fn a_failure_says_everything_rfc_3464_asks_for() {
        let (mut entry, message) = mail(1, &["u@b.example", "v@b.example"]);
        entry.parameters.envelope_id = Some("job 7".into());
        entry.recipients[0].recipient.original = Some("rfc822;list@c.example".into());
        let mut outcome = news(0, Outcome::Failed(no_such_user()), NOW);
        outcome.attempt = Some(Attempt {
            at: NOW,
            target: "mx1.b.example[192.0.2.9]:25".into(),
            security: "".into(),
            reply: no_such_user(),
        });
        let (report, text) = made(&entry, Reason::Failure, vec![outcome], &message);
        for line in [
            "From: Mail Delivery System <MAILER-DAEMON@mx.example>",
            "To: <alice@a.example>",
            "Auto-Submitted: auto-replied",
            "Content-Type: multipart/report; report-type=delivery-status;",
            "Reporting-MTA: dns; mx.example",
            "Original-Envelope-Id: job 7",
            "Received-From-MTA: dns; client.example",
            "Original-Recipient: rfc822; list@c.example",
            "Final-Recipient: rfc822; u@b.example",
            "Action: failed",
            "Status: 5.1.1",
            "Remote-MTA: dns; mx1.b.example",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user ask postmaster",
            "Content-Type: message/rfc822",
            "Content-Transfer-Encoding: 7bit",
        ] {
            assert!(
                text.contains(&format!("\r\n{line}\r\n")) || text.starts_with(&format!("{line}\r\n")),
                "{line}\n{text}"
            );
        }
        for name in ["Arrival-Date", "Last-Attempt-Date", "Date", "Message-ID"] {
            assert_eq!(text.matches(&format!("\r\n{name}: ")).count(), 1, "{name}");
        }
        assert!(
            text.contains(&String::from_utf8(message.contiguous().to_vec()).unwrap()),
            "the message is returned whole"
        );
        assert!(!text.contains("v@b.example"), "only the recipient in question");
        assert_eq!((report.kind, &report.sender), (Kind::Notice, &ReversePath::Null));
        assert_eq!(report.recipients[0].recipient.address.to_string(), "alice@a.example");
        assert_eq!(report.recipients[0].recipient.notify, Notify::NEVER);
        assert_eq!(report.expires, NOW.after(limits::NOTICE_LIFETIME));
    }

    #[test]
    fn the_parts_are_parted_by_the_boundary() {
        let (entry, message) = mail(1, &["u@b.example"]);
        let (_, text) = made(&entry, Reason::Failure, vec![news(0, Outcome::Failed(no_such_user()), NOW)], &message);
        let boundary = text.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(text.matches(&format!("\r\n--{boundary}\r\n")).count(), 3);
        assert!(text.ends_with(&format!("\r\n--{boundary}--\r\n")));
    }

    #[test]
    fn ret_size_and_reason_say_how_much_is_returned() {
        let (mut entry, message) = mail(1, &["u@b.example"]);
        let failed = || vec![news(0, Outcome::Failed(no_such_user()), NOW)];
        let (_, whole) = made(&entry, Reason::Failure, failed(), &message);
        assert!(whole.contains("Hello 1"));
        let whole_size = entry.size;
        for change in [
            |e: &mut Entry| e.parameters.ret = Some(Return::Headers),
            |e: &mut Entry| (e.parameters.ret, e.size) = (Some(Return::Full), 50_001),
            |e: &mut Entry| e.parameters.require_tls = true,
        ] {
            (entry.parameters.ret, entry.size) = (None, whole_size);
            change(&mut entry);
            let (report, text) = made(&entry, Reason::Failure, failed(), &message);
            assert!(text.contains("Content-Type: text/rfc822-headers") && text.contains("Subject: number 1"));
            assert!(!text.contains("Hello 1"));
            assert_eq!(report.parameters.require_tls, entry.parameters.require_tls);
        }
    }

    #[test]
    fn a_delay_says_until_when_and_is_told_once() {
        let (mut entry, message) = mail(1, &["u@b.example"]);
        let outcome = news(0, Outcome::Delayed(later()), NOW);
        let late = entry.accepted.after(reporter().delay_after);
        assert_eq!(wanted(&reporter(), &entry, &outcome, false, NOW), None, "not yet");
        assert_eq!(wanted(&reporter(), &entry, &outcome, false, late), Some(Reason::Delay));
        let (_, text) = made(&entry, Reason::Delay, vec![outcome.clone()], &message);
        assert!(text.contains("Action: delayed\r\nStatus: 4.7.1\r\n") && text.contains("Will-Retry-Until: "));
        assert!(!text.contains("Hello 1"));
        entry.recipients[0].delay_reported = true;
        assert_eq!(wanted(&reporter(), &entry, &outcome, false, late), None);
    }

    #[test]
    fn notify_and_the_null_sender_decide_who_is_told() {
        let (mut entry, _) = mail(1, &["u@b.example"]);
        let failed = news(0, Outcome::Failed(no_such_user()), NOW);
        let relayed = news(0, Outcome::Relayed(later()), NOW);
        let is = |entry: &Entry, news: &Settled, passed_on| wanted(&reporter(), entry, news, passed_on, NOW);
        assert_eq!(is(&entry, &failed, false), Some(Reason::Failure));
        assert_eq!(is(&entry, &relayed, false), None);
        entry.recipients[0].recipient.notify = Notify { success: true, ..Notify::NEVER };
        assert_eq!(is(&entry, &failed, false), None);
        assert_eq!(is(&entry, &relayed, false), Some(Reason::Success));
        assert_eq!(is(&entry, &relayed, true), None, "the next host reports");
        entry.recipients[0].recipient.notify = Notify::default();
        entry.kind = Kind::Notice;
        assert_eq!(is(&entry, &failed, false), None);
        (entry.kind, entry.sender) = (Kind::Mail, ReversePath::Null);
        assert_eq!(is(&entry, &failed, false), None);
    }

    #[test]
    fn success_tells_relayed_from_delivered() {
        let (entry, message) = mail(1, &["u@b.example", "v@b.example", "w@b.example"]);
        let ok = crate::conformance::ok;
        let outcomes = vec![
            news(0, Outcome::Relayed(ok()), NOW),
            news(1, Outcome::Delivered(ok()), NOW),
            news(2, Outcome::Expanded, NOW),
        ];
        let (_, text) = made(&entry, Reason::Success, outcomes, &message);
        for action in ["relayed", "delivered", "expanded"] {
            assert_eq!(text.matches(&format!("\r\nAction: {action}\r\nStatus: 2.0.0\r\n")).count(), 1, "{action}");
        }
    }

    #[test]
    fn international_mail_gets_the_international_form() {
        let (mut entry, _) = mail(1, &["jürgen@b.example"]);
        entry.parameters.smtputf8 = true;
        let message = Message::new(Bytes::from("Subject: Grüße\r\n\r\nÖl\r\n"));
        let reply = Reply::new(550, Enhanced(5, 1, 1), "unbekannt: jürgen");
        let (report, text) = made(&entry, Reason::Failure, vec![news(0, Outcome::Failed(reply), NOW)], &message);
        assert!(text.contains("Content-Type: message/global-delivery-status\r\n"));
        assert!(text.contains("Final-Recipient: utf-8; jürgen@b.example\r\n"));
        assert!(text.contains("Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n"));
        assert!(text.contains("unbekannt: jürgen") && text.contains("Öl"));
        assert!(report.parameters.smtputf8 && report.parameters.body == Body::EightBitMime);
    }

    #[test]
    fn eight_bit_originals_are_declared_and_replies_made_ascii() {
        let (entry, _) = mail(1, &["u@b.example"]);
        let message = Message::new(Bytes::from("Subject: x\r\n\r\nÖl\r\n"));
        let reply = Reply::new(550, Enhanced(5, 1, 1), "größer");
        let (report, text) = made(&entry, Reason::Failure, vec![news(0, Outcome::Failed(reply), NOW)], &message);
        assert!(text.contains("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n"));
        assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 gr??er\r\n"));
        assert!(!report.parameters.smtputf8 && report.parameters.body == Body::EightBitMime);
    }

    #[test]
    fn nobody_can_break_a_line() {
        let (mut entry, _) = mail(1, &["u@b.example"]);
        entry.parameters.envelope_id = Some("a\r\nSubject: evil\r\n\r\n".into());
        entry.recipients[0].recipient.original = Some("rfc822;x\r\n\0y".into());
        let reply = Reply { code: 550, enhanced: None, text: format!("x\r\ny {}", "z".repeat(5000)).into() };
        let long = format!("X: {}\r\nMessage-ID: <{}@x>\r\n\r\nbody\r\n", "w".repeat(5000), "i".repeat(900));
        entry.parameters.ret = Some(Return::Headers);
        let outcome = Settled { attempt: None, ..news(0, Outcome::Failed(reply), NOW) };
        let (_, text) = made(&entry, Reason::Failure, vec![outcome], &Message::new(Bytes::from(long)));
        assert!(!text.contains("\r\nSubject: evil"));
        assert!(text.contains("Status: 5.0.0\r\n") && !text.contains("In-Reply-To"));
    }

    #[test]
    fn the_report_answers_the_message_it_is_about() {
        let (entry, _) = mail(1, &["u@b.example"]);
        let message = Message::new(Bytes::from_static(b"Message-Id: <42@a.example>\r\n\r\nx\r\n"));
        let (_, text) = made(&entry, Reason::Failure, vec![news(0, Outcome::Failed(no_such_user()), NOW)], &message);
        assert!(text.contains("\r\nIn-Reply-To: <42@a.example>\r\nReferences: <42@a.example>\r\n"));
    }
}
