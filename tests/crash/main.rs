//! SIGKILL under load, again and again, in a bad neighbourhood: receivers that are slow, moody or refuse, and a name server that fails.
//!
//! Clients send as fast as they can and note each `250` in a ledger before anything else. The server is killed at a random moment
//! and started again on the same data. At the end every noted message has reached a final outcome for each of its recipients: it is where it
//! should be, and each failure was reported in exactly one report. Nothing arrives twice unless the receiving side's answer was lost: between two copies
//! lies a kill, or the receiver kept its answer to itself.
//!
//! `WAYPOST_KILLS` says how many kills; fifty otherwise.

mod arrivals;
mod load;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use waypost_tests::zone::{Faults, Record, Zone};
use waypost_tests::{Manner, Sink, Waypost, say_aloud};

use arrivals::Arrivals;
use load::Class;

const CLIENTS: u32 = 4;
/// How long after the load everything may take: a destination that was found dead just then is left alone for a minute, and for two if it fails the
/// probe.
const PATIENCE: Duration = Duration::from_secs(300);

/// The receivers.
struct Sinks {
    polite: Sink,
    slow: Sink,
    moody: Sink,
    refusing: Sink,
}

impl Sinks {
    fn start() -> Sinks {
        let [polite, slow, moody, refusing] =
            [Manner::Polite, Manner::Slow, Manner::Moody, Manner::Refuse].map(Sink::start);
        Sinks { polite, slow, moody, refusing }
    }

    fn settings(&self) -> Vec<String> {
        let to =
            |domain: &str, host: &str, sink: &Sink| format!("transport.\"{domain}\"=\"smtp:[{host}]:{}\"", sink.port);
        let mut sets: Vec<String> = [
            "listener.mx.preset=relay",
            "relay.networks=[\"127.0.0.0/8\"]",
            "queue.retry-first=1s",
            "queue.retry-max=2s",
            "dns.timeout=1s",
        ]
        .map(String::from)
        .to_vec();
        sets.push(to("polite.example", "127.0.0.1", &self.polite));
        sets.push(to("slow.example", "slow.hosts.example", &self.slow));
        sets.push(to("moody.example", "moody.hosts.example", &self.moody));
        sets.push(to("refusing.example", "refusing.hosts.example", &self.refusing));
        sets
    }
}

fn kills() -> u32 {
    std::env::var("WAYPOST_KILLS").ok().map_or(50, |text| text.parse().expect("WAYPOST_KILLS is a number"))
}

#[test]
fn every_250_reaches_its_outcome_through_sigkill() {
    let begun = Instant::now();
    let host = Record::A(Ipv4Addr::LOCALHOST);
    let hosts =
        ["slow.hosts.example", "moody.hosts.example", "refusing.hosts.example"].map(|name| (name, host.clone()));
    let zone = Zone::start(&hosts, Faults { failing: 15, silent: 5 });
    let sinks = Sinks::start();
    let sets = sinks.settings();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let mut server = Waypost::start_in(None, Some(zone.port), &sets);
    let (promised, killed) = under_fire(&mut server, kills());
    assert!(promised.len() as u32 > kills(), "there was load: {}", promised.len());
    let arrivals = wait_for_all(&server, &sinks, &promised);
    let doubles = arrivals.assert_doubles_are_excused(&killed);
    arrivals.assert_one_report_each(&promised);
    say_aloud(&format!(
        "{} kills in {} s: {} messages promised, {} copies arrived, {doubles} of them a second time, {} failures, each with one report",
        killed.len(),
        begun.elapsed().as_secs(),
        promised.len(),
        arrivals.copies(),
        arrivals.reported(),
    ));
}

/// Load, and so many kills under it; gives the numbers of the messages that got a 250, and the moments of the kills.
fn under_fire(server: &mut Waypost, kills: u32) -> (HashSet<u32>, Vec<SystemTime>) {
    let (next, stop, ledger) = (AtomicU32::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    let (port, mut killed) = (server.mx, Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = load::send_until_lost(port, &next, &ledger, &stop);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let mut seed = 88_172_645_463_325_252_u64;
        for _ in 0..kills {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            std::thread::sleep(Duration::from_millis(20 + seed % 400));
            server.kill();
            killed.push(SystemTime::now());
            server.run();
        }
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
    });
    (ledger.into_inner().expect("no panic while held").into_iter().collect(), killed)
}

/// Waits until every promised message has reached its outcome.
fn wait_for_all(server: &Waypost, sinks: &Sinks, promised: &HashSet<u32>) -> Arrivals {
    let end = Instant::now() + PATIENCE;
    loop {
        let arrivals = Arrivals::look(server, sinks);
        let missing: Vec<_> = promised.iter().filter(|number| !arrivals.is_through(**number)).collect();
        if missing.is_empty() {
            return arrivals;
        }
        let some: Vec<_> = missing.iter().take(20).map(|number| (**number, Class::of(**number))).collect();
        assert!(Instant::now() < end, "{} of {} have no outcome: {some:?}", missing.len(), promised.len());
        std::thread::sleep(Duration::from_secs(1));
    }
}
