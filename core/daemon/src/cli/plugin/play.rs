//! A case put to a jury, stage by stage, as the server would: what is refused ends there, a recipient that is refused is left out, and
//! what plugins want changed is carried out in the server's way.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use waypost_types::login::{Credentials, Proof};
use waypost_types::{
    Address, Edit, Envelope, Fact, Finding, Judgement, Jury, Message, MessageId, Opinion, Question, Recipient,
    ReversePath, SessionFacts, SessionId, Stage, StageSet, Timestamp, TlsFacts, Transport, Verdict, edit,
};

use super::case::{Case, Port};

/// What came of a case.
pub(super) struct Transcript {
    /// What ended it, or did the most before its end.
    pub(super) verdict: Verdict,
    /// Where that was said.
    pub(super) stage: Option<Stage>,
    pub(super) opinions: Vec<Opinion>,
    pub(super) facts: Vec<Fact>,
    pub(super) edits: Vec<Edit>,
    /// As they would be stored.
    pub(super) envelope: Envelope,
    pub(super) message: Message,
}

impl Transcript {
    /// [`Verdict::word`], or `fault` if the last plugin that was asked failed.
    pub(super) fn word(&self) -> &'static str {
        let failed = self.opinions.last().is_some_and(|opinion| opinion.verdict == "fault");
        if failed { "fault" } else { self.verdict.word() }
    }
}

/// Plays a case to its end.
pub(super) async fn play(case: &Case, jury: &mut dyn Jury) -> Result<Transcript> {
    let mut player = Player::new(case, jury)?;
    player.greet(case).await;
    if player.goes_on() {
        player.envelope(case).await?;
    }
    if player.goes_on() {
        player.content(case).await;
    }
    Ok(player.transcript)
}

/// The session of a case, before anything was said.
pub(super) fn session(case: &Case) -> SessionFacts {
    let transport = match case.port {
        Port::Mx => Transport::Mx,
        Port::Submission => Transport::Submission,
        Port::Submissions => Transport::Submissions,
        Port::Lmtp => Transport::Lmtp,
        Port::Relay => Transport::Relay,
    };
    let tls = TlsFacts {
        version: "TLSv1.3",
        cipher: "TLS_AES_256_GCM_SHA384".into(),
        server_name: None,
        client_certificate: None,
        exporter: None,
        resumed: false,
    };
    SessionFacts {
        id: SessionId::new(1),
        transport,
        peer: SocketAddr::new(case.client, 40_000),
        local: SocketAddr::from(([192, 0, 2, 25], 25)),
        peer_name: case.client_name.as_deref().map(Into::into),
        tls: case.tls.then(|| Arc::new(tls)),
        trusted: case.own,
        ..SessionFacts::nobody()
    }
}

struct Player<'a> {
    jury: &'a mut dyn Jury,
    stages: StageSet,
    session: SessionFacts,
    findings: Arc<[Finding]>,
    transcript: Transcript,
}

impl<'a> Player<'a> {
    fn new(case: &Case, jury: &'a mut dyn Jury) -> Result<Player<'a>> {
        let message = Message::new(case.letter.clone());
        let transcript = Transcript {
            verdict: Verdict::Pass,
            stage: None,
            opinions: Vec::new(),
            facts: Vec::new(),
            edits: Vec::new(),
            envelope: Envelope { sender: sender(&case.mail)?, ..Envelope::default() },
            message,
        };
        let findings = case.auth.iter().map(finding).collect::<Result<Vec<_>>>()?;
        Ok(Player { stages: jury.stages(), jury, session: session(case), findings: findings.into(), transcript })
    }

    async fn greet(&mut self, case: &Case) {
        self.ask(Stage::Connect, |_| ()).await;
        let helo = case.helo.as_ref().or(case.client_name.as_ref());
        self.session.helo = helo.map_or("client.example", String::as_str).into();
        self.session.esmtp = true;
        if self.goes_on() {
            self.ask(Stage::Helo, |_| ()).await;
        }
        if let (Some(password), true) = (&case.password, self.goes_on()) {
            let identity = case.login.clone().unwrap_or_default();
            let shown = Credentials { mechanism: "PLAIN", identity, proof: Proof::Password(password.clone()) };
            self.ask(Stage::Auth, |question| question.credentials = Some(shown)).await;
        }
        self.session.user = case.login.as_deref().filter(|login| !login.is_empty()).map(Into::into);
    }

    async fn envelope(&mut self, case: &Case) -> Result<()> {
        self.ask(Stage::Mail, |_| ()).await;
        let mut refused = None;
        for to in &case.rcpt {
            if !self.goes_on() {
                break;
            }
            let address = Address::parse(to).map_err(|error| anyhow!("rcpt: {to}: {error}"))?;
            let recipient = Recipient::new(address);
            let asked = recipient.clone();
            self.ask(Stage::Rcpt, |question| question.recipient = Some(asked)).await;
            match self.transcript.verdict {
                Verdict::Refuse(_) | Verdict::Defer(_) => refused = Some(std::mem::take(&mut self.transcript.verdict)),
                _ => self.transcript.envelope.recipients.push(recipient),
            }
        }
        // A transaction without recipients does not go on.
        if let (true, Some(refused)) = (self.transcript.envelope.recipients.is_empty(), refused) {
            self.transcript.verdict = refused;
        }
        Ok(())
    }

    async fn content(&mut self, case: &Case) {
        self.ask(Stage::Data, |_| ()).await;
        for stage in [Stage::Message, Stage::Queue] {
            if !self.goes_on() {
                return;
            }
            let message = self.transcript.message.clone();
            let id =
                (stage == Stage::Queue).then(|| MessageId::new(Timestamp(1_795_500_670_000), case.letter.len() as u64));
            // What was asked for at earlier stages is carried out with the message.
            let before = if stage == Stage::Message { 0 } else { self.transcript.edits.len() };
            self.ask(stage, |question| {
                question.message = Some(message);
                question.queue_id = id;
            })
            .await;
            let Transcript { edits, message, envelope, .. } = &mut self.transcript;
            edit::apply(&edits[before..], message, envelope);
        }
    }

    fn goes_on(&self) -> bool {
        matches!(self.transcript.verdict, Verdict::Pass | Verdict::Accept | Verdict::Hold(_))
    }

    async fn ask(&mut self, stage: Stage, complete: impl FnOnce(&mut Question)) {
        if !self.stages.contains(stage) {
            return;
        }
        let mut question = Question {
            stage,
            session: Arc::new(self.session.clone()),
            envelope: Arc::new(self.transcript.envelope.clone()),
            recipient: None,
            credentials: None,
            message: None,
            findings: self.findings.clone(),
            queue_id: None,
        };
        complete(&mut question);
        let judgement = self.jury.judge(question).await;
        self.take(stage, judgement);
    }

    fn take(&mut self, stage: Stage, judgement: Judgement) {
        let to = &mut self.transcript;
        to.opinions.extend(judgement.opinions);
        to.facts.extend(judgement.facts);
        to.edits.extend(judgement.edits);
        // What was held stays so; `accept` is remembered only for whoever reads the transcript.
        if judgement.verdict != Verdict::Pass
            && !(matches!(to.verdict, Verdict::Hold(_)) && judgement.verdict == Verdict::Accept)
        {
            to.verdict = judgement.verdict;
            to.stage = Some(stage);
        }
    }
}

fn sender(text: &str) -> Result<ReversePath> {
    match text.trim_matches(['<', '>']) {
        "" => Ok(ReversePath::Null),
        text => Ok(ReversePath::Mailbox(Address::parse(text).map_err(|error| anyhow!("mail: {text}: {error}"))?)),
    }
}

/// `spf = "pass example.net"`: result, identity, and for DKIM the selector.
fn finding((method, said): (&String, &String)) -> Result<Finding> {
    const METHODS: [(&str, &str); 6] = [
        ("spf", "smtp.mailfrom"),
        ("dkim", "header.d"),
        ("dmarc", "header.from"),
        ("arc", "header.oldest-pass"),
        ("iprev", "policy.iprev"),
        ("auth", "smtp.auth"),
    ];
    const RESULTS: [&str; 8] = ["pass", "fail", "softfail", "neutral", "none", "temperror", "permerror", "policy"];
    let mut words = said.split_ascii_whitespace();
    let result = words.next().unwrap_or_default();
    let known = METHODS.iter().find(|(name, _)| name == method);
    let (method, property) =
        known.ok_or_else(|| anyhow!("auth: `{method}` is none of spf, dkim, dmarc, arc, iprev, auth"))?;
    let result = RESULTS.iter().find(|word| **word == result);
    let result =
        result.ok_or_else(|| anyhow!("auth.{method}: `{said}` does not begin with one of {}", RESULTS.join(", ")))?;
    let mut word = || words.next().map(str::to_string);
    Ok(Finding { method, result, domain: word(), property, selector: word(), detail: None })
}
