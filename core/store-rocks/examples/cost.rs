//! What a message costs: 50 tasks accept and settle messages of 10 KB; prints CPU per message of the whole process, syncs and rate.
//!
//! `cargo run --release -p waypost-store-rocks --example cost -- [FOLDER] [MESSAGES] [TASKS]`

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use waypost_queue::Store;
use waypost_queue::conformance::{all_relayed, mail};
use waypost_store_rocks::{Options, RocksStore};
use waypost_types::Message;
use waypost_types::event::Deaf;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "./cost-queue".into());
    let messages: u64 = arguments.next().map_or(20_000, |text| text.parse().expect("a number of messages"));
    let tasks: u64 = arguments.next().map_or(50, |text| text.parse().expect("a number of tasks"));
    let store = Arc::new(RocksStore::open(Options::new(&folder), Arc::new(Deaf)).expect("a queue"));
    let body = Bytes::from(vec![b'x'; 10_000]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (begun, cpu) = (Instant::now(), cpu_micros());
    runtime.block_on(async {
        let run = |lane: u64| {
            let (store, body) = (store.clone(), body.clone());
            tokio::spawn(async move {
                for n in (lane..messages).step_by(tasks as usize) {
                    let (entry, front) = mail(n, &["user@example.com"]);
                    let mut message = Message::new(body.clone());
                    message.prepend(front.contiguous());
                    let claim = store.accept(entry, message).await.expect("accepted");
                    store.settle(&claim, all_relayed(&claim)).await.expect("settled");
                }
            })
        };
        let lanes: Vec<_> = (0..tasks).map(run).collect();
        for lane in lanes {
            lane.await.expect("a lane");
        }
    });
    let (took, cpu) = (begun.elapsed(), cpu_micros() - cpu);
    let metrics = store.metrics();
    println!(
        "{messages} messages, {tasks} tasks: {:.1} µs CPU a message, {:.2} syncs a message, {:.0} messages a second, {:.2} ms a write",
        cpu as f64 / messages as f64,
        metrics.batches as f64 / messages as f64,
        messages as f64 / took.as_secs_f64(),
        metrics.write_time.as_secs_f64() * 1000.0 / metrics.batches as f64,
    );
}

/// User and system time of this process, from /proc/self/stat, in ticks of 10 ms.
fn cpu_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10_000
}
