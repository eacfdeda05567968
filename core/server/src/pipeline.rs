//! From a session's question to its answer: built-in checks, then routing, then whoever the door's judge seats.
//!
//! Order is the promise: rate of messages, checks, relay control and routing, judges, and last what only makes a client wait (rate of
//! recipients, greylisting), so that nobody is remembered for mail that is refused anyway. A judge is asked only about what the
//! checks and relay control have let through, so its `Accept` can widen nothing. Stages at which nobody wants to be asked cost one
//! bit test. The final dot is `intake::admit`'s.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::BytesMut;
use waypost_route::{Class, Leaf, Resolution, Router};
use waypost_smtp::sasl::NONCE_BYTES;
use waypost_smtp::server::{Answer, Ask, Forwarded, Session};
use waypost_types::checks::{Action, Check};
use waypost_types::login::{AuthError, Authenticator, Credentials, Judged, Proof, Round, Rounds};
use waypost_types::{
    Address, Edit, Enhanced, Envelope, Event, Fact, Finding, Judgement, Jury, MailParameters, Opinion, Question,
    Recipient, Reply, ReversePath, SessionFacts, Stage, StageSet, Verdict, limits,
};

use crate::check::relay::{self, Target};
use crate::check::stage::Standing;
use crate::check::{self, Refusal};
use crate::decide::Decision;
use crate::explain::Note;
use crate::intake::Body;
use crate::meter::Meter;
use crate::options::Rules;
use crate::peer_name::PeerName;
use crate::shared::{Shared, wall_clock};

/// One session's decisions, and what they remember.
pub(crate) struct Pipeline {
    pub(crate) shared: Arc<Shared>,
    pub(crate) rules: Arc<Rules>,
    /// In a mutex that is never locked: a jury need not be `Sync`, but what a task holds across an await must be.
    jury: Option<Mutex<Box<dyn Jury>>>,
    stages: StageSet,
    /// The client is one of our own hosts.
    pub(crate) trusted: bool,
    name: PeerName,
    pub(crate) body: Body,
    pub(crate) transaction: Transaction,
    /// What a judge said at connect, HELO or AUTH that concerns every message of the session.
    pub(crate) standing: Option<Box<Standing>>,
    /// Who was asked and what they said, for whoever wants it explained.
    journal: Option<Vec<Note>>,
    /// A login that the back end carries out itself, and its mechanism. In a mutex for the jury's reason.
    rounds: Option<Mutex<Box<dyn Rounds>>>,
    pub(crate) accepted: u32,
    findings: Arc<[Finding]>,
}

/// What is remembered until the transaction ends.
#[derive(Default)]
pub(crate) struct Transaction {
    /// Where the accepted recipients lead, in their order.
    pub(crate) targets: Vec<(Address, Target)>,
    /// How many recipients they make.
    expanded: usize,
    /// What judges want changed, in order.
    pub(crate) edits: Vec<Edit>,
    /// The *why* of the message.
    pub(crate) opinions: Vec<Opinion>,
    /// What judges stated of it.
    stated: Vec<Fact>,
    /// What follows from that, for the record.
    pub(crate) decision: Option<Box<Decision>>,
    pub(crate) fate: Option<Fate>,
    /// Where the message came from, as a filter of our own says by XFORWARD.
    pub(crate) forwarded: Option<Forwarded>,
    /// Where the message goes instead of to its recipients.
    pub(crate) redirect: Option<Address>,
}

/// What is to become of a message that its client is told to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Dropped, by this judge.
    Discard(Arc<str>),
    /// Kept until an operator releases it, with this reason.
    Hold(Box<str>),
}

impl Pipeline {
    pub(crate) fn new(shared: Arc<Shared>, rules: Arc<Rules>, facts: &SessionFacts) -> Pipeline {
        let stages = rules.judge.stages();
        let trusted = rules.trusts(facts.peer.ip());
        Pipeline {
            jury: (stages != StageSet::EMPTY).then(|| Mutex::new(rules.judge.open())),
            stages,
            name: match trusted || facts.peer_name.is_some() {
                true => PeerName::Settled,
                false => PeerName::ask(&shared, facts.peer.ip()),
            },
            trusted,
            body: Body::new(shared.clone()),
            transaction: Transaction::default(),
            standing: None,
            journal: None,
            rounds: None,
            accepted: 0,
            findings: Arc::from([]),
            shared,
            rules,
        }
    }

    /// Messages accepted so far.
    pub(crate) fn messages(&self) -> u32 {
        self.accepted
    }

    pub(crate) fn take_body(&mut self, piece: BytesMut) {
        self.body.push(piece);
    }

    /// The transaction is over.
    pub(crate) fn reset(&mut self) {
        self.body.clear();
        self.transaction = Transaction::default();
        if let Some(jury) = self.jury() {
            jury.reset();
        }
    }

    fn jury(&mut self) -> Option<&mut dyn Jury> {
        let jury = self.jury.as_mut()?.get_mut().expect("a mutex that is never locked is never poisoned");
        Some(&mut **jury)
    }

    /// Answers a question. Bounded in time: judges, DNS and credentials all are.
    pub(crate) async fn answer(&mut self, ask: Ask, session: &mut Session) -> Answer {
        match ask {
            Ask::Connect | Ask::Proxied => {
                // Whoever speaks through a proxy of ours is somebody else.
                self.standing = None;
                let facts = session.facts().clone();
                match Box::pin(self.check_client(&facts)).await {
                    Some(no) => no,
                    None => self.pass(Stage::Connect, session).await,
                }
            }
            Ask::Helo => {
                let facts = session.facts().clone();
                match Box::pin(self.check_helo(&facts)).await {
                    Some(no) => no,
                    None => self.pass(Stage::Helo, session).await,
                }
            }
            // Boxed: rare and large, and every idle session would carry their size.
            Ask::Auth(credentials) => Box::pin(self.auth(credentials, session)).await,
            Ask::Keys(identity) => Box::pin(self.keys(identity, session.facts().clone())).await,
            Ask::Round(first, mechanism, message) => {
                Box::pin(self.round(first, mechanism, message, session.facts().clone())).await
            }
            // Boxed likewise: tables and DNS make them large, and an allocation is a fraction of what they cost.
            Ask::Mail(sender, parameters) => Box::pin(self.mail(sender, parameters, session)).await,
            Ask::Rcpt(recipient) => Box::pin(self.rcpt(recipient, session)).await,
            Ask::Data => self.data(session).await,
            Ask::Message => {
                if self.needs_name_for_message() {
                    self.settle_name(session).await;
                }
                let (facts, envelope) = (session.facts().clone(), session.envelope().clone());
                Box::pin(self.admit(facts, envelope)).await
            }
            // The connection resets us without asking.
            Ask::Reset => Answer::Yes,
        }
    }

    /// A stage that only judges have a say in.
    async fn pass(&mut self, stage: Stage, session: &mut Session) -> Answer {
        if !self.stages.contains(stage) {
            return Answer::Yes;
        }
        let question = self.question(stage, session).await;
        self.put(question).await.unwrap_or(Answer::Yes)
    }

    async fn data(&mut self, session: &mut Session) -> Answer {
        if !self.shared.memory.has_room() {
            let facts = session.facts();
            self.shared.limit(facts, "intake_bytes_max");
            let reply = Reply::new(452, Enhanced(4, 3, 1), "too much mail is being received, try again later");
            return self.refuse(Stage::Data, facts, reply, "memory", Some(session.envelope()), None);
        }
        self.pass(Stage::Data, session).await
    }

    async fn mail(&mut self, sender: ReversePath, parameters: MailParameters, session: &mut Session) -> Answer {
        self.transaction.forwarded = session.forwarded().cloned();
        if !self.within_rate(session.facts(), &self.shared.meters.messages, self.rules.rates.messages) {
            let envelope = Envelope { sender, ..Envelope::default() };
            let refusal = Refusal::new("rate", 450, Enhanced(4, 7, 1), "too many messages from you, try again later");
            return self.refuse_by(Stage::Mail, session.facts(), refusal, Some(&envelope), None);
        }
        let checked = match sender.address() {
            Some(address) => match check::utf8_announced(address, parameters.smtputf8) {
                Ok(()) => self.may_send_as(address, session.facts().clone()).await,
                refused => refused,
            },
            None => Ok(()),
        };
        if let Err(refusal) = checked {
            let envelope = Envelope { sender, ..Envelope::default() };
            return self.refuse_by(Stage::Mail, session.facts(), refusal, Some(&envelope), None);
        }
        // Boxed: every idle session would carry what DNS needs.
        if self.checks_mail()
            && let Some(no) = Box::pin(self.check_mail(&sender, session)).await
        {
            return no;
        }
        if !self.stages.contains(Stage::Mail) {
            return Answer::Yes;
        }
        let mut question = self.question(Stage::Mail, session).await;
        question.envelope = Arc::new(Envelope { sender, parameters, recipients: Vec::new() });
        self.put(question).await.unwrap_or(Answer::Yes)
    }

    /// Whether the user who has logged in may use this sender.
    async fn may_send_as(&self, sender: &Address, facts: Arc<SessionFacts>) -> Result<(), Refusal> {
        let (Some(login), Some(extra)) = (&facts.user, &self.rules.senders) else { return Ok(()) };
        let router = self.shared.services.router.load_full();
        // Boxed: every idle session would carry what tables need.
        Box::pin(check::sender::matches_login(sender, login, extra, &router, wall_clock())).await
    }

    async fn rcpt(&mut self, recipient: Recipient, session: &mut Session) -> Answer {
        let (facts, envelope) = (session.facts().clone(), session.envelope().clone());
        let target = match self.route(&recipient.address, &facts, &envelope).await {
            Ok(target) => target,
            Err(no) => return no,
        };
        let address = recipient.address.clone();
        if self.stages.contains(Stage::Rcpt) {
            let mut question = self.question(Stage::Rcpt, session).await;
            question.recipient = Some(recipient);
            // An answer with a positive reply is an acceptance in other words.
            match self.put(question).await {
                None | Some(Answer::Yes) => {}
                Some(no) => return no,
            }
        }
        if let Err(refusal) = self.is_late(session, &address) {
            let envelope = Some(&**session.envelope());
            return self.refuse_by(Stage::Rcpt, session.facts(), refusal, envelope, Some(&address));
        }
        self.transaction.expanded += target.count();
        self.transaction.targets.push((address, target));
        Answer::Yes
    }

    /// What makes a recipient wait that nothing speaks against: the client's rate, and its being a stranger.
    fn is_late(&self, session: &Session, recipient: &Address) -> Result<(), Refusal> {
        let facts = session.facts();
        if !self.within_rate(facts, &self.shared.meters.recipients, self.rules.rates.recipients) {
            let text = "too many recipients from you, try again later";
            return Err(Refusal::new("rate", 450, Enhanced(4, 7, 1), text));
        }
        match &self.rules.greylist {
            Some(greylist) if !self.trusted && facts.user.is_none() => {
                let answer = greylist.check(facts.peer.ip(), &session.envelope().sender, recipient, wall_clock());
                answer.map_err(|reply| Refusal { by: "greylist", reply })
            }
            _ => Ok(()),
        }
    }

    fn within_rate(&self, facts: &SessionFacts, meter: &Meter, per_minute: u32) -> bool {
        let free = self.trusted || facts.user.is_some();
        let within = free || meter.allows(self.rules.prefix.of(facts.peer.ip()), per_minute, Instant::now());
        if !within {
            self.shared.limit(facts, "rate");
        }
        within
    }

    /// `<postmaster>` without a domain (RFC 5321 §4.5.1) stands at our host name, which need not be a domain with mailboxes: then it is the
    /// postmaster of the first own domain.
    fn postmaster_here(&self, address: &Address, router: &Router) -> Option<Address> {
        let is_host = address.domain().is_some_and(|domain| domain.as_str() == &*self.shared.options.hostname);
        let homeless = address.is_postmaster() && is_host && !router.is_own(address.host());
        router.origin().filter(|_| homeless).map(|origin| address.at(origin.clone()))
    }

    /// The checks of a recipient, relay control among them, and where it leads.
    async fn route(
        &mut self,
        address: &Address,
        facts: &Arc<SessionFacts>,
        envelope: &Arc<Envelope>,
    ) -> Result<Target, Answer> {
        if let Err(refusal) = check::utf8_announced(address, envelope.parameters.smtputf8) {
            return Err(self.refuse_by(Stage::Rcpt, facts, refusal, Some(envelope), Some(address)));
        }
        if let Some(no) = self.check_recipient(address, facts, envelope).await {
            return Err(no);
        }
        let resolution = self.resolve(address).await;
        if let Class::Broken(words) | Class::Unsure(words) = &resolution.class {
            self.shared.notice("error", &format!("recipient {address} cannot be resolved: {words}"));
        }
        let foreign = resolution.class == Class::Foreign;
        let target = match relay::control(address, resolution, self.may_relay(facts)) {
            Ok(target) => target,
            Err(refusal) => {
                let refusal = self.in_own_words(refusal);
                return Err(self.refuse_by(Stage::Rcpt, facts, refusal, Some(envelope), Some(address)));
            }
        };
        self.note(Stage::Rcpt, "relay", "pass", String::new);
        if foreign && let Some(reply) = self.suppressed(address) {
            return Err(self.refuse(Stage::Rcpt, facts, reply, "suppressed", Some(envelope), Some(address)));
        }
        if foreign && let Some(no) = Box::pin(self.check_foreign(address, facts, envelope)).await {
            return Err(no);
        }
        if self.transaction.expanded + target.count() > limits::ALIAS_EXPANSION_MAX {
            self.shared.limit(facts, "alias_expansion_max");
            let text = "too many recipients behind aliases, send the rest in another message";
            let refusal = Refusal::new("alias", 452, Enhanced(4, 5, 3), text);
            return Err(self.refuse_by(Stage::Rcpt, facts, refusal, Some(envelope), Some(address)));
        }
        Ok(target)
    }

    /// The reply for somebody who is not written to any more.
    fn suppressed(&self, address: &Address) -> Option<Reply> {
        self.shared.options.bounces.suppression.as_ref()?.find(address).map(|why| why.reply(address))
    }

    /// The reply that the port has for a check, in place of the check's own.
    fn in_own_words(&self, mut refusal: Refusal) -> Refusal {
        if let Some(Action::Say(reply)) = Check::named(refusal.by).map(|check| self.rules.checks.get(check)) {
            refusal.reply = reply.clone();
        }
        refusal
    }

    async fn resolve(&self, address: &Address) -> Resolution {
        let router = self.shared.services.router.load_full();
        let Some(postmaster) = self.postmaster_here(address, &router) else {
            return router.resolve(address, wall_clock()).get().await;
        };
        let mut resolution = router.resolve(&postmaster, wall_clock()).get().await;
        if resolution.leads.is_empty() {
            resolution.leads.push(Leaf { address: postmaster, class: Class::Own, owner: None });
        }
        resolution
    }

    fn may_relay(&self, facts: &SessionFacts) -> bool {
        self.trusted || (self.rules.relay_users && facts.user.is_some())
    }

    async fn auth(&mut self, credentials: Credentials, session: &mut Session) -> Answer {
        let begun = Instant::now();
        let facts = session.facts().clone();
        if let Some(no) = self.tried_too_often(&facts) {
            return no;
        }
        // A proof that came out wrong is nothing that a judge could vouch for.
        let asked = match credentials.proof {
            Proof::Exchanged(false) => Ok(None),
            _ => self.ask_judges_about(&credentials, session).await,
        };
        let verdict = match asked {
            Ok(Some(identity)) => Ok(Some(identity)),
            Ok(None) => self.ask_back_end(&credentials, &facts).await,
            Err(no) => return no,
        };
        match verdict {
            Ok(Some(user)) => self.granted(&facts, credentials.mechanism, user),
            Ok(None) => self.denied(&facts, credentials.mechanism, &credentials.identity, begun).await,
            Err(error) => self.undecided(error),
        }
    }

    /// Nothing is looked up for a network that has failed too often.
    fn tried_too_often(&self, facts: &SessionFacts) -> Option<Answer> {
        if self.shared.throttle.allows(facts.peer.ip(), Instant::now()) {
            return None;
        }
        self.shared.limit(facts, "auth_failures");
        let text = "too many failed logins from your network, try again later";
        Some(Answer::Close(Reply::new(421, Enhanced(4, 7, 0), text)))
    }

    async fn keys(&mut self, identity: String, facts: Arc<SessionFacts>) -> Answer {
        if let Some(no) = self.tried_too_often(&facts) {
            return no;
        }
        let keys = match self.back_end() {
            Ok(back_end) => back_end.scram_keys(&identity).await,
            Err(error) => Err(error),
        };
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).expect("the operating system has chance");
        keys.map_or_else(|error| self.undecided(error), |keys| Answer::Keys(keys, nonce))
    }

    /// A message of a mechanism that the back end carries out. Judges are not asked: they would see no credentials.
    async fn round(
        &mut self,
        first: bool,
        mechanism: &'static str,
        message: Option<Vec<u8>>,
        facts: Arc<SessionFacts>,
    ) -> Answer {
        let begun = Instant::now();
        if let Some(no) = self.tried_too_often(&facts) {
            return no;
        }
        let rounds = match (first, self.rounds.take()) {
            (false, Some(rounds)) => Ok(rounds.into_inner().expect("a mutex that is never locked is never poisoned")),
            _ => self.back_end().and_then(|back_end| back_end.begin(mechanism, &facts)),
        };
        let round = match rounds {
            Ok(rounds) => {
                let rounds = self.rounds.insert(Mutex::new(rounds));
                rounds.get_mut().expect("a mutex that is never locked is never poisoned").handle(message).await
            }
            Err(error) => Err(error),
        };
        if let Ok(Round::Challenge(challenge)) = round {
            return Answer::Challenge(challenge);
        }
        self.rounds = None;
        match round {
            Ok(Round::Granted(user)) => self.granted(&facts, mechanism, user),
            Ok(Round::Denied(user)) => self.denied(&facts, mechanism, user.as_deref().unwrap_or_default(), begun).await,
            Ok(Round::Challenge(_)) => unreachable!("sent above"),
            Err(error) => self.undecided(error),
        }
    }

    /// A judge may vouch for an identity, refuse, or leave it to the back end.
    async fn ask_judges_about(
        &mut self,
        credentials: &Credentials,
        session: &mut Session,
    ) -> Result<Option<Arc<str>>, Answer> {
        if !self.stages.contains(Stage::Auth) {
            return Ok(None);
        }
        let mut question = self.question(Stage::Auth, session).await;
        question.credentials = Some(credentials.clone());
        let facts = question.session.clone();
        let Some(jury) = self.jury() else { return Ok(None) };
        let mut judgement = jury.judge(question).await;
        let identity = judgement.identity.take().map(Arc::from);
        match self.rule(Stage::Auth, &facts, None, None, judgement) {
            None => Ok(identity),
            Some(no) => Err(no),
        }
    }

    fn back_end(&self) -> Result<&dyn Authenticator, AuthError> {
        let none = || AuthError::Unavailable("no back end for logins is configured".into());
        self.shared.services.credentials.as_deref().ok_or_else(none)
    }

    async fn ask_back_end(&self, credentials: &Credentials, facts: &SessionFacts) -> Judged {
        self.back_end()?.authenticate(credentials, facts).await
    }

    fn granted(&self, facts: &SessionFacts, mechanism: &'static str, user: Arc<str>) -> Answer {
        let event = Event::Authenticated { session: facts.id, mechanism, user: &user };
        self.shared.services.observer.observe(event);
        Answer::Granted(user)
    }

    /// The client waits before it is told, and the wait begins with its question: how long the back end took for it, which might tell
    /// whether there is such a user, does not show. Nothing is held meanwhile but its own connection.
    async fn denied(&self, facts: &SessionFacts, mechanism: &'static str, user: &str, begun: Instant) -> Answer {
        let peer = facts.peer.ip();
        let event = Event::AuthenticationFailed { session: facts.id, mechanism, user, peer };
        self.shared.services.observer.observe(event);
        let delay = self.shared.throttle.fail(peer, Instant::now());
        tokio::time::sleep_until((begun + delay).into()).await;
        Answer::Denied
    }

    fn undecided(&self, error: AuthError) -> Answer {
        if let AuthError::Unavailable(words) = &error {
            self.shared.notice("error", &format!("logins cannot be checked: {words}"));
        }
        Answer::Reply(Reply::new(454, Enhanced(4, 7, 0), "temporary authentication failure, try again later"))
    }

    /// A question with what is known now, the client's name among it.
    async fn question(&mut self, stage: Stage, session: &mut Session) -> Question {
        self.settle_name(session).await;
        self.question_about(stage, session.facts().clone(), session.envelope().clone())
    }

    pub(crate) fn question_about(&self, stage: Stage, session: Arc<SessionFacts>, envelope: Arc<Envelope>) -> Question {
        Question {
            stage,
            session,
            envelope,
            recipient: None,
            credentials: None,
            message: None,
            findings: self.findings.clone(),
            queue_id: None,
        }
    }

    pub(crate) fn is_asked(&self, stage: Stage) -> bool {
        self.stages.contains(stage)
    }

    /// Puts a question to the jury. `None`: nothing stands in the way.
    pub(crate) async fn put(&mut self, question: Question) -> Option<Answer> {
        let jury = self.jury()?;
        let (stage, facts, envelope) = (question.stage, question.session.clone(), question.envelope.clone());
        let address = question.recipient.as_ref().map(|recipient| recipient.address.clone());
        let judgement = jury.judge(question).await;
        self.rule(stage, &facts, Some(&envelope), address.as_ref(), judgement)
    }

    /// Remembers what a jury said, and turns its verdict into an answer where there is one to give now.
    fn rule(
        &mut self,
        stage: Stage,
        facts: &SessionFacts,
        envelope: Option<&Envelope>,
        recipient: Option<&Address>,
        judgement: Judgement,
    ) -> Option<Answer> {
        let Judgement { verdict, by, edits, opinions, facts: stated, .. } = judgement;
        let by = by.unwrap_or_else(|| "plugin".into());
        self.transaction.edits.extend(edits);
        for opinion in &opinions {
            self.note(stage, &opinion.plugin, opinion.verdict, || opinion.detail.clone().unwrap_or_default());
        }
        self.transaction.opinions.extend(opinions);
        self.keep_stated(stage, stated);
        match verdict {
            Verdict::Pass | Verdict::Accept => None,
            Verdict::Defer(reply) => Some(self.refuse(stage, facts, of_class(reply, 4), &by, envelope, recipient)),
            Verdict::Refuse(reply) => Some(self.refuse(stage, facts, of_class(reply, 5), &by, envelope, recipient)),
            Verdict::Disconnect(reply) => {
                self.rejected(stage, facts, &reply, &by, envelope, recipient);
                Some(Answer::Close(reply))
            }
            Verdict::Discard => self.decree(stage, Fate::Discard(by)),
            Verdict::Hold(reason) => self.decree(stage, Fate::Hold(reason.into())),
        }
    }

    /// What is stated before MAIL holds for every message of the session, until the same stage comes again.
    fn keep_stated(&mut self, stage: Stage, stated: Vec<Fact>) {
        if !matches!(stage, Stage::Connect | Stage::Helo | Stage::Auth) {
            self.transaction.stated.extend(stated);
        } else if !stated.is_empty() || self.standing.is_some() {
            let standing = self.standing.get_or_insert_default();
            standing.stated.retain(|(at, _)| *at != stage);
            standing.stated.extend(stated.into_iter().map(|fact| (stage, fact)));
        }
    }

    /// All that was stated of the session and the message.
    pub(crate) fn all_stated(&self) -> Vec<Fact> {
        let session = self.standing.iter().flat_map(|standing| &standing.stated).map(|(_, fact)| fact);
        session.chain(&self.transaction.stated).cloned().collect()
    }

    /// A fate laid down before MAIL is that of every message of the session.
    fn decree(&mut self, stage: Stage, fate: Fate) -> Option<Answer> {
        self.lay_down(matches!(stage, Stage::Connect | Stage::Helo | Stage::Auth), fate);
        None
    }

    /// Discarding wins over holding.
    pub(crate) fn lay_down(&mut self, session_wide: bool, fate: Fate) {
        let slot = if session_wide { &mut self.standing().fate } else { &mut self.transaction.fate };
        if !matches!(slot, Some(Fate::Discard(_))) {
            *slot = Some(fate);
        }
    }

    /// What is to become of the message at hand.
    pub(crate) fn take_fate(&mut self) -> Option<Fate> {
        let standing = self.standing.as_ref().and_then(|standing| standing.fate.clone());
        match self.transaction.fate.take() {
            Some(Fate::Hold(_)) if matches!(standing, Some(Fate::Discard(_))) => standing,
            Some(fate) => Some(fate),
            None => standing,
        }
    }

    /// Remembers for whoever wants it explained; costs one look otherwise.
    pub(crate) fn note(&mut self, stage: Stage, by: &str, word: &'static str, detail: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push(Note { stage, by: by.to_string(), word, detail: detail() });
        }
    }

    /// From now on everything that is said is remembered.
    pub(crate) fn keep_journal(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// What was said since the last time.
    pub(crate) fn take_journal(&mut self) -> Vec<Note> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The client's name is not to be looked up.
    pub(crate) fn name_is_known(&mut self) {
        self.name = PeerName::Settled;
    }

    fn refuse_by(
        &mut self,
        stage: Stage,
        facts: &SessionFacts,
        refusal: Refusal,
        envelope: Option<&Envelope>,
        recipient: Option<&Address>,
    ) -> Answer {
        self.refuse(stage, facts, refusal.reply, refusal.by, envelope, recipient)
    }

    pub(crate) fn refuse(
        &mut self,
        stage: Stage,
        facts: &SessionFacts,
        reply: Reply,
        by: &str,
        envelope: Option<&Envelope>,
        recipient: Option<&Address>,
    ) -> Answer {
        self.rejected(stage, facts, &reply, by, envelope, recipient);
        self.note(stage, by, "refuse", || reply.to_string());
        Answer::Reply(reply)
    }

    fn rejected(
        &self,
        stage: Stage,
        facts: &SessionFacts,
        reply: &Reply,
        by: &str,
        envelope: Option<&Envelope>,
        recipient: Option<&Address>,
    ) {
        let sender = envelope.map(|envelope| &envelope.sender);
        let peer = facts.peer.ip();
        let event = Event::Rejected { session: facts.id, stage, reply, by, peer, sender, recipient };
        self.shared.services.observer.observe(event);
    }

    fn needs_name_for_message(&self) -> bool {
        !self.name.is_settled()
    }

    /// Waits for the client's name once, within its bound; later only looks whether it has come.
    pub(crate) async fn settle_name(&mut self, session: &mut Session) {
        let patience = self.shared.options.name_timeout;
        if let Some(name) = self.name.settle(patience).await {
            session.set_peer_name(name);
        }
    }
}

impl Shared {
    pub(crate) fn notice(&self, level: &'static str, message: &str) {
        self.services.observer.observe(Event::Notice { level, message });
    }

    pub(crate) fn limit(&self, facts: &SessionFacts, limit: &'static str) {
        self.services.observer.observe(Event::LimitReached { session: facts.id, limit });
    }
}

/// A reply of the class that its verdict stands for, whatever code came with it.
fn of_class(mut reply: Reply, class: u16) -> Reply {
    if reply.code / 100 != class {
        reply.code = if class == 4 { 451 } else { 550 };
    }
    let status = reply.status();
    if reply.enhanced.is_none() || u16::from(status.0) != class {
        reply.enhanced = Some(Enhanced(class as u8, status.1, status.2));
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_keep_their_class_whatever_code_a_judge_gave() {
        let reply = of_class(Reply::new(550, Enhanced(5, 7, 1), "later"), 4);
        assert_eq!((reply.code, reply.enhanced), (451, Some(Enhanced(4, 7, 1))));
        let reply = of_class(Reply::plain(250, "no"), 5);
        assert_eq!((reply.code, reply.enhanced), (550, Some(Enhanced(5, 0, 0))));
        let reply = of_class(Reply::new(452, Enhanced(4, 2, 2), "full"), 4);
        assert_eq!((reply.code, reply.enhanced), (452, Some(Enhanced(4, 2, 2))));
    }
}
