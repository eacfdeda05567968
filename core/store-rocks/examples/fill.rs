//! Fills a queue with deferred mail, to measure what a server with a long queue costs: `fill FOLDER MESSAGES DESTINATIONS OCTETS DUE-PERCENT`.
//!
//! Each message has one recipient at one of so many domains `d0.backlog.example`, `d1.backlog.example`, …, three attempts behind it and the reply to the
//! last of them. DUE-PERCENT of them are due now, the others within the next four hours. Nothing is synced on the way: it is a generator.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::Semaphore;
use waypost_queue::{Attempt, Delivery, Entry, Kind, Origin, Store};
use waypost_store_rocks::{Durability, Options, RocksStore};
use waypost_types::event::Deaf;
use waypost_types::{
    Address, Enhanced, MailParameters, Message, MessageId, Recipient, Reply, ReversePath, SessionId, Timestamp,
    Transport,
};

/// Messages on their way to the disk at once.
const AT_ONCE: usize = 2000;
const FOUR_HOURS: u64 = 4 * 3600 * 1000;

struct Plan {
    now: Timestamp,
    destinations: u64,
    body: Bytes,
    due_percent: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, numbers @ ..] = arguments.as_slice() else { usage() };
    let numbers: Vec<u64> = numbers.iter().map(|text| text.parse().unwrap_or_else(|_| usage())).collect();
    let [messages, destinations, octets, due_percent] = numbers[..] else { usage() };
    let mut options = Options::new(folder);
    options.durability = Durability::Os;
    // Larger than a server's: there is nothing here that dies young.
    options.memtable_bytes = 64 << 20;
    let store = Arc::new(RocksStore::open(options, Arc::new(Deaf)).expect("the folder can hold a queue"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let body = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnop\r\n".repeat(octets as usize / 64);
    let now = Timestamp(since.as_millis() as u64);
    let plan = Plan { now, destinations: destinations.max(1), body: body.into(), due_percent };
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    let begun = Instant::now();
    runtime.block_on(fill(store.clone(), messages, Arc::new(plan)));
    runtime.block_on(store.close()).expect("what was written is flushed");
    println!("{messages} messages to {destinations} destinations in {} s", begun.elapsed().as_secs());
}

fn usage() -> ! {
    eprintln!("fill FOLDER MESSAGES DESTINATIONS OCTETS DUE-PERCENT");
    std::process::exit(2)
}

async fn fill(store: Arc<RocksStore>, messages: u64, plan: Arc<Plan>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    for n in 0..messages {
        let place = room.clone().acquire_owned().await.expect("never closed");
        let (store, plan) = (store.clone(), plan.clone());
        tokio::spawn(async move {
            let (entry, message) = plan.message(n);
            let claim = store.accept(entry, message).await.expect("the disk takes it");
            store.release(claim).await.expect("ours");
            drop(place);
        });
    }
    let _all = room.acquire_many(AT_ONCE as u32).await.expect("never closed");
}

impl Plan {
    fn message(&self, n: u64) -> (Entry, Message) {
        // Weyl's sequence: even, and in no order that the disk would like.
        let chance = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let accepted = Timestamp(self.now.0 - 3600 * 1000 + n % 3_000_000);
        let domain = chance % self.destinations;
        let address: Address = format!("user{n}@d{domain}.backlog.example").parse().expect("an address");
        let later =
            if chance >> 32 & 0xffff_ffff < self.due_percent * 42_949_673 { 0 } else { chance >> 20 & 0xff_ffff };
        let due = Timestamp(self.now.0 + later % FOUR_HOURS);
        let mut delivery = Delivery::new(Recipient::new(address), due);
        delivery.attempts = 3;
        delivery.last = Some(Attempt {
            at: self.now,
            target: format!("mx.d{domain}.backlog.example[192.0.2.1]:25").into(),
            security: "TLSv1.3 opportunistic".into(),
            reply: Reply::new(451, Enhanced(4, 7, 1), "Greylisting in action, please come back later"),
        });
        let head = format!(
            "From: <list@sender.example>\r\nTo: <user{n}@d{domain}.backlog.example>\r\nSubject: backlog {n}.\r\n\r\n"
        );
        let message = Message::from_segments(vec![head.into(), self.body.clone()]);
        let entry = Entry {
            id: MessageId::new(accepted, chance),
            kind: Kind::Mail,
            accepted,
            expires: accepted.after(Duration::from_secs(5 * 86_400)),
            origin: Origin {
                transport: Transport::Submission,
                session: Some(SessionId::new(n)),
                peer: Some([192, 0, 2, 7].into()),
                helo: "client.sender.example".into(),
                user: Some("sender".into()),
            },
            sender: ReversePath::Mailbox("list@sender.example".parse().expect("an address")),
            parameters: MailParameters::default(),
            recipients: vec![delivery],
            size: message.len() as u64,
            held: None,
            route: None,
            why: None,
        };
        (entry, message)
    }
}
