//! What can go wrong inside a plugin, and the breaker that takes a failing one out of the chain.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use wasmtime::Trap;

/// Why a plugin gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It reached a limit, named as in the configuration.
    Limit(&'static str),
    /// It called what it was not granted.
    Denied(String),
    /// It called a host function in a way that has no answer.
    Misuse(String),
    /// It said so itself: the only fault after which an instance is kept.
    Said(String),
    /// It trapped.
    Trapped(String),
    /// No instance could be made.
    Start(String),
    /// A port of the host failed.
    Port(String),
    /// The breaker is open: it was not asked.
    Open,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Limit(name) => write!(f, "reached its limit `{name}`"),
            Fault::Denied(what) => write!(f, "called what it was not granted: {what}"),
            Fault::Misuse(what) => write!(f, "called the host wrongly: {what}"),
            Fault::Said(text) => write!(f, "{text}"),
            Fault::Trapped(text) => write!(f, "trapped: {text}"),
            Fault::Start(text) => write!(f, "could not be started: {text}"),
            Fault::Port(text) => write!(f, "{text}"),
            Fault::Open => f.write_str("its breaker is open after several faults"),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// What a failed call into a guest means: our own faults travel through the guest as errors, the rest are traps.
    pub(crate) fn of(error: &wasmtime::Error) -> Fault {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return fault.clone();
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => Fault::Limit("stack"),
            Some(Trap::Interrupt) => Fault::Limit("cpu"),
            Some(trap) => Fault::Trapped(trap.to_string().trim_start_matches("wasm trap: ").to_string()),
            None => Fault::Trapped(error.root_cause().to_string()),
        }
    }

    /// Whether the instance may be used again.
    pub(crate) fn spares_instance(&self) -> bool {
        matches!(self, Fault::Said(_))
    }
}

/// What a breaker says about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Go on.
    Closed,
    /// Go on, with a fresh instance: this call decides whether the breaker closes.
    Probe,
    /// Do not ask.
    Open,
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;
/// Faults older than this are forgotten.
const WINDOW: Duration = Duration::from_secs(60);

/// Several faults within a minute open it; after a pause one call at a time is let through, and its success closes it.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: AtomicU8,
    faults_max: u32,
    pause: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// When the window began and how many faults it has seen.
    window: Option<(Instant, u32)>,
    /// While open: when to probe. While half-open: when to give a probe up that never reported.
    until: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(faults_max: u32, pause: Duration) -> Breaker {
        Breaker { state: AtomicU8::new(CLOSED), faults_max: faults_max.max(1), pause, inner: Mutex::default() }
    }

    /// Whether a call may be made; the second value tells of a change of state. One load while closed.
    pub(crate) fn admit(&self, now: Instant) -> (Admission, Option<&'static str>) {
        if self.state.load(Ordering::Relaxed) == CLOSED {
            return (Admission::Closed, None);
        }
        let mut inner = self.lock();
        if inner.until.is_some_and(|until| now < until) {
            return (Admission::Open, None);
        }
        let told = (self.state.swap(HALF_OPEN, Ordering::Relaxed) == OPEN).then_some("half-open");
        inner.until = Some(now + self.pause);
        (Admission::Probe, told)
    }

    /// A call answered.
    pub(crate) fn on_success(&self, admission: Admission) -> Option<&'static str> {
        if admission != Admission::Probe {
            return None;
        }
        *self.lock() = Inner::default();
        (self.state.swap(CLOSED, Ordering::Relaxed) != CLOSED).then_some("closed")
    }

    /// A call failed.
    pub(crate) fn on_fault(&self, now: Instant) -> Option<&'static str> {
        let mut inner = self.lock();
        let (since, count) = inner.window.filter(|(since, _)| now - *since < WINDOW).unwrap_or((now, 0));
        inner.window = Some((since, count + 1));
        let probing = self.state.load(Ordering::Relaxed) == HALF_OPEN;
        if !probing && count + 1 < self.faults_max {
            return None;
        }
        inner.until = Some(now + self.pause);
        (self.state.swap(OPEN, Ordering::Relaxed) != OPEN).then_some("open")
    }

    /// `closed`, `open` or `half-open`.
    pub(crate) fn word(&self) -> &'static str {
        match self.state.load(Ordering::Relaxed) {
            CLOSED => "closed",
            OPEN => "open",
            _ => "half-open",
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_several_faults_probes_after_the_pause_and_closes_on_success() {
        let breaker = Breaker::new(3, Duration::from_secs(30));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(breaker.on_fault(at(0)), None);
        assert_eq!(breaker.on_fault(at(1)), None);
        assert_eq!(breaker.on_fault(at(2)), Some("open"));
        assert_eq!(breaker.admit(at(3)), (Admission::Open, None));
        assert_eq!(breaker.admit(at(33)), (Admission::Probe, Some("half-open")));
        assert_eq!(breaker.admit(at(34)), (Admission::Open, None), "one probe at a time");
        assert_eq!(breaker.on_fault(at(35)), Some("open"));
        assert_eq!(breaker.admit(at(66)).0, Admission::Probe);
        assert_eq!(breaker.on_success(Admission::Probe), Some("closed"));
        assert_eq!(breaker.admit(at(67)), (Admission::Closed, None));
    }

    #[test]
    fn faults_that_lie_far_apart_do_not_add_up() {
        let breaker = Breaker::new(2, Duration::from_secs(30));
        let start = Instant::now();
        assert_eq!(breaker.on_fault(start), None);
        assert_eq!(breaker.on_fault(start + Duration::from_secs(61)), None);
        assert_eq!(breaker.word(), "closed");
    }

    #[test]
    fn a_probe_that_never_reports_is_given_up() {
        let breaker = Breaker::new(1, Duration::from_secs(30));
        let start = Instant::now();
        breaker.on_fault(start);
        assert_eq!(breaker.admit(start + Duration::from_secs(31)).0, Admission::Probe);
        assert_eq!(breaker.admit(start + Duration::from_secs(62)).0, Admission::Probe);
    }
}
