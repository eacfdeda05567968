//! The scheduler in virtual time, against receivers as they are: hours of sending in a second, the same in each run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use waypost_queue::Schedule;
use waypost_queue::schedule::{Backoff, Feedback, Flow, Job, Limits, Options, Rate, Returned, WindowLimits};

const HOST: &str = "mx.b.example";

/// What a receiver does with one more transaction while so many run: how long it takes, and what it says about the receiver.
type Receiver = Box<dyn FnMut(Instant, u32) -> (Duration, Feedback)>;

/// Who sends, the schedule, and the receivers.
struct World {
    plan: Schedule<&'static str, u32>,
    start: Instant,
    now: Instant,
    receiver: Receiver,
    active: HashMap<&'static str, u32>,
    ends: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    running: HashMap<u32, (&'static str, Feedback)>,
    /// Waits on disk: comes in when there is room.
    disk: VecDeque<Job<&'static str, u32>>,
    /// Jobs by payload, for those that come back.
    jobs: HashMap<u32, Job<&'static str, u32>>,
    /// Put off until then.
    later: BinaryHeap<Reverse<(Instant, u32)>>,
    started: Vec<(u32, Duration)>,
    done: HashMap<u32, Duration>,
    failures: u32,
    count: u64,
}

fn job(destination: &'static str, flow: u64, payload: u32) -> Job<&'static str, u32> {
    Job { destination, flow: Flow(flow), priority: 0, cost: 1, bytes: 1000, payload }
}

impl World {
    fn new(options: Options, receiver: impl FnMut(Instant, u32) -> (Duration, Feedback) + 'static) -> World {
        let start = Instant::now();
        World {
            plan: Schedule::new(options),
            start,
            now: start,
            receiver: Box::new(receiver),
            active: HashMap::new(),
            ends: BinaryHeap::new(),
            running: HashMap::new(),
            disk: VecDeque::new(),
            jobs: HashMap::new(),
            later: BinaryHeap::new(),
            started: Vec::new(),
            done: HashMap::new(),
            failures: 0,
            count: 0,
        }
    }

    fn mailing(&mut self, destination: &'static str, flow: u64, payloads: std::ops::Range<u32>) {
        self.disk.extend(payloads.map(|payload| job(destination, flow, payload)));
    }

    fn fresh(&mut self, job: Job<&'static str, u32>) {
        self.jobs.insert(job.payload, job.clone());
        self.plan.handle_job(self.now, job);
    }

    /// Lets the schedule do what it can at this moment.
    fn turn(&mut self) {
        while self.plan.room() > 0
            && let Some(job) = self.disk.pop_front()
        {
            self.fresh(job);
        }
        while let Some(job) = self.plan.poll_start(self.now) {
            let active = self.active.entry(job.destination).or_default();
            let (span, feedback) = (self.receiver)(self.now, *active);
            *active += 1;
            self.count += 1;
            self.ends.push(Reverse((self.now + span, self.count, job.payload)));
            self.running.insert(job.payload, (job.destination, feedback));
            self.started.push((job.payload, self.now - self.start));
        }
        while let Some(back) = self.plan.poll_return() {
            match back {
                Returned::Dead(job, until) => self.later.push(Reverse((until, job.payload))),
                Returned::NoRoom(job) => self.disk.push_back(job),
            }
        }
    }

    /// The next thing that happens, if it happens before `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.turn();
        let next_end = self.ends.peek().map(|Reverse((at, ..))| *at);
        let next_due = self.later.peek().map(|Reverse((at, _))| *at);
        let next = [next_end, next_due, self.plan.poll_timeout()].into_iter().flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = next.max(self.now);
        while let Some(Reverse((at, _, payload))) = self.ends.peek().copied()
            && at <= self.now
        {
            self.ends.pop();
            self.end(payload);
        }
        while let Some(Reverse((at, payload))) = self.later.peek().copied()
            && at <= self.now
        {
            self.later.pop();
            let job = self.jobs[&payload].clone();
            self.plan.handle_job(self.now, job);
        }
        true
    }

    fn end(&mut self, payload: u32) {
        let (destination, feedback) = self.running.remove(&payload).expect("it ran");
        *self.active.get_mut(destination).expect("it ran there") -= 1;
        self.plan.handle_end(self.now, &destination, feedback);
        if feedback == Feedback::Failure {
            self.failures += 1;
            // As `backoff` would put it, without waiting for it: what is measured is the scheduler.
            let random = self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let backoff = Backoff { first: Duration::from_secs(10), ..Backoff::default() };
            self.later.push(Reverse((self.now + backoff.pause(1, random), payload)));
        } else {
            self.done.insert(payload, self.now - self.start);
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    fn run_until_done(&mut self, count: usize) -> Duration {
        let end = self.now + Duration::from_secs(1_000_000);
        while self.done.len() < count && self.step(end) {}
        assert_eq!(self.done.len(), count);
        self.now - self.start
    }
}

fn takes(span: Duration) -> impl FnMut(Instant, u32) -> (Duration, Feedback) {
    move |_, _| (span, Feedback::Success)
}

/// Takes `limit` transactions of a second each, and says 421 to the rest at once.
fn limited(limit: u32) -> impl FnMut(Instant, u32) -> (Duration, Feedback) {
    move |_, active| match active < limit {
        true => (Duration::from_secs(1), Feedback::Success),
        false => (Duration::from_millis(50), Feedback::Failure),
    }
}

/// Postfix's experiment (SCHEDULER_README): there, with 1/N feedback, 16.5 % of all mail was deferred.
#[test]
fn a_limit_of_connections_is_found_and_kept() {
    for limit in [3, 5, 10, 15] {
        let mut world = World::new(Options::default(), limited(limit));
        world.mailing(HOST, 1, 0..10_000);
        let took = world.run_until_done(10_000).as_secs_f64();
        let ideal = 10_000.0 / f64::from(limit);
        let share = f64::from(world.failures) / 10_000.0;
        println!("limit {limit}: {:.2} % deferred, {:.0} % of the time used", share * 100.0, ideal / took * 100.0);
        assert!(share < 0.02, "limit {limit}: {} refused", world.failures);
        assert!(took < ideal * 1.1, "limit {limit}: {took} s instead of {ideal}");
    }
}

#[test]
fn a_limit_that_is_lifted_is_noticed() {
    let lifted = Instant::now() + Duration::from_secs(600);
    let mut world = World::new(Options::default(), move |now, active| {
        if now < lifted { limited(4)(now, active) } else { (Duration::from_secs(1), Feedback::Success) }
    });
    world.mailing(HOST, 1, 0..40_000);
    world.run(Duration::from_secs(600));
    let before = world.done.len();
    world.run(Duration::from_secs(600));
    let after = world.done.len() - before;
    assert!(before < 2500 && after > 600 * 12, "{before} in ten minutes with a limit of 4, {after} in ten without");
}

#[test]
fn an_urgent_message_starts_at_once_behind_a_hundred_thousand() {
    let mut world = World::new(Options::default(), takes(Duration::from_millis(500)));
    world.mailing(HOST, 1, 0..100_000);
    world.run(Duration::from_secs(60));
    assert!(world.disk.len() > 80_000 && world.plan.room() < 100, "most of it is on disk, and the schedule is full");
    let at = world.now - world.start;
    world.fresh(job(HOST, 2, 777_777));
    world.run(Duration::from_secs(5));
    let (_, started) = world.started.iter().find(|(payload, _)| *payload == 777_777).expect("it has started");
    assert!(*started - at <= Duration::from_millis(500), "when the next connection was free: {:?}", *started - at);
}

#[test]
fn who_sends_little_is_not_slower_for_those_who_send_much() {
    let mut world = World::new(Options::default(), takes(Duration::from_millis(500)));
    world.mailing(HOST, 1, 0..5000);
    (5000..5500).for_each(|n| world.fresh(job(HOST, 2, n)));
    (5500..5510).for_each(|n| world.fresh(job(HOST, 3, n)));
    world.run_until_done(5510);
    let last = |range: std::ops::Range<u32>| {
        let of = |(at, (payload, _)): (usize, &(u32, Duration))| range.contains(payload).then_some(at);
        world.started.iter().enumerate().filter_map(of).next_back().unwrap()
    };
    assert!(last(5500..5510) < 100, "ten messages are through after {} starts", last(5500..5510));
    assert!(last(5000..5500) < 1200, "five hundred after {}", last(5000..5500));
}

#[test]
fn after_an_outage_the_queue_drains_as_fast_as_the_receiver_takes_it() {
    let back = Instant::now() + Duration::from_secs(3600);
    let mut world = World::new(Options::default(), move |now, _| {
        if now < back {
            (Duration::from_secs(30), Feedback::Failure)
        } else {
            (Duration::from_millis(50), Feedback::Success)
        }
    });
    world.mailing(HOST, 1, 0..100_000);
    world.run(Duration::from_secs(3600));
    assert!(world.failures < 30, "an hour of silence costs {} attempts, not 100 000", world.failures);
    let took = world.run_until_done(100_000) - Duration::from_secs(3600);
    let ideal = Duration::from_millis(50) * 100_000 / 20;
    assert!(
        took < ideal * 11 / 10 + Duration::from_secs(1800),
        "{took:?}; at best {ideal:?} and what is left of the last spell"
    );
}

#[test]
fn what_a_receiver_says_about_recipients_never_closes_its_window() {
    let mut world = World::new(Options::default(), |_, _| (Duration::from_millis(100), Feedback::Success));
    world.mailing(HOST, 1, 0..2000);
    world.run_until_done(2000);
    let glance = world.plan.glances().next().unwrap();
    assert_eq!((glance.window, glance.dead_until), (20, None));
}

#[test]
fn a_dead_destination_holds_nobody_else_up() {
    let mut world = World::new(Options { running_max: 30, ..Options::default() }, |_, _| {
        (Duration::from_secs(30), Feedback::Failure)
    });
    world.mailing("dead.example", 1, 0..1000);
    world.run(Duration::from_secs(10));
    world.receiver = Box::new(takes(Duration::from_millis(100)));
    (1000..2000).for_each(|n| world.fresh(job("well.example", 1, n)));
    let took = world.run_until_done(1000);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_rate_is_kept_over_an_hour() {
    let limits = Limits { rate: Some(Rate::per(100, Duration::from_secs(60))), window: WindowLimits::default() };
    let mut world = World::new(Options { limits, ..Options::default() }, takes(Duration::from_millis(10)));
    world.mailing(HOST, 1, 0..10_000);
    world.run(Duration::from_secs(3600));
    assert!((5990..=6020).contains(&world.done.len()), "{}", world.done.len());
}

/// A million messages deferred in the same second come back over a quarter of the pause, evenly.
#[test]
fn a_million_deferred_together_do_not_come_back_together() {
    let backoff = Backoff::default();
    let mut seconds = HashMap::<u64, u32>::new();
    for n in 0..1_000_000_u64 {
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *seconds.entry(backoff.pause(1, random).as_secs()).or_default() += 1;
    }
    let most = seconds.values().max().unwrap();
    assert!(seconds.len() >= 75 && *most < 14_000, "{} seconds, {most} in the fullest", seconds.len());
}
