//! Entries of the queue: the octets between version and checksum, which is made to fit. Asserts: no panic; what is read is written and read
//! again alike; without its checksum nothing is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_queue::codec::{DecodeError, decode, encode};

fuzz_target!(|input: &[u8]| {
    let _ = decode(input);
    let whole = [input, &crc32fast::hash(input).to_le_bytes()].concat();
    let Ok(entry) = decode(&whole) else { return };
    let mut written = Vec::new();
    encode(&entry, &mut written);
    assert_eq!(decode(&written).as_ref(), Ok(&entry));
    let last = written.len() - 1;
    written[last] ^= 1;
    assert_eq!(decode(&written), Err(DecodeError::Checksum));
});
