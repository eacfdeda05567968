//! What the server says of itself: log lines and counters, both made from the same [`Event`], so that they cannot disagree.
//!
//! Lines leave through one thread ([`writer`]): whoever reports an event formats the line and goes on, and a slow terminal or pipe slows no mail.

pub(crate) mod count;
mod line;
pub(crate) mod writer;

use std::sync::Arc;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::reload;
use waypost_types::{Event, Observer, Timestamp};

use count::Counters;
use writer::Writer;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people: fields as `name=value`, coloured on a terminal.
    Text {
        /// Colour.
        ansi: bool,
    },
    /// For machines: one JSON object a line.
    Json,
}

/// Changes the level while running.
pub(crate) type Level = reload::Handle<Targets, tracing_subscriber::Registry>;

/// Sets up the log for the whole process; call once. Lines go to standard output, at this level (`error` … `trace`) and above.
pub(crate) fn start(format: Format, level: &str) -> (Arc<Writer>, Level) {
    use tracing_subscriber::layer::{Layer, SubscriberExt};
    let writer = Arc::new(Writer::start());
    let (filter, handle) = reload::Layer::new(filter_of(level));
    let make = writer.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_timer(Clock)
        .with_writer(move || writer::Line::new(make.clone()));
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        Format::Text { ansi } => Box::new(lines.with_ansi(ansi)),
        Format::Json => Box::new(lines.json().flatten_event(true).with_current_span(false).with_span_list(false)),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    // Only fails when a log is set up already, which is what tests in one process do.
    let _ = tracing::subscriber::set_global_default(subscriber);
    (writer, handle)
}

/// What is heard at a level of `log.level`. Libraries speak of what we say in our own words (a name server that fails, a plugin that traps),
/// so of theirs only errors are heard, and everything at `trace`.
pub(crate) fn filter_of(level: &str) -> Targets {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let others = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::ERROR) };
    Targets::new().with_default(others).with_target("waypost", level)
}

/// Times as RFC 3339 in UTC, with milliseconds.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, out: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        out.write_str(&now().rfc3339())
    }
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}

/// The one listener to events.
#[derive(Debug, Default)]
pub(crate) struct Observe {
    counters: Counters,
}

impl Observe {
    /// What has been counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Observer for Observe {
    fn observe(&self, event: Event<'_>) {
        self.counters.count(&event);
        line::write(&event);
    }
}
