//! One live instance of a plugin: its store, and its hooks as typed functions.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Lower, TypedFunc,
};
use wasmtime::{Engine, Store};
use waypost_types::{Question, Stage, Verdict};

use crate::case::{Call, Case, Ctx, Shared};
use crate::fault::Fault;
use crate::wit::{AuthResult, Rcpt, Registration, VERSION, WitCredentials, WitOutcome};

/// A function that a plugin may export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Connect,
    Helo,
    Auth,
    Mail,
    Rcpt,
    RcptBatch,
    Data,
    Headers,
    Message,
    Queue,
    /// No stage of mail: an operator asks.
    Command,
}

impl Hook {
    /// With the stage, the interface and the function.
    pub(crate) const ALL: [(Hook, Stage, &'static str, &'static str); 10] = [
        (Hook::Connect, Stage::Connect, "on-connect", "connect"),
        (Hook::Helo, Stage::Helo, "on-helo", "helo"),
        (Hook::Auth, Stage::Auth, "on-auth", "authenticate"),
        (Hook::Mail, Stage::Mail, "on-mail", "mail"),
        (Hook::Rcpt, Stage::Rcpt, "on-rcpt", "check"),
        (Hook::RcptBatch, Stage::Rcpt, "on-rcpt-batch", "check-all"),
        (Hook::Data, Stage::Data, "on-data", "data"),
        (Hook::Headers, Stage::Message, "on-headers", "headers"),
        (Hook::Message, Stage::Message, "on-message", "message"),
        (Hook::Queue, Stage::Queue, "on-queue", "enqueue"),
    ];
}

/// Where a component's exports are.
pub(crate) struct Exports {
    init: ComponentExportIndex,
    hooks: Vec<(Hook, ComponentExportIndex)>,
}

impl Exports {
    /// Finds them; the error says which is missing.
    pub(crate) fn of(component: &Component) -> Result<Exports, String> {
        let find = |interface: &str, function: &str| {
            let instance = component.get_export_index(None, format!("waypost:plugin/{interface}@{VERSION}"))?;
            component.get_export_index(Some(&instance), function)
        };
        let init = find("lifecycle", "init").ok_or_else(|| {
            format!(
                "it does not export `waypost:plugin/lifecycle@{VERSION}`: it is no plugin, or made for another version"
            )
        })?;
        let hooks =
            Hook::ALL.iter().filter_map(|(hook, _, interface, function)| Some((*hook, find(interface, function)?)));
        let command = find("on-command", "command").map(|at| (Hook::Command, at));
        let hooks: Vec<_> = hooks.chain(command).collect();
        // Of the two forms of the recipient hook the batch is the one to ask.
        let batch = hooks.iter().any(|(hook, _)| *hook == Hook::RcptBatch);
        let hooks = hooks.into_iter().filter(|(hook, _)| !(batch && *hook == Hook::Rcpt)).collect();
        Ok(Exports { init, hooks })
    }

    /// Whether the plugin wants to be asked by this hook.
    pub(crate) fn has(&self, hook: Hook) -> bool {
        self.hooks.iter().any(|(there, _)| *there == hook)
    }
}

type Plain = TypedFunc<(), (WitOutcome,)>;
type Text = TypedFunc<(String,), (WitOutcome,)>;
type Helo = TypedFunc<(Arc<str>, bool), (WitOutcome,)>;
type Auth = TypedFunc<(WitCredentials,), (Result<AuthResult, String>,)>;
type Command = TypedFunc<(String, String), (Result<String, String>,)>;
type RcptBatch = TypedFunc<(Vec<Rcpt>,), (Vec<WitOutcome>,)>;

/// The hooks of an instance, checked against the contract.
#[derive(Default)]
struct Functions {
    connect: Option<Plain>,
    helo: Option<Helo>,
    auth: Option<Auth>,
    mail: Option<Text>,
    rcpt: Option<TypedFunc<(Rcpt,), (WitOutcome,)>>,
    rcpt_batch: Option<RcptBatch>,
    data: Option<Plain>,
    headers: Option<Plain>,
    message: Option<Plain>,
    queue: Option<Text>,
    command: Option<Command>,
}

impl Functions {
    fn of(instance: &Instance, store: &mut Store<Ctx>, exports: &Exports) -> wasmtime::Result<Functions> {
        let mut functions = Functions::default();
        for (hook, at) in &exports.hooks {
            match hook {
                Hook::Connect => functions.connect = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Helo => functions.helo = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Auth => functions.auth = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Mail => functions.mail = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Rcpt => functions.rcpt = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::RcptBatch => functions.rcpt_batch = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Data => functions.data = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Headers => functions.headers = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Message => functions.message = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Queue => functions.queue = Some(instance.get_typed_func(&mut *store, at)?),
                Hook::Command => functions.command = Some(instance.get_typed_func(&mut *store, at)?),
            }
        }
        Ok(functions)
    }
}

/// What instances of a plugin are made from.
pub(crate) struct Template {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pre: InstancePre<Ctx>,
    pub(crate) exports: Exports,
    /// Whether host functions may wait: then every call runs on a fiber.
    pub(crate) on_fiber: bool,
}

impl Template {
    /// A fresh, initialised instance. `wall` and `started` are those of the call that needs it.
    pub(crate) async fn make(&self, started: Instant, wall: Duration) -> Result<(Box<Cell>, Registration), Fault> {
        let mut store = self.store(started, wall);
        self.shared.runtime.wake();
        let instance = match self.on_fiber {
            true => limited(started, wall, self.pre.instantiate_async(&mut store)).await?,
            false => self.pre.instantiate(&mut store).map_err(|error| Fault::of(&error)),
        };
        let instance = instance.map_err(starting)?;
        let functions = Functions::of(&instance, &mut store, &self.exports);
        let functions = functions.map_err(|error| Fault::Start(format!("{error:#}")))?;
        let init = instance.get_typed_func::<(), (Result<Registration, String>,)>(&mut store, &self.exports.init);
        let init = init.map_err(|error| Fault::Start(format!("{error:#}")))?;
        let registration = self.run(init, &mut store, ()).await.map_err(starting)?.map_err(Fault::Start)?;
        Ok((Box::new(Cell { store, functions, uses: 0, born: started, permit: None }), registration))
    }

    fn store(&self, started: Instant, wall: Duration) -> Store<Ctx> {
        let engine: &Engine = &self.shared.runtime.engine;
        let call = Call::new(started, wall, self.shared.limits.cpu_init);
        let case = Box::<Case>::default();
        let ctx = Ctx { shared: self.shared.clone(), case, call, on_fiber: self.on_fiber, memory: 0 };
        let mut store = Store::new(engine, ctx);
        store.limiter(|ctx| ctx);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().on_tick()?));
        store.set_epoch_deadline(1);
        store
    }

    /// Calls one function, on a fiber and with a deadline if it may wait.
    async fn run<P, R>(&self, function: TypedFunc<P, (R,)>, store: &mut Store<Ctx>, parameters: P) -> Result<R, Fault>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lift,
    {
        self.shared.runtime.wake();
        store.set_epoch_deadline(1);
        let result = if self.on_fiber {
            let (started, wall) = (store.data().call.started, store.data().call.wall);
            // Boxed, so that the calls that need no fiber, most of them, are not carried about in a future of this one's size.
            Box::pin(limited(started, wall, function.call_async(store, parameters))).await?
        } else {
            function.call(store, parameters).map_err(|error| Fault::of(&error))
        };
        result.map(|(result,)| result)
    }
}

/// Waits for a call on a fiber until its wall time is over. At load there is no timer, and nothing that waits either.
async fn limited<R>(
    started: Instant,
    wall: Duration,
    call: impl Future<Output = wasmtime::Result<R>>,
) -> Result<Result<R, Fault>, Fault> {
    let call = async { call.await.map_err(|error| Fault::of(&error)) };
    if tokio::runtime::Handle::try_current().is_err() {
        return Ok(call.await);
    }
    tokio::time::timeout(wall.saturating_sub(started.elapsed()), call).await.map_err(|_| Fault::Limit("wall"))
}

/// Says of a fault that it happened while the instance was made, unless it names a limit.
fn starting(fault: Fault) -> Fault {
    match fault {
        Fault::Limit(_) | Fault::Start(_) => fault,
        other => Fault::Start(other.to_string()),
    }
}

/// What a hook said.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) identity: Option<String>,
    /// What an operator is told.
    pub(crate) text: String,
}

/// One live instance.
pub(crate) struct Cell {
    store: Store<Ctx>,
    functions: Functions,
    uses: u32,
    born: Instant,
    /// Keeps the plugin's number of instances within its bound while this one is in use.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Cell {
    /// Asks. The case is lent to the instance and taken back, whatever happens.
    pub(crate) async fn ask(
        &mut self,
        template: &Template,
        hook: Hook,
        case: &mut Box<Case>,
        call: Call,
    ) -> Result<Answer, Fault> {
        self.uses += 1;
        let ctx = self.store.data_mut();
        ctx.call = call;
        std::mem::swap(&mut ctx.case, case);
        let answer = self.call(template, hook).await;
        std::mem::swap(&mut self.store.data_mut().case, case);
        answer
    }

    /// The counters of the last call.
    pub(crate) fn counters(&self) -> &Call {
        &self.store.data().call
    }

    /// Whether a pooled instance has served long enough, or has grown to more than half of what it may.
    pub(crate) fn is_worn(&self, now: Instant) -> bool {
        let ctx = self.store.data();
        let limits = &ctx.shared.limits;
        self.uses >= limits.uses || now.duration_since(self.born) >= limits.age || ctx.memory > limits.memory / 2
    }

    async fn call(&mut self, template: &Template, hook: Hook) -> Result<Answer, Fault> {
        let Cell { store, functions, .. } = self;
        let question = store.data().case.question()?;
        let stage = question.stage;
        let outcome = match hook {
            Hook::Connect => template.run(known(functions.connect), store, ()).await?,
            Hook::Data => template.run(known(functions.data), store, ()).await?,
            Hook::Headers => template.run(known(functions.headers), store, ()).await?,
            Hook::Message => template.run(known(functions.message), store, ()).await?,
            Hook::Helo => {
                let parameters = (question.session.helo.clone(), question.session.esmtp);
                template.run(known(functions.helo), store, parameters).await?
            }
            Hook::Mail => {
                let parameters = (question.envelope.sender.to_string(),);
                template.run(known(functions.mail), store, parameters).await?
            }
            Hook::Queue => {
                let id = question.queue_id.map(|id| id.to_string()).unwrap_or_default();
                template.run(known(functions.queue), store, (id,)).await?
            }
            Hook::Rcpt => {
                let parameters = (recipient(question)?,);
                template.run(known(functions.rcpt), store, parameters).await?
            }
            Hook::RcptBatch => {
                let parameters = (vec![recipient(question)?],);
                let outcomes = template.run(known(functions.rcpt_batch), store, parameters).await?;
                let wrong = || Fault::Misuse("`check-all` must give one outcome for each recipient".into());
                <[WitOutcome; 1]>::try_from(outcomes).map_err(|_| wrong())?.into_iter().next().ok_or_else(wrong)?
            }
            Hook::Command => {
                let parameters = store.data().case.command.clone().unwrap_or_default();
                let text = template.run(known(functions.command), store, parameters).await?.map_err(Fault::Said)?;
                return Ok(Answer { text, ..Answer::default() });
            }
            Hook::Auth => {
                let shown = question.credentials.as_ref().expect("the stage auth comes with credentials");
                let parameters = (WitCredentials::new(shown, template.shared.grants.credentials),);
                let result = template.run(known(functions.auth), store, parameters).await?.map_err(Fault::Said)?;
                let (verdict, identity) = result.verdict();
                return Ok(Answer { verdict, identity, ..Answer::default() });
            }
        };
        let action = outcome.map_err(Fault::Said)?;
        Ok(Answer { verdict: action.verdict(stage), ..Answer::default() })
    }
}

/// Steps are made from the exports that were found.
fn known<T>(function: Option<T>) -> T {
    function.expect("only hooks that the plugin exports are asked")
}

fn recipient(question: &Question) -> Result<Rcpt, Fault> {
    Ok(question.recipient.as_ref().expect("the stage rcpt comes with a recipient").into())
}
