//! The client side against a peer that says anything. The first octet chooses how it speaks, the second how the rest is cut. Asserts: no
//! panic; one report for each transaction and one `Close` for each connection; nobody counts as delivered before the message
//! has left; a password leaves only inside TLS.
#![no_main]

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use waypost_smtp::client::{Action, Client, Options, TlsUse, Transaction};
use waypost_types::{Address, MailParameters, Message, Recipient, ReversePath};

fuzz_target!(|input: &[u8]| {
    let [knobs, step, bytes @ ..] = input else { return };
    let tls = [TlsUse::Never, TlsUse::Opportunistic, TlsUse::Required, TlsUse::Implicit][usize::from(knobs & 3)];
    let credentials = (knobs & 4 != 0).then(|| ("user".into(), "pencilpencil".into()));
    let options = Options { tls, lmtp: knobs & 8 != 0, credentials, ..Options::new("mx.example.com".into()) };
    let mut talk = Talk::new(options, knobs & 16 != 0);
    for piece in bytes.chunks(1 + usize::from(step % 32)) {
        talk.input.extend_from_slice(piece);
        talk.drive();
    }
    talk.client.handle_lost(talk.now, "the end");
    talk.drive();
    assert_eq!((talk.begun, talk.closed), (talk.ended, 1));
});

struct Talk {
    client: Client,
    now: Instant,
    input: BytesMut,
    sent: Vec<u8>,
    utf8: bool,
    begun: usize,
    ended: usize,
    closed: usize,
}

impl Talk {
    fn new(options: Options, utf8: bool) -> Talk {
        let now = Instant::now();
        let client = Client::new(options, now);
        Talk { client, now, input: BytesMut::new(), sent: Vec::new(), utf8, begun: 0, ended: 0, closed: 0 }
    }

    fn drive(&mut self) {
        self.client.handle_input(self.now, &mut self.input);
        while let Some(action) = self.client.poll_action() {
            match action {
                Action::Send(pieces) => {
                    pieces.iter().for_each(|piece| self.sent.extend_from_slice(piece));
                    let secret = self.sent.windows(4).any(|part| part == b"AUTH");
                    assert!(!secret || self.client.is_encrypted(), "a password in the clear");
                    self.client.handle_written(self.now);
                }
                Action::StartTls => self.client.handle_tls(self.now),
                Action::Ready => self.begin(),
                Action::Done(report) => {
                    self.ended += 1;
                    assert_eq!(report.replies.len(), 2);
                    let taken = report.replies.iter().any(|reply| reply.is_positive());
                    assert!(!taken || self.sent.windows(5).any(|part| part == b"hello"), "taken before it was sent");
                    self.sent.clear();
                    if report.reusable && self.begun < 8 {
                        self.begin();
                    }
                }
                Action::Failed(failure) => assert!(!failure.reply.text.contains("pencil")),
                Action::Close => self.closed += 1,
            }
            self.client.handle_input(self.now, &mut self.input);
        }
        assert!(self.input.len() <= 4096 || self.closed > 0, "what is not understood is bounded");
    }

    fn begin(&mut self) {
        self.begun += 1;
        let local = if self.utf8 { "jürgen" } else { "a" };
        let recipient = |text: &str| Recipient::new(Address::parse(text).expect("an address"));
        let transaction = Transaction {
            sender: ReversePath::Mailbox(Address::parse(&format!("{local}@example.com")).expect("an address")),
            parameters: MailParameters { smtputf8: self.utf8, ..MailParameters::default() },
            recipients: vec![recipient("b@example.net"), recipient("c@example.net")],
            message: Message::new(Bytes::from_static(b"Subject: x\r\n\r\nhello\r\n.dots\r\n")),
        };
        self.client.begin(self.now, transaction);
    }
}
