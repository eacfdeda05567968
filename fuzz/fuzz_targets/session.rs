//! A whole session, server side. The first octet chooses the policy, the second how the rest is cut. Asserts what `probe` keeps watch
//! over, and that the same bytes cut in two ways give the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../core/smtp/tests/support/probe.rs"]
mod probe;

fuzz_target!(|input: &[u8]| {
    let [knobs, step, bytes @ ..] = input else { return };
    let whole = probe::talk(probe::policy(*knobs), [bytes]);
    let parted = probe::talk(probe::policy(*knobs), bytes.chunks(1 + usize::from(step % 16)));
    assert_eq!(whole, parted);
});
