//! The states of a session and what each command does in them.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, Bytes, BytesMut};
use waypost_types::{Address, Host, MailParameters, Recipient, Reply, ReversePath, Timestamp, limits};

use super::policy::{BareNewline, Impatience, TlsMode};
use super::{Action, Ask, CloseReason, EMPTY, Session, Ticket, greeting, words};
use crate::bdat::Chunk;
use crate::command::{self, Command, Kind, Refused};
use crate::data::{Decoder, LineEnds};
use crate::extension::{Extension, ExtensionSet};
use crate::line::{self, Cut};
use crate::parameter::{self, InvalidParameter};
use crate::path::{self, ForwardPath, InvalidPath};
use crate::sasl::{self, Ending, Exchange, Mechanism, Step, Surroundings};
use crate::timer::Wait;

/// Where a session is. While a question is open the state is the one to which a refusal returns.
#[derive(Debug)]
pub(super) enum State {
    /// `Ask::Connect` is open.
    Connecting,
    /// Let in; greeted at this moment unless the client speaks first.
    Waiting(Instant),
    /// The next line is a command.
    Command,
    /// The next line belongs to AUTH.
    Sasl(Talk),
    /// The body of DATA.
    Data(Decoder),
    /// The octets of BDAT, and what is said when they are here if not yes.
    Chunk(Chunk, Option<Refusal>),
    /// `Action::StartTls` is out.
    Handshake,
    /// Nothing more.
    Closed,
}

/// What the next line of AUTH is to.
#[derive(Debug)]
pub(super) enum Talk {
    /// The mechanism. `true`: a back end that carries it out has not heard of it yet.
    Exchange(Box<dyn Exchange>, bool),
    /// The last words before 235 (with the user), or before this refusal.
    Ending(Result<std::sync::Arc<str>, Reply>),
}

/// Why a chunk is dropped, and how often that is said.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Reply, pub(super) usize);

/// What the open question is about.
#[derive(Debug)]
pub(super) enum About {
    Connect,
    Proxied,
    Helo { esmtp: bool },
    Auth(Ending),
    Keys(Box<dyn Exchange>),
    Round(Box<dyn Exchange>),
    Mail,
    Rcpt(Recipient),
    Data,
    Bdat(Chunk),
    Message,
}

/// From MAIL to the reply after the body.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// RCPT was refused at least once: the words for having no recipient differ.
    pub(super) refused_recipients: bool,
    /// BDAT has begun.
    pub(super) chunking: bool,
    /// Octets of the body handed out.
    pub(super) received: u64,
    pub(super) ends: LineEnds,
    /// The body is void and `Ask::Reset` has been sent; this is said at its end.
    pub(super) spoiled: Option<Reply>,
    /// The client asked for more urgency than strangers get.
    pub(super) slowed: bool,
}

impl Session {
    /// Does the next thing that `input` holds; `false` if there is nothing whole in it.
    pub(super) fn advance(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        match &self.state {
            State::Waiting(until) => self.wait(now, *until, input),
            State::Command | State::Sasl(_) => self.take_line(now, input),
            State::Data(_) => self.take_data(now, input),
            State::Chunk(..) => self.take_chunk(now, input),
            State::Connecting | State::Handshake | State::Closed => false,
        }
    }

    /// Nobody has been greeted yet: whoever speaks now speaks too early.
    fn wait(&mut self, now: Instant, until: Instant, input: &[u8]) -> bool {
        match (input.is_empty(), self.bears(self.policy.pregreet)) {
            (true, _) if now < until => return false,
            (false, Impatience::Refuse) => self.refuse_early(input),
            _ => self.greet(now),
        }
        true
    }

    fn refuse_early(&mut self, input: &[u8]) {
        match command::is_tls_hello(input) {
            Some(true) => self.close(CloseReason::Refused),
            _ => self.close_with(&words::EARLY, CloseReason::Refused),
        }
    }

    pub(super) fn greet(&mut self, now: Instant) {
        let greeting = greeting::greeting(&self.policy);
        self.say(&greeting);
        self.state = State::Command;
        self.arm(now);
    }

    fn take_line(&mut self, now: Instant, input: &mut BytesMut) -> bool {
        if self.skipped == 0 {
            match command::is_tls_hello(input) {
                None => return false,
                Some(true) => {
                    self.close(CloseReason::Refused);
                    return true;
                }
                Some(false) => {}
            }
        }
        match line::cut(input, self.line_max(input)) {
            Cut::Partial if self.skipped > 0 && !input.is_empty() => self.skip(input.len(), input.len(), false, input),
            Cut::Partial => return false,
            Cut::Overlong { text, whole, ended } => self.skip(text, whole, ended, input),
            Cut::Line { whole, .. } if self.skipped > 0 => self.skip(whole - 1, whole, true, input),
            Cut::Line { bare: true, .. } if self.bare_newline() == BareNewline::Refuse => {
                self.close_with(&words::BARE_LF_COMMAND, CloseReason::Refused);
            }
            Cut::Line { text, whole, .. } => {
                self.on_line(now, &input[..text], input.len() > whole);
                input.advance(whole);
            }
        }
        if self.skipped == 0 {
            self.arm(now);
        }
        true
    }

    /// RFC 4954 §4 gives the lines of AUTH a limit of their own.
    fn line_max(&self, input: &[u8]) -> usize {
        let auth =
            matches!(self.state, State::Sasl(_)) || input.get(..5).is_some_and(|w| w.eq_ignore_ascii_case(b"AUTH "));
        if auth { limits::AUTH_LINE_BYTES_MAX } else { self.policy.command_line_bytes_max }
    }

    /// Drops an overlong line piece by piece; it gets one reply, at its end.
    fn skip(&mut self, text: usize, whole: usize, ended: bool, input: &mut BytesMut) {
        // As much as is here however the line was cut.
        let front = text.min(self.policy.command_line_bytes_max);
        if self.skipped == 0 && command::is_foreign(&input[..front]) {
            return self.close_with(&words::FOREIGN, CloseReason::Refused);
        }
        self.skipped += text;
        input.advance(whole);
        if self.skipped > limits::INPUT_BYTES_MAX {
            self.close_with(&words::OVERLONG, CloseReason::Limit);
        } else if ended {
            self.skipped = 0;
            if matches!(self.state, State::Sasl(_)) {
                self.state = State::Command;
            }
            self.refuse(&words::OVERLONG);
        }
    }

    fn on_line(&mut self, now: Instant, text: &[u8], more: bool) {
        if let State::Sasl(_) = self.state {
            return self.on_sasl_line(text);
        }
        match command::parse(text) {
            Ok(command) => self.on_command(now, command, more),
            Err(Refused::Unclean) if command::is_foreign(text) => {
                self.close_with(&words::FOREIGN, CloseReason::Refused);
            }
            Err(Refused::Unclean) => self.refuse(&words::UNCLEAN),
            Err(Refused::Unknown) => self.refuse(&words::UNKNOWN),
            // What follows cannot be told from commands any more.
            Err(Refused::Argument(verb)) if verb.kind == Kind::Bdat => {
                self.close_with(&words::CHUNK_SYNTAX, CloseReason::Refused);
            }
            Err(Refused::Argument(verb)) => {
                let takes = if verb.argument == command::Argument::Never { "takes no" } else { "needs an" };
                self.refuse(&reply(501, (5, 5, 4), format!("{} {takes} argument", verb.word)));
            }
        }
    }

    fn on_command(&mut self, now: Instant, Command { verb, argument }: Command<'_>, more: bool) {
        let kind = verb.kind;
        if kind == Kind::Foreign {
            return self.close_with(&words::FOREIGN, CloseReason::Refused);
        }
        if verb.ends_group && more {
            if kind == Kind::StartTls {
                return self.close_with(&words::AFTER_STARTTLS, CloseReason::Refused);
            }
            if self.bears(self.policy.unauthorised_pipelining) == Impatience::Refuse {
                return self.close_with(&words::EARLY, CloseReason::Refused);
            }
        }
        if kind == Kind::Bdat {
            return self.on_bdat(now, argument);
        }
        if self.policy.tls == TlsMode::Required && self.facts.tls.is_none() && !verb.before_tls {
            return self.refuse(&words::NEED_TLS);
        }
        self.idle += u32::from(verb.idle);
        if self.idle > self.policy.idle_commands_max {
            return self.close_with(&words::TOO_MANY_IDLE, CloseReason::Limit);
        }
        let lmtp = self.policy.is_lmtp();
        match kind {
            Kind::Helo | Kind::Ehlo if lmtp => self.refuse(&words::NOT_FOR_LMTP),
            Kind::Lhlo if !lmtp => self.refuse(&words::NOT_FOR_SMTP),
            Kind::Helo => self.on_hello(argument, false),
            Kind::Ehlo | Kind::Lhlo => self.on_hello(argument, true),
            Kind::StartTls => self.on_starttls(now),
            Kind::Auth => self.on_auth(argument),
            Kind::Mail => self.on_mail(now, argument),
            Kind::Rcpt => self.on_rcpt(argument),
            Kind::Data => self.on_data(),
            Kind::Rset => {
                self.void();
                self.say(&words::OK);
            }
            Kind::Noop => self.say(&words::OK),
            Kind::Vrfy => self.say(&words::CANNOT_VERIFY),
            Kind::Help => self.say(&words::HELP),
            Kind::XClient => self.on_xclient(argument),
            Kind::XForward => self.on_xforward(argument),
            Kind::Quit => self.close_with(&words::BYE, CloseReason::Quit),
            Kind::Absent => self.refuse(&words::NOT_IMPLEMENTED),
            Kind::Bdat | Kind::Foreign => unreachable!("taken above"),
        }
    }

    fn on_hello(&mut self, name: &str, esmtp: bool) {
        if !command::is_host(name) {
            return self.refuse(&words::BAD_HOST);
        }
        // RFC 5321 §4.1.4: EHLO in the middle of a transaction ends it.
        self.void();
        let facts = std::sync::Arc::make_mut(&mut self.facts);
        facts.helo = name.into();
        facts.esmtp = esmtp;
        self.ask(About::Helo { esmtp }, Ask::Helo);
    }

    fn on_starttls(&mut self, now: Instant) {
        if self.facts.tls.is_some() {
            return self.refuse(&words::TLS_IS_UP);
        }
        if !self.offers(Extension::StartTls) {
            return self.refuse(&words::NO_TLS);
        }
        if self.transaction.is_some() {
            return self.refuse(&words::IN_TRANSACTION);
        }
        self.say(&words::READY_FOR_TLS);
        self.flush();
        self.actions.push_back(Action::StartTls);
        self.state = State::Handshake;
        self.arm(now);
    }

    fn on_auth(&mut self, argument: &str) {
        let (name, initial) =
            argument.split_once(' ').map_or((argument, None), |(name, rest)| (name, Some(rest.trim())));
        match self.auth_refusal() {
            Some(no) => return self.refuse(&no),
            None if self.transaction.is_some() => return self.refuse(&words::IN_TRANSACTION),
            None => {}
        }
        let facts = self.facts.clone();
        let offers = |wanted: Mechanism| self.policy.mechanisms(facts.tls.as_deref()).any(|offered| offered == wanted);
        let Some(mechanism) = Mechanism::from_name(name).filter(|mechanism| offers(*mechanism)) else {
            return self.refuse(&words::NO_MECHANISM);
        };
        let surroundings = Surroundings {
            tls: facts.tls.as_deref(),
            plus_offered: offers(Mechanism::ScramSha256Plus),
            relayed: self.policy.auth_relayed,
        };
        self.state = State::Sasl(Talk::Exchange(sasl::begin(mechanism, surroundings), true));
        match initial {
            None => self.step_sasl(None),
            // RFC 4954 §4: an empty initial response.
            Some("=") => self.step_sasl(Some(b"")),
            Some(initial) => self.on_sasl_line(initial.as_bytes()),
        }
    }

    fn auth_refusal(&self) -> Option<Reply> {
        match () {
            () if !self.policy.auth.is_on() => Some(words::NO_AUTH),
            () if self.facts.user.is_some() => Some(words::AUTH_IS_DONE),
            () if self.facts.helo.is_empty() && self.policy.helo_required => Some(self.need_hello()),
            () if self.offers(Extension::Auth) => None,
            () if self.policy.auth.is_offered(true) && self.facts.tls.is_none() => Some(words::NEED_TLS_FOR_AUTH),
            () => Some(words::NO_AUTH),
        }
    }

    fn on_sasl_line(&mut self, text: &[u8]) {
        if let State::Sasl(Talk::Ending(Err(_))) = self.state {
            // Whatever the client has to say about the refusal: RFC 7628 §3.2.3 wants a %x01, others send nothing or `*`.
            return self.step_sasl(None);
        }
        if text == b"*" {
            self.state = State::Command;
            return self.refuse(&words::AUTH_CANCELLED);
        }
        match BASE64.decode(text) {
            Ok(response) => self.step_sasl(Some(&response)),
            Err(_) if command::is_foreign(text) => self.close_with(&words::FOREIGN, CloseReason::Refused),
            Err(_) => {
                self.state = State::Command;
                self.refuse(&words::AUTH_SYNTAX);
            }
        }
    }

    fn step_sasl(&mut self, response: Option<&[u8]>) {
        let State::Sasl(talk) = std::mem::replace(&mut self.state, State::Command) else {
            unreachable!("an exchange is under way")
        };
        match talk {
            Talk::Exchange(mut exchange, fresh) => {
                let step = exchange.handle(response);
                self.on_step(exchange, fresh, step);
            }
            Talk::Ending(Ok(_)) if response.is_some_and(|response| !response.is_empty()) => {
                self.refuse(&words::AUTH_SYNTAX);
            }
            Talk::Ending(verdict) => self.end_sasl(verdict),
        }
    }

    pub(super) fn on_step(&mut self, exchange: Box<dyn Exchange>, fresh: bool, step: Step) {
        match step {
            Step::Challenge(challenge) => self.challenge(&challenge, Talk::Exchange(exchange, fresh)),
            Step::Keys(identity) => self.ask(About::Keys(exchange), Ask::Keys(identity)),
            Step::Ask(credentials, ending) => self.ask(About::Auth(ending), Ask::Auth(credentials)),
            Step::Pass(mechanism, message) => self.ask(About::Round(exchange), Ask::Round(fresh, mechanism, message)),
            Step::Malformed => self.refuse(&words::AUTH_SYNTAX),
        }
    }

    pub(super) fn challenge(&mut self, challenge: &[u8], talk: Talk) {
        self.say(&Reply::plain(334, BASE64.encode(challenge)));
        self.state = State::Sasl(talk);
    }

    fn on_mail(&mut self, now: Instant, argument: &str) {
        if let Some(no) = self.mail_refusal() {
            return self.refuse(&no);
        }
        if self.messages >= self.policy.messages_max {
            return self.close_with(&words::TOO_MANY_MESSAGES, CloseReason::Limit);
        }
        match self.read_mail(now, argument) {
            Err(no) => self.refuse(&no),
            Ok((sender, mut parameters)) => {
                let slowed = self.slow_down(&mut parameters);
                let envelope = std::sync::Arc::make_mut(&mut self.envelope);
                envelope.sender = sender.clone();
                envelope.parameters = parameters.clone();
                self.transaction = Some(Transaction { slowed, ..Transaction::default() });
                self.ask(About::Mail, Ask::Mail(sender, parameters));
            }
        }
    }

    /// RFC 6710 §5.1: urgency is for those who are known; anybody may be modest. Whether something was changed.
    fn slow_down(&self, parameters: &mut MailParameters) -> bool {
        let stranger = self.facts.user.is_none() && !self.facts.trusted;
        let slowed = stranger && parameters.priority > 0;
        if slowed {
            parameters.priority = 0;
        }
        slowed
    }

    /// Why no transaction can begin now.
    fn mail_refusal(&self) -> Option<Reply> {
        match () {
            () if self.policy.helo_required && self.facts.helo.is_empty() => Some(self.need_hello()),
            () if self.policy.auth.is_required() && self.facts.user.is_none() => Some(words::NEED_AUTH),
            () if self.transaction.is_some() => Some(words::NESTED_MAIL),
            () => None,
        }
    }

    fn need_hello(&self) -> Reply {
        if self.policy.is_lmtp() { words::NEED_LHLO } else { words::NEED_HELO }
    }

    fn read_mail(&self, now: Instant, argument: &str) -> Result<(ReversePath, MailParameters), Reply> {
        let parsed =
            path::reverse(argument, self.policy.strict_paths).map_err(|error| bad_path("MAIL FROM", 7, error))?;
        let offered = self.offered();
        let mut parameters = parameter::mail(parsed.parameters, offered, self.wall(now)).map_err(|error| {
            let wants_tls = matches!(error, InvalidParameter::Unknown(name) if name.eq_ignore_ascii_case("REQUIRETLS"));
            let offered_inside = self.extensions.contains(Extension::RequireTls) && self.facts.tls.is_none();
            if wants_tls && offered_inside { words::NEED_TLS_FOR_REQUIRETLS } else { bad_parameter(error) }
        })?;
        if !parsed.ascii && !parameters.smtputf8 {
            return Err(words::NEEDS_UTF8);
        }
        if parameters.size.is_some_and(|size| size > self.policy.message_bytes_max as u64) {
            return Err(words::TOO_LARGE);
        }
        if parameters.hold_for.is_some_and(|span| span > self.policy.hold_max) {
            return Err(words::HELD_TOO_LONG);
        }
        if parameters.auth.is_some() && self.facts.user.is_none() {
            // RFC 4954 §5: who is not trusted may say nothing but this.
            parameters.auth = Some("<>".into());
        }
        Ok((parsed.path, parameters))
    }

    fn on_rcpt(&mut self, argument: &str) {
        match &self.transaction {
            None => return self.refuse(&words::NEED_MAIL),
            Some(transaction) if transaction.chunking => return self.refuse(&words::IN_BDAT),
            Some(_) => {}
        }
        match self.read_rcpt(argument) {
            Err(no) => {
                self.transaction.as_mut().expect("looked at above").refused_recipients = true;
                self.refuse(&no);
            }
            Ok(recipient) => self.ask(About::Rcpt(recipient.clone()), Ask::Rcpt(recipient)),
        }
    }

    fn read_rcpt(&self, argument: &str) -> Result<Recipient, Reply> {
        let parsed =
            path::forward(argument, self.policy.strict_paths).map_err(|error| bad_path("RCPT TO", 3, error))?;
        if !parsed.ascii && !self.envelope.parameters.smtputf8 {
            return Err(words::NEEDS_UTF8);
        }
        let parameters = parameter::rcpt(parsed.parameters, self.offered()).map_err(bad_parameter)?;
        if self.envelope.recipients.len() >= self.policy.recipients_max {
            return Err(words::TOO_MANY_RECIPIENTS);
        }
        let address = match parsed.path {
            ForwardPath::Mailbox(address) => address,
            ForwardPath::Postmaster => Host::parse(&self.policy.hostname)
                .and_then(|host| Address::new("postmaster", host))
                .map_err(|error| bad_path("RCPT TO", 3, InvalidPath::Address(error)))?,
        };
        Ok(Recipient { address, original: parameters.original, notify: parameters.notify })
    }

    fn on_data(&mut self) {
        match self.body_refusal(true) {
            Some(no) => self.refuse(&no),
            None => self.ask(About::Data, Ask::Data),
        }
    }

    /// Why no body can come now.
    pub(super) fn body_refusal(&self, by_data: bool) -> Option<Reply> {
        let Some(transaction) = &self.transaction else { return Some(words::NEED_MAIL) };
        match () {
            () if by_data && transaction.chunking => Some(words::IN_BDAT),
            () if self.envelope.recipients.is_empty() && !transaction.refused_recipients => Some(words::NEED_RCPT),
            // RFC 2033 §4.2 wants 503 where RFC 5321 §3.3 leaves the choice.
            () if self.envelope.recipients.is_empty() && self.policy.is_lmtp() => Some(words::NEED_RCPT),
            () if self.envelope.recipients.is_empty() => Some(words::NO_RECIPIENTS),
            () if by_data && self.envelope.parameters.body == waypost_types::Body::BinaryMime => {
                Some(words::BINARY_BY_DATA)
            }
            () => None,
        }
    }

    /// What EHLO would show now.
    pub(super) fn offered(&self) -> ExtensionSet {
        greeting::offered(&self.policy, self.extensions, &self.facts, self.clock.is_some())
    }

    /// Haste is borne from hosts of our own.
    fn bears(&self, impatience: Impatience) -> Impatience {
        if self.facts.trusted { Impatience::Ignore } else { impatience }
    }

    /// So are their line ends.
    pub(super) fn bare_newline(&self) -> BareNewline {
        if self.facts.trusted { BareNewline::Normalise } else { self.policy.bare_newline }
    }

    pub(super) fn offers(&self, extension: Extension) -> bool {
        self.offered().contains(extension)
    }

    pub(super) fn wall(&self, now: Instant) -> Option<Timestamp> {
        self.clock.map(|(then, clock)| clock.after(now.saturating_duration_since(then)))
    }

    /// Puts a question. Its answer comes to `on_answer` with `about`.
    pub(super) fn ask(&mut self, about: About, ask: Ask) {
        assert!(self.asked.is_none(), "one question at a time");
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked = Some((ticket, about));
        self.actions.push_back(Action::Ask(ticket, ask));
    }

    pub(super) fn say(&mut self, reply: &Reply) {
        reply.write_to(&mut self.out);
    }

    /// Says no, and counts it.
    pub(super) fn refuse(&mut self, reply: &Reply) {
        if matches!(reply.code, 421 | 521) {
            return self.close_with(reply, CloseReason::Refused);
        }
        self.say(reply);
        self.errors += u32::from(reply.is_permanent());
        let errors_max =
            if self.pressed { limits::PRESSED_ERRORS_MAX.min(self.policy.errors_max) } else { self.policy.errors_max };
        if self.errors >= errors_max {
            self.close_with(&words::TOO_MANY_ERRORS, CloseReason::Limit);
        }
    }

    /// Ends the transaction, if there is one, without a message.
    pub(super) fn void(&mut self) {
        self.envelope = EMPTY.clone();
        self.forwarded = None;
        if self.transaction.take().is_some_and(|transaction| transaction.spoiled.is_none()) {
            self.actions.push_back(Action::Ask(Ticket(0), Ask::Reset));
        }
    }

    pub(super) fn close_with(&mut self, reply: &Reply, reason: CloseReason) {
        self.say(reply);
        self.close(reason);
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        self.void();
        self.flush();
        self.actions.push_back(Action::Close(reason));
        self.state = State::Closed;
        self.asked = None;
        self.deadline = None;
    }

    /// Makes one action of the replies that have gathered.
    pub(super) fn flush(&mut self) {
        if !self.out.is_empty() {
            self.pause();
            self.actions.push_back(Action::Send(Bytes::from(std::mem::take(&mut self.out))));
        }
    }

    /// Makes a client wait that has made new mistakes beyond those that anybody makes.
    fn pause(&mut self) {
        let over = self.errors.saturating_sub(self.policy.tarpit_errors);
        if self.errors > self.paused && over > 0 && !self.pressed && !self.facts.trusted {
            let span = (limits::TARPIT_STEP * over).min(self.policy.tarpit_max);
            if !span.is_zero() {
                self.actions.push_back(Action::Pause(span));
            }
        }
        self.paused = self.errors;
    }

    /// The end of a group: replies leave, and a peer that has closed its side is let go.
    pub(super) fn settle_down(&mut self) {
        if self.asked.is_some() || matches!(self.state, State::Closed) {
            return;
        }
        self.flush();
        if self.eof {
            self.close(CloseReason::Lost);
        }
    }

    /// Says 421 if the server is going down and nothing would be cut off by it.
    pub(super) fn go_down_if_idle(&mut self) -> bool {
        let idle =
            matches!(self.state, State::Waiting(_) | State::Command | State::Sasl(_)) && self.transaction.is_none();
        let going = self.draining && idle && self.asked.is_none();
        if going {
            self.close_with(&words::GOING_DOWN, CloseReason::Shutdown);
        }
        going
    }

    /// Sets the deadline of the state.
    pub(super) fn arm(&mut self, now: Instant) {
        let span = match self.state {
            State::Command | State::Sasl(_) => self.policy.command_timeout,
            State::Data(_) | State::Chunk(..) => self.policy.data_timeout,
            State::Handshake => Wait::StartTls.duration(),
            State::Waiting(until) => until.saturating_duration_since(now),
            State::Connecting => Duration::ZERO,
            State::Closed => return self.deadline = None,
        };
        let span = if self.pressed { span.min(limits::PRESSED_TIMEOUT) } else { span };
        self.drip = 0;
        self.deadline = Some(now + span);
    }
}

pub(super) fn reply(code: u16, enhanced: (u8, u16, u16), text: String) -> Reply {
    Reply::new(code, waypost_types::Enhanced(enhanced.0, enhanced.1, enhanced.2), text)
}

/// `detail` is RFC 3463's: 5.1.7 for a bad sender, 5.1.3 for a bad recipient.
fn bad_path(command: &str, detail: u16, error: InvalidPath) -> Reply {
    match error {
        InvalidPath::Null => words::NULL_RECIPIENT,
        InvalidPath::Keyword | InvalidPath::Brackets => {
            reply(501, (5, 5, 4), format!("syntax: {command}:<user@example.com> [parameters]"))
        }
        InvalidPath::Address(error) => reply(501, (5, 1, detail), error.to_string()),
    }
}

fn bad_parameter(error: InvalidParameter<'_>) -> Reply {
    let short = |name: &str| name.chars().take(40).filter(|c| c.is_ascii_graphic()).collect::<String>();
    match error {
        InvalidParameter::Unknown(name) => reply(555, (5, 5, 4), format!("parameter not recognised: {}", short(name))),
        InvalidParameter::Value(name) => reply(501, (5, 5, 4), format!("bad value of parameter {}", short(name))),
        InvalidParameter::Repeated(name) => reply(501, (5, 5, 4), format!("parameter given twice: {}", short(name))),
    }
}
