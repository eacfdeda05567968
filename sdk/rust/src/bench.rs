//! A bench that runs a plugin natively, without a server: script what it is told, call its stages, look at what it said.
//!
//! The bench keeps the server's rules about effects: what a hook asked for is dropped when it fails, facts stated up to AUTH stay
//! for the session and later ones for the transaction ([`Bench::reset`] ends it).

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use crate::script::{Edit, Fact, Message, Script};
use crate::types::{AuthFinding, AuthResult, Credentials, DnsError, RecordType, Registration, TransportKind};
use crate::{Host, Outcome, Plugin, Recipient};

/// A plugin on the bench.
pub struct Bench<P> {
    plugin: P,
    host: Host,
    registration: Registration,
}

impl<P: Plugin> Bench<P> {
    /// Starts a plugin with its settings, a JSON text. The error is the one an operator would read.
    pub fn start(settings: &str) -> Result<Bench<P>, String> {
        let script =
            Script { env: crate::script::Env { config: settings.into(), ..Default::default() }, ..Script::default() };
        let host = Host { script: Rc::new(RefCell::new(script)) };
        let (plugin, registration) = P::init(&host)?;
        Ok(Bench { plugin, host, registration })
    }

    /// What the plugin registered.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// The script, to read and to write.
    pub fn script(&self) -> RefMut<'_, Script> {
        self.host.script.borrow_mut()
    }

    /// A new client connects: forgets session and transaction.
    pub fn client(&mut self, address: &str) -> &mut Self {
        self.reset();
        let mut script = self.script();
        script.session = crate::script::Session { client_ip: address.into(), ..Default::default() };
        script.scores.facts.clear();
        drop(script);
        self
    }

    /// The client's forward-confirmed name.
    pub fn named(&mut self, name: &str) -> &mut Self {
        self.script().session.ptr_name = Some(name.into());
        self
    }

    /// The client logs in.
    pub fn logged_in(&mut self, user: &str) -> &mut Self {
        let mut script = self.script();
        script.session.auth_user = Some(user.into());
        script.session.transport = TransportKind::Submission;
        drop(script);
        self
    }

    /// Cans a DNS answer.
    pub fn dns(&mut self, name: &str, rtype: RecordType, records: &[&str]) -> &mut Self {
        self.script().dns.answer(name, rtype, records);
        self
    }

    /// Cans a DNS failure.
    pub fn dns_fails(&mut self, name: &str, rtype: RecordType, error: DnsError) -> &mut Self {
        self.script().dns.fail(name, rtype, error);
        self
    }

    /// A fact that another plugin stated earlier in this session.
    pub fn fact_of_session(&mut self, symbol: &str, weight: f64) -> &mut Self {
        self.script().scores.facts.push(Fact { symbol: symbol.into(), weight, detail: None, of_session: true });
        self
    }

    /// The message. Lines may end in LF; they become CRLF.
    pub fn letter(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.script().message = Message::new(crlf(text.as_ref()));
        self
    }

    /// A finding of mail authentication.
    pub fn finding(&mut self, method: &str, result: &str, domain: Option<&str>) -> &mut Self {
        let entry = AuthFinding {
            method: method.into(),
            result: result.into(),
            domain: domain.map(str::to_string),
            selector: None,
            detail: None,
        };
        self.script().auth_results.entries.push(entry);
        self
    }

    /// Ends the transaction: what belongs to it is forgotten.
    pub fn reset(&mut self) {
        let mut script = self.script();
        script.envelope = Default::default();
        script.message = Default::default();
        script.auth_results = Default::default();
        script.scores.facts.retain(|fact| fact.of_session);
        script.edits.clear();
    }

    /// Runs the connect stage.
    pub fn connect(&mut self) -> Outcome {
        self.hook(true, |plugin, host| plugin.connect(host))
    }

    /// Runs the helo stage with EHLO.
    pub fn helo(&mut self, name: &str) -> Outcome {
        self.script().session.helo = name.into();
        self.hook(true, |plugin, host| plugin.helo(host, name, true))
    }

    /// Runs the auth stage.
    pub fn authenticate(&mut self, credentials: &Credentials) -> Result<AuthResult, String> {
        self.plugin.authenticate(&self.host, credentials)
    }

    /// Runs the mail stage; begins a transaction.
    pub fn mail(&mut self, sender: &str) -> Outcome {
        self.script().envelope.sender = sender.into();
        self.hook(false, |plugin, host| plugin.mail(host, sender))
    }

    /// An operator's command.
    pub fn command(&mut self, name: &str, argument: &str) -> Result<String, String> {
        self.plugin.command(&self.host, name, argument)
    }

    /// Runs the rcpt stage; an accepted recipient stays in the envelope.
    pub fn rcpt(&mut self, address: &str) -> Outcome {
        let domain = crate::addresses::split(address).1.to_string();
        let recipient = Recipient { address: address.into(), domain, orcpt: None, notify: None };
        let outcome = self.hook(false, |plugin, host| plugin.rcpt(host, &recipient));
        if matches!(outcome, Ok(crate::Action::Next | crate::Action::Accept)) {
            self.script().envelope.recipients.push(recipient);
        }
        outcome
    }

    /// Runs the data stage.
    pub fn data(&mut self) -> Outcome {
        self.hook(false, |plugin, host| plugin.data(host))
    }

    /// Runs the headers stage.
    pub fn headers(&mut self) -> Outcome {
        self.hook(false, |plugin, host| plugin.headers(host))
    }

    /// Runs the message stage.
    pub fn message(&mut self) -> Outcome {
        self.hook(false, |plugin, host| plugin.message(host))
    }

    /// Runs the queue stage.
    pub fn queue(&mut self, queue_id: &str) -> Outcome {
        self.hook(false, |plugin, host| plugin.queue(host, queue_id))
    }

    /// What was asked for in this transaction, in order.
    pub fn edits(&self) -> Vec<Edit> {
        self.script().edits.clone()
    }

    /// The value of the header that the plugin put in, if it did so once.
    pub fn header_put(&self, wanted: &str) -> Option<String> {
        let edits = self.edits();
        let mut values = edits.iter().filter_map(|edit| match edit {
            Edit::AddHeader { name, value } | Edit::PrependHeader { name, value }
                if name.eq_ignore_ascii_case(wanted) =>
            {
                Some(value.clone())
            }
            _ => None,
        });
        values.next().filter(|_| values.next().is_none())
    }

    /// Facts known now, as `SYMBOL weight`.
    pub fn facts(&self) -> Vec<String> {
        self.script().scores.facts.iter().map(|fact| format!("{} {}", fact.symbol, fact.weight)).collect()
    }

    /// Lines that were logged.
    pub fn logs(&self) -> Vec<String> {
        self.script().env.logs.iter().map(|(_, text)| text.clone()).collect()
    }

    /// Names that were asked for in DNS.
    pub fn dns_asked(&self) -> Vec<String> {
        self.script().dns.asked.clone()
    }

    fn hook(&mut self, of_session: bool, call: impl FnOnce(&mut P, &Host) -> Outcome) -> Outcome {
        let facts_before = {
            let mut script = self.script();
            script.scores.of_session = of_session;
            script.scores.facts.len()
        };
        let outcome = call(&mut self.plugin, &self.host);
        let mut script = self.script();
        let script = &mut *script;
        if outcome.is_err() {
            script.scores.facts.truncate(facts_before);
            script.envelope.edits.clear();
            script.message.edits.clear();
        }
        script.edits.append(&mut script.envelope.edits);
        script.edits.append(&mut script.message.edits);
        outcome
    }
}

/// Bare LF becomes CRLF, as the server's intake leaves messages.
fn crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 30);
    for (at, byte) in text.iter().enumerate() {
        if *byte == b'\n' && (at == 0 || text[at - 1] != b'\r') {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, BodyNeed};

    /// Does a little of everything, and fails on demand.
    struct Chatter {
        calls: u32,
    }

    impl Plugin for Chatter {
        fn init(host: &Host) -> Result<(Self, Registration), String> {
            if host.env().config().contains("bad") {
                return Err("bad: no such setting".into());
            }
            Ok((Chatter { calls: 0 }, Registration::new("chatter", "1").reading(BodyNeed::FULL)))
        }

        fn connect(&mut self, host: &Host) -> Outcome {
            host.scores().add("SEEN", 1.0, None);
            Ok(Action::Next)
        }

        fn mail(&mut self, host: &Host, sender: &str) -> Outcome {
            self.calls += 1;
            host.scores().add("MAIL", 2.0, Some(sender));
            if sender == "fail@example.com" { Err("told to".into()) } else { Ok(Action::Next) }
        }

        fn message(&mut self, host: &Host) -> Outcome {
            let message = host.message();
            let text: Vec<_> = message.parts().iter().map(|part| format!("{} {}", part.mime_type, part.size)).collect();
            message.add_header("X-Parts", &text.join(", "));
            message.add_header("X-Subject", &message.header("subject").join("|"));
            if message.size() == 0 { Err("empty".into()) } else { Ok(Action::Accept) }
        }
    }

    fn bench() -> Bench<Chatter> {
        Bench::start("").unwrap()
    }

    #[test]
    fn init_errors_are_the_operators() {
        assert_eq!(Bench::<Chatter>::start(r#"{"bad":1}"#).err().unwrap(), "bad: no such setting");
        assert_eq!(bench().registration().body, BodyNeed::FULL);
    }

    #[test]
    fn facts_of_the_session_outlive_the_transaction() {
        let mut bench = bench();
        bench.connect().unwrap();
        bench.mail("a@example.com").unwrap();
        assert_eq!(bench.facts(), ["SEEN 1", "MAIL 2"]);
        bench.reset();
        assert_eq!(bench.facts(), ["SEEN 1"]);
        bench.client("192.0.2.2");
        assert!(bench.facts().is_empty());
    }

    #[test]
    fn effects_of_a_failing_hook_are_dropped() {
        let mut bench = bench();
        assert_eq!(bench.mail("fail@example.com"), Err("told to".into()));
        assert!(bench.facts().is_empty());
        assert_eq!(bench.message(), Err("empty".into()));
        assert!(bench.edits().is_empty());
    }

    #[test]
    fn messages_are_read_as_the_server_reads_them() {
        let mut bench = bench();
        bench.letter("Subject: a\n b\nContent-Type: text/html\nContent-Transfer-Encoding: base64\n\nPGI+aGk8L2I+\n");
        assert_eq!(bench.message(), Ok(Action::Accept));
        assert_eq!(bench.header_put("x-subject").as_deref(), Some("a b"));
        assert_eq!(bench.header_put("x-parts").as_deref(), Some("text/html 9"));
    }
}
