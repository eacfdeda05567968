//! What several targets need: a name server that says what the input says, and a runtime.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use waypost_types::port::{Dns, DnsAnswer, DnsError, DnsType};
use waypost_types::{Domain, Task};

/// Answers every question with the next of some lines, over and over. An empty line: no such name. `!`: no answer. `-`: no such record.
pub struct Answers {
    lines: Vec<String>,
    next: Mutex<usize>,
    asked: AtomicUsize,
}

impl Answers {
    /// Answers made of text.
    pub fn of(text: &str) -> Answers {
        Answers { lines: text.lines().map(str::to_string).collect(), next: Mutex::new(0), asked: AtomicUsize::new(0) }
    }

    /// How many questions there were.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Dns for Answers {
    fn lookup<'a>(&'a self, _name: &'a str, _kind: DnsType) -> Task<'a, Result<DnsAnswer, DnsError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut next = self.next.lock().expect("one thread");
        let line = self.lines.get(*next % self.lines.len().max(1)).map_or("", String::as_str);
        *next += 1;
        let answer = match line {
            "" => Err(DnsError::NxDomain),
            "!" => Err(DnsError::Timeout),
            "-" => Err(DnsError::NoData),
            // Several records of one name are parted by a tab.
            line => Ok(DnsAnswer { records: line.split('\t').map(str::to_string).collect(), ttl: 60, secure: false }),
        };
        Box::pin(std::future::ready(answer))
    }

    fn confirmed_name(&self, _: IpAddr) -> Task<'_, Result<Option<Domain>, DnsError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Runs work to its end on this thread.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// The input in two: a text in front of the first NUL, and what follows.
pub fn halves(input: &[u8]) -> Option<(&str, &[u8])> {
    let at = input.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&input[..at]).ok()?, &input[at + 1..]))
}
