//! LDAP: a filter, a NUL, an identity; and the same octets as a directory's answer. Asserts: no panic; what is written is one value that can
//! be read to its last octet, and an identity is never syntax: it changes lengths, not the shape.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_fuzz::halves;
use waypost_ldap::ber::{Reader, Writer, whole};
use waypost_ldap::{Filter, Place};

fuzz_target!(|input: &[u8]| {
    read(input, 0);
    let Some((filter, identity)) = halves(input) else { return };
    let _ = Place::parse(filter, true);
    let (Some(filter), Ok(identity)) = (Filter::parse(filter), std::str::from_utf8(identity)) else { return };
    assert_eq!(shape(&filter, identity), shape(&filter, "x"), "{identity:?}");
});

fn shape(filter: &Filter, identity: &str) -> Vec<(usize, u8)> {
    let mut out = Writer::default();
    filter.write(&mut out, identity);
    let bytes = out.finish();
    assert_eq!(whole(&bytes), Some(bytes.len()));
    let mut tags = Vec::new();
    walk(&bytes, 0, &mut tags);
    tags
}

/// Depth and tag of every value that is made of others, and of their parts.
fn walk(bytes: &[u8], depth: usize, tags: &mut Vec<(usize, u8)>) {
    let mut reader = Reader(bytes);
    while let Some((tag, content)) = reader.next() {
        tags.push((depth, tag));
        if tag & 0x20 != 0 {
            walk(content, depth + 1, tags);
        }
    }
    assert!(reader.0.is_empty(), "something is left over");
}

fn read(bytes: &[u8], depth: usize) {
    let (mut one, mut two) = (Reader(bytes), Reader(bytes));
    let _ = (one.text(), one.number(2), two.number(0x0a), two.expect(0x30));
    let mut reader = Reader(bytes);
    while let Some((tag, content)) = reader.next() {
        if tag & 0x20 != 0 && depth < 8 {
            read(content, depth + 1);
        }
    }
}
