//! What waits, who is idle, who starts next: `queue::schedule` and the idle connections under one lock.
//!
//! A connection that has ended a transaction takes the next errand of its lane from here without waking anybody; one that finds nothing
//! leaves its sender and sleeps. A new errand goes to a sleeper of its lane, or a task is started for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use waypost_queue::Schedule;
use waypost_queue::schedule::{Feedback, Flow, Job, Limits, Options, Returned};
use waypost_resolve::Plan;

use crate::held::Held;
use crate::shaping::Action;

/// What shares a budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Our own disk.
    Mailboxes,
    /// A group of hosts.
    Provider(Arc<str>),
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Lane::Mailboxes => "local",
            Lane::Provider(name) => name,
        })
    }
}

/// How a group of recipients is reached.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// Into this mailbox.
    Mailbox(Box<str>),
    /// Over HTTP, by the name of its settings.
    Post(Box<str>),
    /// To a program, by the name of its settings.
    Pipe(Box<str>),
    /// Over one of these hosts.
    Smtp(Arc<Plan>),
    /// The same in LMTP.
    Lmtp(Arc<Plan>),
}

/// One group of recipients of one claim.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) held: Arc<Held>,
    /// Indices into the entry's recipients.
    pub(crate) recipients: Vec<u32>,
    pub(crate) way: Way,
}

impl Errand {
    pub(crate) fn lane(&self) -> Lane {
        match &self.way {
            Way::Mailbox(_) => Lane::Mailboxes,
            Way::Pipe(name) => Lane::Provider(format!("pipe:{name}").into()),
            Way::Post(name) => Lane::Provider(format!("post:{name}").into()),
            Way::Smtp(plan) | Way::Lmtp(plan) => Lane::Provider(plan.provider.clone()),
        }
    }

    fn job(self) -> Job<Lane, Errand> {
        let entry = self.held.entry();
        Job {
            destination: self.lane(),
            flow: Flow::of(entry),
            priority: entry.parameters.priority,
            cost: self.recipients.len() as u32,
            bytes: self.held.claim.message.as_ref().map_or(0, |message| message.len() as u64),
            payload: self,
        }
    }
}

/// What travels over a sleeper's channel.
#[derive(Debug)]
pub(crate) struct Parcel(pub(crate) Errand, pub(crate) mpsc::Sender<Parcel>);

#[derive(Debug)]
struct Sleeper {
    id: u64,
    sender: mpsc::Sender<Parcel>,
}

#[derive(Debug)]
pub(crate) struct Desk {
    schedule: Schedule<Lane, Errand>,
    sleepers: HashMap<Lane, Vec<Sleeper>, ahash::RandomState>,
    asleep: usize,
    asleep_max: usize,
    next_id: u64,
    closed: bool,
}

/// What has to be done once the lock is let go.
#[derive(Debug, Default)]
pub(crate) struct Todo {
    /// Errands for which a task has to be started.
    pub(crate) start: Vec<(Lane, Errand)>,
    /// Errands that are not going to start: dead until then, or no room.
    pub(crate) back: Vec<(Errand, Option<Instant>)>,
}

/// What a task does after a transaction.
#[derive(Debug)]
pub(crate) enum Next {
    /// This.
    Carry(Errand),
    /// Sleep under this number.
    Sleep(u64),
    /// Say goodbye.
    Quit,
}

impl Desk {
    pub(crate) fn new(options: Options, asleep_max: usize, limits: impl Iterator<Item = (Arc<str>, Limits)>) -> Desk {
        let sleepers = HashMap::default();
        let mut schedule = Schedule::new(options);
        let now = Instant::now();
        limits.for_each(|(name, limits)| schedule.set_limits(now, &Lane::Provider(name), Some(limits)));
        Desk { schedule, sleepers, asleep: 0, asleep_max, next_id: 0, closed: false }
    }

    /// Errands come in.
    pub(crate) fn put(&mut self, now: Instant, errands: impl IntoIterator<Item = Errand>) -> Todo {
        let mut todo = Todo::default();
        for errand in errands {
            match self.closed {
                true => todo.back.push((errand, None)),
                false => self.schedule.handle_job(now, errand.job()),
            }
        }
        self.turn(now, None, &mut todo);
        todo
    }

    /// A transaction is over. `sender` is there if the task has a connection worth keeping.
    pub(crate) fn end(
        &mut self,
        now: Instant,
        lane: &Lane,
        feedback: Feedback,
        sender: Option<&mpsc::Sender<Parcel>>,
    ) -> (Next, Todo) {
        let mut todo = Todo::default();
        self.schedule.handle_end(now, lane, feedback);
        if let Some(errand) = self.turn(now, Some(lane), &mut todo) {
            return (Next::Carry(errand), todo);
        }
        match sender.filter(|_| !self.closed && self.asleep < self.asleep_max) {
            Some(sender) => (Next::Sleep(self.sleep(lane, sender.clone())), todo),
            None => (Next::Quit, todo),
        }
    }

    /// What replies of a destination ask for.
    pub(crate) fn heed(&mut self, now: Instant, lane: &Lane, actions: &[Action]) -> Todo {
        for action in actions {
            match action {
                Action::Slow(hold) => self.schedule.slow(now, lane, *hold),
                Action::Suspend(span) => self.schedule.suspend(now, lane, now + *span),
                Action::Connections(max, span) => self.schedule.cap(now, lane, *max, now + *span),
                // These are the carrier's business.
                Action::Bounce | Action::FewerMessages => {}
            }
        }
        self.tick(now)
    }

    /// Every dead destination gets its probe now.
    pub(crate) fn probe_the_dead(&mut self, now: Instant) -> Todo {
        self.schedule.probe_the_dead(now);
        self.tick(now)
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Todo {
        let mut todo = Todo::default();
        self.turn(now, None, &mut todo);
        todo
    }

    fn sleep(&mut self, lane: &Lane, sender: mpsc::Sender<Parcel>) -> u64 {
        self.next_id += 1;
        self.asleep += 1;
        self.sleepers.entry(lane.clone()).or_default().push(Sleeper { id: self.next_id, sender });
        self.next_id
    }

    /// A sleeper has had enough. False: an errand is on its way to it.
    pub(crate) fn leave(&mut self, lane: &Lane, id: u64) -> bool {
        let Some(sleepers) = self.sleepers.get_mut(lane) else { return false };
        let Some(at) = sleepers.iter().position(|sleeper| sleeper.id == id) else { return false };
        sleepers.swap_remove(at);
        self.asleep -= 1;
        if sleepers.is_empty() {
            self.sleepers.remove(lane);
        }
        true
    }

    /// Starts whatever can start. The first errand of lane `own` is for the caller.
    fn turn(&mut self, now: Instant, own: Option<&Lane>, todo: &mut Todo) -> Option<Errand> {
        let mut mine = None;
        while let Some(job) = self.schedule.poll_start(now) {
            if mine.is_none() && own == Some(&job.destination) {
                mine = Some(job.payload);
            } else if let Some((errand, lane)) = self.wake(job) {
                todo.start.push((lane, errand));
            }
        }
        while let Some(returned) = self.schedule.poll_return() {
            todo.back.push(match returned {
                Returned::Dead(job, until) => (job.payload, Some(until)),
                Returned::NoRoom(job) => (job.payload, None),
            });
        }
        mine
    }

    /// Hands a job to a sleeper of its lane; gives it back if nobody sleeps there. The last to fall asleep is the first to be woken, so
    /// that superfluous connections grow old and end.
    fn wake(&mut self, job: Job<Lane, Errand>) -> Option<(Errand, Lane)> {
        let Job { destination: lane, payload: mut errand, .. } = job;
        while let Some(sleeper) = self.sleepers.get_mut(&lane).and_then(Vec::pop) {
            self.asleep -= 1;
            let again = sleeper.sender.clone();
            match sleeper.sender.try_send(Parcel(errand, again)) {
                Ok(()) => return None,
                Err(mpsc::error::TrySendError::Full(parcel) | mpsc::error::TrySendError::Closed(parcel)) => {
                    errand = parcel.0
                }
            }
        }
        Some((errand, lane))
    }

    /// How many more claims may come in.
    pub(crate) fn room(&self) -> usize {
        self.schedule.room()
    }

    /// When [`Desk::tick`] may start something.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.schedule.poll_timeout()
    }

    /// Nothing starts any more; sleepers wake up to nothing and leave.
    pub(crate) fn close(&mut self, now: Instant) -> Todo {
        self.closed = true;
        self.schedule.drain();
        self.sleepers.clear();
        self.asleep = 0;
        self.tick(now)
    }

    /// What the destinations look like.
    pub(crate) fn glances(&self) -> Vec<waypost_queue::schedule::Glance<Lane>> {
        self.schedule.glances().collect()
    }
}
