//! The power goes: forty messages get their 250, the server is killed, and only what had reached the disk by then is there afterwards.
//!
//! The method is sound only if it sees loss where there is some: the last test shows that it does.

use std::collections::HashSet;
use std::time::Duration;

use waypost_tests::{Dialog, Manner, Sink, Waypost, say_aloud, wait_for};

use crate::disk::Disk;
use crate::{borrowed, number, offer, queued, settings};

const MESSAGES: u32 = 40;
const ROUNDS: u32 = 3;
const IMAGE_MIB: u32 = 256;

/// Forty messages with 250 over four connections: every other one stays, every other one waits for a host that defers.
fn accept_forty(server: &Waypost, local: bool) {
    std::thread::scope(|scope| {
        for first in 0..4 {
            scope.spawn(move || {
                let mut dialog = Dialog::greeted(server.mx);
                for n in (first..MESSAGES).step_by(4) {
                    let here = local && n % 2 == 0;
                    let recipient = if here { "alice@waypost.test" } else { "user@elsewhere.example" };
                    assert_eq!(offer(&mut dialog, recipient, n, 4096), 250);
                }
            });
        }
    });
}

#[test]
fn every_acknowledged_message_survives_a_power_cut() {
    for round in 1..=ROUNDS {
        let Some(disk) = Disk::ext4(IMAGE_MIB) else { return };
        let sink = Sink::start(Manner::Defer);
        let sets = settings(&sink, &["queue.free-space=1 MiB"]);
        let mut server = Waypost::start_in(Some(&disk.path()), None, &borrowed(&sets));
        accept_forty(&server, true);
        server.kill();
        let after = disk.after_power_cut();
        drop(server);
        sink.set_manner(Manner::Polite);
        let server = Waypost::start_in(Some(&after.path()), None, &borrowed(&sets));
        let arrived = || {
            let (here, there) = (server.mailbox("alice"), sink.received());
            let all = here.iter().map(String::as_str).chain(there.iter().map(|received| received.message.as_str()));
            all.filter_map(number).collect::<HashSet<u32>>()
        };
        wait_for(&format!("all forty, not {:?}", arrived()), Duration::from_secs(60), || {
            (arrived().len() == MESSAGES as usize).then_some(())
        });
        say_aloud(&format!("power cut, round {round}: {} of {MESSAGES} messages survived", arrived().len()));
    }
}

#[test]
fn the_method_sees_the_loss_of_what_is_not_synced() {
    let Some(disk) = Disk::ext4(IMAGE_MIB) else { return };
    let sink = Sink::start(Manner::Defer);
    let sets = settings(&sink, &["queue.free-space=1 MiB", "queue.durability=os"]);
    let mut server = Waypost::start_in(Some(&disk.path()), None, &borrowed(&sets));
    accept_forty(&server, false);
    server.kill();
    let after = disk.after_power_cut();
    let server = Waypost::stopped_in(&after.path(), &borrowed(&sets));
    let left = queued(&server);
    say_aloud(&format!("power cut without syncing: {left} of {MESSAGES} messages survived"));
    assert!(left < MESSAGES as usize, "nothing was lost although nothing was synced: the method proves nothing");
}
