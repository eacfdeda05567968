//! Who is tried next: the jobs that are claimed and waiting, in bounded memory.
//!
//! The [`Schedule`] is a machine without a clock or a thread. A *job* is one transaction to make: some recipients of one claimed entry that share a *destination*
//! (whatever shares a budget: a provider, a host, the local mailboxes). Its payload is the caller's own. Drive it so:
//!
//! ```text
//!  fresh claim, or store.claim(now, lease, schedule.room())   ──▶ handle_job(now, job)         once for each destination of the entry
//!  after every handle_*:   while let Some(job) = poll_start(now)       ──▶ make the transaction
//!                          while let Some(back) = poll_return()        ──▶ dead: settle as delayed without an attempt, due at `until` plus jitter;
//!                                                                         no room: release the claim
//!  transaction over:       handle_end(now, &destination, feedback)
//!  sleep until poll_timeout(), then poll_start again
//! ```
//!
//! Promises: every job handed in comes out exactly once, by `poll_start` or by `poll_return`; no more than `running_max` run at once, nor more
//! than a destination's window; no more than `jobs_max` jobs and `bytes_max` octets wait; starts at a destination keep its rate. A job starts in the order of its flow's
//! turn ([`fair`]), so that a mailing of any length delays a single message by about one job; when there is no room, it is the job furthest back that
//! must go, which is the mailing's.
//!
//! Nothing here is on disk, and nothing needs to be: after a restart entries come back through `claim`.

pub mod backoff;
pub mod destination;
pub mod fair;
pub mod pace;
pub mod rate;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

pub use backoff::{Backoff, jitter};
pub use destination::WindowLimits;
pub use fair::Flow;
pub use pace::Pace;
pub use rate::Rate;

use destination::{Gate, Window};
use fair::Fair;
use rate::Bucket;

/// The bounds of a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Jobs that may wait.
    pub jobs_max: usize,
    /// Octets of messages that waiting jobs may hold in memory.
    pub bytes_max: u64,
    /// Jobs that may run at once, all destinations together.
    pub running_max: u32,
    /// The bounds of a destination that has none of its own.
    pub limits: Limits,
    /// How long a destination without jobs is remembered.
    pub idle_max: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            jobs_max: 10_000,
            bytes_max: 64 << 20,
            running_max: 500,
            limits: Limits::default(),
            idle_max: Duration::from_secs(300),
        }
    }
}

/// The bounds of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many at once.
    pub window: WindowLimits,
    /// How often; as often as they come if `None`.
    pub rate: Option<Rate>,
}

/// One transaction to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<K, J> {
    /// Where to. Jobs with equal keys share a window and a rate.
    pub destination: K,
    /// Whose.
    pub flow: Flow,
    /// MT-PRIORITY, −9 to 9.
    pub priority: i8,
    /// How much of its flow's turn it takes: recipients, say. At least 1.
    pub cost: u32,
    /// Octets that it keeps in memory while it waits.
    pub bytes: u64,
    /// The caller's own.
    pub payload: J,
}

/// What the end of a transaction says about its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// It talked to us, whatever it said.
    Success,
    /// No connection, no greeting, or no TLS.
    Failure,
    /// Nothing: lost half-way, or our own doing.
    Nothing,
}

/// A job that is not going to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Returned<K, J> {
    /// Its destination is dead or suspended until then.
    Dead(Job<K, J>, Instant),
    /// There is no room for it.
    NoRoom(Job<K, J>),
}

/// What a destination looks like, for `queue show` and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance<K> {
    /// Which.
    pub destination: K,
    /// Jobs waiting.
    pub waiting: usize,
    /// Jobs running.
    pub running: u32,
    /// Jobs that may run.
    pub window: u32,
    /// Dead or suspended until then.
    pub dead_until: Option<Instant>,
    /// Time between two starts, where the destination has asked for less.
    pub interval: Option<Duration>,
    /// No more than so many at once until then.
    pub cap: Option<(u32, Instant)>,
}

/// A place in the order of starting: turn, priority (reversed), age, slot.
type Place = (u64, i8, u64, usize);

/// See the head of this page.
#[derive(Debug)]
pub struct Schedule<K, J> {
    options: Options,
    fair: Fair,
    jobs: Slab<Waiting<K, J>>,
    destinations: Slab<Destination<K>>,
    names: HashMap<K, usize>,
    limits: HashMap<K, Limits>,
    /// All waiting jobs: the last is the first to go when room is needed.
    order: BTreeSet<Place>,
    /// Destinations at which a job can start, by the place of that job.
    ready: BTreeSet<(Place, usize)>,
    /// Destinations with jobs that have to wait for a moment.
    timers: BTreeSet<(Instant, usize)>,
    returned: VecDeque<Returned<K, J>>,
    running: u32,
    bytes: u64,
    age: u64,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Waiting<K, J> {
    job: Job<K, J>,
    place: Place,
    destination: usize,
}

#[derive(Debug)]
struct Destination<K> {
    name: K,
    limits: Limits,
    window: Window,
    bucket: Bucket,
    pace: Pace,
    queue: BTreeSet<Place>,
    running: u32,
    used: Instant,
    /// Its row in `ready` or `timers`, if it has one.
    ready: Option<Place>,
    timer: Option<Instant>,
}

impl<K: Clone + Eq + Hash, J> Schedule<K, J> {
    /// An empty schedule.
    pub fn new(options: Options) -> Schedule<K, J> {
        Schedule {
            options,
            fair: Fair::default(),
            jobs: Slab::default(),
            destinations: Slab::default(),
            names: HashMap::new(),
            limits: HashMap::new(),
            order: BTreeSet::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            returned: VecDeque::new(),
            running: 0,
            bytes: 0,
            age: 0,
            swept: None,
        }
    }

    /// How many more jobs may wait: claim no more entries than this.
    pub fn room(&self) -> usize {
        if self.bytes >= self.options.bytes_max { 0 } else { self.options.jobs_max.saturating_sub(self.order.len()) }
    }

    /// Jobs waiting.
    pub fn waiting(&self) -> usize {
        self.order.len()
    }

    /// Jobs running.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Takes a job in. It may come back at once by [`Schedule::poll_return`], or push another one out.
    pub fn handle_job(&mut self, now: Instant, job: Job<K, J>) {
        let at = self.destination(now, &job.destination);
        let destination = &mut self.destinations[at];
        destination.used = now;
        if let Gate::Dead(until) = destination.window.gate(destination.running, now) {
            self.returned.push_back(Returned::Dead(job, until));
            return;
        }
        self.insert(at, job);
        self.refresh(at, now);
        while self.order.len() > self.options.jobs_max || (self.bytes > self.options.bytes_max && self.order.len() > 1)
        {
            self.evict(now);
        }
    }

    /// A transaction is over.
    pub fn handle_end(&mut self, now: Instant, destination: &K, feedback: Feedback) {
        let at = *self.names.get(destination).expect("a destination stays while a job of it runs");
        let it = &mut self.destinations[at];
        it.running = it.running.checked_sub(1).expect("an end for each start");
        it.used = now;
        self.running -= 1;
        match feedback {
            Feedback::Success => {
                it.window.on_success();
                it.pace.on_success(now);
            }
            Feedback::Failure => drop(it.window.on_failure(now)),
            Feedback::Nothing => {}
        }
        self.give_back_if_dead(at, now);
        self.refresh(at, now);
    }

    /// The next job to start, if one can start now.
    pub fn poll_start(&mut self, now: Instant) -> Option<Job<K, J>> {
        self.wake(now);
        if self.running >= self.options.running_max {
            return None;
        }
        let &(place, at) = self.ready.first()?;
        let job = self.remove(at, place);
        self.fair.on_start(place.0);
        let it = &mut self.destinations[at];
        it.running += 1;
        it.used = now;
        it.pace.on_start(now);
        if let Some(rate) = it.limits.rate {
            it.bucket.take(rate, now);
        }
        self.running += 1;
        self.refresh(at, now);
        Some(job)
    }

    /// The next job that is not going to start.
    pub fn poll_return(&mut self) -> Option<Returned<K, J>> {
        self.returned.pop_front()
    }

    /// When [`Schedule::poll_start`] may give something although nothing was handled.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Bounds for one destination, now and whenever it comes up again; `None` puts the default back. As many as the configuration has.
    pub fn set_limits(&mut self, now: Instant, destination: &K, limits: Option<Limits>) {
        match limits {
            Some(limits) => drop(self.limits.insert(destination.clone(), limits)),
            None => drop(self.limits.remove(destination)),
        }
        if let Some(&at) = self.names.get(destination) {
            let limits = limits.unwrap_or(self.options.limits);
            self.destinations[at].limits = limits;
            self.destinations[at].window.set_limits(limits.window);
            self.refresh(at, now);
        }
    }

    /// Nothing goes there before `until`; what waits is given back. For replies that ask for it, and for operators.
    pub fn suspend(&mut self, now: Instant, destination: &K, until: Instant) {
        let at = self.destination(now, destination);
        self.destinations[at].window.suspend(Some(until));
        self.give_back_if_dead(at, now);
        self.refresh(at, now);
    }

    /// Takes a suspension back.
    pub fn resume(&mut self, now: Instant, destination: &K) {
        if let Some(&at) = self.names.get(destination) {
            self.destinations[at].window.suspend(None);
            self.refresh(at, now);
        }
    }

    /// Every dead destination gets its probe now.
    pub fn probe_the_dead(&mut self, now: Instant) {
        for at in self.destinations.positions(|it| it.window.dead_until().is_some()) {
            self.destinations[at].window.probe_now(now);
            self.refresh(at, now);
        }
    }

    /// No more than `max` at once there before `until`, whatever its window is.
    pub fn cap(&mut self, now: Instant, destination: &K, max: u32, until: Instant) {
        let at = self.destination(now, destination);
        self.destinations[at].window.cap(max, until);
        self.refresh(at, now);
    }

    /// It asks for less: see [`pace`].
    pub fn slow(&mut self, now: Instant, destination: &K, hold: Duration) {
        let at = self.destination(now, destination);
        self.destinations[at].pace.slow(now, hold);
        self.refresh(at, now);
    }

    /// Gives every waiting job back, for an orderly end.
    pub fn drain(&mut self) {
        let all: Vec<Place> = self.order.iter().copied().collect();
        for place in all {
            let at = self.jobs[place.3].destination;
            let job = self.remove(at, place);
            self.returned.push_back(Returned::NoRoom(job));
        }
        self.ready.clear();
        self.timers.clear();
        self.destinations.iter_mut().for_each(|it| (it.ready, it.timer) = (None, None));
    }

    /// Every destination that is remembered.
    pub fn glances(&self) -> impl Iterator<Item = Glance<K>> {
        self.destinations.iter().map(|it| Glance {
            destination: it.name.clone(),
            waiting: it.queue.len(),
            running: it.running,
            window: it.window.size(),
            dead_until: it.window.dead_until(),
            interval: it.pace.interval(),
            cap: it.window.capped(),
        })
    }

    fn destination(&mut self, now: Instant, name: &K) -> usize {
        if let Some(&at) = self.names.get(name) {
            return at;
        }
        self.sweep(now);
        let limits = self.limits.get(name).copied().unwrap_or(self.options.limits);
        let at = self.destinations.insert(Destination {
            name: name.clone(),
            limits,
            window: Window::new(limits.window),
            bucket: Bucket::default(),
            pace: Pace::default(),
            queue: BTreeSet::new(),
            running: 0,
            used: now,
            ready: None,
            timer: None,
        });
        self.names.insert(name.clone(), at);
        at
    }

    /// Forgets destinations that have been idle, at most once in half of `idle_max`. Dead ones are kept until their spell has been over for as long.
    fn sweep(&mut self, now: Instant) {
        let idle_max = self.options.idle_max;
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < idle_max / 2) {
            return;
        }
        self.swept = Some(now);
        let idle = |it: &Destination<K>| {
            let keep_until = it.window.keep_until().max(it.pace.keep_until());
            let used = keep_until.map_or(it.used, |until| until.max(it.used));
            it.queue.is_empty() && it.running == 0 && now.saturating_duration_since(used) > idle_max
        };
        for at in self.destinations.positions(idle) {
            let gone = self.destinations.remove(at);
            self.names.remove(&gone.name);
        }
    }

    fn insert(&mut self, at: usize, job: Job<K, J>) {
        let tag = self.fair.tag(job.flow, job.cost, job.priority);
        self.age += 1;
        self.bytes += job.bytes;
        let (priority, age) = (-job.priority, self.age);
        let slot = self.jobs.insert(Waiting { job, place: (tag, priority, age, 0), destination: at });
        let place = (tag, priority, age, slot);
        self.jobs[slot].place = place;
        self.order.insert(place);
        self.destinations[at].queue.insert(place);
    }

    fn remove(&mut self, at: usize, place: Place) -> Job<K, J> {
        self.order.remove(&place);
        self.destinations[at].queue.remove(&place);
        let waiting = self.jobs.remove(place.3);
        assert!(waiting.place == place && waiting.destination == at, "an index names the job that it was made for");
        self.fair.on_gone(waiting.job.flow);
        self.bytes -= waiting.job.bytes;
        waiting.job
    }

    fn evict(&mut self, now: Instant) {
        let place = *self.order.last().expect("there is no room because something waits");
        let at = self.jobs[place.3].destination;
        let job = self.remove(at, place);
        self.returned.push_back(Returned::NoRoom(job));
        self.refresh(at, now);
    }

    fn give_back_if_dead(&mut self, at: usize, now: Instant) {
        let it = &self.destinations[at];
        let Gate::Dead(until) = it.window.gate(it.running, now) else { return };
        while let Some(&place) = self.destinations[at].queue.first() {
            let job = self.remove(at, place);
            self.returned.push_back(Returned::Dead(job, until));
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Some(&(_, at)) = self.timers.first().filter(|(moment, _)| *moment <= now) {
            self.refresh(at, now);
        }
    }

    /// Puts a destination into `ready`, `timers` or neither, as it is now.
    fn refresh(&mut self, at: usize, now: Instant) {
        let it = &mut self.destinations[at];
        let (ready, timer) = it.standing(now);
        if it.ready != ready {
            it.ready.take().map(|place| self.ready.remove(&(place, at)));
            it.ready = ready;
            self.ready.extend(ready.map(|place| (place, at)));
        }
        if it.timer != timer {
            it.timer.take().map(|moment| self.timers.remove(&(moment, at)));
            it.timer = timer;
            self.timers.extend(timer.map(|moment| (moment, at)));
        }
    }
}

impl<K> Destination<K> {
    /// The job that can start now, or the moment to look again.
    fn standing(&self, now: Instant) -> (Option<Place>, Option<Instant>) {
        let Some(&first) = self.queue.first() else { return (None, None) };
        match self.window.gate(self.running, now) {
            Gate::Full => (None, None),
            Gate::Dead(until) | Gate::Capped(until) => (None, Some(until)),
            Gate::Open => {
                match self.limits.rate.map_or(now, |rate| self.bucket.next(rate, now)).max(self.pace.next(now)) {
                    next if next > now => (None, Some(next)),
                    _ => (Some(first), None),
                }
            }
        }
    }
}

/// Values at small numbers that are used again.
#[derive(Debug)]
struct Slab<T> {
    values: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn insert(&mut self, value: T) -> usize {
        if let Some(at) = self.free.pop() {
            self.values[at] = Some(value);
            return at;
        }
        self.values.push(Some(value));
        self.values.len() - 1
    }

    fn remove(&mut self, at: usize) -> T {
        self.free.push(at);
        self.values[at].take().expect("a number is given up once")
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().flatten()
    }

    fn positions(&self, which: impl Fn(&T) -> bool) -> Vec<usize> {
        let hit = |(at, value): (usize, &Option<T>)| value.as_ref().filter(|value| which(value)).map(|_| at);
        self.values.iter().enumerate().filter_map(hit).collect()
    }
}

impl<T> std::ops::Index<usize> for Slab<T> {
    type Output = T;
    fn index(&self, at: usize) -> &T {
        self.values[at].as_ref().expect("the number is in use")
    }
}

impl<T> std::ops::IndexMut<usize> for Slab<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.values[at].as_mut().expect("the number is in use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Plan = Schedule<&'static str, u32>;

    fn job(destination: &'static str, flow: u64, payload: u32) -> Job<&'static str, u32> {
        Job { destination, flow: Flow(flow), priority: 0, cost: 1, bytes: 10, payload }
    }

    fn plan(options: Options) -> (Plan, Instant) {
        (Schedule::new(options), Instant::now())
    }

    fn started(plan: &mut Plan, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| plan.poll_start(now)).map(|job| job.payload).collect()
    }

    fn returned(plan: &mut Plan) -> Vec<(u32, Option<Instant>)> {
        let payload = |back| match back {
            Returned::Dead(job, until) => (job.payload, Some(until)),
            Returned::NoRoom(job) => (job.payload, None),
        };
        std::iter::from_fn(|| plan.poll_return()).map(payload).collect()
    }

    #[test]
    fn a_window_holds_jobs_back_until_others_end() {
        let (mut plan, now) = plan(Options::default());
        (0..20).for_each(|n| plan.handle_job(now, job("b.example", 1, n)));
        assert_eq!(started(&mut plan, now), [0, 1, 2, 3, 4]);
        plan.handle_end(now, &"b.example", Feedback::Success);
        assert_eq!(started(&mut plan, now), [5, 6], "one has ended, and the window is one wider");
        plan.handle_end(now, &"b.example", Feedback::Nothing);
        assert_eq!(started(&mut plan, now), [7]);
        assert_eq!((plan.running(), plan.waiting()), (6, 12));
    }

    #[test]
    fn a_single_message_overtakes_a_mailing_at_its_destination_and_elsewhere() {
        for destination in ["b.example", "c.example"] {
            let (mut plan, now) = plan(Options { running_max: 5, ..Options::default() });
            (0..1000).for_each(|n| plan.handle_job(now, job("b.example", 1, n)));
            assert_eq!(started(&mut plan, now).len(), 5);
            plan.handle_job(now, job(destination, 2, 7777));
            plan.handle_end(now, &"b.example", Feedback::Nothing);
            assert_eq!(started(&mut plan, now), [7777], "{destination}");
        }
    }

    #[test]
    fn two_mailings_alternate() {
        let (mut plan, now) = plan(Options { running_max: 1, ..Options::default() });
        (0..50).for_each(|n| plan.handle_job(now, job("b.example", 1, n)));
        (50..100).for_each(|n| plan.handle_job(now, job("b.example", 2, n)));
        let mut first = 0;
        for _ in 0..40 {
            first += started(&mut plan, now).iter().filter(|n| **n < 50).count();
            plan.handle_end(now, &"b.example", Feedback::Success);
        }
        assert!((19..=21).contains(&first), "{first} of 40");
    }

    #[test]
    fn urgent_mail_goes_first_among_equals() {
        let (mut plan, now) = plan(Options { running_max: 1, ..Options::default() });
        plan.handle_job(now, job("b.example", 1, 1));
        plan.handle_job(now, Job { priority: 5, ..job("b.example", 2, 2) });
        assert_eq!(started(&mut plan, now), [2]);
    }

    #[test]
    fn a_dead_destination_gives_its_jobs_back_and_is_probed_later() {
        let (mut plan, now) = plan(Options::default());
        (0..8).for_each(|n| plan.handle_job(now, job("b.example", 1, n)));
        plan.handle_job(now, job("c.example", 1, 100));
        assert_eq!(started(&mut plan, now), [0, 1, 2, 3, 4, 100]);
        (0..4).for_each(|_| plan.handle_end(now, &"b.example", Feedback::Failure));
        let until = now + Duration::from_secs(60);
        assert_eq!(returned(&mut plan), [5, 6, 7].map(|n| (n, Some(until))));
        plan.handle_job(now, job("b.example", 1, 8));
        assert_eq!(returned(&mut plan), [(8, Some(until))]);
        plan.handle_end(now, &"b.example", Feedback::Failure);
        (20..23).for_each(|n| plan.handle_job(until, job("b.example", 1, n)));
        assert_eq!(started(&mut plan, until), [20], "one probe");
        plan.handle_end(until, &"b.example", Feedback::Success);
        assert_eq!(started(&mut plan, until), [21, 22]);
    }

    #[test]
    fn no_room_pushes_out_the_mailing_and_not_the_newcomer() {
        let (mut plan, now) = plan(Options { jobs_max: 10, running_max: 0, ..Options::default() });
        (0..12).for_each(|n| plan.handle_job(now, job("b.example", 1, n)));
        assert_eq!(returned(&mut plan), [(10, None), (11, None)]);
        assert_eq!(plan.room(), 0);
        plan.handle_job(now, job("c.example", 2, 50));
        assert_eq!(returned(&mut plan), [(9, None)]);
        plan.handle_job(now, Job { bytes: 64 << 20, ..job("c.example", 3, 60) });
        assert_eq!(plan.waiting(), 2, "octets are bounded too: {:?}", returned(&mut plan));
    }

    #[test]
    fn rates_are_kept_and_timeouts_tell_when() {
        let (mut plan, now) = plan(Options::default());
        let rate = Some(Rate { interval: Duration::from_secs(1), burst: 1 });
        plan.set_limits(now, &"b.example", Some(Limits { rate, ..Limits::default() }));
        (0..3).for_each(|n| plan.handle_job(now, job("b.example", 1, n)));
        assert_eq!(started(&mut plan, now), [0]);
        let next = plan.poll_timeout().unwrap();
        assert_eq!(next, now + Duration::from_secs(1));
        assert_eq!(started(&mut plan, next), [1]);
        plan.set_limits(next, &"b.example", None);
        assert_eq!(started(&mut plan, next), [2]);
        assert_eq!(plan.poll_timeout(), None);
    }

    #[test]
    fn a_suspended_destination_waits_for_its_time() {
        let (mut plan, now) = plan(Options::default());
        let until = now + Duration::from_secs(7200);
        plan.handle_job(now, job("b.example", 1, 1));
        plan.suspend(now, &"b.example", until);
        assert_eq!(returned(&mut plan), [(1, Some(until))]);
        assert_eq!(plan.glances().next().unwrap().dead_until, Some(until));
        plan.handle_job(until, job("b.example", 1, 2));
        assert_eq!(started(&mut plan, until), [2]);
    }

    #[test]
    fn idle_destinations_are_forgotten_and_dead_ones_are_not() {
        let (mut plan, now) = plan(Options::default());
        let names: Vec<&'static str> =
            (0..100).map(|n| &*Box::leak(format!("d{n}.example").into_boxed_str())).collect();
        for name in &names {
            plan.handle_job(now, job(name, 1, 0));
            plan.poll_start(now).unwrap();
            plan.handle_end(now, name, Feedback::Nothing);
        }
        let later = now + Duration::from_secs(1000);
        plan.suspend(now, &names[0], later);
        plan.handle_job(now + Duration::from_secs(700), job("b.example", 1, 0));
        assert_eq!(plan.glances().map(|g| g.destination).collect::<Vec<_>>(), [names[0], "b.example"]);
    }

    #[test]
    fn draining_gives_everything_back() {
        let (mut plan, now) = plan(Options { running_max: 1, ..Options::default() });
        (0..5).for_each(|n| plan.handle_job(now, job("b.example", 1, n)));
        assert_eq!(started(&mut plan, now), [0]);
        plan.drain();
        assert_eq!(returned(&mut plan).len(), 4);
        plan.handle_end(now, &"b.example", Feedback::Success);
        assert_eq!((started(&mut plan, now), plan.poll_timeout()), (vec![], None));
    }

    const NAMES: [&str; 4] = ["a.example", "b.example", "c.example", "d.example"];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever happens, each job comes out once and the bounds hold.
        #[test]
        fn every_job_comes_out_exactly_once(steps in proptest::collection::vec((0u8..8, 0usize..4, 0u64..5, 0u64..90), 1..400)) {
            let options = Options {
                jobs_max: 30,
                running_max: 12,
                limits: Limits { window: WindowLimits { max: 6, ..WindowLimits::default() }, rate: Some(Rate::per(60, Duration::from_secs(6))) },
                ..Options::default()
            };
            let (mut plan, mut now) = plan(options);
            let (mut given, mut out) = (0, Vec::new());
            let mut running: Vec<&'static str> = Vec::new();
            for (what, which, flow, wait) in steps {
                match what {
                    0..4 => {
                        plan.handle_job(now, Job { priority: flow as i8 - 2, ..job(NAMES[which], flow, given) });
                        given += 1;
                    }
                    4..7 if !running.is_empty() => {
                        let name = running.swap_remove(which % running.len());
                        plan.handle_end(now, &name, [Feedback::Success, Feedback::Failure, Feedback::Nothing][what as usize - 4]);
                    }
                    _ => now += Duration::from_millis(wait * 100),
                }
                while let Some(job) = plan.poll_start(now) {
                    running.push(job.destination);
                    out.push(job.payload);
                }
                out.extend(returned(&mut plan).into_iter().map(|(payload, _)| payload));
                prop_assert!(plan.waiting() <= 30 && running.len() <= 12);
                prop_assert_eq!(plan.running() as usize, running.len());
                for glance in plan.glances() {
                    prop_assert_eq!(glance.running as usize, running.iter().filter(|r| **r == glance.destination).count());
                    prop_assert!(glance.window <= 6);
                }
            }
            // Let everything run to its end.
            while plan.waiting() > 0 || !running.is_empty() {
                while let Some(name) = running.pop() {
                    plan.handle_end(now, &name, Feedback::Success);
                }
                while let Some(job) = plan.poll_start(now) {
                    running.push(job.destination);
                    out.push(job.payload);
                }
                out.extend(returned(&mut plan).into_iter().map(|(payload, _)| payload));
                now = plan.poll_timeout().unwrap_or(now).max(now);
            }
            out.sort();
            prop_assert_eq!(out, (0..given).collect::<Vec<_>>());
        }
    }
}
