//! What arrived, where, when and how often; and the reports about what did not.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use waypost_tests::sink::header;
use waypost_tests::{Sink, Waypost};

use crate::Sinks;
use crate::load::{Class, number};

/// A moment of arrival, and whether the sending side was told.
type Copy = (SystemTime, bool);

/// Everything that arrived so far.
#[derive(Default)]
pub(crate) struct Arrivals {
    copies: HashMap<(u32, &'static str), Vec<Copy>>,
    /// Number of the message, Message-IDs of the reports about it.
    reports: HashMap<u32, HashSet<String>>,
    /// Message-ID of the report, its copies.
    report_copies: HashMap<String, Vec<Copy>>,
}

impl Arrivals {
    pub(crate) fn look(server: &Waypost, sinks: &Sinks) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for (at, text) in server.mailbox_with_times("alice") {
            arrivals.add("local", &text, (at, true));
        }
        for (at, text) in server.mailbox_with_times("bob") {
            arrivals.add_report(&text, (at, true));
        }
        let receivers: [(&'static str, &Sink); 3] =
            [("polite", &sinks.polite), ("slow", &sinks.slow), ("moody", &sinks.moody)];
        for (name, sink) in receivers {
            for received in sink.received() {
                arrivals.add(name, &received.message, (received.at, received.answered));
            }
        }
        assert!(sinks.refusing.received().is_empty());
        arrivals
    }

    fn add(&mut self, place: &'static str, text: &str, copy: Copy) {
        let number = number(text).unwrap_or_else(|| panic!("at {place}, a message of nobody's: {text}"));
        self.copies.entry((number, place)).or_default().push(copy);
    }

    fn add_report(&mut self, text: &str, copy: Copy) {
        let number = number(text).unwrap_or_else(|| panic!("a report about nothing: {text}"));
        for part in ["Action: failed", "user@refusing.example", "no such user here"] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        let id = header(text, "Message-ID").expect("a report has a name");
        self.reports.entry(number).or_default().insert(id.clone());
        self.report_copies.entry(id).or_default().push(copy);
    }

    /// Whether every recipient of this message has an outcome.
    pub(crate) fn is_through(&self, number: u32) -> bool {
        let at = |place| self.copies.contains_key(&(number, place));
        let reported = self.reports.contains_key(&number);
        match Class::of(number) {
            Class::Local => at("local"),
            Class::Polite => at("polite"),
            Class::Slow => at("slow"),
            Class::Moody => at("moody"),
            Class::Refused => reported,
            Class::Split => at("polite") && reported,
        }
    }

    /// Between two copies lies a kill, or the first one's answer was kept back; counts the second copies.
    pub(crate) fn assert_doubles_are_excused(&self, kills: &[SystemTime]) -> usize {
        // Clocks of files and of this process may differ by a tick of the kernel's.
        let tick = Duration::from_millis(20);
        let mut doubles = 0;
        for copies in self.copies.values().chain(self.report_copies.values()) {
            let mut copies = copies.clone();
            copies.sort();
            for pair in copies.windows(2) {
                let [(first, answered), (second, _)] = pair else { unreachable!("windows of two") };
                let killed = kills.iter().any(|kill| *kill + tick >= *first && *kill <= *second + tick);
                assert!(killed || !answered, "the same message at {first:?} and {second:?} without need");
                doubles += 1;
            }
        }
        doubles
    }

    /// Each failure has one report, and nothing else has any; a message that got no 250 may have been taken all the same.
    pub(crate) fn assert_one_report_each(&self, promised: &HashSet<u32>) {
        for (number, reports) in &self.reports {
            assert!(matches!(Class::of(*number), Class::Refused | Class::Split), "{number} was reported: {reports:?}");
            assert_eq!(reports.len(), 1, "reports about {number}: {reports:?}");
        }
        let failed = promised.iter().filter(|number| matches!(Class::of(**number), Class::Refused | Class::Split));
        assert!(failed.count() <= self.reports.len());
    }

    pub(crate) fn copies(&self) -> usize {
        self.copies.values().map(Vec::len).sum()
    }

    pub(crate) fn reported(&self) -> usize {
        self.reports.len()
    }
}
