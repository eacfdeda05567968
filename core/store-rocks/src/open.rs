//! Opening the database: what may be set, and how RocksDB is tuned.
//!
//! **Recovery.** After a crash the log's last record may be torn; everything in front of it was synced and acknowledged. RocksDB's default, *point in time*, stops
//! replay silently at the first bad record wherever it stands, and so drops acknowledged records behind it. *Absolute consistency* refuses to open after any crash that tears the
//! tail. We use *tolerate corrupted tail records*: a record cut short at the log's end is dropped (nobody was told about it, since
//! each batch is written only when the one before it is synced), and damage anywhere else refuses to open, in words that name the remedy. That
//! mode rules out recycled log files, which end in old records by design.
//!
//! **Shape of the load.** Nearly every message is settled within a second, so its put and its delete meet in the memtable: `body` and `due` use *single deletes*, which
//! vanish together with their put when the memtable is flushed, and two memtables are merged at a flush, so that pairs that straddle two go too. Steady state writes the log and little
//! more.
//!
//! **Memory.** Write buffers and block cache together stay near 24 MiB; index and filter blocks count against the cache, but for those of the
//! key-value store: 2 MiB a million rows.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocksdb::compaction_filter::Decision;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind, LogLevel,
    WriteOptions,
};

use crate::key;
use crate::write::Tally;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is on stable storage.
    #[default]
    Sync,
    /// When the operating system has it: a crash of the program loses nothing, **a crash of the machine loses mail that was acknowledged**.
    Os,
}

/// How a queue is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder.
    pub path: PathBuf,
    /// When a write counts as done.
    pub durability: Durability,
    /// Entries in all; beyond it `accept` is `Full`.
    pub messages_max: u64,
    /// With less free space than this, `accept` is `Full`; settlements go on.
    pub disk_reserve_bytes: u64,
    /// With fewer free inodes than this, `accept` is `Full`.
    pub inode_reserve: u64,
    /// Octets that may wait for the committer; beyond it writes are `Busy`.
    pub pending_bytes_max: usize,
    /// Writes that may wait for the committer.
    pub pending_count_max: usize,
    /// Octets that the committer puts into one batch (one larger write goes alone).
    pub batch_bytes: usize,
    /// How long the committer lets a busy server's writes gather before it takes them. See `commit`.
    pub gather: Duration,
    /// Octets of a message.
    pub message_bytes_max: u64,
    /// Octets of a chunk. Do not change it for a queue that has mail.
    pub chunk_bytes: usize,
    /// Octets of one write buffer for bodies; up to four exist for moments.
    pub memtable_bytes: usize,
    /// Octets of the block cache.
    pub cache_bytes: usize,
    /// Octets that the key-value store may take on disk.
    pub kv_bytes_max: u64,
    /// Open a damaged log up to the damage and **lose what is behind it**: the operator's last resort.
    pub salvage: bool,
}

impl Options {
    /// The defaults, for a queue in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Options {
        Options {
            path: path.into(),
            durability: Durability::Sync,
            messages_max: 20_000_000,
            disk_reserve_bytes: 256 << 20,
            inode_reserve: 1000,
            pending_bytes_max: 64 << 20,
            pending_count_max: 10_000,
            batch_bytes: 8 << 20,
            gather: Duration::from_millis(2),
            message_bytes_max: waypost_types::limits::MESSAGE_BYTES_MAX as u64 + (1 << 20),
            chunk_bytes: 1 << 20,
            memtable_bytes: 4 << 20,
            cache_bytes: 8 << 20,
            kv_bytes_max: 1 << 30,
            salvage: false,
        }
    }
}

/// Why a queue cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another process has it.
    Locked(String),
    /// The log or a table is damaged.
    Damaged(String),
    /// Written by a program with another layout.
    Format(String),
    /// Anything else: permissions, disk.
    Failed(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked(error) => {
                write!(f, "the queue is in use: stop the other program first ({error})")
            }
            OpenError::Damaged(error) => write!(
                f,
                "the queue is damaged: {error}. Copy its folder; then either restore it, or open it with salvage, which keeps everything in \
                 front of the damage and loses what was accepted after it"
            ),
            OpenError::Format(found) => {
                write!(f, "the queue has layout {found}, this program knows {FORMAT}: use the program that wrote it")
            }
            OpenError::Failed(error) => {
                write!(f, "the queue cannot be opened: {error}. Check that the folder exists and is ours")
            }
        }
    }
}

impl std::error::Error for OpenError {}

const FORMAT: &str = "1";

/// Files that the database holds open at most.
pub const OPEN_FILES_MAX: u16 = 512;

/// Opens the database and reads what it knows of itself.
pub(crate) fn open(options: &Options) -> Result<(DB, Tally), OpenError> {
    if let Some(parent) = options.path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| OpenError::Failed(format!("{}: {error}", parent.display())))?;
    }
    let db = DB::open_cf_descriptors(&database(options), &options.path, families(options)).map_err(why)?;
    let meta = key::family(&db, key::META);
    match db.get_cf(meta, key::FORMAT).map_err(why)? {
        None => {
            let mut sync = WriteOptions::default();
            sync.set_sync(true);
            db.put_cf_opt(meta, key::FORMAT, FORMAT, &sync).map_err(why)?;
        }
        Some(found) if found == FORMAT.as_bytes() => {}
        Some(found) => return Err(OpenError::Format(String::from_utf8_lossy(&found).into_owned())),
    }
    let tally = Tally::decode(db.get_cf(meta, key::TALLY).map_err(why)?.as_deref());
    Ok((db, tally))
}

fn why(error: rocksdb::Error) -> OpenError {
    let (kind, text) = (error.kind(), error.into_string());
    match kind {
        ErrorKind::Corruption => OpenError::Damaged(text),
        ErrorKind::IOError if text.contains("lock") || text.contains("LOCK") => OpenError::Locked(text),
        _ => OpenError::Failed(text),
    }
}

fn database(options: &Options) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_wal_recovery_mode(if options.salvage {
        DBRecoveryMode::PointInTime
    } else {
        DBRecoveryMode::TolerateCorruptedTailRecords
    });
    db.set_recycle_log_file_num(0);
    db.set_manual_wal_flush(false);
    // Small families fill slowly and would keep old logs alive: they are flushed when the logs reach this.
    db.set_max_total_wal_size(96 << 20);
    db.set_avoid_unnecessary_blocking_io(true);
    // One thread writes nearly everything: neither spinning for others nor a concurrent memtable pays.
    db.set_enable_write_thread_adaptive_yield(false);
    db.set_allow_concurrent_memtable_write(false);
    db.set_max_background_jobs(2);
    db.set_max_open_files(i32::from(OPEN_FILES_MAX));
    db.set_bytes_per_sync(1 << 20);
    db.set_keep_log_file_num(4);
    db.set_log_level(LogLevel::Warn);
    db.set_stats_dump_period_sec(0);
    db
}

fn families(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.cache_bytes);
    let family = |name: &str, memtable_bytes: usize| {
        let mut cf = rocksdb::Options::default();
        // Small values are looked up one by one all over the place: small blocks, and nothing to unpack.
        let is_kv = name == key::KV;
        let mut table = tables(&cache, if is_kv { 4 } else { 16 });
        // A filter of a million counters is larger than its share of the cache: it would be read anew for every message.
        table.set_cache_index_and_filter_blocks(!is_kv);
        cf.set_block_based_table_factory(&table);
        cf.set_write_buffer_size(memtable_bytes);
        cf.set_max_write_buffer_number(4);
        cf.set_min_write_buffer_number_to_merge(2);
        // What is young is soon deleted; what has sunk to the third level stays a while.
        let (none, lz4) = (DBCompressionType::None, DBCompressionType::Lz4);
        let deep = if is_kv { none } else { lz4 };
        cf.set_compression_per_level(&[none, none, deep, deep, deep, deep, deep]);
        if is_kv {
            cf.set_compaction_filter("expired", |_, _, value| {
                if crate::kv::is_expired(value, unix_millis()) { Decision::Remove } else { Decision::Keep }
            });
        }
        ColumnFamilyDescriptor::new(name, cf)
    };
    let small = (options.memtable_bytes / 4).max(64 * 1024);
    vec![
        family("default", 64 * 1024),
        family(key::ENTRY, small),
        family(key::BODY, options.memtable_bytes),
        family(key::DUE, small),
        family(key::CORRUPT, 64 * 1024),
        family(key::KV, small),
        family(key::META, 64 * 1024),
    ]
}

fn tables(cache: &Cache, block_kib: usize) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(block_kib * 1024);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}

/// The clock by which values of the key-value store expire.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
