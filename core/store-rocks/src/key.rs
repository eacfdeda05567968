//! The keyspaces (RocksDB's column families) and their keys.
//!
//! Keys sort as what they name: ids by age, due times by time, chunks by number. A value of `due` is empty.

use rocksdb::{ColumnFamily, DB};
use waypost_types::{MessageId, Timestamp};

/// id → entry, as `queue::codec` writes it.
pub(crate) const ENTRY: &str = "entry";
/// id, chunk → octets.
pub(crate) const BODY: &str = "body";
/// due, id → nothing.
pub(crate) const DUE: &str = "due";
/// id → bytes that could not be read as an entry.
pub(crate) const CORRUPT: &str = "corrupt";
/// Namespaced keys of others → expiry, value.
pub(crate) const KV: &str = "kv";
/// Names → what the store knows of itself.
pub(crate) const META: &str = "meta";

/// In [`META`]: the version of this layout.
pub(crate) const FORMAT: &[u8] = b"format";
/// In [`META`]: [`crate::write::Tally`], written with every batch that changes it.
pub(crate) const TALLY: &[u8] = b"tally";

pub(crate) fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).expect("every family was opened with the database")
}

const ID: usize = 13;

/// The key of an entry in the due index.
pub(crate) fn due(due: Timestamp, id: MessageId) -> [u8; 8 + ID] {
    let mut key = [0; 8 + ID];
    key[..8].copy_from_slice(&due.0.to_be_bytes());
    key[8..].copy_from_slice(&id.to_bytes());
    key
}

/// What [`due`] wrote.
pub(crate) fn parse_due(key: &[u8]) -> Option<(Timestamp, MessageId)> {
    let (due, id) = key.split_first_chunk::<8>()?;
    Some((Timestamp(u64::from_be_bytes(*due)), MessageId::from_bytes(id)?))
}

/// The key of a chunk.
pub(crate) fn body(id: MessageId, index: u32) -> [u8; ID + 4] {
    let mut key = [0; ID + 4];
    key[..ID].copy_from_slice(&id.to_bytes());
    key[ID..].copy_from_slice(&index.to_be_bytes());
    key
}

/// What [`body`] wrote.
pub(crate) fn parse_body(key: &[u8]) -> Option<(MessageId, u32)> {
    let (id, index) = key.split_last_chunk::<4>()?;
    Some((MessageId::from_bytes(id)?, u32::from_be_bytes(*index)))
}

/// How many chunks a message of `size` octets has.
pub(crate) fn chunks(size: u64, chunk_bytes: usize) -> u32 {
    u32::try_from(size.div_ceil(chunk_bytes as u64)).expect("messages are bounded far below this")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_and_parse_back() {
        let id = |n| MessageId::new(Timestamp(n), 7);
        assert!(due(Timestamp(5), id(9)) < due(Timestamp(6), id(1)));
        assert!(due(Timestamp(5), id(1)) < due(Timestamp(5), id(2)));
        assert!(body(id(1), 300) < body(id(2), 0) && body(id(1), 255) < body(id(1), 256));
        assert_eq!(parse_due(&due(Timestamp::NEVER, id(3))), Some((Timestamp::NEVER, id(3))));
        assert_eq!(parse_body(&body(id(3), 70_000)), Some((id(3), 70_000)));
        assert_eq!((parse_due(b"short"), parse_body(b"12")), (None, None));
        assert_eq!([0, 1, 10, 11].map(|size| chunks(size, 10)), [0, 1, 1, 2]);
    }
}
