//! The thread that writes log lines.
//!
//! Lines are appended to a buffer and written in as few system calls as there are turns of the thread: a line that comes alone is written at
//! once, and after each write the thread rests for [`REST`], so that a busy server writes fifty times a second and not for every
//! line. (A write for every line was a tenth of all CPU at 2000 messages a second.) The buffer is bounded: when nobody reads the other end
//! of a pipe, lines are dropped and counted, rather than mail held up. [`Writer::flush`] waits for what is there.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Octets that may wait: some forty thousand lines.
const BUFFER_BYTES_MAX: usize = 8 << 20;
/// From one write to the next, unless somebody waits for it or [`RESTLESS_BYTES`] have gathered.
const REST: Duration = Duration::from_millis(20);
/// As much ends the rest.
const RESTLESS_BYTES: usize = 1 << 20;

/// The way to standard output.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    writing: bool,
    /// The thread waits for `filled`.
    asleep: bool,
    /// Somebody waits for `emptied`.
    awaited: bool,
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic elsewhere must not silence the log; the buffer is whole lines at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes all of them.
    fn take(&self, taken: &mut Vec<u8>) {
        let mut state = self.lock();
        while state.buffer.is_empty() {
            state.asleep = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        state.writing = true;
        std::mem::swap(&mut state.buffer, taken);
    }

    /// What was taken has been written. Lets lines gather.
    fn rest(&self) {
        let mut state = self.lock();
        state.writing = false;
        if state.buffer.is_empty() {
            state.awaited = false;
            self.emptied.notify_all();
        }
        let restful = |state: &mut State| !state.awaited && state.buffer.len() < RESTLESS_BYTES;
        let _ = self.filled.wait_timeout_while(state, REST, restful).unwrap_or_else(PoisonError::into_inner);
    }
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start() -> Writer {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || run(&theirs))
            .expect("the operating system lets a process of ours have one more thread at its start");
        Writer { shared }
    }

    fn append(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.buffer.len() + line.len() > BUFFER_BYTES_MAX {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.buffer.extend_from_slice(line);
        let wake = state.buffer.len() >= RESTLESS_BYTES || std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.shared.filled.notify_one();
        }
    }

    /// Waits until everything appended so far has been written.
    pub(crate) fn flush(&self) {
        let mut state = self.shared.lock();
        while !state.buffer.is_empty() || state.writing {
            state.awaited = true;
            self.shared.filled.notify_one();
            state = self.shared.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lines that were dropped because nobody read them.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

fn run(shared: &Shared) {
    let mut taken = Vec::new();
    loop {
        shared.take(&mut taken);
        let mut out = std::io::stdout().lock();
        // Nothing can be said about a log that cannot be written, and mail goes on without it.
        let _ = out.write_all(&taken).and_then(|()| out.flush());
        drop(out);
        taken.clear();
        taken.shrink_to(64 << 10);
        shared.rest();
    }
}

/// One line on its way: handed on whole when dropped.
pub(crate) struct Line {
    writer: Arc<Writer>,
    text: Vec<u8>,
}

impl Line {
    /// An empty line.
    pub(crate) fn new(writer: Arc<Writer>) -> Line {
        Line { writer, text: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.is_empty() && bytes.ends_with(b"\n") {
            self.writer.append(bytes);
        } else {
            self.text.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.writer.append(&self.text);
        }
    }
}
