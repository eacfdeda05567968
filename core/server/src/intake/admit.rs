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
use waypost_route::Router;
use waypost_smtp::server::Answer;
use waypost_types::{
    Address, Edit, Enhanced, Envelope, Event, Fact, Finding, Message, MessageId, Recipient, Reply, ReversePath,
    SessionFacts, Stage, Timestamp, Transport, edit, limits,
};

use super::forward::{self, Part, Parts};
use super::rewrite;
use super::survey::{Survey, survey};
use crate::check::relay::Target;
use crate::decide::{self, Decision, Decisions, Stop};
use crate::options::DmarcMode;
use crate::pipeline::{Fate, Pipeline};
use crate::shared::wall_clock;
use crate::trace_header;

/// Marks mail that its author's domain wants to be suspected; for filters behind us. Forged ones are removed.
pub(crate) const QUARANTINE: &str = "X-Waypost-Quarantine";

/// A message on its way through the steps.
pub(super) struct Candidate {
    facts: Arc<SessionFacts>,
    pub(super) envelope: Arc<Envelope>,
    pub(super) message: Message,
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
        self.write_canonical(&mut candidate).await?;
        self.consult(Stage::Message, &mut candidate).await?;
        self.edit(&mut candidate);
        self.decide(&mut candidate)?;
        Ok(candidate)
    }

    /// Weighs what judges stated, and does what follows from it.
    fn decide(&mut self, candidate: &mut Candidate) -> Result<(), Answer> {
        let decisions = self.rules.decisions.clone();
        let own = self.trusted || candidate.facts.user.is_some();
        if decisions.is_empty() {
            return Ok(());
        }
        let stated = self.all_stated();
        let recipients = &candidate.envelope.recipients;
        let Some(decision) = decisions.weigh(decide::score(&stated), recipients, own) else { return Ok(()) };
        if decision.word() != "pass" {
            let (word, score, by) = (decision.word(), decision.score, &decision.by.name);
            let event = Event::Decided { session: candidate.facts.id, word, score, by, facts: &stated };
            self.shared.services.observer.observe(event);
        }
        if let Some(reply) = self.stop(&decisions, &decision, candidate) {
            return Err(self.refuse(
                Stage::Message,
                &candidate.facts,
                reply,
                "decision",
                Some(&candidate.envelope),
                None,
            ));
        }
        self.transaction.edits.extend(decision.edits(&candidate.message, &stated));
        self.transaction.decision = Some(Box::new(decision));
        self.edit(candidate);
        Ok(())
    }

    /// What the client is told if the message is not taken now.
    fn stop(&mut self, decisions: &Decisions, decision: &Decision, candidate: &Candidate) -> Option<Reply> {
        match decision.stop {
            Stop::Not => None,
            Stop::Refuse => Some(decision.refusal()),
            Stop::Hold => {
                let reason = format!("score {:.1}, by [decision.{}]", decision.score, decision.by.name);
                self.transaction.fate.get_or_insert(Fate::Hold(reason.into()));
                None
            }
            Stop::Greylist => {
                let recipient = candidate.envelope.recipients.first()?;
                let (peer, sender) = (candidate.facts.peer.ip(), &candidate.envelope.sender);
                decisions.greylist.as_ref()?.check(peer, sender, &recipient.address, candidate.now).err()
            }
        }
    }

    /// What access rows want changed; then envelope sender and, for our own users and hosts, header fields as the canonical tables write them.
    async fn write_canonical(&mut self, candidate: &mut Candidate) -> Result<(), Answer> {
        let router = self.shared.services.router.load_full();
        let mut wrong = None;
        if let Some(standing) = &self.standing {
            self.transaction.edits.extend(standing.edits.iter().cloned());
        }
        let standing = self.standing.as_ref().and_then(|standing| standing.redirect.clone());
        if let Some(address) = self.transaction.redirect.take().or(standing) {
            Arc::make_mut(&mut candidate.envelope).recipients = vec![Recipient::new(address)];
            self.transaction.targets.clear();
        }
        match router.sender(&candidate.envelope.sender).get().await {
            Ok(Some(sender)) => Arc::make_mut(&mut candidate.envelope).sender = ReversePath::Mailbox(sender),
            Ok(None) => {}
            Err(words) => wrong = Some(words),
        }
        if router.rewrites_headers() && (self.trusted || candidate.facts.user.is_some()) {
            // Boxed: rare and large.
            wrong = Box::pin(rewrite::headers(&router, &mut candidate.message)).await.err().or(wrong);
        }
        let Some(words) = wrong else { return Ok(()) };
        self.shared.notice("error", &format!("addresses cannot be rewritten: {words}"));
        let reply = Reply::new(451, Enhanced(4, 3, 0), "address tables do not answer now, try again later");
        Err(self.refuse(Stage::Message, &candidate.facts, reply, "canonical", Some(&candidate.envelope), None))
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
            edit::apply(&edits, &mut candidate.message, Arc::make_mut(&mut candidate.envelope));
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
        let parts = self.parts(&candidate).await;
        if parts.is_empty() {
            let reply = Reply::new(554, Enhanced(5, 5, 1), "no valid recipients are left");
            return self.refuse(Stage::Queue, &candidate.facts, reply, "recipients", Some(&candidate.envelope), None);
        }
        if let Some(via) = forward::loops(&candidate.message, &parts) {
            let reply = Reply::new(554, Enhanced(5, 4, 6), format!("mail forwarding loop for {via}"));
            return self.refuse(Stage::Queue, &candidate.facts, reply, "loop", Some(&candidate.envelope), Some(via));
        }
        let told = self.told(&candidate);
        let (session, id, now) = (candidate.facts.id, candidate.id, candidate.now);
        let answer = self.store_all(candidate, parts, held, queued).await;
        if let (Some(told), Answer::Reply(reply)) = (told, &answer)
            && reply.is_positive()
        {
            self.publish(told, session, id, now);
        }
        answer
    }

    /// One entry for each part, the first under the id that the client is told. The client is told no when any cannot be stored: it then
    /// sends again, and whoever was in an earlier part may get the message twice, but nobody loses it.
    async fn store_all(
        &mut self,
        mut candidate: Candidate,
        parts: Vec<Part>,
        held: Option<Box<str>>,
        queued: Reply,
    ) -> Answer {
        let last = parts.len() - 1;
        let stated = self.all_stated();
        let why = decide::record(&self.transaction.opinions, &stated, self.transaction.decision.as_deref());
        for (at, part) in parts.into_iter().enumerate() {
            let id = if at == 0 { candidate.id } else { self.shared.message_id(candidate.now) };
            let mut message =
                if at == last { std::mem::take(&mut candidate.message) } else { candidate.message.clone() };
            forward::mark(&mut message, &part);
            let candidate = &candidate;
            let mut entry = self.entry(candidate, id, part, message.len(), held.clone());
            entry.why = why.clone();
            if let Err(no) = self.store(candidate, entry, message, &stated).await {
                return no;
            }
        }
        self.accepted += 1;
        Answer::Reply(queued)
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

    fn entry(&self, candidate: &Candidate, id: MessageId, part: Part, size: usize, held: Option<Box<str>>) -> Entry {
        let Candidate { facts, envelope, now, .. } = candidate;
        let due = envelope.parameters.hold_for.map_or(*now, |span| now.after(span));
        let forwarded = self.transaction.forwarded.as_ref();
        Entry {
            id,
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
            sender: part.sender,
            parameters: envelope.parameters.clone(),
            recipients: part.recipients.into_iter().map(|recipient| Delivery::new(recipient, due)).collect(),
            size: size as u64,
            held,
            route: None,
            why: None,
        }
    }

    /// The envelope's recipients with aliases replaced, each address once.
    async fn parts(&self, candidate: &Candidate) -> Vec<Part> {
        let Candidate { envelope, now, .. } = candidate;
        let router = self.shared.services.router.load_full();
        let mut parts = Parts::new(&router, &envelope.sender, envelope.recipients.len(), *now);
        for (at, recipient) in envelope.recipients.iter().enumerate() {
            // Recipients were accepted in this order; only those that a judge added are not known yet.
            let known = self.transaction.targets.get(at).filter(|(address, _)| *address == recipient.address);
            let known =
                known.or_else(|| self.transaction.targets.iter().find(|(address, _)| *address == recipient.address));
            let target = match known {
                Some((_, target)) => Cow::Borrowed(target),
                None => Cow::Owned(self.resolve_added(&router, &recipient.address, *now).await),
            };
            parts.add(recipient, &target).await;
        }
        parts.end()
    }

    /// Where a recipient leads that a judge added. The judge speaks for the operator: relay control is for clients.
    async fn resolve_added(&self, router: &Router, address: &Address, now: Timestamp) -> Target {
        let resolution = router.resolve(address, now).get().await;
        crate::check::relay::control(address, resolution, true).unwrap_or(Target::Itself)
    }

    /// The promise.
    async fn store(
        &mut self,
        candidate: &Candidate,
        entry: Entry,
        message: Message,
        stated: &[Fact],
    ) -> Result<(), Answer> {
        let (id, sender, recipients, size) = (entry.id, entry.sender.clone(), entry.recipients.len(), message.len());
        match self.shared.services.store.accept(entry, message).await {
            Ok(claim) => {
                let event = Event::Accepted {
                    session: candidate.facts.id,
                    id,
                    sender: &sender,
                    recipients,
                    size,
                    message_id: candidate.message_id.as_deref(),
                    opinions: &self.transaction.opinions,
                    facts: stated,
                };
                self.shared.services.observer.observe(event);
                self.remember(&claim.entry, candidate.message_id.as_deref());
                self.shared.services.handoff.offer(claim);
                Ok(())
            }
            Err(error) => {
                let reply = self.explain(error);
                Err(self.refuse(Stage::Queue, &candidate.facts, reply, "queue", Some(&candidate.envelope), None))
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
