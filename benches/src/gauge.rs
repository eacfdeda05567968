//! What a server's processes have used: read from /proc, for a whole tree, children that have ended among it.

use std::fs;
use std::time::Duration;

/// CPU and memory of a tree of processes at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// User time.
    pub(crate) user: Duration,
    /// System time.
    pub(crate) system: Duration,
    /// Proportional set size, KiB.
    pub(crate) pss_kib: u64,
}

impl Reading {
    /// User and system time between two readings.
    pub(crate) fn cpu_since(&self, before: &Reading) -> Duration {
        (self.user + self.system).saturating_sub(before.user + before.system)
    }
}

/// Clock ticks in a second: USER_HZ, which Linux has fixed at 100 for what it shows.
const TICKS: u64 = 100;

/// Reads the tree of processes that begins with this one.
pub(crate) fn read(root: u32) -> Reading {
    let parents = parents();
    let mut reading = Reading::default();
    let mut tree = vec![root];
    while let Some(pid) = tree.pop() {
        tree.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        if let Some((user, system)) = times(pid) {
            reading.user += user;
            reading.system += system;
        }
        reading.pss_kib += pss(pid);
    }
    reading
}

/// Every process and its parent.
fn parents() -> Vec<(u32, u32)> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?))).collect()
}

/// The fields of /proc/PID/stat behind the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_string).collect())
}

/// Its own times and those of children that it has waited for.
fn times(pid: u32) -> Option<(Duration, Duration)> {
    let fields = stat(pid)?;
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let span = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS);
    Some((span(ticks(11) + ticks(13)), span(ticks(12) + ticks(14))))
}

fn pss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_work_is_counted() {
        let before = read(std::process::id());
        let begun = std::time::Instant::now();
        let mut sum = 0u64;
        while begun.elapsed() < Duration::from_millis(300) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let after = read(std::process::id());
        assert!(after.cpu_since(&before) >= Duration::from_millis(30), "{before:?} {after:?}");
        assert!(after.pss_kib > 100);
    }
}
