//! The protocol: both machines, the octets of DATA, addresses and header blocks.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use waypost_smtp::client::{self, Client, Options, TlsUse, Transaction};
use waypost_smtp::data::{self, Decoder};
use waypost_smtp::server::{Action, Answer, Ask, Policy, Session};
use waypost_types::{Address, MailParameters, Recipient, ReversePath, header};

use crate::{Round, sample};

fn on_the_wire() -> Vec<u8> {
    data::stuff(&sample::message()).concat()
}

pub(crate) fn decode() -> Round {
    let wire = on_the_wire();
    Box::new(move || {
        let mut input = BytesMut::from(&wire[..]);
        black_box(Decoder::default().decode(&mut input));
    })
}

pub(crate) fn stuff() -> Round {
    let message = sample::message();
    Box::new(move || drop(black_box(data::stuff(black_box(&message)))))
}

pub(crate) fn receive() -> Round {
    receive_for(1)
}

pub(crate) fn receive_fifty() -> Round {
    receive_for(50)
}

fn receive_for(recipients: usize) -> Round {
    let wire = on_the_wire();
    let rcpts: String = (0..recipients).map(|number| format!("RCPT TO:<user{number}@example.com>\r\n")).collect();
    let envelope = format!("MAIL FROM:<a@client.example> SIZE=10240\r\n{rcpts}DATA\r\n");
    let mut session = greeted();
    Box::new(move || {
        assert_eq!(drive(&mut session, &mut BytesMut::from(&envelope[..])), 0);
        assert_eq!(drive(&mut session, &mut BytesMut::from(&wire[..])), 1);
    })
}

pub(crate) fn greet() -> Round {
    Box::new(|| drop(black_box(greeted())))
}

fn greeted() -> Session {
    let policy = Policy { messages_max: u32::MAX, ..Policy::mx("mx.example.com") };
    let mut session = Session::new(Arc::new(policy), sample::facts(), Instant::now());
    drive(&mut session, &mut BytesMut::new());
    drive(&mut session, &mut BytesMut::from("EHLO client.example\r\n"));
    session
}

/// Says yes to everything; gives the number of messages.
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

pub(crate) fn send() -> Round {
    let now = Instant::now();
    let mut client = Client::new(Options { tls: TlsUse::Never, ..Options::new("client.example".into()) }, now);
    answer(&mut client, b"220 mx.example.com ESMTP\r\n");
    answer(&mut client, b"250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n");
    let message = sample::message();
    let (sender, recipient) = (sample::address("a@client.example"), sample::address("alice@example.com"));
    Box::new(move || {
        client.begin(
            now,
            Transaction {
                sender: ReversePath::Mailbox(sender.clone()),
                parameters: MailParameters::default(),
                recipients: vec![Recipient::new(recipient.clone())],
                message: message.clone(),
            },
        );
        assert!(!answer(&mut client, b""));
        assert!(!answer(&mut client, b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go ahead\r\n"));
        assert!(answer(&mut client, b"250 2.0.0 Ok: queued\r\n"));
    })
}

/// Gives the client what a server says, and takes what it does; whether a transaction has ended.
fn answer(client: &mut Client, text: &[u8]) -> bool {
    let now = Instant::now();
    let mut input = BytesMut::from(text);
    let mut done = false;
    client.handle_input(now, &mut input);
    while let Some(action) = client.poll_action() {
        match action {
            client::Action::Send(pieces) => {
                black_box::<Vec<Bytes>>(pieces);
                client.handle_written(now);
            }
            client::Action::Done(report) => done = report.replies.iter().all(|reply| reply.code == 250),
            _ => {}
        }
    }
    done
}

pub(crate) fn address() -> Round {
    Box::new(|| drop(black_box::<Result<Address, _>>(black_box("some.body+tag@mail.client.example").parse())))
}

pub(crate) fn headers() -> Round {
    let text = sample::text();
    Box::new(move || {
        assert_eq!(header::fields(black_box(&text)).filter(|field| !field.name.is_empty()).count(), 12);
    })
}
