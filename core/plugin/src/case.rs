//! What an instance has before it while it is asked: the case, and the counters of the call.
//!
//! The case travels: one per jury, lent to the instance of each plugin in turn and taken back afterwards, so that what the host
//! has once understood of a message is understood for the whole chain.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use wasmtime::{ResourceLimiter, UpdateDeadline};
use waypost_types::port::Table;
use waypost_types::{Edit, Event, Fact, Question, SessionFacts, SessionId, Stage, Timestamp};

use crate::engine::{Runtime, TICK};
use crate::fault::Fault;
use crate::options::{Grants, Limits, Ports};
use crate::subject::Subject;
use crate::tape::Heard;

/// Linear memories' tables may have this many elements: function pointers of a large program.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// What all instances of one loaded plugin share.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<str>,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) verbose: bool,
    pub(crate) ports: Ports,
    pub(crate) tables: HashMap<String, Arc<dyn Table>>,
    pub(crate) patterns: HashMap<String, Patterns>,
    pub(crate) hmac_root: [u8; 32],
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) log: Bucket,
    pub(crate) kv: Bucket,
    /// Whether a refused grant was complained about.
    pub(crate) complained: AtomicBool,
}

/// A compiled pattern set.
pub(crate) struct Patterns {
    pub(crate) searcher: AhoCorasick,
    pub(crate) decoded: bool,
}

impl Shared {
    /// Passes a log line on, within the plugin's rate.
    pub(crate) fn log(&self, session: Option<SessionId>, level: &'static str, message: &str) {
        let (fits, dropped) = self.log.take(Instant::now(), message.len() as u32);
        let tell = |level, message: &str| {
            self.ports.observer.observe(Event::PluginLog { session, plugin: &self.name, level, message });
        };
        if dropped > 0 {
            tell("warn", &format!("{dropped} log lines were dropped: the limit `log` was reached"));
        }
        if fits {
            tell(level, message);
        }
    }

    /// Says once that the plugin asks for what it was not granted, where the answer itself is quiet.
    pub(crate) fn complain(&self, what: &str) {
        if !self.complained.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let message = format!("asks for {what}, which it was not granted: add the grant, or take the plugin out");
            self.ports.observer.observe(Event::PluginLog {
                session: None,
                plugin: &self.name,
                level: "warn",
                message: &message,
            });
        }
    }
}

/// So much in a window of time.
pub(crate) struct Bucket {
    window: Duration,
    max: u32,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    since: Option<Instant>,
    amount: u32,
    dropped: u32,
}

impl Bucket {
    pub(crate) fn new(window: Duration, max: u32) -> Bucket {
        Bucket { window, max, used: Mutex::default() }
    }

    /// Whether `amount` still fits, and how many did not in the window that has just ended.
    pub(crate) fn take(&self, now: Instant, amount: u32) -> (bool, u32) {
        let mut used = self.used.lock().expect("nothing panics while it is held");
        let mut dropped = 0;
        if used.since.is_none_or(|since| now.saturating_duration_since(since) >= self.window) {
            dropped = used.dropped;
            *used = Used { since: Some(now), amount: 0, dropped: 0 };
        }
        let fits = used.amount.saturating_add(amount) <= self.max;
        if fits {
            used.amount += amount;
        } else {
            used.dropped += 1;
        }
        (fits, dropped)
    }
}

/// What one plugin keeps between the hooks of a session, and has used up in the transaction.
#[derive(Default)]
pub(crate) struct Seat {
    pub(crate) variables: Vec<(String, Vec<u8>)>,
    pub(crate) cpu_ticks: u32,
    pub(crate) dns_asked: u32,
    pub(crate) fetches: u32,
    pub(crate) edits: u32,
    pub(crate) facts: u32,
    pub(crate) scanned: u64,
}

impl Seat {
    /// The transaction is over.
    pub(crate) fn reset(&mut self) {
        *self = Seat { variables: std::mem::take(&mut self.variables), ..Seat::default() };
    }
}

/// What is being judged.
#[derive(Default)]
pub(crate) struct Case {
    pub(crate) question: Option<Question>,
    pub(crate) subject: Option<Box<Subject>>,
    /// Name and argument of what an operator asks; `None` where mail does.
    pub(crate) command: Option<(String, String)>,
    /// Stated at connect, HELO and AUTH: hold for the whole session.
    pub(crate) session_facts: Vec<(Stage, Fact)>,
    /// Stated in this transaction.
    pub(crate) facts: Vec<Fact>,
    /// Of the plugin that is being asked.
    pub(crate) seat: Seat,
    /// Where answers of DNS are recorded, if they are.
    pub(crate) heard: Option<Heard>,
    /// Asked for in this call.
    pub(crate) edits: Vec<Edit>,
    /// Stated in this call.
    pub(crate) stated: Vec<Fact>,
}

impl Case {
    /// Whether a stage comes before any transaction.
    pub(crate) fn is_session_stage(stage: Stage) -> bool {
        matches!(stage, Stage::Connect | Stage::Helo | Stage::Auth)
    }

    /// A new question begins: what was derived from the last message is void, and what was stated the last time at a stage of
    /// the session (a second EHLO) is replaced.
    pub(crate) fn begin(&mut self, question: Question) {
        if Case::is_session_stage(question.stage) {
            self.session_facts.retain(|(stage, _)| *stage != question.stage);
        }
        self.subject = None;
        self.question = Some(question);
    }

    pub(crate) fn question(&self) -> Result<&Question, Fault> {
        self.question.as_ref().ok_or_else(|| Fault::Misuse("there is no transaction during `init`".into()))
    }

    pub(crate) fn session(&self) -> Result<&SessionFacts, Fault> {
        Ok(&self.question()?.session)
    }

    pub(crate) fn session_id(&self) -> Option<SessionId> {
        self.question.as_ref().map(|question| question.session.id)
    }

    /// The message, parsed as far as somebody asked for.
    pub(crate) fn subject(&mut self) -> Result<&Subject, Fault> {
        if self.subject.is_none() {
            let message = self.question()?.message.clone();
            let message = message.ok_or_else(|| Fault::Misuse("there is no message at this stage".into()))?;
            self.subject = Some(Box::new(Subject::new(message)));
        }
        Ok(self.subject.as_ref().expect("it was just made"))
    }

    /// Sum and list of everything stated so far.
    pub(crate) fn all_facts(&self) -> impl Iterator<Item = &Fact> {
        self.session_facts.iter().map(|(_, fact)| fact).chain(&self.facts).chain(&self.stated)
    }

    /// Keeps what the call stated.
    pub(crate) fn keep_stated(&mut self, stage: Stage) {
        if Case::is_session_stage(stage) {
            self.session_facts.extend(self.stated.drain(..).map(|fact| (stage, fact)));
        } else {
            self.facts.append(&mut self.stated);
        }
    }

    /// Forgets what the call asked for and stated.
    pub(crate) fn roll_back(&mut self) {
        self.edits.clear();
        self.stated.clear();
    }
}

/// The counters of one call.
pub(crate) struct Call {
    pub(crate) started: Instant,
    pub(crate) wall: Duration,
    /// CPU ticks that the call may use, and has used.
    pub(crate) ticks_max: u32,
    pub(crate) ticks: u32,
    pub(crate) host_calls: u32,
    pub(crate) log: u32,
    pub(crate) bytes_read: u64,
    pub(crate) dns_asked: u32,
    now: Option<Timestamp>,
}

impl Call {
    pub(crate) fn new(started: Instant, wall: Duration, cpu: Duration) -> Call {
        let ticks_max = u32::try_from(cpu.as_micros() / TICK.as_micros()).unwrap_or(u32::MAX);
        Call { started, wall, ticks_max, ticks: 0, host_calls: 0, log: 0, bytes_read: 0, dns_asked: 0, now: None }
    }
}

/// The data of a store: everything that host functions see.
pub(crate) struct Ctx {
    pub(crate) shared: Arc<Shared>,
    pub(crate) case: Box<Case>,
    pub(crate) call: Call,
    /// Whether calls run on a fiber, so that a tick can give other tasks a turn.
    pub(crate) on_fiber: bool,
    /// Linear memory in use.
    pub(crate) memory: usize,
}

impl Ctx {
    /// Counts a call of a host function.
    pub(crate) fn count(&mut self) -> Result<(), Fault> {
        self.call.host_calls += 1;
        if self.call.host_calls > self.shared.limits.host_calls {
            return Err(Fault::Limit("host-calls"));
        }
        Ok(())
    }

    /// Counts octets that the host looks at in the guest's place: sixteen times the message, and some to spare, is plenty.
    pub(crate) fn scan(&mut self, bytes: usize) -> Result<(), Fault> {
        self.case.seat.scanned += bytes as u64;
        let message = self.case.question.as_ref().and_then(|question| question.message.as_ref());
        let allowed = 16 * message.map_or(0, |message| message.len() as u64) + (16 << 20);
        if self.case.seat.scanned > allowed { Err(Fault::Limit("scan")) } else { Ok(()) }
    }

    /// The time, the same throughout the call.
    pub(crate) fn now(&mut self) -> Timestamp {
        *self.call.now.get_or_insert_with(|| (self.shared.ports.now)())
    }

    /// One tick of the clock passed while the guest ran.
    pub(crate) fn on_tick(&mut self) -> Result<UpdateDeadline, Fault> {
        self.call.ticks += 1;
        self.case.seat.cpu_ticks += 1;
        if self.call.ticks > self.call.ticks_max {
            return Err(Fault::Limit("cpu"));
        }
        if TICK * self.case.seat.cpu_ticks > self.shared.limits.cpu_transaction && self.case.question.is_some() {
            return Err(Fault::Limit("cpu-transaction"));
        }
        if self.call.started.elapsed() > self.call.wall {
            return Err(Fault::Limit("wall"));
        }
        self.shared.runtime.wake();
        Ok(if self.on_fiber { UpdateDeadline::Yield(1) } else { UpdateDeadline::Continue(1) })
    }

    /// An edit of the message or the envelope, journaled.
    pub(crate) fn edit(&mut self, edit: Edit) -> Result<(), Fault> {
        self.case.seat.edits += 1;
        if self.case.seat.edits > self.shared.limits.edits {
            return Err(Fault::Limit("edits"));
        }
        self.case.edits.push(edit);
        Ok(())
    }
}

impl ResourceLimiter for Ctx {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.shared.limits.memory {
            // An error traps: a guest that is told no by −1 would go on in a state that nobody tests.
            return Err(Fault::Limit("memory").into());
        }
        self.memory = self.memory.max(desired);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            return Err(Fault::Limit("memory").into());
        }
        Ok(true)
    }
}
