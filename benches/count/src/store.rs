//! What becomes of an accepted message: its way, its entry, its turn, its report.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use waypost_queue::dsn::{self, Making, Reason, Reporter};
use waypost_queue::schedule::{Feedback, Flow, Job, Options};
use waypost_queue::{Attempt, Schedule, Settled, Settlement, codec};
use waypost_route::{Router, Tables, table};
use waypost_types::{Enhanced, Host, MessageId, Outcome, Reply};

use crate::{Round, sample};

fn router() -> Router {
    let own = Host::Name("example.com".parse().expect("a domain"));
    let tables = Tables {
        own: vec![own],
        users: (0..1000).map(|number| format!("user{number}")).collect(),
        aliases: table::parse_virtual("postmaster user7\nsales postmaster\n").expect("two aliases"),
        separators: "+".into(),
        ..Tables::default()
    };
    tables.build().expect("tables without a mistake")
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("tables in memory answer at once"),
    }
}

pub(crate) fn route_own() -> Round {
    let (router, address) = (router(), sample::address("sales+x@example.com"));
    Box::new(move || drop(black_box(at_once(router.resolve(&address, sample::NOW).get()))))
}

pub(crate) fn route_away() -> Round {
    let (router, address) = (router(), sample::address("somebody@elsewhere.example"));
    Box::new(move || drop(black_box(at_once(router.next_hop(&address).get()))))
}

pub(crate) fn encode() -> Round {
    let entry = sample::entry(1);
    Box::new(move || {
        let mut out = Vec::new();
        codec::encode(black_box(&entry), &mut out);
        drop(black_box(out));
    })
}

pub(crate) fn decode() -> Round {
    let mut octets = Vec::new();
    codec::encode(&sample::entry(1), &mut octets);
    Box::new(move || assert!(codec::decode(black_box(&octets)).is_ok()))
}

fn settlement(outcome: fn(Reply) -> Outcome, reply: Reply) -> Settlement {
    let attempt = Attempt {
        at: sample::NOW,
        target: "mx.elsewhere.example [192.0.2.9]".into(),
        security: "TLSv1.3 opportunistic".into(),
        reply: reply.clone(),
    };
    let news =
        Settled { index: 0, outcome: outcome(reply), attempt: Some(attempt), due: sample::NOW, delay_reported: false };
    Settlement { recipients: vec![news], ..Settlement::default() }
}

pub(crate) fn settle() -> Round {
    let entry = sample::entry(1);
    let settlement = settlement(Outcome::Relayed, Reply::new(250, Enhanced(2, 0, 0), "Ok: queued"));
    Box::new(move || assert!(entry.settled(black_box(&settlement)).is_done()))
}

pub(crate) fn schedule() -> Round {
    let now = Instant::now();
    let mut plan: Schedule<u32, u32> = Schedule::new(Options::default());
    let job = |destination: u32, payload: u32| Job {
        destination,
        flow: Flow(u64::from(payload % 7)),
        priority: 0,
        cost: 1,
        bytes: 10_240,
        payload,
    };
    for number in 0..1500 {
        plan.handle_job(now, job(number % 100, number));
    }
    let mut started: Vec<u32> = std::iter::from_fn(|| plan.poll_start(now)).map(|job| job.destination).collect();
    let mut next = 1500;
    Box::new(move || {
        next += 1;
        plan.handle_job(now, job(next % 100, next));
        let destination = started.swap_remove(next as usize % started.len());
        plan.handle_end(now, &destination, Feedback::Success);
        started.extend(std::iter::from_fn(|| plan.poll_start(now)).map(|job| job.destination));
    })
}

pub(crate) fn report() -> Round {
    let reporter = Reporter::new("mx.example.com".parse().expect("a domain"));
    let entry =
        sample::entry(1).settled(&settlement(Outcome::Failed, Reply::new(550, Enhanced(5, 1, 1), "no such user")));
    let message = sample::message();
    let making = Making { id: MessageId::new(sample::NOW, 8), now: sample::NOW, random: 9 };
    Box::new(move || drop(black_box(dsn::report(&reporter, &entry, Reason::Failure, &[0], &message, making))))
}
