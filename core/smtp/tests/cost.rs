//! What a message costs the session: `cargo test --release -p waypost-smtp --test cost -- --ignored --nocapture`.
//!
//! Not run by itself, as a busy machine would make it fail; the figures are printed.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use waypost_smtp::data::{Decoder, stuff};
use waypost_smtp::server::{Action, Answer, Ask, Policy, Session};
use waypost_types::{Message, SessionFacts, SessionId, Transport};

const ROUNDS: u32 = 20_000;

/// 10 KB in lines of 78 octets, as `smtp-source -l 10240` sends it.
fn body() -> Vec<u8> {
    let mut line = vec![b'x'; 78];
    line.extend_from_slice(b"\r\n");
    line.repeat(128)
}

fn per_round(what: &str, mut round: impl FnMut()) {
    (0..ROUNDS / 10).for_each(|_| round());
    let begin = Instant::now();
    (0..ROUNDS).for_each(|_| round());
    println!("{what}: {:.2} µs", begin.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

#[test]
#[ignore = "measures; see the head of this page"]
fn what_a_message_of_ten_kilobytes_costs() {
    let body = body();
    let wire = [&body[..], b".\r\n"].concat();
    per_round("copying 10 KB (the floor of the figures below)", || {
        std::hint::black_box(BytesMut::from(&wire[..]));
    });
    per_round("decoding DATA", || {
        let mut input = BytesMut::from(&wire[..]);
        std::hint::black_box(Decoder::default().decode(&mut input));
    });
    let message = Message::new(Bytes::from(body.clone()));
    per_round("stuffing", || {
        std::hint::black_box(stuff(&message));
    });
    let mut session = greeted();
    per_round("a whole transaction, pipelined", || transaction(&mut session, &wire));
}

fn greeted() -> Session {
    let peer = "192.0.2.1:40000".parse().unwrap();
    let facts = SessionFacts {
        id: SessionId::new(1),
        transport: Transport::Mx,
        peer,
        local: peer,
        peer_name: None,
        helo: "".into(),
        esmtp: false,
        tls: None,
        user: None,
        trusted: false,
    };
    let now = Instant::now();
    let policy = Policy { messages_max: u32::MAX, ..Policy::mx("mx.example.com") };
    let mut session = Session::new(Arc::new(policy), facts, now);
    drive(&mut session, &mut BytesMut::new());
    drive(&mut session, &mut BytesMut::from("EHLO client.example\r\n"));
    session
}

fn transaction(session: &mut Session, wire: &[u8]) {
    let envelope = "MAIL FROM:<a@client.example> SIZE=10240\r\nRCPT TO:<alice@example.com>\r\nDATA\r\n";
    assert_eq!(drive(session, &mut BytesMut::from(envelope)), 0);
    assert_eq!(drive(session, &mut BytesMut::from(wire)), 1);
}

/// Answers yes to everything; gives the number of messages.
fn drive(session: &mut Session, input: &mut BytesMut) -> usize {
    let now = Instant::now();
    let mut messages = 0;
    loop {
        session.handle_input(now, input);
        let mut answered = false;
        while let Some(action) = session.poll_action() {
            if let Action::Ask(ticket, ask) = action {
                messages += usize::from(matches!(ask, Ask::Message));
                session.handle_answer(now, ticket, Answer::Yes);
                answered = true;
            }
        }
        if !answered {
            return messages;
        }
    }
}
