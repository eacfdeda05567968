//! Where a connection stands, how long it may stand there, and the way from the greeting to `Ready`.

use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use waypost_types::{Enhanced, Reply};

use super::offers::Offers;
use super::pipeline::{Command, Flight};
use crate::timer::Wait;

use super::{Action, Client, Failure, TlsUse};

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Handshake,
    Auth(Auth),
    /// Between transactions.
    Idle,
    /// Replies to MAIL, RCPT and DATA.
    Envelope,
    /// Replies to the final dot, or to the last chunk.
    Dot,
    /// The reply to a dot that ends a message for nobody.
    LoneDot,
    Quit,
    Closed,
}

/// Steps of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// PLAIN with its response on the line, or about to be asked for.
    Plain,
    /// LOGIN, the user's name is asked for.
    LoginUser,
    /// LOGIN, the password is asked for.
    LoginPassword,
    /// Everything was shown.
    Verdict,
}

impl State {
    /// What the table of timeouts calls it; `command` is the one whose reply comes next.
    fn wait(self, command: Option<Command>) -> Option<Wait> {
        Some(match self {
            State::Greeting => Wait::Greeting,
            State::Ehlo | State::Helo => Wait::Hello,
            State::StartTls | State::Handshake => Wait::StartTls,
            State::Auth(_) => Wait::Auth,
            State::Envelope => match command {
                Some(Command::Reset) => Wait::Reset,
                Some(Command::Rcpt(_)) => Wait::Rcpt,
                Some(Command::Data) => Wait::DataInitiation,
                Some(Command::Mail) | None => Wait::Mail,
            },
            State::Dot | State::LoneDot => Wait::DataTermination,
            State::Quit => Wait::Quit,
            State::Idle | State::Closed => return None,
        })
    }

    /// The word in [`Failure::step`].
    pub(super) fn step(self) -> &'static str {
        match self {
            State::Greeting => "greeting",
            State::Ehlo | State::Helo => "ehlo",
            State::StartTls | State::Handshake => "starttls",
            State::Auth(_) => "auth",
            State::Idle => "idle",
            State::Envelope => "envelope",
            State::Dot | State::LoneDot => "dot",
            State::Quit | State::Closed => "quit",
        }
    }

    /// What we were waiting for, to be read behind "while waiting for".
    pub(super) fn awaited(self) -> &'static str {
        match self {
            State::Greeting => "the greeting",
            State::Ehlo => "the reply to EHLO",
            State::Helo => "the reply to HELO",
            State::StartTls => "the reply to STARTTLS",
            State::Handshake => "the TLS handshake",
            State::Auth(_) => "the reply to AUTH",
            State::Idle => "the next transaction",
            State::Envelope => "the reply to a command",
            State::Dot | State::LoneDot => "the reply to the final dot",
            State::Quit | State::Closed => "the end",
        }
    }
}

impl Client {
    pub(super) fn on_greeting(&mut self, now: Instant, reply: Reply) {
        match reply.code / 100 {
            2 => self.send_hello(now),
            4 | 5 => self.fail(now, reply, true),
            _ => self.confused(now),
        }
    }

    pub(super) fn send_hello(&mut self, now: Instant) {
        self.offers = Offers::default();
        let verb = if self.options.lmtp { "LHLO" } else { "EHLO" };
        self.send_line(now, State::Ehlo, format!("{verb} {}\r\n", self.options.name));
    }

    pub(super) fn on_ehlo(&mut self, now: Instant, reply: Reply) {
        match reply.code / 100 {
            2 if self.is_ourselves(&reply) => {
                let text = "mail loops back to myself: the peer calls itself by our name";
                self.fail(now, Reply::new(554, Enhanced(5, 4, 6), text), false);
            }
            2 => {
                self.offers = Offers::parse(&reply);
                self.secure(now);
            }
            // RFC 5321 §3.2: a server from before extensions. Such a peer has no STARTTLS either.
            5 if !self.options.lmtp && !self.must_encrypt() => {
                self.send_line(now, State::Helo, format!("HELO {}\r\n", self.options.name));
            }
            4 | 5 => self.fail(now, reply, true),
            _ => self.confused(now),
        }
    }

    pub(super) fn on_helo(&mut self, now: Instant, reply: Reply) {
        match reply.code / 100 {
            2 => self.log_in(now),
            4 | 5 => self.fail(now, reply, true),
            _ => self.confused(now),
        }
    }

    fn is_ourselves(&self, reply: &Reply) -> bool {
        let name = reply.text.split(['\n', ' ']).next().unwrap_or_default();
        self.options.detect_loop && name.eq_ignore_ascii_case(&self.options.name)
    }

    /// Whether nothing may be said in the clear from here on.
    fn must_encrypt(&self) -> bool {
        self.options.tls == TlsUse::Required && !self.encrypted
    }

    fn secure(&mut self, now: Instant) {
        let wanted = matches!(self.options.tls, TlsUse::Opportunistic | TlsUse::Required);
        if wanted && !self.encrypted && self.offers.starttls {
            self.send_line(now, State::StartTls, "STARTTLS\r\n");
        } else if self.must_encrypt() {
            self.fail(now, Reply::new(451, Enhanced(4, 7, 4), super::NO_STARTTLS), true);
        } else {
            self.log_in(now);
        }
    }

    /// `behind`: octets stood behind the reply in the same read. They were written before TLS by whoever could, and would be taken for
    /// answers inside it: response injection (CVE-2011-0411's mirror image, NO STARTTLS 2021).
    pub(super) fn on_starttls(&mut self, now: Instant, reply: Reply, behind: bool) {
        if behind {
            let text = "octets behind the reply to STARTTLS: somebody may be injecting answers";
            let failure = Failure { step: "starttls", reply: Reply::new(451, Enhanced(4, 7, 5), text), try_next: true };
            self.end(Action::Failed(failure));
        } else if reply.is_positive() {
            self.wait(now, State::Handshake);
            self.actions.push_back(Action::StartTls);
        } else if reply.code == 421 || self.must_encrypt() {
            self.fail(now, reply, true);
        } else {
            self.log_in(now);
        }
    }

    fn log_in(&mut self, now: Instant) {
        let Some((user, password)) = self.options.credentials.clone() else {
            return self.be_ready(now);
        };
        let trusted = self.encrypted || self.options.loopback;
        if !trusted {
            return self.fail(now, no_login("the connection is not encrypted, so the password is kept"), true);
        }
        if self.offers.auth_plain {
            let response = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
            // RFC 4954 §4: with its response the line may be too long for a peer; then it is asked for.
            let line = format!("AUTH PLAIN {response}\r\n");
            match line.len() <= 512 {
                true => self.send_line(now, State::Auth(Auth::Verdict), line),
                false => self.send_line(now, State::Auth(Auth::Plain), "AUTH PLAIN\r\n"),
            }
        } else if self.offers.auth_login {
            self.send_line(now, State::Auth(Auth::LoginUser), "AUTH LOGIN\r\n");
        } else {
            self.fail(now, no_login("the peer offers neither AUTH PLAIN nor AUTH LOGIN"), true);
        }
    }

    pub(super) fn on_auth(&mut self, now: Instant, step: Auth, reply: Reply) {
        let Some((user, password)) = self.options.credentials.clone() else {
            return self.confused(now);
        };
        let (next, answer) = match (reply.code / 100, step) {
            (2, _) => return self.be_ready(now),
            (3, Auth::Plain) => (Auth::Verdict, format!("\0{user}\0{password}")),
            (3, Auth::LoginUser) => (Auth::LoginPassword, user.to_string()),
            (3, Auth::LoginPassword) => (Auth::Verdict, password.to_string()),
            (4 | 5, _) if reply.code == 421 => return self.fail(now, reply, true),
            // Wrong credentials are our operator's mistake: mail waits until they are mended.
            (4 | 5, _) => return self.fail(now, no_login(&format!("the peer said: {reply}")), true),
            _ => return self.confused(now),
        };
        self.send_line(now, State::Auth(next), format!("{}\r\n", BASE64_STANDARD.encode(answer)));
    }

    pub(super) fn be_ready(&mut self, now: Instant) {
        self.wait(now, State::Idle);
        self.actions.push_back(Action::Ready);
    }

    pub(super) fn send_line(&mut self, now: Instant, state: State, line: impl Into<Bytes>) {
        self.wait(now, state);
        self.actions.push_back(Action::Send(vec![line.into()]));
    }

    pub(super) fn wait(&mut self, now: Instant, state: State) {
        self.state = state;
        self.arm(now);
    }

    /// Starts the timer of the present state anew.
    pub(super) fn arm(&mut self, now: Instant) {
        let wait = self.state.wait(self.flight.as_ref().and_then(Flight::awaited));
        self.deadline = wait.map(|wait| now + wait.duration() / self.options.timeout_divisor.max(1));
    }
}

fn no_login(why: &str) -> Reply {
    Reply::new(454, Enhanced(4, 7, 0), format!("cannot log in: {why}"))
}
