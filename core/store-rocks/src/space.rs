//! When the disk is too full for new mail.
//!
//! New mail is refused while there is still room to settle what is there: below a reserve, and not when writing fails. The answer is kept for a second, since a
//! second's mail is far smaller than the reserve.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::Options;

const KEPT: Duration = Duration::from_secs(1);

pub(crate) struct Gauge {
    path: PathBuf,
    bytes_min: u64,
    inodes_min: u64,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Gauge {
    pub(crate) fn new(options: &Options) -> Gauge {
        Gauge {
            path: options.path.clone(),
            bytes_min: options.disk_reserve_bytes,
            inodes_min: options.inode_reserve,
            last: Mutex::default(),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match *last {
            Some((at, full)) if at.elapsed() < KEPT => full,
            _ => {
                let full = self.look();
                *last = Some((Instant::now(), full));
                full
            }
        }
    }

    /// A file system that does not answer is not full: the write will tell. Some have no inodes to count.
    fn look(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|disk| {
            let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
            bytes < self.bytes_min || (disk.f_files > 0 && disk.f_favail < self.inodes_min)
        })
    }
}
