//! Delivery reports about any entry and any message: two octets of length, an entry as `codec` has it, a message. Asserts: no panic; a report
//! goes to the sender from nobody, is never about a report, has lines that end in CRLF alone where the original's do, and its entry can
//! be kept.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use waypost_queue::codec::{decode, encode};
use waypost_queue::dsn::{Making, Reason, Reporter, report};
use waypost_queue::{Kind, State};
use waypost_types::{Domain, Message, MessageId, Outcome, ReversePath};

fuzz_target!(|input: &[u8]| {
    let [high, low, rest @ ..] = input else { return };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let Some((entry, original)) = rest.split_at_checked(length) else { return };
    let Ok(entry) = decode(&[entry, &crc32fast::hash(entry).to_le_bytes()].concat()) else { return };
    if entry.sender.address().is_none() || entry.kind == Kind::Notice || entry.recipients.len() > 100 {
        return;
    }
    let reporter = Reporter::new(Domain::parse("mx.example.com").expect("a domain"));
    for reason in [Reason::Failure, Reason::Delay, Reason::Success] {
        let fits = |state: &State| match (reason, state) {
            (Reason::Failure, State::Done(Outcome::Failed(_))) | (Reason::Delay, State::Pending) => true,
            (Reason::Success, State::Done(outcome)) => !matches!(outcome, Outcome::Failed(_)),
            _ => false,
        };
        let all = entry.recipients.iter().enumerate().filter(|(_, one)| fits(&one.state));
        let recipients: Vec<u32> = all.map(|(at, _)| at as u32).collect();
        if recipients.is_empty() {
            continue;
        }
        let message = Message::new(Bytes::copy_from_slice(original));
        let making = Making { id: MessageId::new(entry.accepted, 7), now: entry.accepted, random: 7 };
        let (notice, made) = report(&reporter, &entry, reason, &recipients, &message, making);
        assert_eq!((notice.kind, &notice.sender), (Kind::Notice, &ReversePath::Null));
        assert_eq!(notice.recipients.len(), 1);
        assert_eq!(notice.size, made.len() as u64);
        let mut kept = Vec::new();
        encode(&notice, &mut kept);
        assert_eq!(decode(&kept).as_ref(), Ok(&notice));
        let text = made.contiguous();
        let head = made.header_block();
        assert!(is_clean(&head), "{}", head.escape_ascii());
        assert!(text.ends_with(b"--\r\n"), "the last boundary");
    }
});

/// Whether every line ends in CRLF, and nothing else has either of the two.
fn is_clean(text: &[u8]) -> bool {
    let ends = text.windows(2).filter(|pair| pair == b"\r\n").count();
    text.iter().filter(|byte| **byte == b'\r').count() == ends
        && text.iter().filter(|byte| **byte == b'\n').count() == ends
}
