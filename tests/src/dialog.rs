//! An SMTP conversation, line by line. Every expectation that fails panics with the whole transcript.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One plaintext connection.
pub struct Dialog {
    reader: BufReader<TcpStream>,
    transcript: String,
}

impl Dialog {
    /// Connects and does not wait for the greeting.
    pub fn connect(port: u16) -> Dialog {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("the listener accepts");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout can be set");
        stream.set_write_timeout(Some(Duration::from_secs(15))).expect("a timeout can be set");
        stream.set_nodelay(true).expect("nodelay can be set");
        Dialog { reader: BufReader::new(stream), transcript: String::new() }
    }

    /// Connects, expects 220, says EHLO and expects 250.
    pub fn greeted(port: u16) -> Dialog {
        let mut dialog = Dialog::connect(port);
        dialog.expect(220);
        dialog.say("EHLO client.example", 250);
        dialog
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.transcript.push_str(&format!("C: {}\n", bytes.escape_ascii()));
        if let Err(error) = self.reader.get_mut().write_all(bytes) {
            panic!("sending: {error}\n{}", self.transcript);
        }
    }

    /// Sends a line and expects a code.
    pub fn say(&mut self, line: &str, code: u16) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.expect(code)
    }

    /// Reads one reply, which must have this code; gives its text, lines joined by `\n`.
    pub fn expect(&mut self, code: u16) -> String {
        let (got, text) = self.reply().unwrap_or_else(|| panic!("closed instead of {code}\n{}", self.transcript));
        assert_eq!(got, code, "\n{}", self.transcript);
        text
    }

    /// Reads one reply; `None` if the connection is closed first.
    pub fn reply(&mut self) -> Option<(u16, String)> {
        let mut text = String::new();
        loop {
            let line = self.line()?;
            let code = line.get(..3).and_then(|c| c.parse().ok());
            let Some(code) = code else { panic!("no reply: {line:?}\n{}", self.transcript) };
            text.push_str(line.get(4..).unwrap_or(""));
            if line.as_bytes().get(3) != Some(&b'-') {
                return Some((code, text));
            }
            text.push('\n');
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                self.transcript.push_str(&format!("S: {}\n", line.escape_ascii()));
                assert!(line.ends_with(b"\r\n"), "a reply line without CRLF\n{}", self.transcript);
                Some(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("reading: {error}\n{}", self.transcript),
        }
    }

    /// Expects that the server closes, whatever it says before.
    pub fn expect_close(&mut self) {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("not closed: {error}\n{}", self.transcript),
        }
    }

    /// A whole transaction; gives the text of the reply to the final dot. `body` is sent as it is, with the final dot behind it.
    pub fn deliver(&mut self, sender: &str, recipients: &[&str], body: &str) -> String {
        self.say(&format!("MAIL FROM:<{sender}>"), 250);
        for recipient in recipients {
            self.say(&format!("RCPT TO:<{recipient}>"), 250);
        }
        self.say("DATA", 354);
        self.send(body.as_bytes());
        self.say(".", 250)
    }
}
