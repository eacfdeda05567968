//! The built-in checks of a session, stage by stage, and what access tables say: every answer is one that the pipeline gives.
//!
//! Order: at each stage the access table first, so that its `OK` spares the client the checks of that kind; then the checks in the order of
//! `types::checks`. Clients of our own networks are asked only about what protects them from their own mistakes. DNS is asked only by a
//! check that is on and has not been decided without it, and never for longer than a client's name is waited for; while DNS is unsure, the
//! answer is 4yz.

use std::net::IpAddr;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

use waypost_smtp::server::{Answer, Session};
use waypost_types::checks::{Action, Check, deferred};
use waypost_types::port::DnsType;
use waypost_types::{Address, Domain, Edit, Enhanced, Envelope, Fact, Host, Reply, ReversePath, SessionFacts, Stage};

use super::access::{self, Trouble, Word};
use super::dns::{self, Answer as Dns};
use crate::options::Rules;
use crate::pipeline::{Fate, Pipeline};

/// What holds for every message of the session, whoever laid it down.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) fate: Option<Fate>,
    /// Fields that access rows about the client or its HELO name put in front.
    pub(crate) edits: Vec<Edit>,
    /// Where everything goes instead.
    pub(crate) redirect: Option<Address>,
    /// What judges stated of the session, by the stage at which they did.
    pub(crate) stated: Vec<(Stage, Fact)>,
    /// An access row spares this client the checks of client and HELO name.
    spared: bool,
}

/// What an access table's word came to: the end of this stage's checks with an answer, their end because the client is spared them
/// (`Break(None)`), or nothing that ends them.
type Heed = ControlFlow<Option<Answer>>;

/// About whom something is said.
pub(crate) struct About<'a> {
    pub(crate) stage: Stage,
    pub(crate) facts: &'a SessionFacts,
    pub(crate) envelope: Option<&'a Envelope>,
    pub(crate) recipient: Option<&'a Address>,
}

impl Pipeline {
    /// At connect: what the table says of the address.
    pub(crate) async fn check_client(&mut self, facts: &Arc<SessionFacts>) -> Option<Answer> {
        let rules = self.rules.clone();
        if rules.access.client.is_empty() {
            return None;
        }
        // Boxed here and below: every idle session would carry what a look-up needs.
        let said = Box::pin(access::client(&rules.access.client, facts.peer.ip())).await;
        let about = About { stage: Stage::Connect, facts, envelope: None, recipient: None };
        self.heed(&about, "client-access", said).break_value().flatten()
    }

    fn is_spared(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.spared)
    }

    pub(crate) fn standing(&mut self) -> &mut Standing {
        self.standing.get_or_insert_default()
    }

    /// At HELO.
    pub(crate) async fn check_helo(&mut self, facts: &Arc<SessionFacts>) -> Option<Answer> {
        let rules = self.rules.clone();
        let about = About { stage: Stage::Helo, facts, envelope: None, recipient: None };
        if !rules.access.helo.is_empty() {
            let said = access::name(&rules.access.helo, &facts.helo).await;
            if let Break(end) = self.heed(&about, "helo-access", said) {
                return end;
            }
        }
        if self.trusted || self.is_spared() {
            return None;
        }
        let host = Host::parse(facts.helo.strip_suffix('.').unwrap_or(&facts.helo));
        let syntax = if host.is_ok() { Dns::Yes } else { Dns::No };
        if let Some(no) = self.ruled(&about, Check::HeloSyntax, syntax) {
            return Some(no);
        }
        let Ok(host) = host else { return None };
        let own = if self.is_own_name(&host, facts) { Dns::No } else { Dns::Yes };
        if let Some(no) = self.ruled(&about, Check::HeloOwn, own) {
            return Some(no);
        }
        let Host::Name(domain) = host else { return None };
        let full = if domain.is_qualified() { Dns::Yes } else { Dns::No };
        if let Some(no) = self.ruled(&about, Check::HeloFqdn, full) {
            return Some(no);
        }
        if !rules.checks.is_on(Check::HeloResolvable) {
            return None;
        }
        let found = dns::resolves(&*self.shared.services.dns, &domain, self.shared.options.name_timeout).await;
        self.ruled(&about, Check::HeloResolvable, found)
    }

    /// Whether somebody from outside says that it is us. Loopback and our own addresses are not outside.
    fn is_own_name(&self, host: &Host, facts: &SessionFacts) -> bool {
        let (peer, local) = (facts.peer.ip(), facts.local.ip());
        if peer.is_loopback() || peer == local {
            return false;
        }
        match host {
            Host::Name(name) => name.as_str() == &*self.shared.options.hostname,
            Host::Literal(address) => *address == local,
        }
    }

    /// Whether anything is to be checked at MAIL: most doors to our own hosts check nothing.
    pub(crate) fn checks_mail(&self) -> bool {
        const CHECKS: [Check; 5] =
            [Check::ClientName, Check::ClientConfirmed, Check::SenderFqdn, Check::SenderDomain, Check::SenderNullMx];
        let Rules { access, checks, .. } = &*self.rules;
        !access.client.is_empty() || !access.sender.is_empty() || CHECKS.iter().any(|check| checks.is_on(*check))
    }

    /// At MAIL: the client's name, then the sender. The name is waited for only if a check or table wants it.
    pub(crate) async fn check_mail(&mut self, sender: &ReversePath, session: &mut Session) -> Option<Answer> {
        let rules = self.rules.clone();
        let named = !rules.access.client.is_empty()
            || rules.checks.is_on(Check::ClientName)
            || rules.checks.is_on(Check::ClientConfirmed);
        if named && !self.trusted && !self.is_spared() {
            self.settle_name(session).await;
            let facts = session.facts().clone();
            if let Some(no) = self.check_name(&facts, sender).await {
                return Some(no);
            }
        }
        let facts = session.facts().clone();
        self.check_sender(sender, &facts).await
    }

    async fn check_name(&mut self, facts: &Arc<SessionFacts>, sender: &ReversePath) -> Option<Answer> {
        let rules = self.rules.clone();
        let envelope = Envelope { sender: sender.clone(), ..Envelope::default() };
        let about = About { stage: Stage::Mail, facts, envelope: Some(&envelope), recipient: None };
        if let (Some(name), false) = (&facts.peer_name, rules.access.client.is_empty()) {
            let said = access::name(&rules.access.client, name).await;
            if let Break(end) = self.heed(&about, "client-access", said) {
                return end;
            }
        }
        let peer = facts.peer.ip();
        let known = facts.peer_name.is_some();
        if rules.checks.is_on(Check::ClientName) {
            let found = if known { Dns::Yes } else { self.has_name(peer).await };
            if let Some(no) = self.ruled(&about, Check::ClientName, found) {
                return Some(no);
            }
        }
        if rules.checks.is_on(Check::ClientConfirmed) {
            let found = if known { Dns::Yes } else { self.is_confirmed(peer).await };
            return self.ruled(&about, Check::ClientConfirmed, found);
        }
        None
    }

    async fn has_name(&self, peer: IpAddr) -> Dns {
        let zone = if peer.to_canonical().is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" };
        let name = format!("{}.{zone}", waypost_route::network::reversed(peer));
        dns::has(&*self.shared.services.dns, &name, DnsType::Ptr, self.shared.options.name_timeout).await
    }

    async fn is_confirmed(&self, peer: IpAddr) -> Dns {
        dns::within(self.shared.options.name_timeout, async {
            match self.shared.services.dns.confirmed_name(peer).await {
                Ok(Some(_)) => Dns::Yes,
                Ok(None) => Dns::No,
                Err(_) => Dns::Unsure,
            }
        })
        .await
    }

    async fn check_sender(&mut self, sender: &ReversePath, facts: &Arc<SessionFacts>) -> Option<Answer> {
        let rules = self.rules.clone();
        let envelope = Envelope { sender: sender.clone(), ..Envelope::default() };
        let about = About { stage: Stage::Mail, facts, envelope: Some(&envelope), recipient: None };
        if !rules.access.sender.is_empty() {
            let said = access::sender(&rules.access.sender, sender, &rules.separators).await;
            if let Break(end) = self.heed(&about, "sender-access", said) {
                return end;
            }
        }
        let domain = sender.address().and_then(Address::domain)?;
        let full = if domain.is_qualified() { Dns::Yes } else { Dns::No };
        if let Some(no) = self.ruled(&about, Check::SenderFqdn, full) {
            return Some(no);
        }
        if self.trusted || !(rules.checks.is_on(Check::SenderDomain) || rules.checks.is_on(Check::SenderNullMx)) {
            return None;
        }
        let found = self.domain_takes_mail(domain).await;
        let exists = if found == Dns::NullMx { Dns::Yes } else { found };
        if let Some(no) = self.ruled(&about, Check::SenderDomain, exists) {
            return Some(no);
        }
        // Unsure is said once, by the check above, if that is on.
        let null = if found == Dns::NullMx { Dns::No } else { Dns::Yes };
        self.ruled(&about, Check::SenderNullMx, null)
    }

    /// A domain of ours need not be known to DNS.
    async fn domain_takes_mail(&self, domain: &Domain) -> Dns {
        let router = self.shared.services.router.load_full();
        if router.owns(&Host::Name(domain.clone())).get().await.unwrap_or(false) {
            return Dns::Yes;
        }
        dns::takes_mail(&*self.shared.services.dns, domain, self.shared.options.name_timeout).await
    }

    /// At RCPT, before relay control: what the table says, and whether the address is whole.
    pub(crate) async fn check_recipient(
        &mut self,
        recipient: &Address,
        facts: &Arc<SessionFacts>,
        envelope: &Arc<Envelope>,
    ) -> Option<Answer> {
        let rules = self.rules.clone();
        let about = About { stage: Stage::Rcpt, facts, envelope: Some(envelope), recipient: Some(recipient) };
        if !rules.access.recipient.is_empty() {
            let said = Box::pin(access::address(&rules.access.recipient, recipient, &rules.separators)).await;
            if let Break(end) = self.heed(&about, "recipient-access", said) {
                return end;
            }
        }
        let full = recipient.domain().is_none_or(Domain::is_qualified) || recipient.is_postmaster();
        self.ruled(&about, Check::RecipientFqdn, if full { Dns::Yes } else { Dns::No })
    }

    /// At RCPT, once it is known that the recipient is somebody else's and may be written to: whether its domain takes mail.
    pub(crate) async fn check_foreign(
        &mut self,
        recipient: &Address,
        facts: &Arc<SessionFacts>,
        envelope: &Arc<Envelope>,
    ) -> Option<Answer> {
        let rules = self.rules.clone();
        if !(rules.checks.is_on(Check::RecipientDomain) || rules.checks.is_on(Check::RecipientNullMx)) {
            return None;
        }
        let found = self.domain_takes_mail(recipient.domain()?).await;
        let about = About { stage: Stage::Rcpt, facts, envelope: Some(envelope), recipient: Some(recipient) };
        // The queue can ask again; the client need not.
        let exists = if found == Dns::No { Dns::No } else { Dns::Yes };
        if let Some(no) = self.ruled(&about, Check::RecipientDomain, exists) {
            return Some(no);
        }
        self.ruled(&about, Check::RecipientNullMx, if found == Dns::NullMx { Dns::No } else { Dns::Yes })
    }

    /// What the port makes of a check's result.
    fn ruled(&mut self, about: &About<'_>, check: Check, found: Dns) -> Option<Answer> {
        let rules = self.rules.clone();
        let (word, action) = (check.word(), rules.checks.get(check));
        let reply = match (action, found) {
            (Action::Off, _) => return None,
            (_, Dns::Yes | Dns::NullMx) => {
                self.note(about.stage, word, "pass", String::new);
                return None;
            }
            (Action::Warn, found) => {
                let doubt = if found == Dns::Unsure { " (DNS is unsure)" } else { "" };
                let peer = about.facts.peer.ip();
                self.note(about.stage, word, "warn", || check.reply().text.to_string());
                self.shared.notice("warn", &format!("check {word} would refuse {peer}{doubt}: {}", check.reply()));
                return None;
            }
            (Action::Say(reply), Dns::Unsure) => deferred(reply),
            (Action::Say(reply), Dns::No) => reply.clone(),
        };
        Some(self.refuse(about.stage, about.facts, reply, word, about.envelope, about.recipient))
    }

    /// Does what an access row says.
    fn heed(&mut self, about: &About<'_>, by: &'static str, said: Result<Word, Trouble>) -> Heed {
        let session_wide = matches!(about.stage, Stage::Connect | Stage::Helo) || by == "client-access";
        match said {
            Ok(Word::Nothing) => Continue(()),
            Ok(Word::Pass) => {
                self.note(about.stage, by, "ok", String::new);
                if session_wide {
                    self.standing().spared = true;
                }
                Break(None)
            }
            Ok(Word::No(reply)) => {
                Break(Some(self.refuse(about.stage, about.facts, reply, by, about.envelope, about.recipient)))
            }
            Ok(Word::Hold(reason)) => {
                self.note(about.stage, by, "hold", || reason.to_string());
                self.lay_down(session_wide, Fate::Hold(reason));
                Continue(())
            }
            Ok(Word::Discard) => {
                self.note(about.stage, by, "discard", String::new);
                self.lay_down(session_wide, Fate::Discard(by.into()));
                Continue(())
            }
            Ok(Word::Edit(edit)) => {
                self.note(about.stage, by, "prepend", || format!("{edit:?}"));
                let edits = if session_wide { &mut self.standing().edits } else { &mut self.transaction.edits };
                if !edits.contains(&edit) {
                    edits.push(edit);
                }
                Continue(())
            }
            Ok(Word::Redirect(address)) => {
                self.note(about.stage, by, "redirect", || address.to_string());
                let slot = if session_wide { &mut self.standing().redirect } else { &mut self.transaction.redirect };
                *slot = Some(address);
                Continue(())
            }
            Err(Trouble(words)) => {
                self.shared.notice("error", &format!("{by}: {words}"));
                let reply = Reply::new(451, Enhanced(4, 3, 5), "access tables are being repaired, try again later");
                Break(Some(self.refuse(about.stage, about.facts, reply, by, about.envelope, about.recipient)))
            }
        }
    }
}
