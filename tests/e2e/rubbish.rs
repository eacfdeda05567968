//! Whatever is thrown at a port: a clear answer or a close, no panic, bounded memory.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use waypost_tests::{Dialog, Waypost};

/// Sends bytes and reads to the end, or for two seconds.
fn throw(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener accepts");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout can be set");
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn rubbish_on_every_port_is_survived() {
    let server = Waypost::start(&[]);
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = Vec::new();
    for _ in 0..4096 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        random.extend_from_slice(&seed.to_le_bytes());
    }
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let long = vec![b'A'; 200_000];
    let throws: [&[u8]; 7] =
        [&random, hello, &long, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n\r\n", b"\0\0\0\0\r\n", b""];
    for port in [server.mx, server.submission, server.submissions] {
        std::thread::scope(|scope| {
            for bytes in throws {
                scope.spawn(move || throw(port, bytes));
            }
        });
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
    Dialog::greeted(server.mx).say("NOOP", 250);
}

#[test]
fn http_is_turned_away_at_once() {
    let server = Waypost::start(&[]);
    let mut dialog = Dialog::connect(server.mx);
    dialog.expect(220);
    dialog.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<alice@waypost.test>\r\n");
    let (code, _) = dialog.reply().expect("a clear answer");
    assert!(matches!(code, 421 | 500..=599), "{code}");
    dialog.expect_close();
}

#[test]
fn plaintext_on_the_tls_port_gets_no_banner() {
    let server = Waypost::start(&[]);
    let answer = throw(server.submissions, b"EHLO client.example\r\n");
    assert!(!answer.starts_with(b"220"), "{}", answer.escape_ascii());
}
