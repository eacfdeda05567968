//! What a reply means for a recipient, and when to try again.

use std::time::Duration;

use waypost_queue::schedule::{Backoff, jitter};
use waypost_queue::{Attempt, Entry, Settled};
use waypost_types::{Enhanced, Outcome, Reply, Timestamp};

use crate::held::News;

/// What a positive reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the mailbox.
    Delivered,
    /// Another host has taken over.
    Relayed,
}

/// Who answered, and how the way there was secured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met<'a> {
    pub(crate) target: &'a str,
    pub(crate) security: &'a str,
}

/// What every judgement of one errand has in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) backoff: &'a Backoff,
    pub(crate) now: Timestamp,
    pub(crate) random: u64,
}

impl Bench<'_> {
    /// An attempt for the recipient ended with `reply`.
    pub(crate) fn judge(&self, index: u32, reply: Reply, taken: Taken, met: Met<'_>, dsn_passed: bool) -> News {
        let delivery = &self.entry.recipients[index as usize];
        let reply = brief(reply);
        let (target, security) = (met.target.into(), met.security.into());
        let attempt = Attempt { at: self.now, target, security, reply: reply.clone() };
        let next = self.backoff.next(self.now, self.entry.expires, delivery.attempts.saturating_add(1), self.random);
        let (outcome, due) = match reply.code / 100 {
            2 if taken == Taken::Delivered => (Outcome::Delivered(reply), self.now),
            2 => (Outcome::Relayed(reply), self.now),
            5 => (Outcome::Failed(reply), self.now),
            _ => self.delay(reply, next),
        };
        let settled = Settled { index, outcome, attempt: Some(attempt), due, delay_reported: false };
        News { settled, dsn_passed }
    }

    /// Nothing was tried: the destination does not answer, and is left alone for `pause`. Does not count as an attempt.
    pub(crate) fn pass_over(&self, index: u32, pause: Duration) -> News {
        let last = self.entry.recipients[index as usize].last.as_ref();
        let reply = last.filter(|last| last.reply.is_transient()).map_or_else(not_answering, |last| last.reply.clone());
        self.put_off(index, pause, reply)
    }

    /// An operator has suspended the destination.
    pub(crate) fn suspended(&self, index: u32, pause: Duration) -> News {
        let reply = Reply::new(451, Enhanced(4, 3, 2), "mail for this destination is suspended by the postmaster");
        self.put_off(index, pause, reply)
    }

    fn put_off(&self, index: u32, pause: Duration, reply: Reply) -> News {
        let due = self.now.after(pause + jitter(pause, self.backoff.jitter_percent, self.random));
        let next = (self.now < self.entry.expires).then(|| due.min(self.entry.expires));
        let (outcome, due) = self.delay(reply, next);
        News { settled: Settled { index, outcome, attempt: None, due, delay_reported: false }, dsn_passed: false }
    }

    /// An operator gives the recipient up. Does not count as an attempt.
    pub(crate) fn give_up(&self, index: u32, words: &str) -> News {
        self.refuse(index, Reply::new(550, Enhanced(5, 7, 0), words.to_string()))
    }

    /// It is not even tried. Does not count as an attempt.
    pub(crate) fn refuse(&self, index: u32, reply: Reply) -> News {
        let outcome = Outcome::Failed(reply);
        let settled = Settled { index, outcome, attempt: None, due: self.now, delay_reported: false };
        News { settled, dsn_passed: false }
    }

    fn delay(&self, reply: Reply, next: Option<Timestamp>) -> (Outcome, Timestamp) {
        match next {
            Some(due) => (Outcome::Delayed(reply), due),
            None => (Outcome::Failed(expired(self.entry, self.now, &reply)), self.now),
        }
    }
}

/// Replies are kept on disk for each recipient: a wordy peer must not fill it.
const REPLY_TEXT_MAX: usize = 1024;

fn brief(mut reply: Reply) -> Reply {
    if reply.text.len() > REPLY_TEXT_MAX {
        let end = reply.text.floor_char_boundary(REPLY_TEXT_MAX);
        reply.text.to_mut().truncate(end);
    }
    reply
}

fn not_answering() -> Reply {
    Reply::new(451, Enhanced(4, 4, 1), "the destination does not answer; mail for it is held back for a while")
}

fn expired(entry: &Entry, now: Timestamp, last: &Reply) -> Reply {
    let hours = now.since(entry.accepted).as_secs() / 3600;
    Reply::new(554, Enhanced(5, 4, 7), format!("given up after {hours} hours; the last answer was: {last}"))
}

#[cfg(test)]
mod tests {
    use waypost_queue::{Delivery, Kind, Origin};
    use waypost_types::{MessageId, Recipient, ReversePath, Transport};

    use super::*;

    fn entry() -> Entry {
        let accepted = Timestamp(1_000_000);
        let origin = Origin { transport: Transport::Mx, session: None, peer: None, helo: "x".into(), user: None };
        Entry {
            id: MessageId::new(accepted, 1),
            kind: Kind::Mail,
            accepted,
            expires: accepted.after(Duration::from_secs(86_400)),
            origin,
            sender: ReversePath::Null,
            parameters: Default::default(),
            recipients: vec![Delivery::new(Recipient::new("a@b.test".parse().unwrap()), accepted)],
            size: 1,
            held: None,
            route: None,
            why: None,
        }
    }

    const MET: Met<'static> = Met { target: "t", security: "plaintext" };

    fn judge(entry: &Entry, now: Timestamp, code: u16) -> Settled {
        let bench = Bench { entry, backoff: &Backoff::default(), now, random: 0 };
        bench.judge(0, Reply::plain(code, "x"), Taken::Relayed, MET, false).settled
    }

    #[test]
    fn the_class_of_the_reply_decides() {
        let entry = entry();
        assert!(matches!(judge(&entry, entry.accepted, 250).outcome, Outcome::Relayed(_)));
        assert!(matches!(judge(&entry, entry.accepted, 550).outcome, Outcome::Failed(_)));
        let late = judge(&entry, entry.accepted, 421);
        assert!(
            matches!(late.outcome, Outcome::Delayed(_)) && late.due == entry.accepted.after(Duration::from_secs(300))
        );
        // A code that is none of these is no answer at all.
        assert!(matches!(judge(&entry, entry.accepted, 354).outcome, Outcome::Delayed(_)));
    }

    #[test]
    fn pauses_grow_with_the_attempts_on_disk() {
        let mut entry = entry();
        entry.recipients[0].attempts = 2;
        assert_eq!(judge(&entry, entry.accepted, 450).due, entry.accepted.after(Duration::from_secs(1200)));
    }

    #[test]
    fn after_its_time_a_delay_is_a_failure_that_names_the_last_answer() {
        let entry = entry();
        let failed = judge(&entry, entry.expires, 450);
        let Outcome::Failed(reply) = &failed.outcome else { panic!("{failed:?}") };
        assert_eq!(reply.enhanced, Some(Enhanced(5, 4, 7)));
        assert!(reply.text.contains("24 hours") && reply.text.contains("450"), "{reply}");
        assert_eq!(failed.attempt.unwrap().reply.code, 450);
    }

    #[test]
    fn a_wordy_reply_is_cut() {
        let entry = entry();
        let bench = Bench { entry: &entry, backoff: &Backoff::default(), now: entry.accepted, random: 0 };
        let settled = bench.judge(0, Reply::plain(550, "é".repeat(5000)), Taken::Relayed, MET, false).settled;
        assert_eq!(settled.outcome.reply().unwrap().text.len(), REPLY_TEXT_MAX);
    }

    #[test]
    fn being_passed_over_is_no_attempt() {
        let entry = entry();
        let pause = Duration::from_secs(60);
        let bench = Bench { entry: &entry, backoff: &Backoff::default(), now: entry.accepted, random: 0 };
        let settled = bench.pass_over(0, pause).settled;
        assert!(settled.attempt.is_none() && settled.due == entry.accepted.after(pause));
        let late = Bench { now: entry.expires, ..bench }.pass_over(0, pause).settled;
        assert!(matches!(late.outcome, Outcome::Failed(_)));
    }
}
