//! What a relayed message costs on the way out, on request:
//! `smtp-sink -c 127.0.0.1:2599 200 & WAYPOST_SINK=127.0.0.1:2599 cargo test --release -p waypost-deliver -- --ignored --nocapture cost`

use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost_queue::Store;
use waypost_types::{Message, Security::Plain};

use crate::house::{House, hop};

/// Ticks of CPU time of this process, at 100 a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: needs a sink in WAYPOST_SINK"]
async fn cost_of_a_relayed_message() {
    const COUNT: usize = 20_000;
    let sink = std::env::var("WAYPOST_SINK").expect("WAYPOST_SINK=address:port of an SMTP sink").parse().unwrap();
    let house = House::with(|options| options.schedule.limits.window.max = 20);
    house.mx("peer.test", vec![hop(sink, Plain)]);
    let body =
        Message::new(Bytes::from(format!("Subject: x\r\n\r\n{}", "0123456789abcdef0123456789abcdef\r\n".repeat(300))));
    let (start, ticks) = (Instant::now(), cpu_ticks());
    for _ in 0..COUNT {
        while house.courier.in_hand() > 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let claim = house.store.accept(house.entry(&["b@peer.test"]), body.clone()).await.unwrap();
        waypost_queue::Handoff::offer(&house.courier, claim);
    }
    while house.courier.in_hand() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cpu = (cpu_ticks() - ticks) * 10_000 / COUNT as u64;
    println!(
        "{COUNT} messages in {:?}: {cpu} microseconds of CPU each; {} left",
        start.elapsed(),
        house.store.counts().entries
    );
    assert_eq!(house.count("delayed"), 0);
}
