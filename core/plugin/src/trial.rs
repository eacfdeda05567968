//! New versions on trial: a shadow judges real mail without effect, a canary judges a share of the sessions.
//!
//! A **shadow** hears every question that its plugin hears, with what was known at that moment, and says what it would have said. It runs in
//! a task of its own for each session, behind the mail: what it says changes nothing, what it would store is not stored, and when it is
//! slower than the mail its questions are left out and counted. What it would have done otherwise is counted, and the last
//! disagreements are kept.
//!
//! A **canary** is in its plugin's place in a share of the sessions that begin; a session stays with what it began with. Both keep a
//! [`Tally`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use waypost_types::port::{KeyValue, KvError, Pair};
use waypost_types::{Edit, Fact, Judgement, Question, SessionId, Stage};

use crate::case::Case;
use crate::chain::{Chair, Set, consult};
use crate::instance::Hook;
use crate::options::Isolation;
use crate::plugin::Plugin;

/// Questions of one session that wait for its shadow; more are left out.
const WAITING_MAX: usize = 64;
/// Sessions whose shadow is asked at the same time.
const ASKED_MAX: usize = 64;
/// Disagreements that are kept.
const KEPT_MAX: usize = 50;
/// Octets of a disagreement's text.
const TEXT_MAX: usize = 400;

/// What a plugin said, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    asked: AtomicU64,
    faults: AtomicU64,
    refused: AtomicU64,
    deferred: AtomicU64,
    held: AtomicU64,
    micros: AtomicU64,
}

impl Tally {
    pub(crate) fn count(&self, verdict: &str, micros: u32) {
        let add = |counter: &AtomicU64, by| counter.fetch_add(by, Ordering::Relaxed);
        add(&self.asked, 1);
        add(&self.micros, u64::from(micros));
        match verdict {
            "fault" => add(&self.faults, 1),
            "refuse" | "disconnect" => add(&self.refused, 1),
            "defer" => add(&self.deferred, 1),
            "hold" | "discard" => add(&self.held, 1),
            _ => 0,
        };
    }

    pub(crate) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            asked: read(&self.asked),
            faults: read(&self.faults),
            refused: read(&self.refused),
            deferred: read(&self.deferred),
            held: read(&self.held),
            micros: read(&self.micros),
        }
    }
}

/// What a plugin said since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions.
    pub asked: u64,
    /// That ended in a fault.
    pub faults: u64,
    /// That were answered with a refusal.
    pub refused: u64,
    /// With 4yz.
    pub deferred: u64,
    /// By holding or dropping the message.
    pub held: u64,
    /// Time spent, microseconds.
    pub micros: u64,
}

/// A new version that judges without effect.
pub(crate) struct Shadow {
    pub(crate) plugin: Arc<Plugin>,
    results: Mutex<Results>,
    turns: Semaphore,
}

#[derive(Default)]
struct Results {
    asked: u64,
    differed: u64,
    left_out: u64,
    kept: VecDeque<Disagreement>,
}

/// A question to which the new version had another answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Whose.
    pub session: SessionId,
    /// When.
    pub stage: Stage,
    /// What the plugin in use said and did.
    pub now: String,
    /// What the new version would have.
    pub then: String,
}

/// How a shadow fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowReport {
    /// The plugin that it shadows.
    pub plugin: String,
    /// The version that it states.
    pub version: String,
    /// Questions answered.
    pub asked: u64,
    /// That it answered otherwise.
    pub differed: u64,
    /// Questions that were left out because it was too slow.
    pub left_out: u64,
    /// What the new version said.
    pub counts: Counts,
    /// The last disagreements, the oldest first.
    pub kept: Vec<Disagreement>,
}

impl Shadow {
    pub(crate) fn new(plugin: Arc<Plugin>) -> Shadow {
        Shadow { plugin, results: Mutex::default(), turns: Semaphore::new(ASKED_MAX) }
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self) -> ShadowReport {
        let results = self.results();
        ShadowReport {
            plugin: self.plugin.name().to_string(),
            version: self.plugin.version.clone(),
            asked: results.asked,
            differed: results.differed,
            left_out: results.left_out,
            counts: self.plugin.tally.read(),
            kept: results.kept.iter().cloned().collect(),
        }
    }

    fn compare(&self, session: SessionId, stage: Stage, now: &Said, then: &Said) {
        let mut results = self.results();
        results.asked += 1;
        if now.same_as(then) {
            return;
        }
        results.differed += 1;
        if results.kept.len() == KEPT_MAX {
            results.kept.pop_front();
        }
        results.kept.push_back(Disagreement { session, stage, now: now.text(), then: then.text() });
    }
}

/// What somebody said to one question.
#[derive(Default)]
pub(crate) struct Said {
    word: &'static str,
    detail: Option<String>,
    facts: Vec<Fact>,
    edits: Vec<Edit>,
}

impl Said {
    /// What was added to a judgement that had so many facts and edits before.
    pub(crate) fn since(judgement: &Judgement, facts: usize, edits: usize) -> Said {
        let last = judgement.opinions.last();
        Said {
            word: last.map_or("pass", |opinion| opinion.verdict),
            detail: last.and_then(|opinion| opinion.detail.clone()),
            facts: judgement.facts[facts..].to_vec(),
            edits: judgement.edits[edits..].to_vec(),
        }
    }

    /// Facts and edits in any order; their texts and a reply's count.
    fn same_as(&self, other: &Said) -> bool {
        let facts = |said: &Said| {
            let mut all: Vec<String> =
                said.facts.iter().map(|fact| format!("{}={}", fact.symbol, fact.weight)).collect();
            all.sort();
            all
        };
        self.word == other.word
            && self.detail == other.detail
            && self.edits == other.edits
            && (self.facts.is_empty() && other.facts.is_empty() || facts(self) == facts(other))
    }

    fn text(&self) -> String {
        let mut text = self.word.to_string();
        self.detail.iter().for_each(|detail| text.push_str(&format!(" {detail}")));
        self.facts.iter().for_each(|fact| text.push_str(&format!(" {}={}", fact.symbol, fact.weight)));
        for edit in &self.edits {
            text.push_str(&match edit {
                Edit::PrependHeader { name, value } | Edit::AppendHeader { name, value } => {
                    format!(" +{name}: {value}")
                }
                Edit::RemoveHeader { name, .. } => format!(" -{name}"),
                Edit::AddRecipient(address) => format!(" +<{address}>"),
                Edit::RemoveRecipient(address) => format!(" -<{address}>"),
                Edit::SetSender(sender) => format!(" sender {sender}"),
                Edit::ReplaceBody(body) => format!(" body of {} octets", body.len()),
            });
        }
        crate::wit::clip(&text, TEXT_MAX)
    }
}

/// What a session tells its shadow.
pub(crate) enum Order {
    /// What the plugin was asked, with the facts that were known, and what it said.
    Ask(Box<Asked>),
    /// The transaction is over.
    Reset,
}

pub(crate) struct Asked {
    pub(crate) hook: Hook,
    pub(crate) question: Question,
    pub(crate) facts: Vec<Fact>,
    pub(crate) said: Said,
}

/// A session's line to its shadow.
pub(crate) struct Line {
    shadow: Arc<Shadow>,
    orders: mpsc::Sender<Order>,
}

impl Line {
    /// Begins to follow a session; `None` outside a runtime, where nothing can run beside it.
    pub(crate) fn open(shadow: &Arc<Shadow>) -> Option<Line> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let (orders, taken) = mpsc::channel(WAITING_MAX);
        runtime.spawn(follow(shadow.clone(), taken));
        Some(Line { shadow: shadow.clone(), orders })
    }

    pub(crate) fn tell(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            self.shadow.results().left_out += 1;
        }
    }
}

/// Follows one session until it ends.
async fn follow(shadow: Arc<Shadow>, mut orders: mpsc::Receiver<Order>) {
    let mut chair = Chair::default();
    let mut case = Box::<Case>::default();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Reset => {
                chair.seat.reset();
                release(&shadow, &mut chair);
            }
            Order::Ask(asked) => {
                let Asked { hook, question, facts, said } = *asked;
                let (session, stage) = (question.session.id, question.stage);
                let turn = shadow.turns.acquire().await;
                let then = answer(&shadow, hook, question, facts, &mut chair, &mut case).await;
                drop(turn);
                shadow.compare(session, stage, &said, &then);
                if Case::is_session_stage(stage) {
                    release(&shadow, &mut chair);
                }
            }
        }
    }
}

fn release(shadow: &Shadow, chair: &mut Chair) {
    if shadow.plugin.isolation == Isolation::Transaction {
        chair.cell = None;
    }
}

async fn answer(
    shadow: &Shadow,
    hook: Hook,
    question: Question,
    facts: Vec<Fact>,
    chair: &mut Chair,
    case: &mut Box<Case>,
) -> Said {
    // Both forms of the recipient hook are one stage; which of them a version exports is its own affair.
    let forms = match hook {
        Hook::Rcpt | Hook::RcptBatch => [Hook::Rcpt, Hook::RcptBatch],
        other => [other, other],
    };
    let hook = forms.into_iter().find(|hook| shadow.plugin.exports(*hook));
    let Some(hook) = hook.filter(|_| shadow.plugin.wants(&question)) else {
        return Said { word: "pass", ..Said::default() };
    };
    let stage = question.stage;
    **case = Case::default();
    case.begin(question);
    // Those of the session, too: the next question comes with its own.
    case.facts = facts;
    let mut judgement = Judgement::default();
    consult(&shadow.plugin, hook, stage, chair, case, &mut judgement).await;
    **case = Case::default();
    Said::since(&judgement, 0, 0)
}

/// A new version for a share of the sessions.
pub(crate) struct Canary {
    pub(crate) plugin: Arc<Plugin>,
    /// The plugins with the new version in the place of the one in use.
    pub(crate) set: Arc<Set>,
    /// Of a thousand sessions.
    pub(crate) share: u32,
    begun: AtomicU32,
}

/// How a canary fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryReport {
    /// The plugin whose place it takes.
    pub plugin: String,
    /// The version that it states.
    pub version: String,
    /// Of a thousand sessions.
    pub share: u32,
    /// What the version in use said since it was loaded.
    pub now: Counts,
    /// What the new one said.
    pub then: Counts,
}

impl Canary {
    pub(crate) fn new(plugin: Arc<Plugin>, set: Arc<Set>, share: u32) -> Canary {
        Canary { plugin, set, share: share.min(1000), begun: AtomicU32::new(0) }
    }

    /// The same trial among fewer plugins.
    pub(crate) fn within(&self, set: Arc<Set>) -> Arc<Canary> {
        Arc::new(Canary::new(self.plugin.clone(), set, self.share))
    }

    /// Whether the session that begins now is the canary's: evenly spread, and exact over a thousand.
    pub(crate) fn takes(&self) -> bool {
        let count = self.begun.fetch_add(1, Ordering::Relaxed) % 1000;
        count * self.share / 1000 != (count + 1) * self.share / 1000
    }
}

/// A store that can be read, and says yes to every change without making it.
pub(crate) struct ReadOnly(pub(crate) Arc<dyn KeyValue>);

impl KeyValue for ReadOnly {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.0.get(key)
    }

    fn set(&self, _: &[u8], _: &[u8], _: Option<Duration>) -> Result<(), KvError> {
        Ok(())
    }

    fn add(&self, key: &[u8], delta: i64, _: Option<Duration>) -> Result<i64, KvError> {
        let there = self.0.get(key)?.and_then(|value| Some(i64::from_le_bytes(value.as_slice().try_into().ok()?)));
        Ok(there.unwrap_or(0).saturating_add(delta))
    }

    fn swap(&self, key: &[u8], old: &[u8], _: &[u8], _: Option<Duration>) -> Result<bool, KvError> {
        Ok(self.0.get(key)?.map_or(old.is_empty(), |there| there == old))
    }

    fn pairs(&self, prefix: &[u8], numbers: &[u64]) -> Result<Vec<Pair>, KvError> {
        self.0.pairs(prefix, numbers)
    }

    fn add_pairs(&self, _: &[u8], _: &[u64], _: (i32, i32), _: Option<Duration>) -> Result<(), KvError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_share_is_exact_over_a_thousand_and_evenly_spread() {
        for share in [0_u32, 1, 50, 333, 1000] {
            let takes = |count: u32| count * share / 1000 != (count + 1) * share / 1000;
            assert_eq!((0..1000).filter(|count| takes(*count)).count() as u32, share);
        }
        let of_hundred = (0..100_u32).filter(|count| count * 50 / 1000 != (count + 1) * 50 / 1000).count();
        assert_eq!(of_hundred, 5);
    }
}
