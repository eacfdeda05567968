//! Recording: what a transaction's plugins were asked, what DNS told them, and what they said, for whoever keeps such things.
//!
//! Sampled by session, by the [`Recorder`]; a session that is not sampled costs nothing. The message is shared, not copied; credentials are
//! never recorded.

use std::sync::{Arc, Mutex, PoisonError};

use waypost_types::port::{DnsAnswer, DnsError, DnsType};
use waypost_types::{Address, Envelope, Fact, Finding, Judgement, Message, Opinion, Question, SessionFacts, Stage};

use crate::case::Case;

/// Answers of DNS that are kept of one transaction.
const ANSWERS_MAX: usize = 500;
/// Recipients, opinions and facts that are kept of one.
const ROWS_MAX: usize = 1000;

/// Keeps transactions.
pub trait Recorder: Send + Sync + 'static {
    /// Whether the session that begins now is to be recorded. Asked once for each.
    fn wants(&self) -> bool;
    /// Takes a transaction. Must not block.
    fn record(&self, tape: Tape);
}

/// A question to DNS and its answer.
pub type Lookup = (String, DnsType, Result<DnsAnswer, DnsError>);

/// Answers as they come in, possibly several at a time.
pub(crate) type Heard = Arc<Mutex<Vec<Lookup>>>;

/// One transaction as it was judged.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    /// Who was connected; `None` if nothing was asked.
    pub session: Option<Arc<SessionFacts>>,
    /// Sender, and the recipients that were accepted.
    pub envelope: Arc<Envelope>,
    /// Recipients that plugins were asked about, whatever they said.
    pub recipients: Vec<Address>,
    /// What mail authentication found.
    pub findings: Arc<[Finding]>,
    /// The message as plugins of stage `message` saw it first.
    pub message: Option<Message>,
    /// What DNS told plugins.
    pub lookups: Vec<Lookup>,
    /// Who said what.
    pub opinions: Vec<Opinion>,
    /// What was stated.
    pub facts: Vec<Fact>,
    /// At which stages the facts were stated that hold for the session.
    session_facts: usize,
}

impl Tape {
    /// What is worth keeping of a question, before it is put.
    pub(crate) fn on_question(&mut self, question: &Question) {
        self.session = Some(question.session.clone());
        self.envelope = question.envelope.clone();
        if let Some(recipient) = question.recipient.as_ref().filter(|_| self.recipients.len() < ROWS_MAX) {
            self.recipients.push(recipient.address.clone());
        }
        if question.stage == Stage::Message {
            self.findings = question.findings.clone();
            self.message = question.message.clone();
        }
    }

    /// What came of it.
    pub(crate) fn on_judgement(&mut self, stage: Stage, judgement: &Judgement) {
        let room = ROWS_MAX.saturating_sub(self.opinions.len());
        self.opinions.extend(judgement.opinions.iter().take(room).cloned());
        let room = ROWS_MAX.saturating_sub(self.facts.len());
        self.facts.extend(judgement.facts.iter().take(room).cloned());
        if Case::is_session_stage(stage) {
            self.session_facts = self.facts.len();
        }
    }

    /// The transaction is over: it is given away if there was one, and what belongs to the session stays.
    pub(crate) fn cut(&mut self, heard: &Heard) -> Option<Tape> {
        let lookups = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
        let next = Tape {
            session: self.session.clone(),
            opinions: self.opinions.iter().filter(|opinion| Case::is_session_stage(opinion.stage)).cloned().collect(),
            facts: self.facts[..self.session_facts].to_vec(),
            session_facts: self.session_facts,
            ..Tape::default()
        };
        let mut done = std::mem::replace(self, next);
        done.lookups = lookups;
        (done.message.is_some() || !done.recipients.is_empty()).then_some(done)
    }
}

/// Keeps an answer, as far as there is room.
pub(crate) fn hear(heard: &Heard, lookup: Lookup) {
    let mut kept = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < ANSWERS_MAX {
        kept.push(lookup);
    }
}
