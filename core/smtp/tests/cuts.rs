//! The same bytes, cut anywhere, give the same replies, questions and message.
//!
//! Conversations are put together at random from pieces that matter to the machine; a failure prints the seed and the bytes.

#[path = "support/chance.rs"]
#[allow(unreachable_pub)]
mod chance;
#[path = "support/probe.rs"]
#[allow(unreachable_pub)]
mod probe;

use chance::Chance;

const COMMANDS: [&str; 35] = [
    "EHLO client.example",
    "LHLO client.example",
    "HELO x",
    "MAIL FROM:<a@client.example>",
    "MAIL FROM:<> SIZE=10 BODY=8BITMIME",
    "MAIL FROM:<b@client.example> BODY=BINARYMIME",
    "MAIL FROM:<jürgen@client.example> SMTPUTF8",
    "MAIL FROM:<a@client.example> SIZE=999999999",
    "RCPT TO:<alice@example.com>",
    "RCPT TO:<bob@example.com> NOTIFY=NEVER",
    "RCPT TO:<postmaster>",
    "RCPT TO:<carol@example.com>",
    "RCPT TO:<>",
    "DATA",
    "DATA",
    "DATA",
    "RSET",
    "NOOP",
    "VRFY x",
    "XYZZY",
    "",
    "BDAT 0",
    "BDAT 0 LAST",
    "BDAT 7",
    "BDAT 12 LAST",
    "BDAT 99999999999999999999999",
    "AUTH PLAIN AGFsaWNlAHBlbmNpbA==",
    "AUTH LOGIN",
    "QUIT",
    "GET / HTTP/1.1",
    "XCLIENT ADDR=198.51.100.7 NAME=spike.example LOGIN=alice",
    "XFORWARD ADDR=198.51.100.7 HELO=x",
    "MAIL FROM:<a@client.example> HOLDFOR=60 MT-PRIORITY=3 BY=60;R",
    "RCPT TO:<alice@example.com> ORCPT=utf-8;j\\x{FC}rgen@example.com NOTIFY=DELAY",
    "Host:x",
];
const ENDS: [&str; 8] = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r\r\n", "\0\r\n"];
const BODY: [&str; 14] = [
    ".",
    "..",
    "\r",
    "\n",
    "\r\n",
    "\r\n.\r\n",
    "\r\n..",
    "x",
    "Subject: x\r\n\r\n",
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\0",
];

fn conversation(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Half begin well, so that bodies are reached.
    if chance.below(2) == 0 {
        let hello = chance.one(&["EHLO client.example\r\n", "LHLO client.example\r\n"]);
        bytes.extend_from_slice(hello.as_bytes());
        bytes.extend_from_slice(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.com>\r\n");
        bytes.extend_from_slice(chance.one(&["DATA\r\n", "BDAT 20\r\n", "BDAT 30 LAST\r\n"]).as_bytes());
    }
    for _ in 0..chance.below(30) {
        match chance.below(12) {
            0..5 => {
                bytes.extend_from_slice(chance.one(&COMMANDS).as_bytes());
                bytes.extend_from_slice(chance.one(&ENDS).as_bytes());
            }
            5 if chance.below(40) == 0 => bytes.extend(vec![b'x'; chance.below(80_000)]),
            6 => bytes.extend_from_slice(b"\r\n.\r\n"),
            _ => bytes.extend_from_slice(chance.one(&BODY).as_bytes()),
        }
    }
    bytes
}

fn cut<'a>(mut bytes: &'a [u8], chance: &mut Chance) -> Vec<&'a [u8]> {
    let longest = chance.one(&[1, 2, 3, 10, 100, 5000]);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(1 + chance.below(longest)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[test]
fn same_bytes_cut_anywhere_give_the_same() {
    let mut messages = 0;
    for seed in 0..20_000 {
        let mut chance = Chance(seed);
        let knobs = chance.below(256) as u8;
        let bytes = conversation(&mut chance);
        let whole = probe::talk(probe::policy(knobs), [&bytes[..]]);
        let parted = probe::talk(probe::policy(knobs), cut(&bytes, &mut chance));
        assert_eq!(whole, parted, "seed {seed}, knobs {knobs}, bytes {:?}", String::from_utf8_lossy(&bytes));
        messages += whole.asked.iter().filter(|asked| asked.starts_with("message")).count();
    }
    assert!(messages > 1000, "the conversations reach the end of a message: {messages}");
}
