//! PROXY headers, both versions. Asserts: no panic; a header is as long as it says and no longer than what is there; whatever a header
//! begins with is a header that is not yet whole; what comes behind it changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waypost_net::proxy_header::{NoHeader, parse};

fuzz_target!(|input: &[u8]| match parse(input) {
    Ok((proxied, length)) => {
        assert!(length <= input.len());
        assert_eq!(parse(&input[..length]), Ok((proxied, length)));
        for cut in 0..length {
            let Err(NoHeader::Incomplete(needed)) = parse(&input[..cut]) else { panic!("{cut} of {length}") };
            assert!(cut < needed && needed <= length, "{cut} of {length}: {needed}");
        }
    }
    Err(NoHeader::Incomplete(needed)) => assert!(needed > input.len()),
    Err(NoHeader::Invalid(why)) => {
        let longer = [input, b"\r\n".as_slice()].concat();
        assert_eq!(parse(&longer), Err(NoHeader::Invalid(why)), "what is none does not become one");
    }
});
