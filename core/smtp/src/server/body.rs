//! What follows DATA and BDAT: the message, handed out as it comes, measured, and judged at its end.

use std::time::Instant;

use bytes::BytesMut;
use waypost_types::{Body, Reply};

use super::policy::{BareNewline, TlsMode};
use super::state::{About, Refusal, State};
use super::{Action, Ask, CloseReason, Session, Ticket, words};
use crate::bdat::{CHUNK_BYTES_MAX, Chunk};
use crate::data::End;
use crate::extension::Extension;

/// So many octets count as a block of a body: a client that drips slower than this in [`super::Policy::data_timeout`] is let go.
const BLOCK_BYTES: usize = 1024;

impl Session {
    pub(super) fn take_data(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        let State::Data(decoder) = &mut self.state else { unreachable!("the state was looked at") };
        let before = input.len();
        let (text, end) = decoder.decode(input);
        let (bare, smuggled) = (decoder.saw_bare(), decoder.saw_smuggled_end());
        let taken = before - input.len();
        if self.bare_newline() == BareNewline::Refuse {
            if smuggled {
                self.close_with(&words::SMUGGLED, CloseReason::Refused);
                return true;
            }
            if bare {
                self.spoil(words::BARE_NEWLINE);
            }
        }
        self.hand_out(text);
        self.progress(now, taken);
        if end == End::Dot {
            self.state = State::Command;
            self.end_message(now);
        }
        taken > 0
    }

    /// The deadline moves when a block has come, not for every octet.
    fn progress(&mut self, now: Instant, taken: usize) {
        self.drip += taken;
        if self.drip >= BLOCK_BYTES {
            self.arm(now);
        }
    }

    /// Hands out a piece of the message, unless it is void or becomes too large by it.
    fn hand_out(&mut self, mut text: BytesMut) {
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.spoiled.is_none()) else {
            return;
        };
        let room = self.policy.message_bytes_max as u64 - transaction.received;
        let too_large = text.len() as u64 > room;
        if too_large {
            text.truncate(room as usize);
        }
        transaction.received += text.len() as u64;
        if !text.is_empty() {
            self.actions.push_back(Action::Body(text));
        }
        if too_large {
            self.spoil(words::TOO_LARGE);
        }
    }

    /// The body is void: it is read to its end and dropped, and then this is said. A bare newline outweighs the size, whichever
    /// comes first, as it ends the connection.
    fn spoil(&mut self, no: Reply) {
        let transaction = self.transaction.as_mut().expect("a body belongs to a transaction");
        if transaction.spoiled.is_none() {
            self.actions.push_back(Action::Ask(Ticket(0), Ask::Reset));
        }
        if transaction.spoiled.is_none() || no == words::BARE_NEWLINE {
            transaction.spoiled = Some(no);
        }
    }

    fn end_message(&mut self, now: Instant) {
        let transaction = self.transaction.as_mut().expect("a body belongs to a transaction");
        match transaction.spoiled.take() {
            None => self.ask(About::Message, Ask::Message),
            Some(no) => {
                let count = if self.policy.is_lmtp() { self.envelope.recipients.len() } else { 1 };
                self.end_spoiled(now, no, count);
            }
        }
    }

    pub(super) fn on_bdat(&mut self, now: Instant, argument: &str) {
        let Some(chunk) = Chunk::parse(argument) else {
            return self.close_with(&words::CHUNK_SYNTAX, CloseReason::Refused);
        };
        if chunk.size > CHUNK_BYTES_MAX {
            return self.close_with(&words::TOO_LARGE, CloseReason::Refused);
        }
        if let Some(no) = self.bdat_refusal(chunk) {
            return self.drop_chunk(now, chunk, no);
        }
        if self.transaction.as_ref().is_some_and(|transaction| transaction.chunking) {
            self.state = State::Chunk(chunk, None);
            self.arm(now);
            if chunk.left == 0 {
                self.end_chunk(now);
            }
        } else {
            self.ask(About::Bdat(chunk), Ask::Data);
        }
    }

    fn bdat_refusal(&self, chunk: Chunk) -> Option<Reply> {
        if self.policy.tls == TlsMode::Required && self.facts.tls.is_none() {
            return Some(words::NEED_TLS);
        }
        if !self.offers(Extension::Chunking) {
            return Some(words::NOT_IMPLEMENTED);
        }
        if let Some(no) = self.body_refusal(false) {
            return Some(no);
        }
        let received = self.transaction.as_ref().map_or(0, |transaction| transaction.received);
        (received + chunk.size > self.policy.message_bytes_max as u64).then_some(words::TOO_LARGE)
    }

    /// Takes the octets of a refused chunk off the connection; the transaction is over (RFC 3030 §2).
    pub(super) fn drop_chunk(&mut self, now: Instant, chunk: Chunk, no: Reply) {
        // RFC 2033 §4.2: the end of a message is answered for each recipient.
        let each = self.policy.is_lmtp() && chunk.last;
        let count = if each { self.envelope.recipients.len().max(1) } else { 1 };
        self.void();
        self.state = State::Chunk(chunk, Some(Refusal(no, count)));
        self.arm(now);
        if chunk.left == 0 {
            self.end_chunk(now);
        }
    }

    /// Ask::Data was answered with yes for a first chunk.
    pub(super) fn begin_chunk(&mut self, now: Instant, chunk: Chunk) {
        self.transaction.as_mut().expect("asked within a transaction").chunking = true;
        self.state = State::Chunk(chunk, None);
        self.arm(now);
        if chunk.left == 0 {
            self.end_chunk(now);
        }
    }

    pub(super) fn take_chunk(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        let State::Chunk(chunk, refusal) = &mut self.state else { unreachable!("the state was looked at") };
        let piece = chunk.take(input);
        let (done, dropped, taken) = (chunk.left == 0, refusal.is_some(), piece.len());
        if !dropped {
            let text = self.with_line_ends(piece);
            self.hand_out(text);
        }
        self.progress(now, taken);
        if done {
            self.end_chunk(now);
        }
        taken > 0
    }

    /// BINARYMIME (RFC 3030 §3) is left as it is; anything else consists of lines.
    fn with_line_ends(&mut self, piece: BytesMut) -> BytesMut {
        if self.envelope.parameters.body == Body::BinaryMime {
            return piece;
        }
        let transaction = self.transaction.as_mut().expect("a chunk that is kept belongs to a transaction");
        let text = transaction.ends.push(piece);
        let bare = transaction.ends.saw_bare();
        if bare && self.bare_newline() == BareNewline::Refuse {
            self.spoil(words::BARE_NEWLINE);
        }
        text
    }

    fn end_chunk(&mut self, now: Instant) {
        let State::Chunk(chunk, refusal) = std::mem::replace(&mut self.state, State::Command) else {
            unreachable!("the state was looked at")
        };
        self.arm(now);
        match refusal {
            Some(Refusal(no, count)) => {
                (1..count).for_each(|_| self.say(&no));
                self.refuse(&no);
            }
            None if chunk.last => {
                let rest = self.transaction.as_mut().expect("a chunk belongs to a transaction").ends.finish();
                self.hand_out(rest);
                self.end_message(now);
            }
            None => match self.transaction.as_mut().and_then(|transaction| transaction.spoiled.take()) {
                Some(no) => self.end_spoiled(now, no, 1),
                None => self.say(&super::state::reply(250, (2, 0, 0), format!("{} octets received", chunk.size))),
            },
        }
    }

    /// The end of a body whose Ask::Reset is out: the transaction goes quietly, and `no` is said `count` times.
    fn end_spoiled(&mut self, now: Instant, no: Reply, count: usize) {
        self.transaction = None;
        let closing = no == words::BARE_NEWLINE;
        self.answer_message(now, vec![no; count]);
        if closing && !matches!(self.state, State::Closed) {
            // After a message of which another server might have read two, nothing more is taken from this client.
            self.close(CloseReason::Refused);
        }
    }
}
