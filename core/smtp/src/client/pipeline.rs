//! One transaction in flight: which commands have left, which replies are awaited, what each recipient was told.
//!
//! With PIPELINING (RFC 2920) MAIL, every RCPT and DATA leave as one group; without it the window is one command. Replies are
//! matched to commands in order and never by content. DATA ends the group, so the message leaves only after the peer has said 354,
//! and a 354 given although nobody was accepted is answered by a lone dot.

use std::collections::VecDeque;
use std::io::Write;

use waypost_types::{Body, Enhanced, Notify, Recipient, Reply, Return, ReversePath};

use super::offers::Offers;
use super::{Report, Transaction};

/// Commands on their way at once: the replies to them fit into any receive buffer, so neither side can block the other
/// (RFC 2920 §3.1).
const WINDOW: usize = 128;

/// A command whose reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Reset,
    Mail,
    Rcpt(usize),
    Data,
}

impl Command {
    pub(super) fn word(self) -> &'static str {
        match self {
            Command::Reset => "RSET",
            Command::Mail => "MAIL",
            Command::Rcpt(_) => "RCPT",
            Command::Data => "DATA",
        }
    }
}

/// What a reply leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More replies are awaited, or more commands can leave.
    Go,
    /// The peer wants the message.
    Body,
    /// The peer wants a message for nobody.
    LoneDot,
    /// Nothing more is awaited.
    Finished,
    /// The peer answers something else than it was asked.
    Confused,
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) transaction: Transaction,
    offers: Offers,
    /// Per recipient: its last word so far. `None`: not answered.
    replies: Vec<Option<Reply>>,
    /// Recipients that were accepted, in order: LMTP answers the final dot in this order.
    accepted: Vec<usize>,
    mail: Option<Reply>,
    reset_first: bool,
    /// The next command: 0 is MAIL, then the recipients, then DATA.
    next: usize,
    waiting: VecDeque<Command>,
    /// Replies to the final dot that have come (LMTP: one for each accepted recipient).
    dots: usize,
    /// Replies that have come in all.
    pub(super) heard: u32,
}

impl Flight {
    pub(super) fn new(transaction: Transaction, offers: Offers, reset_first: bool) -> Flight {
        let count = transaction.recipients.len();
        assert!(count > 0, "a transaction has recipients");
        Flight {
            transaction,
            offers,
            replies: vec![None; count],
            accepted: Vec::with_capacity(count),
            mail: None,
            reset_first,
            next: 0,
            waiting: VecDeque::with_capacity(count.min(WINDOW) + 3),
            dots: 0,
            heard: 0,
        }
    }

    /// What stands against this transaction before a word is said.
    pub(super) fn check(&self, tls: bool, lmtp: bool) -> Result<(), Reply> {
        let Transaction { parameters, message, .. } = &self.transaction;
        if let Some(max) = self.offers.size_max.filter(|max| *max < message.len() as u64) {
            let text = format!("message of {} octets exceeds the peer's limit of {max}", message.len());
            return Err(Reply::new(552, Enhanced(5, 3, 4), text));
        }
        if self.needs_utf8() && !self.offers.utf8 {
            return Err(Reply::new(
                553,
                Enhanced(5, 6, 7),
                "the peer does not offer SMTPUTF8, which this message needs",
            ));
        }
        if parameters.require_tls && !(tls && self.offers.require_tls) {
            return Err(Reply::new(
                550,
                Enhanced(5, 7, 30),
                "the peer does not offer REQUIRETLS, which the sender asked for",
            ));
        }
        if parameters.body == Body::BinaryMime && !self.sends_bdat() {
            return Err(Reply::new(
                554,
                Enhanced(5, 6, 3),
                "the peer does not offer BINARYMIME, which this message needs",
            ));
        }
        // Over LMTP the message is delivered, and in time.
        if !lmtp && self.loses_its_deadline() {
            return Err(Reply::new(
                554,
                Enhanced(5, 3, 3),
                "the peer does not promise delivery in the time that the sender gave (DELIVERBY)",
            ));
        }
        Ok(())
    }

    /// RFC 2852 §4: mail that is to come back when it is late goes only to those who see to that, and in that time.
    fn loses_its_deadline(&self) -> bool {
        let by = self.transaction.parameters.deliver_by.filter(|by| by.return_when_late);
        by.is_some_and(|by| self.offers.deliver_by.is_none_or(|least| by.seconds < least))
    }

    /// RFC 6531 §3.1: an address or a header field that is not ASCII. The sender's SMTPUTF8 alone may have been caution.
    fn needs_utf8(&self) -> bool {
        let Transaction { sender, parameters, recipients, message } = &self.transaction;
        let foreign = |recipient: &Recipient| !recipient.address.is_ascii();
        sender.address().is_some_and(|address| !address.is_ascii())
            || recipients.iter().any(foreign)
            || (parameters.smtputf8 && !message.header_block().is_ascii())
    }

    /// BDAT costs a round trip that DATA hides in its group, so it is used only where DATA cannot do.
    pub(super) fn sends_bdat(&self) -> bool {
        self.transaction.parameters.body == Body::BinaryMime && self.offers.chunking && self.offers.binary
    }

    /// Writes as many commands as the window lets through.
    pub(super) fn write_commands(&mut self, out: &mut Vec<u8>) {
        let window = if self.offers.pipelining { WINDOW } else { 1 };
        while self.waiting.len() < window {
            let Some(command) = self.next_command() else { return };
            out.reserve(256);
            self.write_command(command, out);
            self.waiting.push_back(command);
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        if std::mem::take(&mut self.reset_first) {
            return Some(Command::Reset);
        }
        if self.mail.as_ref().is_some_and(|reply| !reply.is_positive()) {
            return None;
        }
        let count = self.transaction.recipients.len();
        let command = match self.next {
            0 => Command::Mail,
            n if n <= count => Command::Rcpt(n - 1),
            n if n == count + 1 && !self.sends_bdat() && self.may_be_accepted() => Command::Data,
            _ => return None,
        };
        self.next += 1;
        Some(command)
    }

    /// Somebody was accepted, or somebody's reply has not come yet.
    fn may_be_accepted(&self) -> bool {
        !self.accepted.is_empty() || self.waiting.iter().any(|command| matches!(command, Command::Rcpt(_)))
    }

    fn write_command(&self, command: Command, out: &mut Vec<u8>) {
        match command {
            Command::Reset => out.extend_from_slice(b"RSET\r\n"),
            Command::Mail => self.write_mail(out),
            Command::Rcpt(index) => self.write_rcpt(&self.transaction.recipients[index], out),
            Command::Data => out.extend_from_slice(b"DATA\r\n"),
        }
    }

    fn write_mail(&self, out: &mut Vec<u8>) {
        let Transaction { sender, parameters, message, .. } = &self.transaction;
        let offers = &self.offers;
        match sender {
            ReversePath::Null => out.extend_from_slice(b"MAIL FROM:<>"),
            ReversePath::Mailbox(address) => write(out, format_args!("MAIL FROM:<{address}>")),
        }
        if offers.size {
            write(out, format_args!(" SIZE={}", message.len()));
        }
        match parameters.body {
            // A peer without 8BITMIME gets the octets as they are: rewriting them would break signatures, and everybody copes.
            Body::EightBitMime if offers.eight_bit => out.extend_from_slice(b" BODY=8BITMIME"),
            Body::BinaryMime => out.extend_from_slice(b" BODY=BINARYMIME"),
            Body::EightBitMime | Body::SevenBit => {}
        }
        if offers.utf8 && (parameters.smtputf8 || self.needs_utf8()) {
            out.extend_from_slice(b" SMTPUTF8");
        }
        if parameters.require_tls {
            out.extend_from_slice(b" REQUIRETLS");
        }
        if offers.priority && parameters.priority != 0 {
            write(out, format_args!(" MT-PRIORITY={}", parameters.priority));
        }
        if let Some(by) = parameters.deliver_by.filter(|_| offers.deliver_by.is_some()) {
            let (mode, trace) = (if by.return_when_late { 'R' } else { 'N' }, if by.trace { "T" } else { "" });
            write(out, format_args!(" BY={};{mode}{trace}", by.seconds));
        }
        if offers.dsn {
            match parameters.ret {
                Some(Return::Full) => out.extend_from_slice(b" RET=FULL"),
                Some(Return::Headers) => out.extend_from_slice(b" RET=HDRS"),
                None => {}
            }
            // RFC 3461 §4.4: at most 100 characters, and printable ones.
            if let Some(id) = parameters.envelope_id.as_deref().filter(|id| id.is_ascii()) {
                out.extend_from_slice(b" ENVID=");
                write_xtext(id, out);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_rcpt(&self, recipient: &Recipient, out: &mut Vec<u8>) {
        write(out, format_args!("RCPT TO:<{}>", recipient.address));
        if self.offers.dsn {
            write_notify(recipient.notify, out);
            if let Some(original) = recipient.original.as_deref() {
                write_original(original, out);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The command whose reply comes next.
    pub(super) fn awaited(&self) -> Option<Command> {
        self.waiting.front().copied()
    }

    /// Takes the reply to the oldest command.
    pub(super) fn on_reply(&mut self, reply: Reply) -> Step {
        self.heard += 1;
        let Some(command) = self.waiting.pop_front() else { return Step::Confused };
        if reply.code / 100 == 3 && command != Command::Data {
            return Step::Confused;
        }
        match command {
            Command::Reset if !reply.is_positive() => return Step::Confused,
            Command::Reset => {}
            Command::Mail => self.mail = Some(reply),
            Command::Rcpt(index) if reply.is_positive() && self.is_open() => {
                self.accepted.push(index);
                self.replies[index] = Some(reply);
            }
            Command::Rcpt(index) => self.replies[index] = Some(reply),
            Command::Data => return self.on_data_reply(reply),
        }
        if !self.waiting.is_empty() {
            return Step::Go;
        }
        self.after_recipients()
    }

    fn on_data_reply(&mut self, reply: Reply) -> Step {
        match reply.code {
            354 if self.accepted.is_empty() => Step::LoneDot,
            354 => Step::Body,
            400.. => {
                self.settle_accepted(&reply);
                Step::Finished
            }
            _ => Step::Confused,
        }
    }

    /// Every command sent has been answered, and DATA was not among them.
    fn after_recipients(&mut self) -> Step {
        let all_sent = self.next > self.transaction.recipients.len();
        if !self.is_open() || (all_sent && self.accepted.is_empty()) {
            Step::Finished
        } else if all_sent && self.sends_bdat() {
            Step::Body
        } else {
            Step::Go
        }
    }

    /// MAIL was not refused.
    fn is_open(&self) -> bool {
        self.mail.as_ref().is_none_or(Reply::is_positive)
    }

    /// Whether the peer holds a transaction of ours that has not ended: RSET is needed before the next.
    pub(super) fn leaves_residue(&self) -> bool {
        self.mail.as_ref().is_some_and(Reply::is_positive)
    }

    /// Takes a reply to the final dot; true when it was the last.
    pub(super) fn on_dot_reply(&mut self, reply: Reply, lmtp: bool) -> bool {
        self.heard += 1;
        if !lmtp {
            self.settle_accepted(&reply);
            return true;
        }
        if let Some(&index) = self.accepted.get(self.dots) {
            self.replies[index] = Some(reply);
            self.dots += 1;
        }
        self.dots >= self.accepted.len()
    }

    fn settle_accepted(&mut self, reply: &Reply) {
        for &index in &self.accepted[self.dots..] {
            self.replies[index] = Some(reply.clone());
        }
    }

    /// The connection ends here: whoever was accepted or not answered gets `reply`; refusals stand.
    pub(super) fn cut_off(&mut self, reply: &Reply) {
        self.settle_accepted(reply);
        if self.mail.as_ref().is_none_or(Reply::is_positive) {
            for slot in &mut self.replies {
                slot.get_or_insert_with(|| reply.clone());
            }
        }
    }

    /// The transaction's end. `reusable` and the flags of a loss are the machine's to say.
    pub(super) fn into_report(self) -> Report {
        let refused = self.mail.filter(|reply| !reply.is_positive());
        let try_next = refused.as_ref().is_some_and(Reply::is_transient);
        let count = self.replies.len();
        let replies: Vec<Reply> = match refused {
            Some(reply) => vec![reply; count],
            None => self.replies.into_iter().map(|reply| reply.expect("every recipient was answered")).collect(),
        };
        let excess = match self.accepted.is_empty() {
            true => Vec::new(),
            false => (0..count).filter(|index| is_excess(&replies[*index]) && !self.accepted.contains(index)).collect(),
        };
        Report { replies, excess, try_next, dsn: self.offers.dsn, ambiguous: false, reusable: false, untried: false }
    }
}

/// RFC 5321 §4.5.3.1.10: too many recipients is 452, and 552 from older servers; 4.5.3 or no enhanced status at all.
fn is_excess(reply: &Reply) -> bool {
    matches!(reply.code, 452 | 552)
        && reply.enhanced.is_none_or(|Enhanced(_, subject, detail)| (subject, detail) == (5, 3))
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory does not fail");
}

fn write_notify(notify: Notify, out: &mut Vec<u8>) {
    if !notify.given {
        return;
    }
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    out.extend_from_slice(b" NOTIFY=");
    let mut comma = "";
    for (_, word) in words.iter().filter(|(on, _)| *on) {
        write(out, format_args!("{comma}{word}"));
        comma = ",";
    }
    if comma.is_empty() {
        out.extend_from_slice(b"NEVER");
    }
}

/// `ORCPT=type;address`, the address in xtext. One that we could not write as its type demands is left out.
fn write_original(original: &str, out: &mut Vec<u8>) {
    let Some((kind, address)) = original.split_once(';') else { return };
    if !original.is_ascii() || kind.is_empty() || !kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return;
    }
    write(out, format_args!(" ORCPT={kind};"));
    write_xtext(address, out);
}

/// RFC 3461 §4: printable ASCII but `+` and `=` as it is, everything else as `+` and two capital hexadecimal digits.
fn write_xtext(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' => write(out, format_args!("+{byte:02X}")),
            b'!'..=b'~' => out.push(byte),
            _ => write(out, format_args!("+{byte:02X}")),
        }
    }
}
