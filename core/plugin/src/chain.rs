//! The chain: who is asked at which stage, in which order, and what their answers come to.
//!
//! [`Set`] is one configuration's plugins with a dense list of hooks for each stage; [`Hearing`] is the jury of one session. A
//! stage that nobody exports has an empty list, and the server, which looks at `stages()` first, does not even ask.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use waypost_types::{
    Edit, Enhanced, Event, Fact, Judgement, Jury, Message, Opinion, Question, Reply, SessionFacts, SessionId, Stage,
    StageSet, Task, Transport, Verdict, edit,
};

use crate::case::{Case, Seat};
use crate::fault::{Admission, Fault};
use crate::instance::{Answer, Cell, Hook};
use crate::options::{FaultPolicy, Isolation};
use crate::plugin::{Cost, Plugin};
use crate::tape::{Heard, Recorder, Tape};
use crate::trial::{Asked, Canary, Line, Order, Said, Shadow};

/// The plugins of one configuration, in order.
pub(crate) struct Set {
    pub(crate) plugins: Vec<Arc<Plugin>>,
    steps: [Vec<Step>; Stage::ALL.len()],
    stages: StageSet,
    /// A new version that judges without effect.
    pub(crate) shadow: Option<Arc<Shadow>>,
    /// A new version for a share of the sessions.
    pub(crate) canary: Option<Arc<Canary>>,
}

/// One hook of one plugin.
struct Step {
    plugin: usize,
    hook: Hook,
}

impl Set {
    pub(crate) fn new(plugins: Vec<Arc<Plugin>>) -> Set {
        let mut set = Set { plugins, steps: Default::default(), stages: StageSet::EMPTY, shadow: None, canary: None };
        // Hooks outside, plugins inside: at the stage message everybody sees the headers before anybody reads the body.
        for (hook, stage, _, _) in Hook::ALL {
            for (plugin, _) in set.plugins.iter().enumerate().filter(|(_, plugin)| plugin.exports(hook)) {
                set.steps[stage as usize].push(Step { plugin, hook });
                set.stages = set.stages.with(stage);
            }
        }
        // Both forms of the recipient hook are the same step of the chain: order is the configuration's.
        set.steps[Stage::Rcpt as usize].sort_by_key(|step| step.plugin);
        set
    }

    pub(crate) fn stages(&self) -> StageSet {
        self.stages
    }

    /// The plugins with these names only, in the same order.
    pub(crate) fn select(&self, names: &[String]) -> Set {
        let chosen = |plugin: &&Arc<Plugin>| names.iter().any(|name| **name == **plugin.name());
        let mut set = Set::new(self.plugins.iter().filter(chosen).cloned().collect());
        set.shadow = self.shadow.clone().filter(|shadow| chosen(&&shadow.plugin));
        let canary = self.canary.as_ref().filter(|canary| chosen(&&canary.plugin));
        set.canary = canary.map(|canary| canary.within(Arc::new(canary.set.select(names))));
        set
    }

    /// The same plugins with `plugin` in the place of the one of its name, and nothing on trial.
    pub(crate) fn replace(&self, plugin: &Arc<Plugin>) -> Set {
        let same = |there: &Arc<Plugin>| if there.name() == plugin.name() { plugin.clone() } else { there.clone() };
        Set::new(self.plugins.iter().map(same).collect())
    }

    /// Whoever keeps transactions.
    fn recorder(&self) -> Option<&Arc<dyn Recorder>> {
        self.plugins.first()?.shared().ports.recorder.as_ref()
    }

    /// The plugin of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.plugins.iter().find(|plugin| **plugin.name() == *name)
    }

    /// The plugins of a session that begins now.
    pub(crate) fn for_session(self: Arc<Set>) -> Arc<Set> {
        match &self.canary {
            Some(canary) if canary.takes() => canary.set.clone(),
            _ => self,
        }
    }

    /// The stages at which `plugin` is asked.
    pub(crate) fn stages_of(&self, plugin: &Plugin) -> StageSet {
        let stages = Hook::ALL.iter().filter(|(hook, ..)| plugin.exports(*hook));
        stages.fold(StageSet::EMPTY, |set, (_, stage, ..)| set.with(*stage))
    }
}

/// What the session keeps for one plugin.
#[derive(Default)]
pub(crate) struct Chair {
    pub(crate) seat: Seat,
    pub(crate) cell: Option<Box<Cell>>,
}

/// The plugins of one session.
pub(crate) struct Hearing {
    set: Arc<Set>,
    /// Empty until somebody is asked.
    chairs: Vec<Chair>,
    /// Lent out while a question is being judged; a judgement that was dropped half-way took it along.
    case: Option<Box<Case>>,
    /// To the shadow, once it was told anything.
    line: Option<Line>,
    /// What is recorded of the session, if it is.
    tape: Option<Box<(Tape, Heard)>>,
}

impl Hearing {
    pub(crate) fn new(set: Arc<Set>) -> Hearing {
        let tape = set.recorder().filter(|recorder| recorder.wants()).map(|_| Box::default());
        Hearing { set: set.for_session(), chairs: Vec::new(), case: None, line: None, tape }
    }

    /// The same, with facts that hold for the session.
    pub(crate) fn with_facts(mut self, facts: Vec<Fact>) -> Hearing {
        // As of a stage that is none of the session's: no later question takes them back.
        let facts = facts.into_iter().map(|fact| (Stage::Mail, fact)).collect();
        self.case = Some(Box::new(Case { session_facts: facts, ..Case::default() }));
        self
    }

    async fn hear(&mut self, question: Question) -> Judgement {
        let stage = question.stage;
        let mut judgement = Judgement::default();
        let steps = &self.set.steps[stage as usize];
        if steps.is_empty() {
            return judgement;
        }
        self.chairs.resize_with(self.set.plugins.len(), Chair::default);
        let mut case = self.case.take().unwrap_or_default();
        if let Some((tape, heard)) = self.tape.as_deref_mut() {
            tape.on_question(&question);
            case.heard = Some(heard.clone());
        }
        case.begin(question);
        let mut shown = 0;
        for step in steps {
            let plugin = &self.set.plugins[step.plugin];
            if !case.question().is_ok_and(|question| plugin.wants(question)) {
                continue;
            }
            show_edits(&mut case, &judgement.edits[shown..]);
            shown = judgement.edits.len();
            let watched = self.set.shadow.as_ref().filter(|shadow| shadow.plugin.name() == plugin.name());
            let before = watched.map(|_| Before::of(step.hook, &case, &judgement));
            let chair = &mut self.chairs[step.plugin];
            let verdict = consult(plugin, step.hook, stage, chair, &mut case, &mut judgement).await;
            if let (Some(shadow), Some(before)) = (watched, before.flatten()) {
                self.line = self.line.take().or_else(|| Line::open(shadow));
                if let Some(line) = &self.line {
                    line.tell(before.asked(&judgement));
                }
            }
            if verdict != Verdict::Pass {
                judgement.verdict = verdict;
                judgement.by = Some(plugin.name().clone());
                break;
            }
        }
        if let Some((tape, _)) = self.tape.as_deref_mut() {
            tape.on_judgement(stage, &judgement);
        }
        self.rest(stage, case);
        judgement
    }

    /// The transaction is over: what was recorded of it is given away.
    fn cut_tape(&mut self) {
        if let Some((tape, heard)) = self.tape.as_deref_mut()
            && let (Some(done), Some(recorder)) = (tape.cut(heard), self.set.recorder())
        {
            recorder.record(done);
        }
    }

    /// Between questions nothing large is kept: no message, and no instance of a transaction that has not begun.
    fn rest(&mut self, stage: Stage, mut case: Box<Case>) {
        case.question = None;
        case.subject = None;
        self.case = Some(case);
        if Case::is_session_stage(stage) {
            self.release_transaction();
        }
    }

    /// Drops the instances that live for one transaction.
    fn release_transaction(&mut self) {
        for (plugin, chair) in self.set.plugins.iter().zip(&mut self.chairs) {
            if plugin.isolation == Isolation::Transaction {
                chair.cell = None;
            }
        }
    }
}

impl Jury for Hearing {
    fn stages(&self) -> StageSet {
        self.set.stages
    }

    fn judge(&mut self, question: Question) -> Task<'_, Judgement> {
        Box::pin(self.hear(question))
    }

    fn reset(&mut self) {
        self.cut_tape();
        self.release_transaction();
        self.chairs.iter_mut().for_each(|chair| chair.seat.reset());
        self.line.iter().for_each(|line| line.tell(Order::Reset));
        if let Some(case) = &mut self.case {
            case.facts.clear();
            case.roll_back();
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.cut_tape();
    }
}

/// What was known before a plugin was asked that has a shadow.
struct Before {
    hook: Hook,
    question: Question,
    known: Vec<Fact>,
    facts: usize,
    edits: usize,
}

impl Before {
    fn of(hook: Hook, case: &Case, judgement: &Judgement) -> Option<Before> {
        let question = case.question.clone()?;
        let known = case.all_facts().cloned().collect();
        Some(Before { hook, question, known, facts: judgement.facts.len(), edits: judgement.edits.len() })
    }

    /// What the shadow is told, now that the plugin has answered.
    fn asked(self, judgement: &Judgement) -> Order {
        let said = Said::since(judgement, self.facts, self.edits);
        Order::Ask(Box::new(Asked { hook: self.hook, question: self.question, facts: self.known, said }))
    }
}

/// Asks one plugin, and enters into the judgement what it said, asked for and stated.
pub(crate) async fn consult(
    plugin: &Plugin,
    hook: Hook,
    stage: Stage,
    chair: &mut Chair,
    case: &mut Box<Case>,
    judgement: &mut Judgement,
) -> Verdict {
    let started = Instant::now();
    let (admission, change) = plugin.breaker.admit(started);
    tell_breaker(plugin, change);
    case.seat = std::mem::take(&mut chair.seat);
    let (answer, cost) = match admission {
        Admission::Open => (Err(Fault::Open), Cost::default()),
        _ => plugin.ask(hook, stage, case, &mut chair.cell, (admission, started)).await,
    };
    chair.seat = std::mem::take(&mut case.seat);
    let micros = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
    let mut opinion = Opinion {
        plugin: plugin.name().clone(),
        stage,
        verdict: "fault",
        detail: None,
        micros,
        bytes_read: cost.bytes_read,
        dns_asked: cost.dns_asked,
    };
    let verdict = match answer {
        Ok(answer) => {
            tell_breaker(plugin, plugin.breaker.on_success(admission));
            accept(answer, stage, case, judgement, &mut opinion)
        }
        Err(fault) => {
            case.roll_back();
            fail(plugin, &fault, stage, case, judgement, &mut opinion)
        }
    };
    plugin.tally.count(opinion.verdict, micros);
    judgement.opinions.push(opinion);
    verdict
}

/// An answer: what it came with takes effect.
fn accept(answer: Answer, stage: Stage, case: &mut Case, judgement: &mut Judgement, opinion: &mut Opinion) -> Verdict {
    judgement.edits.append(&mut case.edits);
    judgement.facts.extend(case.stated.iter().cloned());
    case.keep_stated(stage);
    if answer.identity.is_some() {
        judgement.identity = answer.identity;
    }
    opinion.verdict = answer.verdict.word();
    opinion.detail = match &answer.verdict {
        Verdict::Defer(reply) | Verdict::Refuse(reply) | Verdict::Disconnect(reply) => Some(reply.text.to_string()),
        Verdict::Hold(reason) => Some(reason.to_string()),
        Verdict::Pass | Verdict::Accept | Verdict::Discard => None,
    };
    answer.verdict
}

/// A fault: the plugin's policy answers in its place.
fn fail(
    plugin: &Plugin,
    fault: &Fault,
    stage: Stage,
    case: &mut Case,
    judgement: &mut Judgement,
    opinion: &mut Opinion,
) -> Verdict {
    let text = fault.to_string();
    let policy = plugin.on_fault.at(stage);
    let word = match policy {
        FaultPolicy::Tempfail => "tempfail",
        FaultPolicy::Pass => "pass",
    };
    let session = case.session_id();
    let event = Event::PluginFault { session, plugin: plugin.name(), stage, error: &text, policy: word };
    plugin.shared().ports.observer.observe(event);
    if *fault != Fault::Open {
        tell_breaker(plugin, plugin.breaker.on_fault(Instant::now()));
    }
    opinion.detail = Some(text.clone());
    match policy {
        FaultPolicy::Tempfail => Verdict::Defer(apology(stage)),
        FaultPolicy::Pass => {
            let detail = Some(text);
            let fact = Fact { plugin: plugin.name().clone(), symbol: "PLUGIN_FAULT".into(), weight: 0.0, detail };
            case.stated.push(fact.clone());
            case.keep_stated(stage);
            judgement.facts.push(fact);
            Verdict::Pass
        }
    }
}

/// What a client is told when a plugin that must be asked cannot answer: never more than that it should come back.
fn apology(stage: Stage) -> Reply {
    let code = match stage {
        Stage::Connect => 421,
        Stage::Auth => 454,
        _ => 451,
    };
    Reply::new(code, Enhanced(4, 3, 0), "temporary failure of a policy check, try again later")
}

fn tell_breaker(plugin: &Plugin, change: Option<&'static str>) {
    if let Some(state) = change {
        plugin.shared().ports.observer.observe(Event::PluginBreaker { plugin: plugin.name(), state });
    }
}

/// Lets the plugins further down the chain see what those before them asked for.
fn show_edits(case: &mut Case, edits: &[Edit]) {
    let Some(question) = case.question.as_mut().filter(|_| !edits.is_empty()) else {
        return;
    };
    if edits.iter().any(edit::is_envelope) {
        let envelope = Arc::make_mut(&mut question.envelope);
        edits.iter().for_each(|edit| edit::apply_to_envelope(envelope, edit));
    }
    if let Some(message) = question.message.as_mut().filter(|_| !edits.iter().all(edit::is_envelope)) {
        edits.iter().for_each(|edit| edit::apply_to_message(message, edit));
        case.subject = None;
    }
}

/// An operator's command: no stage, no chain, no breaker, and nothing that the plugin says of a message takes effect.
pub(crate) async fn command(plugin: &Plugin, name: &str, argument: &str, message: Message) -> Result<String, String> {
    if !plugin.exports(Hook::Command) {
        return Err(format!("the plugin {} takes no commands", plugin.name()));
    }
    let mut case = Box::<Case>::default();
    case.begin(Question {
        stage: Stage::Message,
        session: Arc::new(nobody()),
        envelope: Arc::default(),
        recipient: None,
        credentials: None,
        message: Some(message),
        findings: Arc::new([]),
        queue_id: None,
    });
    case.command = Some((name.into(), argument.into()));
    let asked = (Admission::Closed, Instant::now());
    let (answer, _) = plugin.ask(Hook::Command, Stage::Message, &mut case, &mut None, asked).await;
    answer.map(|answer| answer.text).map_err(|fault| match fault {
        Fault::Said(text) => text,
        other => format!("the plugin {}: {other}", plugin.name()),
    })
}

/// The session of a command: this host's own.
fn nobody() -> SessionFacts {
    let here = SocketAddr::from(([127, 0, 0, 1], 0));
    SessionFacts {
        id: SessionId::new(0),
        transport: Transport::Local,
        peer: here,
        local: here,
        peer_name: None,
        helo: "".into(),
        esmtp: false,
        tls: None,
        user: None,
        trusted: true,
    }
}
