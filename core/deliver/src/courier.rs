//! The courier: takes claims, groups their recipients by next hop, claims what is due, settles, drains.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, mpsc};
use waypost_net::ClientTls;
use waypost_queue::dsn::Reason;
use waypost_queue::schedule::Feedback;
use waypost_queue::{Claim, Delivery, Entry, FRESH_LEASE, Handoff, Settlement, StoreError};
use waypost_resolve::{Hop, Plan};
use waypost_route::{NextHop, Transport};
use waypost_types::{
    Address, Enhanced, Event, Host, MessageId, Outcome, Reply, Security, Soon, Timestamp, Transport as Door,
};

use crate::chance::{self, Dice};
use crate::desk::{Desk, Errand, Lane, Next, Parcel, Todo, Way};
use crate::held::{Count, Held, Memory, News};
use crate::notice;
use crate::options::{Options, Services};
use crate::plan::Plans;
use crate::remote::{Broken, carrier};
use crate::shaping::Action;
use crate::suspended::{Scope, Suspensions};
use crate::verdict::{Met, Taken};

/// Mail going out. Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    shared: Arc<Shared>,
}

/// What one destination looks like now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// A provider's name, or `local`.
    pub destination: String,
    /// Transactions waiting.
    pub waiting: usize,
    /// Transactions running.
    pub running: u32,
    /// How many may run.
    pub window: u32,
    /// Left alone until then.
    pub dead_until: Option<Instant>,
    /// Time between two starts, where the destination has asked for less.
    pub interval: Option<Duration>,
    /// No more than so many at once until then.
    pub cap: Option<(u32, Instant)>,
}

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) services: Services,
    /// For peers that a longer first message does not reach.
    pub(crate) classic_tls: ClientTls,
    pub(crate) dice: Dice,
    pub(crate) broken: Broken,
    pub(crate) memory: Memory,
    plans: Plans,
    /// Turns to ask the planner.
    questions: Semaphore,
    suspended: Suspensions,
    desk: Mutex<Desk>,
    count: Arc<Count>,
    /// Something may be due sooner than the claiming task thinks.
    wake: Notify,
    draining: AtomicBool,
    /// The store takes no writes any more.
    store_failed: AtomicBool,
}

/// Why somebody who is due is not tried.
enum Spared {
    /// Suspended until then.
    Until(Instant),
    /// On the suppression list.
    Listed(Reply),
}

/// Recipients by next hop, as indices.
type Groups = Vec<(NextHop, Vec<u32>)>;

/// RFC 5321 §4.5.3.2 added up.
const LEASE_MIN: Duration = Duration::from_secs(1800);
/// Next hops that are asked for at once, for mail from the disk: a queue that comes due all together must not drown the name server.
const QUESTIONS_AT_ONCE: usize = 100;
/// Claims asked for at once.
const CLAIMS_AT_ONCE: usize = 256;
/// How long the claiming task sleeps at most: another writer, or an operator, may have made something due.
const NAP_MAX: Duration = Duration::from_secs(5);
/// And at least, when the store has nothing although it says that something is due.
const NAP_MIN: Duration = Duration::from_millis(20);

impl Courier {
    /// Starts carrying. Must be called inside a tokio runtime.
    pub fn start(options: Options, services: Services) -> Courier {
        assert!(options.lease >= LEASE_MIN, "a claim must outlast the longest attempt: half an hour at least");
        let shared = Arc::new(Shared {
            desk: Mutex::new(Desk::new(options.schedule, options.idle_connections_max, options.shaping.limits())),
            classic_tls: services.tls.classic(),
            services,
            dice: Dice::default(),
            broken: Broken::default(),
            memory: Memory::new(options.loaded_mib_max),
            plans: Plans::default(),
            questions: Semaphore::new(QUESTIONS_AT_ONCE),
            suspended: Suspensions::open(options.kept.clone()),
            count: Arc::default(),
            wake: Notify::new(),
            draining: AtomicBool::new(false),
            store_failed: AtomicBool::new(false),
            options,
        });
        tokio::spawn(claim_what_is_due(shared.clone()));
        Courier { shared }
    }

    /// Looks at the queue now: something may have become due by an operator's word.
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Forgets plans that were made, so that a changed table or DNS counts from the next attempt on.
    pub fn forget_plans(&self) {
        self.shared.plans.clear();
    }

    /// Destinations that were found dead are tried again now: somebody knows that they are well.
    pub fn probe_the_dead(&self) {
        self.shared.with_desk(|desk| ((), desk.probe_the_dead(Instant::now())));
    }

    /// Sends nothing within `scope` for `span`. False: too much is suspended already.
    pub fn suspend(&self, scope: Scope, span: Duration) -> bool {
        self.shared.suspended.add(scope, Instant::now() + span)
    }

    /// Takes a suspension back. False: there was none. What it has put off is due when it would have ended, unless it is made due.
    pub fn resume(&self, scope: &Scope) -> bool {
        self.shared.suspended.remove(scope)
    }

    /// What is suspended, and until when.
    pub fn suspended(&self) -> Vec<(Scope, Instant)> {
        self.shared.suspended.list()
    }

    /// Gives up those pending recipients of an entry for which `which` holds, with the reports that their sender asked for. How many they
    /// were; `Busy` while an attempt is under way.
    pub async fn give_up(
        &self,
        id: MessageId,
        which: impl Fn(&Delivery) -> bool,
        words: &str,
    ) -> Result<usize, StoreError> {
        let shared = &self.shared;
        let lease_end = Instant::now() + shared.options.lease;
        let claim = shared.services.store.claim_one(id, chance::now(), shared.options.lease).await?;
        let claim = claim.ok_or(StoreError::Missing)?;
        let held = Held::new(claim, 1, lease_end, &shared.count);
        let recipients = held.entry().recipients.iter().enumerate();
        let chosen = recipients.filter(|(_, delivery)| delivery.is_pending() && which(delivery));
        let bench = shared.bench(held.entry());
        let news: Vec<News> = chosen.map(|(index, _)| bench.give_up(index as u32, words)).collect();
        let count = news.len();
        shared.hand_in(&held, news, "none");
        Ok(count)
    }

    /// Claims in hand: waiting, running or being settled.
    pub fn in_hand(&self) -> usize {
        self.shared.count.now()
    }

    /// The destinations that are remembered.
    pub fn glances(&self) -> Vec<Glance> {
        let glances = self.shared.desk().glances();
        glances
            .into_iter()
            .map(|it| Glance {
                destination: it.destination.to_string(),
                waiting: it.waiting,
                running: it.running,
                window: it.window,
                dead_until: it.dead_until,
                interval: it.interval,
                cap: it.cap,
            })
            .collect()
    }

    /// An orderly end: nothing new begins, what waits is given back, what runs has [`Options::drain_max`] to end. True if all of it did;
    /// what did not stays claimed until its lease is over or the store is opened anew.
    pub async fn shutdown(&self) -> bool {
        let shared = &self.shared;
        shared.draining.store(true, Ordering::SeqCst);
        shared.wake.notify_one();
        let todo = shared.desk().close(Instant::now());
        shared.carry_out(todo);
        let deadline = tokio::time::Instant::now() + shared.options.drain_max;
        loop {
            let changed = shared.count.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if shared.count.now() == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return shared.count.now() == 0;
            }
        }
    }
}

impl Handoff for Courier {
    fn offer(&self, claim: Claim) {
        let shared = &self.shared;
        if shared.is_closed() || shared.count.now() >= shared.options.claims_max {
            return shared.release(claim);
        }
        let age = chance::now().since(claim.entry.accepted);
        let lease_end = Instant::now() + FRESH_LEASE.saturating_sub(age);
        shared.take(claim, lease_end);
    }
}

/// Claims entries when they are due and there is room, and lets time pass for the schedule.
async fn claim_what_is_due(shared: Arc<Shared>) {
    while !shared.draining.load(Ordering::SeqCst) {
        let nap = match shared.claim_some().await {
            Ok(Some(nap)) => nap,
            Ok(None) => {
                // There is more where this came from.
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) => {
                shared.complain(&format!("cannot claim what is due: {error}"));
                NAP_MAX
            }
        };
        let nap = shared.desk().timeout().map_or(nap, |at| nap.min(at.saturating_duration_since(Instant::now())));
        let changed = shared.count.changed.notified();
        tokio::select! {
            () = shared.wake.notified() => {}
            () = changed, if shared.room() == 0 => {}
            () = tokio::time::sleep(nap) => {}
        }
        let todo = shared.desk().tick(Instant::now());
        shared.carry_out(todo);
    }
}

impl Shared {
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.store_failed.load(Ordering::Relaxed)
    }

    fn room(&self) -> usize {
        let claims = self.options.claims_max.saturating_sub(self.count.now());
        if self.store_failed.load(Ordering::Relaxed) { 0 } else { claims.min(self.desk().room()).min(CLAIMS_AT_ONCE) }
    }

    /// How long to sleep; `None`: not at all.
    async fn claim_some(self: &Arc<Self>) -> Result<Option<Duration>, StoreError> {
        let room = self.room();
        if room == 0 {
            return Ok(Some(NAP_MAX));
        }
        let store = &self.services.store;
        // The lease begins before it is asked for, so that ours is never longer than the store's.
        let (now, lease_end) = (chance::now(), Instant::now() + self.options.lease);
        let claims = store.claim(now, self.options.lease, room as u32).await?;
        let full = claims.len() == room;
        for claim in claims {
            match self.draining.load(Ordering::Relaxed) {
                true => self.release(claim),
                false => self.take(claim, lease_end),
            }
        }
        if full {
            return Ok(None);
        }
        let next = store.next_due().await?;
        Ok(Some(next.map_or(NAP_MAX, |due| due.since(chance::now()).clamp(NAP_MIN, NAP_MAX))))
    }

    /// Takes a claim: its pending recipients go their ways.
    fn take(self: &Arc<Self>, claim: Claim, lease_end: Instant) {
        let (groups, late) = self.group(&claim.entry, chance::now());
        match groups {
            Soon::Now(groups) => self.take_ways(claim, groups, late, lease_end),
            Soon::Later(grouping) => {
                let shared = self.clone();
                tokio::spawn(async move {
                    let groups = grouping.await;
                    shared.take_ways(claim, groups, late, lease_end);
                });
            }
        }
    }

    fn take_ways(self: &Arc<Self>, claim: Claim, groups: Groups, late: Vec<(u32, Spared)>, lease_end: Instant) {
        if groups.is_empty() && late.is_empty() {
            return self.release(claim);
        }
        let one_each = self.options.verp.as_ref().is_some_and(|verp| verp.marks(&claim.entry.sender));
        let groups = in_transactions(groups, if one_each { 1 } else { self.options.recipients_max.max(1) });
        let held = Held::new(claim, groups.len() + usize::from(!late.is_empty()), lease_end, &self.count);
        let now = Instant::now();
        if !late.is_empty() {
            let bench = self.bench(held.entry());
            let spare = |(index, why): &(u32, Spared)| match why {
                Spared::Until(until) => bench.suspended(*index, until.saturating_duration_since(now)),
                Spared::Listed(reply) => bench.refuse(*index, reply.clone()),
            };
            self.hand_in(&held, late.iter().map(spare).collect(), "none");
        }
        let mut errands = Vec::with_capacity(groups.len());
        for (next_hop, recipients) in groups {
            match self.way(next_hop, now) {
                Ok(Ok(way)) => errands.push(Errand { held: held.clone(), recipients, way }),
                Ok(Err(reply)) => self.fail(&held, &recipients, &reply, "none"),
                Err(next_hop) => drop(tokio::spawn(self.clone().ask(held.clone(), recipients, next_hop))),
            }
        }
        self.put(errands);
    }

    /// Who is due, by next hop (at once, as long as routing asks only tables in memory); and who would be, but is suspended or not written to any more.
    fn group(&self, entry: &Entry, now: Timestamp) -> (Soon<'static, Groups>, Vec<(u32, Spared)>) {
        let due = |delivery: &waypost_queue::Delivery| delivery.is_pending() && delivery.due <= now;
        if entry.held.is_some() {
            return (Soon::Now(Vec::new()), Vec::new());
        }
        let mut all: Vec<u32> = (0..entry.recipients.len() as u32).collect();
        all.retain(|at| due(&entry.recipients[*at as usize]));
        let mut late = self.suppressed(entry, &mut all);
        late.extend(self.suspended.cut(entry, &mut all).into_iter().map(|(at, until)| (at, Spared::Until(until))));
        let (mut ways, mut asked) = (Vec::with_capacity(all.len()), Vec::new());
        for at in all {
            match self.route(entry, at as usize) {
                Soon::Now(hop) => ways.push((hop, at)),
                Soon::Later(hop) => asked.push((hop, at)),
            }
        }
        if asked.is_empty() {
            return (Soon::Now(by_hop(ways)), late);
        }
        let grouping = async move {
            for (hop, at) in asked {
                ways.push((hop.await, at));
            }
            by_hop(ways)
        };
        (Soon::Later(Box::pin(grouping)), late)
    }

    /// Takes those out of `recipients` who are on the suppression list.
    fn suppressed(&self, entry: &Entry, recipients: &mut Vec<u32>) -> Vec<(u32, Spared)> {
        let Some(list) = self.options.suppression.as_ref().filter(|_| is_from_us(entry)) else { return Vec::new() };
        let mut listed = Vec::new();
        recipients.retain(|index| {
            let address = &entry.recipients[*index as usize].recipient.address;
            let found = list.find(address);
            listed.extend(found.as_ref().map(|why| (*index, Spared::Listed(why.reply(address)))));
            found.is_none()
        });
        listed
    }

    /// Where a recipient leads: by the tables, or the way that an operator has chosen for the entry.
    fn route(&self, entry: &Entry, at: usize) -> Soon<'static, NextHop> {
        let address = &entry.recipients[at].recipient.address;
        let Some(text) = &entry.route else { return (self.services.route)(address) };
        Soon::Now(match (text.parse(), address.host()) {
            (Ok(Transport::To(next_hop)), _) => next_hop,
            (Ok(Transport::Mx), Host::Name(domain)) => NextHop::Mx(domain.clone()),
            (Ok(Transport::Mx), Host::Literal(address)) => {
                NextHop::Literal(*address, waypost_route::transport::SMTP_PORT)
            }
            (Err(error), _) => {
                NextHop::Fail(format!("4.3.5 the way chosen for this message cannot be read: {error}").into())
            }
        })
    }

    /// How a next hop is reached, as far as that is known without asking; the next hop itself otherwise.
    fn way(&self, next_hop: NextHop, now: Instant) -> Result<Result<Way, Reply>, NextHop> {
        match next_hop {
            NextHop::Mailbox(mailbox) => Ok(Ok(Way::Mailbox(mailbox))),
            NextHop::Post(name) => Ok(Ok(Way::Post(name))),
            NextHop::Pipe(name) => Ok(Ok(Way::Pipe(name))),
            NextHop::Fail(text) => Ok(Err(Reply::new(550, Enhanced(5, 0, 0), text.into_string()))),
            NextHop::Later(text) => Ok(Err(Reply::new(451, Enhanced(4, 3, 0), text.into_string()))),
            NextHop::Lmtp(address) => {
                let hop = Hop {
                    host: address.ip().to_string(),
                    addresses: vec![address.ip()],
                    port: address.port(),
                    security: Security::Plain,
                };
                Ok(Ok(Way::Lmtp(Arc::new(Plan {
                    hops: vec![hop],
                    provider: format!("lmtp:{address}").into(),
                    applied: None,
                }))))
            }
            NextHop::LmtpSocket(path) => {
                // It stands at no address; its path is its name.
                let addresses = vec![std::net::Ipv4Addr::LOCALHOST.into()];
                let provider = format!("lmtp:{path}").into();
                let hop = Hop { host: path.into(), addresses, port: 0, security: Security::Plain };
                Ok(Ok(Way::Lmtp(Arc::new(Plan { hops: vec![hop], provider, applied: None }))))
            }
            next_hop => self.plans.recent(&next_hop, now).map(|plan| Ok(Way::Smtp(plan))).ok_or(next_hop),
        }
    }

    /// Asks the planner, then goes on.
    async fn ask(self: Arc<Self>, held: Arc<Held>, recipients: Vec<u32>, next_hop: NextHop) {
        // Fresh mail comes one by one and does not wait behind what is old.
        let _turn = match held.in_memory() {
            Some(_) => None,
            None => self.questions.acquire().await.ok(),
        };
        if let Some(plan) = self.plans.recent(&next_hop, Instant::now()) {
            return self.put([Errand { held, recipients, way: Way::Smtp(plan) }]);
        }
        match self.services.planner.plan(&next_hop).await {
            Ok(mut plan) => {
                assert!(!plan.hops.is_empty(), "a plan has hosts");
                self.options.shaping.apply(&mut plan);
                let plan = Arc::new(plan);
                self.plans.keep(next_hop, plan.clone(), Instant::now());
                self.put([Errand { held, recipients, way: Way::Smtp(plan) }]);
            }
            Err(reply) => {
                let target = match &next_hop {
                    NextHop::Mx(domain) => domain.to_string(),
                    NextHop::Host(host, _) => host.to_string(),
                    other => format!("{other:?}"),
                };
                self.fail(&held, &recipients, &reply, &target);
            }
        }
    }

    fn fail(self: &Arc<Self>, held: &Arc<Held>, recipients: &[u32], reply: &Reply, target: &str) {
        let bench = self.bench(held.entry());
        let met = Met { target, security: "" };
        let judge = |index: &u32| bench.judge(*index, reply.clone(), Taken::Relayed, met, false);
        let news = recipients.iter().map(judge).collect();
        self.hand_in(held, news, "none");
    }

    fn put(self: &Arc<Self>, errands: impl IntoIterator<Item = Errand>) {
        let errands = errands.into_iter().filter_map(|errand| self.unless_suspended(errand));
        self.with_desk(|desk| ((), desk.put(Instant::now(), errands)));
    }

    /// The errand, unless its hosts are suspended: then it is put off.
    fn unless_suspended(self: &Arc<Self>, errand: Errand) -> Option<Errand> {
        let (Way::Smtp(plan) | Way::Lmtp(plan)) = &errand.way else { return Some(errand) };
        let Some(until) = plan.hops.iter().filter_map(|hop| self.suspended.host(&hop.host)).max() else {
            return Some(errand);
        };
        let bench = self.bench(errand.held.entry());
        let pause = until.saturating_duration_since(Instant::now());
        let news = errand.recipients.iter().map(|index| bench.suspended(*index, pause)).collect();
        self.hand_in(&errand.held, news, "none");
        None
    }

    /// What replies of a destination ask for.
    pub(crate) fn heed(self: &Arc<Self>, lane: &Lane, actions: &[Action]) {
        if !actions.is_empty() {
            self.complain(&format!("{lane}: its replies ask for {actions:?}"));
            self.with_desk(|desk| ((), desk.heed(Instant::now(), lane, actions)));
        }
    }

    /// A transaction is over.
    pub(crate) fn end(
        self: &Arc<Self>,
        lane: &Lane,
        feedback: Feedback,
        sender: Option<&mpsc::Sender<Parcel>>,
    ) -> Next {
        self.with_desk(|desk| desk.end(Instant::now(), lane, feedback, sender))
    }

    fn with_desk<T>(self: &Arc<Self>, work: impl FnOnce(&mut Desk) -> (T, Todo)) -> T {
        let mut desk = self.desk();
        let before = desk.timeout();
        let (value, todo) = work(&mut desk);
        let sooner = desk.timeout().is_some_and(|at| before.is_none_or(|before| at < before));
        drop(desk);
        if sooner {
            self.wake.notify_one();
        }
        self.carry_out(todo);
        value
    }

    fn carry_out(self: &Arc<Self>, todo: Todo) {
        for (lane, errand) in todo.start {
            self.start(lane, errand);
        }
        for (errand, dead_until) in todo.back {
            self.take_back(&errand, dead_until);
        }
    }

    pub(crate) fn start(self: &Arc<Self>, lane: Lane, errand: Errand) {
        tokio::spawn(carrier::run(self.clone(), lane, errand));
    }

    /// An errand is not going to start: its destination is dead until then, or there is no room.
    fn take_back(self: &Arc<Self>, errand: &Errand, dead_until: Option<Instant>) {
        let news = match dead_until {
            Some(until) => {
                let pause = until.saturating_duration_since(Instant::now());
                let bench = self.bench(errand.held.entry());
                errand.recipients.iter().map(|index| bench.pass_over(*index, pause)).collect()
            }
            None => Vec::new(),
        };
        self.hand_in(&errand.held, news, "none");
    }

    /// A group is through: tells the observer and settles. No news means that nothing was tried.
    pub(crate) fn hand_in(self: &Arc<Self>, held: &Arc<Held>, news: Vec<News>, security: &str) {
        let now = chance::now();
        news.iter().for_each(|news| self.tell(held.entry(), news, security, now));
        if held.add(news) {
            tokio::spawn(self.clone().settle(held.clone()));
        }
    }

    fn tell(&self, entry: &Entry, news: &News, security: &str, now: Timestamp) {
        let settled = &news.settled;
        let delivery = &entry.recipients[settled.index as usize];
        let tried = u32::from(settled.attempt.is_some());
        let delayed = matches!(settled.outcome, Outcome::Delayed(_));
        let category = match &settled.outcome {
            Outcome::Delayed(reply) | Outcome::Failed(reply) => Some(&*self.options.table.of_reply(reply).name),
            _ => None,
        };
        if let (Outcome::Failed(reply), Some(category), 1) = (&settled.outcome, category, tried) {
            self.suppress(entry, &delivery.recipient.address, category, reply, now);
        }
        self.services.observer.observe(Event::Attempted {
            id: entry.id,
            recipient: &delivery.recipient.address,
            outcome: &settled.outcome,
            target: settled.attempt.as_ref().map_or("none", |attempt| &attempt.target),
            security,
            attempt: delivery.attempts + tried,
            age: now.since(entry.accepted),
            retry_in: delayed.then(|| settled.due.since(now)),
            category,
        });
    }

    /// Nobody is written to again who was refused for a reason that the operator has named.
    fn suppress(&self, entry: &Entry, address: &Address, category: &str, reply: &Reply, now: Timestamp) {
        let Some(list) = self.options.suppression.as_ref().filter(|list| list.is_fed_by(category)) else { return };
        if !is_from_us(entry) {
            return;
        }
        if let Err(error) = list.add(&address.to_string(), category, &reply.to_string(), now) {
            self.complain(&format!("{address} cannot be put on the suppression list: {error:?}"));
        }
    }

    /// Makes everything durable that has been handed in for a claim.
    async fn settle(self: Arc<Self>, held: Arc<Held>) {
        while let Some((news, last)) = held.next_settlement() {
            if news.is_empty() {
                let _ = self.services.store.release(held.claim.clone()).await;
                self.wake.notify_one();
                continue;
            }
            let now = chance::now();
            let store = &*self.services.store;
            let reporter = &self.options.reporter;
            let (mut settlement, reasons) =
                notice::settlement(reporter, store, &self.dice, &held, news, last, now).await;
            for (report, _) in &mut settlement.children {
                notice::readdress(report, &*self.services.expand).await;
            }
            self.write(&held, settlement, &reasons).await;
        }
    }

    async fn write(self: &Arc<Self>, held: &Held, settlement: Settlement, reasons: &[Reason]) {
        let mut pause = Duration::from_millis(50);
        loop {
            let error = match self.services.store.settle(&held.claim, settlement.clone()).await {
                Ok(left) => return self.written(held, &settlement, reasons, left.as_deref()),
                Err(error) => error,
            };
            match error {
                StoreError::Busy | StoreError::Full if Instant::now() + pause < held.end => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                StoreError::Failed(text) => {
                    self.stop_for_failed_store(&text);
                    return self.unsettled(held, &text);
                }
                error => return self.unsettled(held, &error.to_string()),
            }
        }
    }

    /// Nothing may be sent any more that cannot be settled: it would be sent again after the restart.
    fn stop_for_failed_store(self: &Arc<Self>, error: &str) {
        if !self.store_failed.swap(true, Ordering::SeqCst) {
            self.services.observer.observe(Event::StoreFailed { error });
            let todo = self.desk().close(Instant::now());
            self.carry_out(todo);
        }
    }

    fn written(&self, held: &Held, settlement: &Settlement, reasons: &[Reason], left: Option<&Entry>) {
        let (entry, observer) = (held.entry(), &self.services.observer);
        for ((child, _), reason) in settlement.children.iter().zip(reasons) {
            let to = &child.recipients[0].recipient.address;
            observer.observe(Event::Noticed { id: child.id, about: entry.id, kind: reason.word(), to });
        }
        if left.is_none() {
            observer.observe(Event::Removed { id: entry.id, age: chance::now().since(entry.accepted) });
        }
        let soon = chance::now().after(NAP_MAX);
        if !settlement.children.is_empty() || left.and_then(Entry::due).is_some_and(|due| due < soon) {
            self.wake.notify_one();
        }
    }

    /// What happened could not be written down: it will happen again.
    fn unsettled(&self, held: &Held, error: &str) {
        let id = held.entry().id;
        self.complain(&format!("{id}: the outcome of an attempt could not be kept and it may be repeated: {error}"));
    }

    /// The message cannot be read: perhaps later.
    pub(crate) fn unreadable(self: &Arc<Self>, held: &Arc<Held>, recipients: &[u32], error: &StoreError) {
        let id = held.entry().id;
        match error {
            StoreError::Corrupt(text) => {
                self.services.observer.observe(Event::EntryCorrupt { id: Some(id), error: text });
            }
            error => self.complain(&format!("{id}: the message cannot be read: {error}")),
        }
        let bench = self.bench(held.entry());
        let news = recipients.iter().map(|index| bench.pass_over(*index, self.options.backoff.first)).collect();
        self.hand_in(held, news, "none");
    }

    fn release(self: &Arc<Self>, claim: Claim) {
        let shared = self.clone();
        tokio::spawn(async move {
            // Whatever stands against it, the lease will end.
            let _ = shared.services.store.release(claim).await;
        });
    }

    fn complain(&self, message: &str) {
        self.services.observer.observe(Event::Notice { level: "warn", message });
    }
}

/// Whether our own users or hosts sent it: what strangers send to domains that we relay for is not ours to suppress.
fn is_from_us(entry: &Entry) -> bool {
    entry.origin.user.is_some() || !matches!(entry.origin.transport, Door::Mx | Door::Lmtp)
}

/// Recipients with the same next hop together.
fn by_hop(ways: Vec<(NextHop, u32)>) -> Groups {
    if ways.len() == 1 {
        return ways.into_iter().map(|(hop, at)| (hop, vec![at])).collect();
    }
    let mut groups: HashMap<NextHop, Vec<u32>, ahash::RandomState> = HashMap::default();
    for (hop, at) in ways {
        groups.entry(hop).or_default().push(at);
    }
    groups.into_iter().collect()
}

/// No group larger than one transaction may be.
fn in_transactions(groups: Groups, recipients_max: usize) -> Groups {
    if groups.iter().all(|(_, recipients)| recipients.len() <= recipients_max) {
        return groups;
    }
    let parts = |(next_hop, recipients): (NextHop, Vec<u32>)| {
        let parts: Vec<_> = recipients.chunks(recipients_max).map(|part| (next_hop.clone(), part.to_vec())).collect();
        parts
    };
    groups.into_iter().flat_map(parts).collect()
}
