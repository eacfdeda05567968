//! A task that carries errands, one after the other, over a connection that it keeps between them.

use std::sync::Arc;

use std::time::Instant;

use tokio::sync::mpsc;
use waypost_queue::schedule::Feedback;
use waypost_queue::{Kind, StoreError};
use waypost_resolve::Plan;
use waypost_smtp::client::{Report, Transaction};
use waypost_types::{Enhanced, Outcome, Reply, ReversePath};

use super::line::Line;
use super::security::demanded;
use super::walk::{Setback, Walk, Wish, open};
use crate::chance;
use crate::courier::Shared;
use crate::desk::{Errand, Lane, Next, Parcel, Way};
use crate::held::News;
use crate::local;
use crate::shaping::{Action, Shape};
use crate::sources::Choice;
use crate::verdict::{Bench, Met, Taken};

/// Carries `errand`, and whatever the desk has for this lane afterwards.
pub(crate) async fn run(shared: Arc<Shared>, lane: Lane, mut errand: Errand) {
    let (sender, mut parcels) = mpsc::channel(1);
    let mut own = Some(sender);
    let mut line = None;
    let shape = shape_of(&shared, &lane);
    loop {
        let mut turn = Turn { shared: &shared, lane: &lane, over: false };
        let feedback = carry(&shared, &lane, shape.as_deref(), &mut line, errand).await;
        let messages_max = messages_max(&shared, shape.as_deref());
        let keep = line.as_ref().is_some_and(|line: &Line| line.is_ready() && line.used < messages_max);
        if !keep && let Some(line) = line.take() {
            line.quit().await;
        }
        let next = turn.end(feedback, if keep { own.as_ref() } else { None });
        errand = match next {
            Next::Carry(errand) => errand,
            Next::Quit => break,
            Next::Sleep(id) => {
                // The desk has the only sender now: if it drops it, we are told to leave.
                drop(own.take());
                match sleep(&shared, &lane, id, &mut parcels, &mut line).await {
                    Some(Parcel(errand, sender)) => {
                        own = Some(sender);
                        errand
                    }
                    None => break,
                }
            }
        };
    }
    if let Some(line) = line {
        line.quit().await;
    }
}

/// What the lane's provider wants, if it is one that is known.
fn shape_of(shared: &Shared, lane: &Lane) -> Option<Arc<Shape>> {
    let Lane::Provider(name) = lane else { return None };
    shared.options.shaping.of(name).cloned()
}

/// Messages on one connection.
fn messages_max(shared: &Shared, shape: Option<&Shape>) -> u32 {
    shape.map_or(shared.options.connection_messages_max, |shape| shape.messages())
}

/// Sees to it that the schedule hears of the end of each transaction, also when its task panics.
struct Turn<'a> {
    shared: &'a Arc<Shared>,
    lane: &'a Lane,
    over: bool,
}

impl Turn<'_> {
    fn end(&mut self, feedback: Feedback, sender: Option<&mpsc::Sender<Parcel>>) -> Next {
        self.over = true;
        self.shared.end(self.lane, feedback, sender)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.over {
            match self.end(Feedback::Nothing, None) {
                Next::Carry(errand) => self.shared.start(self.lane.clone(), errand),
                Next::Sleep(_) | Next::Quit => {}
            }
        }
    }
}

/// Waits for an errand, until the connection has been idle too long or the peer closes it.
async fn sleep(
    shared: &Arc<Shared>,
    lane: &Lane,
    id: u64,
    parcels: &mut mpsc::Receiver<Parcel>,
    line: &mut Option<Line>,
) -> Option<Parcel> {
    let disturbed = async {
        match line.as_mut() {
            Some(line) => line.disturbed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        parcel = parcels.recv() => return parcel,
        () = disturbed => {}
        () = tokio::time::sleep(shared.options.connection_idle_max) => {}
    }
    let left = shared.desk().leave(lane, id);
    // Too late to leave: an errand is on its way, or the desk has closed.
    if left { None } else { parcels.recv().await }
}

/// Carries out one errand and hands its news in.
async fn carry(
    shared: &Arc<Shared>,
    lane: &Lane,
    shape: Option<&Shape>,
    line: &mut Option<Line>,
    errand: Errand,
) -> Feedback {
    let Errand { held, recipients, way } = errand;
    if Instant::now() >= held.start_by {
        // It has waited so long that the lease could run out half-way: somebody claims it anew.
        shared.hand_in(&held, Vec::new(), "");
        return Feedback::Nothing;
    }
    match held.message(&*shared.services.store, &shared.memory).await {
        Ok(_) => {}
        Err(StoreError::Busy) => {
            // No room in memory: its turn comes again.
            shared.hand_in(&held, Vec::new(), "");
            return Feedback::Nothing;
        }
        Err(error) => {
            shared.unreadable(&held, &recipients, &error);
            return Feedback::Nothing;
        }
    }
    let errand = Errand { held, recipients, way };
    match &errand.way {
        Way::Mailbox(mailbox) => {
            local::deliver(shared, &errand, mailbox).await;
            Feedback::Success
        }
        Way::Pipe(name) => local::pipe::deliver(shared, &errand, name).await,
        Way::Post(name) => local::post::deliver(shared, &errand, name).await,
        Way::Smtp(plan) => Attempt::new(shared, &errand, plan, shape, false).carry(lane, line).await,
        Way::Lmtp(plan) => Attempt::new(shared, &errand, plan, shape, true).carry(lane, line).await,
    }
}

/// One attempt for one group of recipients: over as many hosts and transactions as it takes.
struct Attempt<'a> {
    shared: &'a Arc<Shared>,
    errand: &'a Errand,
    plan: &'a Plan,
    shape: Option<&'a Shape>,
    /// No source may send more today.
    used_up: bool,
    /// What the replies so far ask for.
    consequences: Vec<Action>,
    wish: Wish,
    /// Recipients without an answer that stands.
    pending: Vec<u32>,
    news: Vec<News>,
    /// Why the pending ones have none.
    setback: Option<Setback>,
    security: Arc<str>,
}

impl<'a> Attempt<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        errand: &'a Errand,
        plan: &'a Plan,
        shape: Option<&'a Shape>,
        lmtp: bool,
    ) -> Attempt<'a> {
        let entry = errand.held.entry();
        let choice = match lmtp {
            true => Choice::Free,
            false => shared.options.sources.pick(entry, &plan.provider, chance::now()),
        };
        let wish = Wish {
            lmtp,
            require_tls: entry.parameters.require_tls,
            later: errand.recipients.iter().all(|index| entry.recipients[*index as usize].attempts > 0),
            until: errand.held.end,
            source: match choice {
                Choice::From(at) => Some(at),
                Choice::Free | Choice::UsedUp => None,
            },
        };
        let pending = errand.recipients.clone();
        let news = Vec::with_capacity(pending.len());
        let (consequences, setback, security) = (Vec::new(), None, "".into());
        let used_up = choice == Choice::UsedUp;
        Attempt { shared, errand, plan, shape, used_up, consequences, wish, pending, news, setback, security }
    }

    async fn carry(mut self, lane: &Lane, slot: &mut Option<Line>) -> Feedback {
        let mut walk = Walk::new(self.plan, self.shared.options.addresses_max);
        if self.used_up {
            let text = "the sources that this could leave from have sent what they may today";
            let (target, security) = (self.plan.provider.to_string(), String::new());
            let reply = Reply::new(451, Enhanced(4, 7, 1), text);
            self.setback = Some(Setback { reply, target, security, try_next: false });
            self.finish();
            return Feedback::Nothing;
        }
        let mut feedback = Feedback::Failure;
        while !self.pending.is_empty() && Instant::now() < self.errand.held.start_by {
            let Some(line) = self.line(slot, &mut walk).await else { break };
            feedback = Feedback::Success;
            let report = line.transact(self.transaction(), self.wish.until).await;
            if report.untried {
                continue;
            }
            self.weigh(line, report, &mut walk);
        }
        if self.setback.is_some() && self.news.is_empty() && feedback == Feedback::Success {
            feedback = Feedback::Nothing;
        }
        self.shared.heed(lane, &self.consequences);
        self.finish();
        feedback
    }

    /// The connection in the slot if it leads where this errand goes, or a new one to the next host.
    async fn line<'s>(&mut self, slot: &'s mut Option<Line>, walk: &mut Walk<'_>) -> Option<&'s mut Line> {
        if let Some(line) = slot.take_if(|line| !self.suits(line)) {
            line.quit().await;
        }
        while slot.is_none() {
            let (hop, address) = walk.next()?;
            // Reports, ours on TLS among them, are not counted: each day's would give rise to the next.
            let counted = self.errand.held.entry().kind == Kind::Mail && !self.wish.lmtp;
            let applied = self.plan.applied.as_ref().filter(|_| counted);
            match open(self.shared, hop, address, self.wish, applied).await {
                Ok(line) => *slot = Some(line),
                Err(setback) => self.stumble(setback, walk),
            }
        }
        slot.as_mut()
    }

    fn suits(&self, line: &Line) -> bool {
        let Wish { lmtp, require_tls, source, .. } = self.wish;
        // A host that has just put this errand off is left for the next one.
        let fresh = self.setback.is_none();
        fresh
            && line.is_ready()
            && line.used < messages_max(self.shared, self.shape)
            && self.plan.hops.iter().any(|hop| line.leads_to(hop, &demanded(&hop.security, require_tls), lmtp, source))
    }

    fn stumble(&mut self, mut setback: Setback, walk: &mut Walk<'_>) {
        setback.reply = self.heed(setback.reply, 0);
        if !setback.try_next {
            walk.limit(0);
        } else if setback.reply.is_permanent() {
            // A refusal in the greeting may be the opinion of one host: the next one is asked, and no more.
            let second = self.setback.as_ref().is_some_and(|before| before.reply.is_permanent());
            walk.limit(u32::from(!second));
        }
        self.setback = Some(setback);
    }

    /// The reply as this provider means it; what it asks for is remembered.
    fn heed(&mut self, reply: Reply, used: u32) -> Reply {
        match self.shape {
            Some(shape) => shape.heed(reply, used, &mut self.consequences),
            None => reply,
        }
    }

    fn transaction(&self) -> Transaction {
        let entry = self.errand.held.entry();
        let mut parameters = entry.parameters.clone();
        if let Some(by) = &mut parameters.deliver_by {
            // RFC 2852 §4.1.4: what is left of the time.
            let spent = chance::now().since(entry.accepted).as_secs();
            by.seconds = by.seconds.saturating_sub_unsigned(spent).max(-999_999_999);
        }
        Transaction {
            sender: self.sender(),
            parameters,
            recipients: self.pending.iter().map(|index| entry.recipients[*index as usize].recipient.clone()).collect(),
            message: self.errand.held.loaded().clone(),
        }
    }

    /// The envelope's sender, or the one that tells whom a bounce is about.
    fn sender(&self) -> ReversePath {
        let entry = self.errand.held.entry();
        let ([only], Some(verp)) = (self.pending.as_slice(), &self.shared.options.verp) else {
            return entry.sender.clone();
        };
        let recipient = &entry.recipients[*only as usize].recipient.address;
        let own = entry.sender.address().filter(|_| !self.wish.lmtp && verp.marks(&entry.sender));
        let made = own.and_then(|sender| verp.sender(sender, recipient));
        made.map_or_else(|| entry.sender.clone(), ReversePath::Mailbox)
    }

    fn weigh(&mut self, line: &Line, report: Report, walk: &mut Walk<'_>) {
        self.security = line.security.clone();
        let elsewhere = report.try_next && walk.has_next();
        // The same refusal for everybody is about the message or the host; others are about recipients, and stand.
        let one_voice = report.replies.iter().all(|reply| *reply == report.replies[0]);
        self.setback = None;
        let taken = if self.wish.lmtp { Taken::Delivered } else { Taken::Relayed };
        let bench = self.shared.bench(self.errand.held.entry());
        let met = Met { target: &line.target, security: &line.security };
        let (mut again, mut setback, before) = (Vec::new(), None, self.news.len());
        let pending = std::mem::take(&mut self.pending);
        for (at, (index, reply)) in pending.into_iter().zip(report.replies).enumerate() {
            if report.excess.contains(&at) {
                again.push(index);
                continue;
            }
            let reply = self.heed(reply, line.used);
            if elsewhere && (one_voice || reply.is_transient()) {
                again.push(index);
                setback = Some(reply);
            } else {
                self.news.push(bench.judge(index, reply, taken, met, report.dsn));
            }
        }
        self.pending = again;
        if let Some(at) = self.wish.source {
            let taken = self.news[before..].iter().filter(|news| matches!(news.settled.outcome, Outcome::Relayed(_)));
            self.shared.options.sources.note(at, taken.count() as u32, chance::now());
        }
        if let Some(reply) = setback {
            walk.skip(line.key.address);
            let (target, security) = (line.target.to_string(), line.security.to_string());
            self.stumble(Setback { reply, target, security, try_next: true }, walk);
        }
    }

    /// Whoever has no answer gets the last setback.
    fn finish(mut self) {
        let entry = self.errand.held.entry();
        let setback = self.setback.take();
        if !self.pending.is_empty() {
            let setback = setback.unwrap_or_else(|| Setback {
                reply: Reply::new(451, Enhanced(4, 4, 7), "no time left for this attempt"),
                target: self.plan.provider.to_string(),
                security: self.security.to_string(),
                try_next: false,
            });
            let bench = self.shared.bench(entry);
            let met = Met { target: &setback.target, security: &setback.security };
            for index in &self.pending {
                let taken = Taken::Relayed;
                self.news.push(bench.judge(*index, setback.reply.clone(), taken, met, false));
            }
            if self.security.is_empty() {
                self.security = setback.security.into();
            }
        }
        self.shared.hand_in(&self.errand.held, self.news, &self.security);
    }
}

impl Shared {
    /// What judgements of `entry` need, as of now.
    pub(crate) fn bench<'a>(&'a self, entry: &'a waypost_queue::Entry) -> Bench<'a> {
        Bench { entry, backoff: &self.options.backoff, now: chance::now(), random: self.dice.throw() }
    }
}
