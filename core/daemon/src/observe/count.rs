//! Events as counters, in the text form that Prometheus reads.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use waypost_queue::Counts;
use waypost_types::{Event, Outcome, Stage, Transport};

const TRANSPORTS: [Transport; 6] =
    [Transport::Mx, Transport::Submission, Transport::Submissions, Transport::Lmtp, Transport::Relay, Transport::Local];
const OUTCOMES: [&str; 5] = ["delivered", "relayed", "expanded", "delayed", "failed"];
const TOLD: [&str; 5] = ["failed", "delayed", "delivered", "complaint", "feedback"];
const NOTICES: [&str; 3] = ["failure", "delay", "success"];

/// Everything that is counted. Counters only grow; gauges are the difference of two of them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connected: [AtomicU64; TRANSPORTS.len()],
    disconnected: AtomicU64,
    turned_away: AtomicU64,
    tls: AtomicU64,
    tls_failed: AtomicU64,
    logins: AtomicU64,
    logins_failed: AtomicU64,
    rejected: [AtomicU64; Stage::ALL.len()],
    accepted: AtomicU64,
    accepted_bytes: AtomicU64,
    discarded: AtomicU64,
    limits: AtomicU64,
    attempts: [AtomicU64; OUTCOMES.len()],
    removed: AtomicU64,
    notices: [AtomicU64; NOTICES.len()],
    bounced: [AtomicU64; TOLD.len()],
    policies_failed: AtomicU64,
    plugin_faults: AtomicU64,
    corrupt: AtomicU64,
    store_failed: AtomicU64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    /// Counts an event.
    pub(crate) fn count(&self, event: &Event<'_>) {
        match event {
            Event::Connected { transport, .. } => add(&self.connected[place(&TRANSPORTS, transport)], 1),
            Event::Disconnected { .. } => add(&self.disconnected, 1),
            Event::TurnedAway { .. } => add(&self.turned_away, 1),
            Event::TlsStarted { .. } => add(&self.tls, 1),
            Event::TlsFailed { .. } => add(&self.tls_failed, 1),
            Event::Authenticated { .. } => add(&self.logins, 1),
            Event::AuthenticationFailed { .. } => add(&self.logins_failed, 1),
            Event::Rejected { stage, .. } => add(&self.rejected[*stage as usize], 1),
            Event::Accepted { size, .. } => {
                add(&self.accepted, 1);
                add(&self.accepted_bytes, *size as u64);
            }
            Event::Discarded { .. } => add(&self.discarded, 1),
            Event::LimitReached { .. } => add(&self.limits, 1),
            Event::Attempted { outcome, .. } => self.count_attempt(outcome),
            Event::Removed { .. } => add(&self.removed, 1),
            Event::Noticed { kind, .. } => add(&self.notices[place(&NOTICES, kind)], 1),
            Event::PolicyFailed { .. } => add(&self.policies_failed, 1),
            Event::Bounced { what, .. } => add(&self.bounced[place(&TOLD, what)], 1),
            Event::PluginFault { .. } => add(&self.plugin_faults, 1),
            Event::EntryCorrupt { .. } => add(&self.corrupt, 1),
            Event::StoreFailed { .. } => self.store_failed.store(1, Ordering::Relaxed),
            _ => {}
        }
    }

    fn count_attempt(&self, outcome: &Outcome) {
        add(&self.attempts[place(&OUTCOMES, &outcome.word())], 1);
    }

    /// Sessions open now.
    pub(crate) fn sessions(&self) -> u64 {
        let begun: u64 = self.connected.iter().map(read).sum();
        begun.saturating_sub(read(&self.disconnected))
    }

    /// Messages accepted, attempts that ended well, attempts that will be repeated, recipients given up.
    pub(crate) fn totals(&self) -> [(&'static str, u64); 4] {
        [
            ("accepted", read(&self.accepted)),
            ("delivered or relayed", read(&self.attempts[0]) + read(&self.attempts[1])),
            ("delayed attempts", read(&self.attempts[3])),
            ("failed recipients", read(&self.attempts[4])),
        ]
    }

    /// Whether the store has failed.
    pub(crate) fn store_has_failed(&self) -> bool {
        read(&self.store_failed) != 0
    }

    /// Everything, with the queue's own numbers.
    pub(crate) fn render(&self, queue: Counts, lines_dropped: u64) -> String {
        let mut page = Page(String::with_capacity(4096));
        page.family("waypost_connections_total", "counter", "Sessions begun, by kind of listener.");
        for (transport, counter) in TRANSPORTS.iter().zip(&self.connected) {
            page.sample("waypost_connections_total", "listener", transport.word(), read(counter));
        }
        page.family("waypost_rejected_total", "counter", "Refusals, by stage.");
        for (stage, counter) in Stage::ALL.iter().zip(&self.rejected) {
            page.sample("waypost_rejected_total", "stage", stage.word(), read(counter));
        }
        page.family("waypost_attempts_total", "counter", "Attempts for one recipient, by outcome.");
        for (outcome, counter) in OUTCOMES.iter().zip(&self.attempts) {
            page.sample("waypost_attempts_total", "outcome", outcome, read(counter));
        }
        page.family("waypost_notices_total", "counter", "Reports to senders, by kind.");
        for (kind, counter) in NOTICES.iter().zip(&self.notices) {
            page.sample("waypost_notices_total", "kind", kind, read(counter));
        }
        page.family(
            "waypost_bounced_total",
            "counter",
            "Recipients in bounces and complaints that came in, by what they tell.",
        );
        for (what, counter) in TOLD.iter().zip(&self.bounced) {
            page.sample("waypost_bounced_total", "what", what, read(counter));
        }
        self.render_single(&mut page, queue, lines_dropped);
        page.0
    }

    fn render_single(&self, page: &mut Page, queue: Counts, lines_dropped: u64) {
        let counters = [
            ("waypost_turned_away_total", "Clients turned away before a session.", read(&self.turned_away)),
            ("waypost_tls_total", "TLS handshakes that succeeded.", read(&self.tls)),
            ("waypost_tls_failed_total", "TLS handshakes that failed.", read(&self.tls_failed)),
            ("waypost_logins_total", "Logins.", read(&self.logins)),
            ("waypost_logins_failed_total", "Failed logins.", read(&self.logins_failed)),
            ("waypost_accepted_total", "Messages accepted.", read(&self.accepted)),
            ("waypost_accepted_bytes_total", "Octets of messages accepted.", read(&self.accepted_bytes)),
            ("waypost_discarded_total", "Messages that a plugin had dropped.", read(&self.discarded)),
            ("waypost_limits_total", "Limits reached inside sessions.", read(&self.limits)),
            (
                "waypost_mta_sts_failed_total",
                "MTA-STS policies that are announced and could not be had.",
                read(&self.policies_failed),
            ),
            ("waypost_removed_total", "Messages that left the queue.", read(&self.removed)),
            ("waypost_plugin_faults_total", "Plugin calls that failed.", read(&self.plugin_faults)),
            ("waypost_corrupt_total", "Entries set aside as unreadable since the start.", read(&self.corrupt)),
            ("waypost_log_lines_dropped_total", "Log lines that nobody read in time.", lines_dropped),
        ];
        for (name, help, value) in counters {
            page.single(name, "counter", help, value);
        }
        let gauges = [
            ("waypost_sessions", "Sessions open.", self.sessions()),
            ("waypost_queue_messages", "Messages in the queue.", queue.entries),
            ("waypost_queue_claimed", "Messages being worked on.", queue.claimed),
            ("waypost_queue_held", "Messages held.", queue.held),
            ("waypost_queue_corrupt", "Entries set aside.", queue.corrupt),
            ("waypost_store_failed", "1 when the store takes no writes any more.", read(&self.store_failed)),
        ];
        for (name, help, value) in gauges {
            page.single(name, "gauge", help, value);
        }
    }
}

/// Where `wanted` stands in `all`; the last place for what is not there, so that nothing goes uncounted.
fn place<T: PartialEq>(all: &[T], wanted: &T) -> usize {
    all.iter().position(|one| one == wanted).unwrap_or(all.len() - 1)
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, label: &str, value: &str, count: u64) {
        let _ = writeln!(self.0, "{name}{{{label}=\"{value}\"}} {count}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_types::{MessageId, ReversePath, SessionId};

    #[test]
    fn what_was_seen_is_what_is_shown() {
        let counters = Counters::default();
        let session = SessionId::new(1);
        counters.count(&Event::Accepted {
            session,
            id: MessageId::MIN,
            sender: &ReversePath::Null,
            recipients: 1,
            size: 77,
            message_id: None,
            opinions: &[],
            facts: &[],
        });
        counters.count(&Event::StoreFailed { error: "disk" });
        let text = counters.render(Counts { entries: 3, ..Counts::default() }, 2);
        for line in [
            "waypost_accepted_total 1",
            "waypost_accepted_bytes_total 77",
            "waypost_queue_messages 3",
            "waypost_store_failed 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        let names: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert!(names.iter().all(|line| line.split(' ').count() == 2), "{text}");
    }
}
