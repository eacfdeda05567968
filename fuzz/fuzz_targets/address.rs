//! Addresses and paths. Asserts: no panic; printing and parsing again gives the same address; nothing printed holds a control
//! character or an unquoted bracket; a host that HELO may name is ASCII and has no blanks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_smtp::command::is_host;
use waypost_smtp::path::{self, ForwardPath};
use waypost_types::{Address, ReversePath};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(address) = Address::parse(text) {
        check(&address);
    }
    for strict in [false, true] {
        if let Ok(parsed) = path::reverse(text, strict) {
            if let ReversePath::Mailbox(address) = &parsed.path {
                check(address);
            }
        }
        if let Ok(parsed) = path::forward(text, strict) {
            if let ForwardPath::Mailbox(address) = &parsed.path {
                check(address);
            }
        }
    }
    if is_host(text) {
        assert!(text.bytes().all(|b| b.is_ascii_graphic()), "{text:?}");
    }
});

fn check(address: &Address) {
    let printed = address.to_string();
    assert!(!printed.chars().any(char::is_control), "{printed:?}");
    assert_eq!(Address::parse(&printed).as_ref(), Ok(address));
    let argument = format!("FROM:<{printed}> SIZE=1");
    let parsed = path::reverse(&argument, true).expect("what was printed is a path");
    assert_eq!(parsed.path.address(), Some(address));
    assert_eq!(parsed.parameters, "SIZE=1");
}
