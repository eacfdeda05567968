//! The operator's own tables: who is permitted before any public list is asked, and who is not wanted at all.
//!
//! *Permits* end the chain of their stage (`accept`) and, for clients and senders, state the fact `WHITELISTED`, so that plugins
//! at later stages stay silent too. *Blocks* refuse with 550 5.7.1 at RCPT, as Postfix's delayed rejects do: so the log shows
//! whom the mail was for, and `postmaster` stays reachable. A permit beats a block. Relay control and limits are the server's
//! and are never overridden.
//!
//! Settings are on the page [`config`]; tables from outside answer as Postfix's access(5) does, see [`rule`].

pub mod config;
pub mod rule;

use config::{Config, Side};
use rule::Rule;
use waypost_sdk::addresses;
use waypost_sdk::facts::WHITELISTED;
use waypost_sdk::host::Session;
use waypost_sdk::{Action, Host, Outcome, Plugin, Recipient, Registration, Reply};

/// Under these keys a block waits for its RCPT.
const CLIENT_BLOCK: &str = "client";
const SENDER_BLOCK: &str = "sender";

/// The plugin.
pub struct Whitelist {
    config: Config,
}

impl Plugin for Whitelist {
    fn init(host: &Host) -> Result<(Self, Registration), String> {
        let config: Config = waypost_sdk::settings(host)?;
        Ok((Whitelist { config }, Registration::new("whitelist", env!("CARGO_PKG_VERSION"))))
    }

    fn connect(&mut self, host: &Host) -> Outcome {
        match self.client_rule(host) {
            Rule::Permit(why) => return Ok(permit(host, &why)),
            Rule::Block(reply) if !self.config.delay_reject => return Ok(Action::Reject(reply)),
            // The name may still be on its way; then RCPT decides.
            Rule::None if self.config.asks_about_names() && host.session().ptr_name().is_none() => {}
            rule => self.keep_client(host, &rule),
        }
        Ok(Action::Next)
    }

    fn mail(&mut self, host: &Host, sender: &str) -> Outcome {
        let rule = self.address_rule(host, Side::Sender, sender);
        if let Rule::Permit(why) = rule {
            return Ok(permit(host, &why));
        }
        if self.config.may_block(Side::Sender) {
            // Written at every MAIL, or a block would outlive its transaction.
            let block = if let Rule::Block(reply) = rule { rule::to_text(&reply) } else { String::new() };
            host.session().set_var(SENDER_BLOCK, block.as_bytes());
        }
        Ok(Action::Next)
    }

    fn rcpt(&mut self, host: &Host, recipient: &Recipient) -> Outcome {
        if host.scores().has(WHITELISTED) {
            return Ok(Action::Accept);
        }
        if self.config.asks_about_clients() && host.session().get_var(CLIENT_BLOCK).is_none() {
            // Nobody asked at connect, or the client had no name yet.
            match self.client_rule(host) {
                Rule::Permit(why) => return Ok(permit(host, &why)),
                rule => self.keep_client(host, &rule),
            }
        }
        let rule = self.address_rule(host, Side::Recipient, &recipient.address);
        if let Rule::Permit(why) = rule {
            // No fact: it would speak for the other recipients too.
            host.env().debug(|| format!("permitted: {why}"));
            return Ok(Action::Accept);
        }
        let block = self.earlier_block(host).or(match rule {
            Rule::Block(reply) => Some(reply),
            _ => None,
        });
        match block {
            Some(reply) if !self.is_exempt(host.session(), &recipient.address) => Ok(refusal(reply)),
            _ => Ok(Action::Next),
        }
    }
}

impl Whitelist {
    /// What the tables say about the client: its address, then its confirmed name.
    fn client_rule(&self, host: &Host) -> Rule {
        let config = &self.config;
        let session = host.session();
        if !config.asks_about_clients() {
            return Rule::None;
        }
        let Some(address) = session.client_address() else { return Rule::None };
        let name = if config.asks_about_names() { session.ptr_name() } else { None };
        if config.permit.clients.contains(address) {
            return Rule::Permit(format!("client {address}"));
        }
        if let Some(entry) = name.as_deref().and_then(|name| config.permit.names.matching_host(name)) {
            return Rule::Permit(format!("client name {entry}"));
        }
        let mut block = Rule::None;
        if let Some(table) = &config.client_table {
            match rule::look_up(host, table, rule::client_keys(address, name.as_deref())) {
                permit @ Rule::Permit(_) => return permit,
                other => block = other,
            }
        }
        let named = name.as_deref().is_some_and(|name| config.block.names.matching_host(name).is_some());
        if named || config.block.clients.contains(address) {
            block = Rule::Block(config.refusal(&format!("client [{address}]")));
        }
        block
    }

    /// Keeps what was found about the client until RCPT; nothing found is kept as an empty text.
    fn keep_client(&self, host: &Host, rule: &Rule) {
        if self.config.asks_about_clients() {
            let block = if let Rule::Block(reply) = rule { rule::to_text(reply) } else { String::new() };
            host.session().set_var(CLIENT_BLOCK, block.as_bytes());
        }
    }

    /// What the tables say about a sender or a recipient.
    fn address_rule(&self, host: &Host, side: Side, address: &str) -> Rule {
        let config = &self.config;
        let word = side.word();
        if let Some(entry) = config.permit.side(side).matching(address) {
            return Rule::Permit(format!("{word} {entry}"));
        }
        let mut block = Rule::None;
        if let Some(table) = config.table(side) {
            match rule::look_up(host, table, addresses::keys(address)) {
                permit @ Rule::Permit(_) => return permit,
                other => block = other,
            }
        }
        if config.block.side(side).matching(address).is_some() {
            block = Rule::Block(config.refusal(&format!("{word} <{address}>")));
        }
        block
    }

    /// A block that waits since an earlier stage.
    fn earlier_block(&self, host: &Host) -> Option<Reply> {
        let session = host.session();
        let kept = |key| session.get_var(key).and_then(|text| rule::from_text(&text));
        let of_client = self.config.may_block_clients().then(|| kept(CLIENT_BLOCK)).flatten();
        of_client.or_else(|| self.config.may_block(Side::Sender).then(|| kept(SENDER_BLOCK)).flatten())
    }

    /// Blocks are for strangers, and never for who must be reachable by everybody.
    fn is_exempt(&self, session: Session<'_>, recipient: &str) -> bool {
        let (local, domain) = addresses::split(recipient);
        let bare_postmaster = domain.is_empty() && local.eq_ignore_ascii_case("postmaster");
        bare_postmaster || self.config.exempt_recipients.matching(recipient).is_some() || session.is_own()
    }
}

fn permit(host: &Host, why: &str) -> Action {
    host.scores().add(WHITELISTED, 0.0, Some(why));
    Action::Accept
}

fn refusal(reply: Reply) -> Action {
    if reply.code < 500 { Action::Tempfail(reply) } else { Action::Reject(reply) }
}

waypost_sdk::export!(Whitelist: connect, mail, rcpt);

#[cfg(test)]
mod tests {
    use waypost_sdk::Bench;

    use super::*;

    fn bench(settings: &str) -> Bench<Whitelist> {
        Bench::start(settings).unwrap()
    }

    fn refused(outcome: Outcome) -> String {
        match outcome {
            Ok(Action::Reject(reply) | Action::Tempfail(reply)) => {
                format!("{} {:?} {}", reply.code, reply.enhanced, reply.text)
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_permitted_client_is_accepted_at_every_stage_and_says_so_to_others() {
        let mut bench = bench(r#"{"permit": {"clients": ["192.0.2.0/24"]}}"#);
        bench.client("192.0.2.9");
        assert_eq!(bench.connect(), Ok(Action::Accept));
        assert_eq!(bench.facts(), ["WHITELISTED 0"]);
        assert_eq!(bench.rcpt("a@example.net"), Ok(Action::Accept));
        bench.reset();
        assert_eq!(bench.rcpt("a@example.net"), Ok(Action::Accept), "the fact lives as long as the session");
        bench.client("192.0.3.9");
        assert_eq!(bench.connect(), Ok(Action::Next));
        assert_eq!(bench.rcpt("a@example.net"), Ok(Action::Next));
    }

    #[test]
    fn names_count_only_when_confirmed() {
        let mut bench = bench(r#"{"permit": {"names": [".example.com"]}}"#);
        bench.client("192.0.2.9").named("mx1.example.com");
        assert_eq!(bench.connect(), Ok(Action::Accept));
        // The host gives no name when it is not confirmed; HELO is the client's own word and not looked at.
        bench.client("192.0.2.9").script().session.helo = "mx1.example.com".into();
        assert_eq!(bench.connect(), Ok(Action::Next));
    }

    #[test]
    fn a_name_that_comes_late_counts_at_rcpt() {
        let mut bench = bench(r#"{"permit": {"names": [".example.com"]}, "block": {"names": [".spam.example"]}}"#);
        bench.client("192.0.2.9");
        assert_eq!(bench.connect(), Ok(Action::Next));
        bench.named("mx1.example.com");
        assert_eq!(bench.rcpt("a@example.net"), Ok(Action::Accept));
        assert_eq!(bench.facts(), ["WHITELISTED 0"]);
        bench.client("192.0.2.9").named("x.spam.example");
        assert!(matches!(bench.rcpt("a@example.net"), Ok(Action::Reject(_))), "connect was not even asked");
        assert!(matches!(bench.rcpt("b@example.net"), Ok(Action::Reject(_))));
    }

    #[test]
    fn a_permitted_sender_speaks_for_its_transaction_only() {
        let mut bench = bench(r#"{"permit": {"senders": ["friend.example"]}}"#);
        assert_eq!(bench.mail("a@friend.example"), Ok(Action::Accept));
        assert_eq!(bench.rcpt("b@example.net"), Ok(Action::Accept));
        bench.reset();
        assert_eq!(bench.mail("a@stranger.example"), Ok(Action::Next));
        assert_eq!(bench.rcpt("b@example.net"), Ok(Action::Next));
    }

    #[test]
    fn a_permitted_recipient_speaks_for_itself_only() {
        let mut bench =
            bench(r#"{"permit": {"recipients": ["open@example.net"]}, "block": {"clients": ["203.0.113.0/24"]}}"#);
        bench.client("203.0.113.5");
        bench.connect().unwrap();
        assert_eq!(bench.rcpt("open@example.net"), Ok(Action::Accept));
        assert!(bench.facts().is_empty());
        assert!(matches!(bench.rcpt("other@example.net"), Ok(Action::Reject(_))));
    }

    #[test]
    fn blocks_wait_for_rcpt_and_spare_postmaster_and_abuse() {
        let mut bench = bench(r#"{"block": {"clients": ["203.0.113.0/24"], "senders": [".spam.example"]}}"#);
        bench.client("203.0.113.5");
        assert_eq!(bench.connect(), Ok(Action::Next));
        assert_eq!(refused(bench.rcpt("a@example.net")), "550 (5, 7, 1) client [203.0.113.5] is blocked here");
        for reachable in ["postmaster@example.net", "Abuse@example.net", "Postmaster"] {
            assert_eq!(bench.rcpt(reachable), Ok(Action::Next), "{reachable}");
        }
        bench.client("192.0.2.1");
        bench.mail("x@mail.spam.example").unwrap();
        assert_eq!(refused(bench.rcpt("a@example.net")), "550 (5, 7, 1) sender <x@mail.spam.example> is blocked here");
        bench.reset();
        bench.mail("fine@example.org").unwrap();
        assert_eq!(bench.rcpt("a@example.net"), Ok(Action::Next), "a block does not outlive its transaction");
    }

    #[test]
    fn exemptions_and_delay_are_settings() {
        let mut bench = bench(
            r#"{"block": {"clients": ["203.0.113.5"]}, "exempt-recipients": [], "delay-reject": false, "block-text": "go away"}"#,
        );
        bench.client("203.0.113.5");
        assert_eq!(refused(bench.connect()), "550 (5, 7, 1) client [203.0.113.5]: go away");
    }

    #[test]
    fn own_users_are_not_blocked() {
        let mut bench = bench(r#"{"block": {"clients": ["203.0.113.5"]}}"#);
        bench.client("203.0.113.5").logged_in("alice");
        bench.connect().unwrap();
        assert_eq!(bench.rcpt("a@example.net"), Ok(Action::Next));
    }

    #[test]
    fn tables_answer_in_the_words_of_access_5() {
        let mut bench =
            bench(r#"{"client-table": "clients", "sender-table": "senders", "recipient-table": "recipients"}"#);
        let text = "# comment\n192.0.2.9  OK\n198.51.100  REJECT no thanks\n.example.org OK\n203.0.113.7 DUNNO\n203.0.113  450 4.7.1 later\n";
        bench.script().tables.load("clients", text);
        bench.script().tables.load("senders", "spam.example 554 5.7.9 not you\nodd.example FILTER smtp:x\n");
        bench.client("192.0.2.9");
        assert_eq!(bench.connect(), Ok(Action::Accept));
        bench.client("198.51.100.3");
        bench.connect().unwrap();
        assert_eq!(refused(bench.rcpt("a@example.net")), "550 (5, 7, 1) no thanks");
        bench.client("198.51.100.3").named("mx.example.org");
        assert_eq!(bench.connect(), Ok(Action::Accept), "the name is asked before the address, as Postfix does");
        bench.client("203.0.113.7");
        bench.connect().unwrap();
        assert_eq!(bench.rcpt("a@example.net"), Ok(Action::Next), "DUNNO ends the search");
        bench.client("203.0.113.8");
        bench.connect().unwrap();
        assert_eq!(refused(bench.rcpt("a@example.net")), "450 (4, 7, 1) later");
        bench.client("192.0.2.77");
        bench.mail("x@spam.example").unwrap();
        assert_eq!(refused(bench.rcpt("a@example.net")), "554 (5, 7, 9) not you");
        assert_eq!(bench.mail("x@odd.example"), Ok(Action::Next));
        assert!(bench.logs().iter().any(|line| line.contains("FILTER")), "an action of no meaning here is told");
    }

    #[test]
    fn nothing_configured_asks_nothing() {
        let mut bench = bench("");
        assert_eq!(bench.connect(), Ok(Action::Next));
        assert_eq!(bench.mail(""), Ok(Action::Next));
        assert_eq!(bench.rcpt("a@example.net"), Ok(Action::Next));
        assert!(bench.script().session.vars.is_empty());
        assert_eq!(bench.script().tables.rounds, 0);
    }

    #[test]
    fn mistakes_in_the_settings_name_place_and_remedy() {
        let error = |settings: &str| Bench::<Whitelist>::start(settings).err().unwrap();
        assert!(
            error(r#"{"permit": {"clients": ["192.0.2.1/24"]}}"#)
                .contains("permit.clients: `192.0.2.1/24` has bits set")
        );
        assert!(error(r#"{"block": {"senders": ["*@spam.example"]}}"#).starts_with("block.senders: "));
        assert!(error(r#"{"permits": {}}"#).starts_with("permits: unknown field"));
        assert!(error(r#"{"sender-table": ""}"#).contains("sender-table"));
        assert!(error(r#"{"block-text": "a\nb"}"#).contains("block-text"));
    }
}
