//! The final dot: from a complete body to a durable entry and a reply.
//!
//! Order: what is wrong with it as it stands → mail authentication, on the octets as they came → forged fields out, missing ones in →
//! stage `message` → edits → trace headers in front → stage `queue` (signing) → entry → `store.accept` → `250` → handoff. The `250` is
//! a promise on disk: it is made in one place, behind the store's `Ok`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waypost_mailauth::{Checked, Demand, Policy, results_field};
use waypost_queue::{Delivery, Entry, Kind, Origin, StoreError};
use waypost_smtp::server::Answer;
use waypost_types::{
    Address, Edit, Enhanced, Envelope, Event, Finding, Message, MessageId, Recipient, Reply, SessionFacts, Stage,
    Timestamp, Transport, limits,
};

use super::edit;
use super::survey::{Survey, survey};
use crate::check::relay::Target;
use crate::options::DmarcMode;
use crate::pipeline::{Fate, Pipeline};
use crate::shared::wall_clock;
use crate::trace_header;

/// Marks mail that its author's domain wants to be suspected; for filters behind us. Forged ones are removed.
pub(crate) const QUARANTINE: &str = "X-Waypost-Quarantine";

/// A message on its way through the steps.
struct Candidate {
    facts: Arc<SessionFacts>,
    envelope: Arc<Envelope>,
    message: Message,
    findings: Arc<[Finding]>,
    id: MessageId,
    now: Timestamp,
    /// The value of `Message-ID` as the client wrote it.
    message_id: Option<String>,
}

impl Pipeline {
    /// Answers the final dot. A positive answer means that the message is durable (or that a judge had it dropped).
    pub(crate) async fn admit(&mut self, facts: Arc<SessionFacts>, envelope: Arc<Envelope>) -> Answer {
        let recipients = envelope.recipients.len();
        let lmtp = facts.transport == Transport::Lmtp;
        let answer = match self.examine(facts, envelope).await {
            Ok(candidate) => self.put_in_queue(candidate).await,
            Err(answer) => answer,
        };
        self.reset();
        match answer {
            // RFC 2033 §4.2: one reply for each recipient.
            Answer::Reply(reply) if lmtp => Answer::Each(vec![reply; recipients]),
            answer => answer,
        }
    }

    /// Everything before the message gets its trace headers.
    async fn examine(&mut self, facts: Arc<SessionFacts>, envelope: Arc<Envelope>) -> Result<Candidate, Answer> {
        if self.body.overflowed() {
            self.shared.limit(&facts, "intake_bytes_max");
            let reply = Reply::new(452, Enhanced(4, 3, 1), "too much mail is being received, try again later");
            return Err(self.refuse(Stage::Message, &facts, reply, "memory", Some(&envelope), None));
        }
        let mut message = self.body.take();
        let block = message.header_block();
        let options = &self.shared.options;
        let found = survey(&block, &options.authserv_id, &self.rules.reserved_headers);
        if let Some(reply) = self.objection(&found, &facts) {
            return Err(self.refuse(Stage::Message, &facts, reply, "header", Some(&envelope), None));
        }
        let Checked { findings, demand } = self.authenticate(&facts, &envelope, &message).await;
        if let Some(reply) = demand.and_then(|demand| self.enforce(&demand)) {
            return Err(self.refuse(Stage::Message, &facts, reply, "dmarc", Some(&envelope), None));
        }
        let findings = findings.into();
        let now = wall_clock();
        let id = self.shared.message_id(now);
        found.unwanted.iter().rev().for_each(|range| message.cut(range.clone()));
        if let Some(front) = self.front(&found, id, now) {
            message.prepend(front);
        }
        let message_id = found.message_id.map(|value| String::from_utf8_lossy(value).into_owned());
        let mut candidate = Candidate { facts, envelope, message, findings, id, now, message_id };
        self.consult(Stage::Message, &mut candidate).await?;
        self.edit(&mut candidate);
        Ok(candidate)
    }

    /// What forbids the message whatever anybody thinks of it.
    fn objection(&self, found: &Survey<'_>, facts: &SessionFacts) -> Option<Reply> {
        if found.hops > self.shared.options.hops_max {
            self.shared.limit(facts, "hops_max");
            return Some(Reply::new(554, Enhanced(5, 4, 6), "too many hops, this message is looping"));
        }
        if found.block_bytes > limits::HEADER_BYTES_MAX {
            self.shared.limit(facts, "header_bytes_max");
            return Some(Reply::new(552, Enhanced(5, 3, 4), "message header too large"));
        }
        None
    }

    async fn authenticate(&self, facts: &SessionFacts, envelope: &Envelope, message: &Message) -> Checked {
        let wanted = self.rules.authenticate_mail && !self.trusted && facts.user.is_none();
        let verifier = self.shared.services.verifier.load();
        match &*verifier {
            Some(verifier) if wanted => verifier.check(facts, envelope, message).await,
            _ => Checked::default(),
        }
    }

    /// Does what the author's domain demands, as far as this door goes along: a refusal, or a mark for the message.
    fn enforce(&mut self, demand: &Demand) -> Option<Reply> {
        let Demand { domain, policy, excused } = demand;
        if self.rules.dmarc == DmarcMode::Report || *excused {
            return None;
        }
        let why = format!("DMARC policy of {domain}: p={}", policy.word());
        match policy {
            Policy::None => {}
            Policy::Reject => {
                let text = format!("mail from {domain} is not authenticated, and its DMARC policy is p=reject");
                return Some(Reply::new(550, Enhanced(5, 7, 1), text));
            }
            Policy::Quarantine if self.rules.dmarc == DmarcMode::EnforceAndHold => {
                self.transaction.fate = Some(Fate::Hold(why.into()));
            }
            Policy::Quarantine => {
                let mark = Edit::PrependHeader { name: QUARANTINE.into(), value: why };
                self.transaction.edits.push(mark);
            }
        }
        None
    }

    /// What has to stand in front of the original before judges see it: missing fields of a submission, and the empty line that a
    /// message without any header lacks.
    fn front(&self, found: &Survey<'_>, id: MessageId, now: Timestamp) -> Option<Bytes> {
        let mut front = String::new();
        if self.rules.complete_headers {
            let hostname = &self.shared.options.hostname;
            trace_header::completion(&mut front, found.has_date, found.message_id.is_some(), hostname, id, now);
        }
        if found.headless {
            front.push_str("\r\n");
        }
        (!front.is_empty()).then(|| front.into())
    }

    /// Puts the message to the judges of a stage.
    async fn consult(&mut self, stage: Stage, candidate: &mut Candidate) -> Result<(), Answer> {
        if !self.is_asked(stage) {
            return Ok(());
        }
        let mut question = self.question_about(stage, candidate.facts.clone(), candidate.envelope.clone());
        question.message = Some(candidate.message.clone());
        question.findings = candidate.findings.clone();
        question.queue_id = (stage == Stage::Queue).then_some(candidate.id);
        match self.put(question).await {
            None => Ok(()),
            Some(no) => Err(no),
        }
    }

    /// Applies what judges asked for so far.
    fn edit(&mut self, candidate: &mut Candidate) {
        let edits = std::mem::take(&mut self.transaction.edits);
        if !edits.is_empty() {
            edit::apply(edits, &mut candidate.message, Arc::make_mut(&mut candidate.envelope));
        }
    }

    /// Trace headers, signing, entry, store, reply.
    async fn put_in_queue(&mut self, mut candidate: Candidate) -> Answer {
        candidate.message.prepend(self.trace(&candidate));
        if let Err(no) = self.consult(Stage::Queue, &mut candidate).await {
            return no;
        }
        self.edit(&mut candidate);
        let fate = self.take_fate();
        let queued = Reply::new(250, Enhanced(2, 0, 0), format!("queued as {}", candidate.id));
        if let Some(Fate::Discard(by)) = fate {
            let event = Event::Discarded { session: candidate.facts.id, by: &by };
            self.shared.services.observer.observe(event);
            return Answer::Reply(queued);
        }
        let held = match fate {
            Some(Fate::Hold(reason)) => Some(reason),
            _ => None,
        };
        let entry = self.entry(&candidate, held);
        if entry.recipients.is_empty() {
            let reply = Reply::new(554, Enhanced(5, 5, 1), "no valid recipients are left");
            return self.refuse(Stage::Queue, &candidate.facts, reply, "recipients", Some(&candidate.envelope), None);
        }
        self.store(candidate, entry, queued).await
    }

    /// `Received` and `Authentication-Results`, as one range.
    fn trace(&self, candidate: &Candidate) -> Bytes {
        let options = &self.shared.options;
        let mut trace = String::with_capacity(512);
        let Candidate { facts, envelope, id, now, .. } = candidate;
        trace_header::received(&mut trace, facts, envelope, &options.hostname, *id, *now);
        if !candidate.findings.is_empty() {
            trace.push_str(&results_field(&options.authserv_id, &candidate.findings));
        }
        trace.into()
    }

    fn entry(&self, candidate: &Candidate, held: Option<Box<str>>) -> Entry {
        let Candidate { facts, envelope, message, id, now, .. } = candidate;
        let due = envelope.parameters.hold_for.map_or(*now, |span| now.after(span));
        let forwarded = self.transaction.forwarded.as_ref();
        Entry {
            id: *id,
            kind: Kind::Mail,
            accepted: *now,
            expires: expiry(envelope, *now, due.after(self.shared.options.lifetime)),
            origin: Origin {
                transport: facts.transport,
                session: Some(facts.id),
                peer: Some(forwarded.and_then(|from| from.address).unwrap_or(facts.peer.ip())),
                helo: forwarded.and_then(|from| from.helo.clone()).unwrap_or_else(|| (&*facts.helo).into()),
                user: facts.user.as_deref().map(Into::into),
            },
            sender: envelope.sender.clone(),
            parameters: envelope.parameters.clone(),
            recipients: self.recipients(envelope).into_iter().map(|recipient| Delivery::new(recipient, due)).collect(),
            size: message.len() as u64,
            held,
            route: None,
        }
    }

    /// The envelope's recipients with aliases replaced, each address once.
    fn recipients(&self, envelope: &Envelope) -> Vec<Recipient> {
        let mut all = Expansion::with_capacity(envelope.recipients.len());
        for (at, recipient) in envelope.recipients.iter().enumerate() {
            // Recipients were accepted in this order; only those that a judge added are not known yet.
            let known = self.transaction.targets.get(at).filter(|(address, _)| *address == recipient.address);
            let known =
                known.or_else(|| self.transaction.targets.iter().find(|(address, _)| *address == recipient.address));
            let target = match known {
                Some((_, target)) => Cow::Borrowed(target),
                None => Cow::Owned(self.resolve_added(&recipient.address)),
            };
            all.add(recipient, &target);
        }
        all.recipients
    }

    /// Where a recipient leads that a judge added. The judge speaks for the operator: relay control is for clients.
    fn resolve_added(&self, address: &Address) -> Target {
        let resolution = self.shared.services.router.load().resolve(address);
        crate::check::relay::control(address, resolution, true).unwrap_or(Target::Itself)
    }

    /// The promise.
    async fn store(&mut self, candidate: Candidate, entry: Entry, queued: Reply) -> Answer {
        let recipients = entry.recipients.len();
        let size = candidate.message.len();
        match self.shared.services.store.accept(entry, candidate.message).await {
            Ok(claim) => {
                let event = Event::Accepted {
                    session: candidate.facts.id,
                    id: candidate.id,
                    sender: &candidate.envelope.sender,
                    recipients,
                    size,
                    message_id: candidate.message_id.as_deref(),
                    opinions: &self.transaction.opinions,
                };
                self.shared.services.observer.observe(event);
                self.accepted += 1;
                self.shared.services.handoff.offer(claim);
                Answer::Reply(queued)
            }
            Err(error) => {
                let reply = self.explain(error);
                self.refuse(Stage::Queue, &candidate.facts, reply, "queue", Some(&candidate.envelope), None)
            }
        }
    }

    /// A store's no, for the client and, where an operator must act, for the log.
    fn explain(&self, error: StoreError) -> Reply {
        match &error {
            StoreError::Busy => Reply::new(451, Enhanced(4, 3, 0), "the queue is busy, try again later"),
            StoreError::Full => Reply::new(452, Enhanced(4, 3, 1), "the queue is full, try again later"),
            StoreError::TooLarge => Reply::new(552, Enhanced(5, 3, 4), "the message is too large for this system"),
            StoreError::Failed(words) => {
                self.shared.services.observer.observe(Event::StoreFailed { error: words });
                Reply::new(452, Enhanced(4, 3, 0), "the queue cannot be written, try again later")
            }
            StoreError::Fenced | StoreError::Missing | StoreError::Corrupt(_) => {
                self.shared.notice("error", &format!("a new message was not taken by the queue: {error}"));
                Reply::new(451, Enhanced(4, 3, 0), "the queue did not take the message, try again later")
            }
        }
    }
}

/// When a message is given up: at the end of its life, or when its sender does not want it delivered any more (RFC 2852 §4,
/// mode R). Held messages live from their release on.
fn expiry(envelope: &Envelope, now: Timestamp, end_of_life: Timestamp) -> Timestamp {
    let by = envelope.parameters.deliver_by.filter(|by| by.return_when_late);
    let late = by.map(|by| now.after(Duration::from_secs(by.seconds.max(0).unsigned_abs())));
    late.map_or(end_of_life, |late| late.min(end_of_life))
}

/// Recipients after aliases.
struct Expansion {
    recipients: Vec<Recipient>,
    /// Only made when there are so many that comparing each with all would cost.
    seen: Option<ahash::AHashSet<Address>>,
}

/// Up to here comparing is cheaper than hashing.
const COMPARED_MAX: usize = 16;

impl Expansion {
    fn with_capacity(count: usize) -> Expansion {
        Expansion { recipients: Vec::with_capacity(count), seen: None }
    }

    fn add(&mut self, recipient: &Recipient, target: &Target) {
        let addresses = match target {
            Target::Itself => std::slice::from_ref(&recipient.address),
            Target::Others(addresses) => addresses,
        };
        for address in addresses {
            if self.is_new(address) {
                self.recipients.push(replaced(recipient, address));
            }
        }
    }

    fn is_new(&mut self, address: &Address) -> bool {
        if self.recipients.len() < COMPARED_MAX {
            return self.recipients.iter().all(|recipient| recipient.address != *address);
        }
        let recipients = &self.recipients;
        let seen = self.seen.get_or_insert_with(|| recipients.iter().map(|r| r.address.clone()).collect());
        seen.insert(address.clone())
    }
}

/// The recipient at another address; what it was goes into ORCPT, unless the client gave one (RFC 3461 §5.2.7).
fn replaced(recipient: &Recipient, address: &Address) -> Recipient {
    let mut recipient = recipient.clone();
    if recipient.address != *address {
        if recipient.original.is_none() {
            recipient.original = Some(trace_header::original(&recipient.address));
        }
        recipient.address = address.clone();
    }
    recipient
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    #[test]
    fn aliases_are_replaced_once_each_and_remember_what_they_were() {
        let mut all = Expansion::with_capacity(2);
        let mut given = Recipient::new(address("list@example.com"));
        all.add(&Recipient::new(address("a@example.com")), &Target::Itself);
        all.add(&given, &Target::Others(vec![address("a@example.com"), address("b@example.com")]));
        given.original = Some("rfc822;x@y".into());
        all.add(&given, &Target::Others(vec![address("b@example.com"), address("c@example.com")]));
        let got: Vec<_> = all.recipients.iter().map(|r| (r.address.to_string(), r.original.as_deref())).collect();
        let as_text: Vec<_> = got.iter().map(|(address, original)| (address.as_str(), *original)).collect();
        assert_eq!(
            as_text,
            [
                ("a@example.com", None),
                ("b@example.com", Some("rfc822;list@example.com")),
                ("c@example.com", Some("rfc822;x@y"))
            ]
        );
    }

    #[test]
    fn a_thousand_recipients_are_told_apart_like_two() {
        let mut all = Expansion::with_capacity(0);
        for n in (0..1000).chain(0..1000) {
            all.add(&Recipient::new(address(&format!("u{n}@example.com"))), &Target::Itself);
        }
        assert_eq!(all.recipients.len(), 1000);
    }
}
