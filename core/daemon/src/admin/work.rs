//! What can be asked of the queue and done to it, and the answers as JSON: one place for the admin interface of a running server and for the command line
//! with a stopped one.
//!
//! ```text
//! GET  /queue?FILTER&after=ID       entries, oldest first; `next` is where to go on
//! GET  /queue/ID                    one entry, whole
//! POST /queue/ID/ACTION             a change to one
//! POST /queue/ACTION?FILTER&after=ID  a change to all that match; a part of them at a time: `next` is where to go on
//! GET  /check                       what does not add up; reads everything
//! GET  /destinations                where mail goes, and what is suspended
//! POST /destinations/suspend?domain=D&for=2h | mx=H      POST /destinations/resume?domain=D | mx=H
//! GET  /tls-reports                 what has been counted for RFC 8460
//! POST /tls-reports/send?domain=D   sends it now
//! GET  /suppress?after=ADDRESS      who is not written to any more, and why
//! POST /suppress/add?address=A&reason=WORDS              POST /suppress/remove?address=A
//! ```
//!
//! FILTER: `domain`, `mx`, `reply`, `sender`, `user`, `older`, `held`, `all` ([`super::filter`]). ACTION: `hold`, `release`, `retry`, `remove`, `expire`,
//! `bounce`, `reroute` (with `to=TRANSPORT`, or nothing for the tables' way). A change is durable when it is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use waypost_deliver::Courier;
use waypost_deliver::suspended::Scope;
use waypost_queue::bounce::Table;
use waypost_queue::suppress::{Suppressed, Suppression};
use waypost_queue::{Change, Entry, Store, StoreError};
use waypost_route::Transport;
use waypost_types::port::KvError;
use waypost_types::{Address, MessageId};

use super::entry::entry_json;
use super::filter::{Filter, Query, span};
use crate::observe::now;
use crate::tls_reports::TlsReports;

/// The queue, and whoever delivers it, if somebody does.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) courier: Option<Courier>,
    /// What replies mean.
    pub(crate) table: Table,
    /// Who is not written to any more.
    pub(crate) suppression: Suppression,
    /// Who counts TLS sessions, if somebody does.
    pub(crate) tls_reports: Option<Arc<TlsReports>>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The question makes no sense.
    Bad(String),
    /// There is no such thing.
    Missing(String),
    /// Not with this method; with that one.
    Method(&'static str),
    /// Not now.
    Busy(String),
    /// The store failed.
    Failed(String),
}

impl Refusal {
    /// The words.
    pub(crate) fn text(&self) -> &str {
        match self {
            Refusal::Method(_) => "not with this method",
            Refusal::Bad(text) | Refusal::Missing(text) | Refusal::Busy(text) | Refusal::Failed(text) => text,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        match error {
            StoreError::Missing => Refusal::Missing("no such message in the queue: it may have been delivered".into()),
            StoreError::Busy => Refusal::Busy("the message is being delivered at this moment; try again".into()),
            other => Refusal::Failed(other.to_string()),
        }
    }
}

/// Entries in one answer.
const LIST_MAX: usize = 1000;
/// Entries read at once.
const PAGE: u32 = 1000;
/// How long one request works before it answers with what it has.
const WORK_MAX: Duration = Duration::from_secs(2);
/// Changes under way at once: they share syncs.
const CHANGES_AT_ONCE: usize = 256;
/// Claims that may be in the courier's hands before giving up more waits.
const IN_HAND_MAX: usize = 5000;

/// A change by word.
#[derive(Clone, Debug)]
enum Action {
    Change(Change),
    Bounce,
}

fn action(word: &str, query: &Query) -> Result<Action, Refusal> {
    Ok(Action::Change(match word {
        "hold" => Change::Hold(query.get("reason").unwrap_or("by an operator").into()),
        "release" => Change::Release,
        "retry" => Change::Due(now()),
        "remove" => Change::Remove,
        "expire" => Change::Expire(now()),
        "reroute" => Change::Reroute(way(query.get("to").unwrap_or(""))?),
        "bounce" => return Ok(Action::Bounce),
        _ => {
            let words = "no such action: hold, release, retry, remove, expire, bounce or reroute";
            return Err(Refusal::Missing(words.into()));
        }
    }))
}

/// A transport's text that can be read, or nothing.
fn way(text: &str) -> Result<Option<Box<str>>, Refusal> {
    match text.parse::<Transport>() {
        _ if text.is_empty() => Ok(None),
        Ok(_) => Ok(Some(text.into())),
        Err(error) => Err(Refusal::Bad(format!("to={error}"))),
    }
}

impl Desk {
    /// Answers one question.
    pub(crate) async fn answer(&self, method: &str, path: &str, query: &str) -> Result<Value, Refusal> {
        let query = Query::parse(query);
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, parts.as_slice()) {
            ("GET", ["queue"]) => self.list(&query).await,
            ("POST", ["queue", word]) if word.parse::<MessageId>().is_err() => self.change_all(word, &query).await,
            ("GET", ["queue", id]) => self.show(parse_id(id)?).await,
            ("POST", ["queue", id, word]) => self.change_one(parse_id(id)?, word, &query).await,
            ("GET", ["check"]) => self.check().await,
            ("GET", ["destinations"]) => self.destinations(),
            ("POST", ["destinations", word @ ("suspend" | "resume")]) => self.suspend(word, &query),
            ("GET", ["tls-reports"]) => Ok(json!({ "reports": self.tls_reports()?.shown() })),
            ("POST", ["tls-reports", "send"]) => {
                Ok(json!({ "sent": self.tls_reports()?.send_now(query.get("domain")).await }))
            }
            ("GET", ["suppress"]) => self.suppressed(&query),
            ("POST", ["suppress", word @ ("add" | "remove")]) => self.suppress(word, &query),
            (_, ["queue"] | ["queue", _] | ["check"] | ["destinations"] | ["suppress"] | ["tls-reports"]) => {
                Err(Refusal::Method("GET"))
            }
            (_, ["queue", _, _] | ["destinations" | "suppress" | "tls-reports", _]) => Err(Refusal::Method("POST")),
            _ => Err(Refusal::Missing("no such page; / names what there is".into())),
        }
    }

    async fn list(&self, query: &Query) -> Result<Value, Refusal> {
        let filter = Filter::parse(query).map_err(Refusal::Bad)?;
        let mut found = Vec::new();
        let next = self
            .each(
                query,
                |entries| found.extend(entries.iter().map(|entry| entry_json(entry, &self.table))),
                &filter,
                LIST_MAX,
            )
            .await?;
        Ok(json!({ "entries": found, "next": next.map(|id| id.to_string()) }))
    }

    /// Gives what matches, page by page, until time or `count_max` is up; where to go on.
    async fn each(
        &self,
        query: &Query,
        mut visit: impl FnMut(&[Entry]),
        filter: &Filter,
        count_max: usize,
    ) -> Result<Option<MessageId>, Refusal> {
        let (begun, mut count) = (Instant::now(), 0);
        let mut after = after(query)?;
        loop {
            let mut entries = self.store.list(after, PAGE).await?;
            let (last, full) = (entries.last().map(|entry| entry.id), entries.len() == PAGE as usize);
            let now = now();
            entries.retain(|entry| filter.matches(entry, now));
            count += entries.len();
            visit(&entries);
            if !full {
                return Ok(None);
            }
            after = last;
            if count >= count_max || begun.elapsed() > WORK_MAX {
                return Ok(last);
            }
        }
    }

    async fn show(&self, id: MessageId) -> Result<Value, Refusal> {
        let entry = self.store.get(id).await?.ok_or(StoreError::Missing)?;
        Ok(entry_json(&entry, &self.table))
    }

    async fn change_one(&self, id: MessageId, word: &str, query: &Query) -> Result<Value, Refusal> {
        let action = action(word, query)?;
        self.carry_out(id, &action, &Filter::default()).await?;
        self.wake(word);
        Ok(json!({ "id": id.to_string(), "done": word }))
    }

    async fn carry_out(&self, id: MessageId, action: &Action, filter: &Filter) -> Result<(), Refusal> {
        match action {
            Action::Change(change) => Ok(self.store.change(id, change.clone()).await?),
            Action::Bounce => {
                let courier = self.courier.as_ref().ok_or_else(not_running)?;
                let words = "returned by the postmaster before it could be delivered";
                courier.give_up(id, |delivery| filter.hits(delivery), words).await?;
                Ok(())
            }
        }
    }

    async fn change_all(&self, word: &str, query: &Query) -> Result<Value, Refusal> {
        let action = action(word, query)?;
        let filter = Filter::parse(query).map_err(Refusal::Bad)?;
        if !filter.is_given() {
            return Err(Refusal::Bad("say which: domain, mx, reply, sender, user, older, held, or all=yes".into()));
        }
        let mut ids = Vec::new();
        let next =
            self.each(query, |entries| ids.extend(entries.iter().map(|entry| entry.id)), &filter, LIST_MAX).await?;
        let (mut changed, mut busy) = (0_u64, 0_u64);
        let mut tasks = JoinSet::new();
        let mut ids = ids.into_iter();
        loop {
            while tasks.len() < CHANGES_AT_ONCE
                && let Some(id) = ids.next()
            {
                let (desk, action, filter) = (self.clone(), action.clone(), filter.clone());
                tasks.spawn(async move { desk.carry_out(id, &action, &filter).await });
            }
            match tasks.join_next().await {
                None => break,
                Some(Ok(Ok(()))) => changed += 1,
                // Delivered meanwhile, or being delivered.
                Some(Ok(Err(Refusal::Busy(_)))) => busy += 1,
                Some(Ok(Err(Refusal::Missing(_)))) => {}
                Some(Ok(Err(refusal))) => return Err(refusal),
                Some(Err(panic)) => return Err(Refusal::Failed(panic.to_string())),
            }
            self.let_courier_breathe().await;
        }
        self.wake(word);
        Ok(json!({ "done": word, "changed": changed, "busy": busy, "next": next.map(|id| id.to_string()) }))
    }

    async fn let_courier_breathe(&self) {
        while self.courier.as_ref().is_some_and(|courier| courier.in_hand() > IN_HAND_MAX) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What was made due is looked at now; whoever asks for a retry means hosts that were found dead, too.
    fn wake(&self, word: &str) {
        let Some(courier) = &self.courier else { return };
        if word == "retry" {
            courier.probe_the_dead();
        }
        courier.wake();
    }

    async fn check(&self) -> Result<Value, Refusal> {
        let problems = self.store.check().await?;
        let problems: Vec<_> =
            problems.iter().map(|p| json!({ "id": p.id.map(|id| id.to_string()), "text": p.text })).collect();
        Ok(json!({ "problems": problems }))
    }

    fn tls_reports(&self) -> Result<&TlsReports, Refusal> {
        let missing =
            || Refusal::Bad("no TLS sessions are counted: start the server with tls-report.send = true".into());
        self.tls_reports.as_deref().ok_or_else(missing)
    }

    fn suppressed(&self, query: &Query) -> Result<Value, Refusal> {
        let rows = self.suppression.list(query.get("after").unwrap_or(""), LIST_MAX).map_err(list_failed)?;
        let next = (rows.len() == LIST_MAX).then(|| rows.last().map(|(address, _)| address.clone())).flatten();
        let row = |(address, why): &(String, Suppressed)| json!({ "address": address, "since": why.since.rfc3339(), "category": why.category, "reason": why.words });
        Ok(json!({ "suppressed": rows.iter().map(row).collect::<Vec<_>>(), "next": next }))
    }

    fn suppress(&self, word: &str, query: &Query) -> Result<Value, Refusal> {
        let text = query.get("address").unwrap_or("");
        let address: Address =
            text.parse().map_err(|_| Refusal::Bad(format!("address={text}: write user@example.com")))?;
        let address = address.to_string();
        let changed = match word {
            "add" => self.suppression.add(&address, "operator", query.get("reason").unwrap_or(""), now()),
            _ => self.suppression.remove(&address),
        };
        match (changed.map_err(list_failed)?, word) {
            (false, "remove") => Err(Refusal::Missing(format!("{address} is not on the suppression list"))),
            (changed, word) => Ok(json!({ "done": word, "address": address, "changed": changed })),
        }
    }

    fn destinations(&self) -> Result<Value, Refusal> {
        let courier = self.courier.as_ref().ok_or_else(not_running)?;
        let left = |until: Instant| until.saturating_duration_since(Instant::now()).as_secs();
        let destinations: Vec<_> = courier
            .glances()
            .into_iter()
            .map(|it| {
                json!({
                    "destination": it.destination, "waiting": it.waiting, "running": it.running, "window": it.window,
                    "quiet_for": it.dead_until.map(left).filter(|seconds| *seconds > 0),
                    "seconds_between": it.interval.map(|interval| interval.as_secs_f64()),
                })
            })
            .collect();
        let suspended: Vec<_> = courier
            .suspended()
            .into_iter()
            .map(|(scope, until)| match scope {
                Scope::Domain(name) => json!({ "domain": name, "seconds_left": left(until) }),
                Scope::Host(name) => json!({ "mx": name, "seconds_left": left(until) }),
            })
            .collect();
        Ok(json!({ "destinations": destinations, "suspended": suspended }))
    }

    fn suspend(&self, word: &str, query: &Query) -> Result<Value, Refusal> {
        let courier = self.courier.as_ref().ok_or_else(not_running)?;
        let scope = match (query.get("domain"), query.get("mx")) {
            (Some(domain), None) => Scope::Domain(domain.to_lowercase()),
            (None, Some(host)) => Scope::Host(host.to_lowercase()),
            _ => return Err(Refusal::Bad("say domain=NAME or mx=NAME, one of them".into())),
        };
        let done = if word == "suspend" {
            let wanted = query.get("for").and_then(span);
            courier
                .suspend(scope, wanted.ok_or_else(|| Refusal::Bad("say for how long: for=90s, 5m, 4h or 3d".into()))?)
        } else {
            courier.resume(&scope)
        };
        match (done, word) {
            (true, _) => Ok(json!({ "done": word })),
            (false, "suspend") => Err(Refusal::Busy("a thousand suspensions are the most; resume some".into())),
            (false, _) => Err(Refusal::Missing("no such suspension; GET /destinations shows them".into())),
        }
    }
}

fn list_failed(error: KvError) -> Refusal {
    Refusal::Failed(format!("the suppression list: {error:?}"))
}

fn not_running() -> Refusal {
    Refusal::Bad("this needs the server running: start it with `waypost run`".into())
}

fn parse_id(text: &str) -> Result<MessageId, Refusal> {
    text.parse().map_err(|_| Refusal::Bad("not a message id: 20 letters and digits, as the log prints them".into()))
}

fn after(query: &Query) -> Result<Option<MessageId>, Refusal> {
    query.get("after").map(parse_id).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_queue::MemoryStore;
    use waypost_queue::conformance::mail;

    async fn desk(count: u64) -> Desk {
        let store = Arc::new(MemoryStore::default());
        for n in 0..count {
            let (entry, message) = mail(n, &[if n % 3 == 0 { "u@b.example" } else { "u@c.example" }]);
            let claim = store.accept(entry, message).await.unwrap();
            store.release(claim).await.unwrap();
        }
        let suppression = Suppression::open(Arc::new(crate::cli::Forgetful::default()), None, Vec::new()).unwrap();
        Desk { store, courier: None, table: Table::default(), suppression, tls_reports: None }
    }

    #[tokio::test]
    async fn a_change_to_all_that_match_goes_on_where_it_stopped() {
        let desk = desk(2500).await;
        let (mut query, mut changed, mut rounds) = ("domain=b.example".to_string(), 0, 0);
        loop {
            let answer = desk.answer("POST", "/queue/hold", &query).await.unwrap();
            changed += answer["changed"].as_u64().unwrap();
            rounds += 1;
            match answer["next"].as_str() {
                Some(next) => query = format!("domain=b.example&after={next}"),
                None => break,
            }
        }
        assert_eq!((changed, desk.store.counts().held), (834, 834), "in {rounds} rounds");
        let held = desk.answer("GET", "/queue", "held=yes").await.unwrap();
        assert_eq!(held["entries"].as_array().unwrap().len(), 834);
        let page = desk.answer("GET", "/queue", "").await.unwrap();
        assert_eq!((page["entries"].as_array().unwrap().len(), page["next"].is_string()), (1000, true));
    }

    #[tokio::test]
    async fn nonsense_is_refused_with_the_remedy() {
        let desk = desk(1).await;
        let id = desk.store.list(None, 1).await.unwrap()[0].id;
        for (method, path, query, remedy) in [
            ("POST", "/queue/hold".to_string(), "", "all=yes"),
            ("POST", "/queue/burn".to_string(), "all=yes", "bounce"),
            ("POST", "/queue/reroute".to_string(), "all=yes&to=uucp:x", "smtp:[host]"),
            ("POST", format!("/queue/{id}/bounce"), "", "running"),
            ("GET", "/queue/probe".to_string(), "", "20 letters"),
            ("DELETE", format!("/queue/{id}"), "", "method"),
        ] {
            let refusal = desk.answer(method, &path, query).await.unwrap_err();
            assert!(refusal.text().contains(remedy), "{path}: {refusal:?}");
        }
        desk.answer("POST", &format!("/queue/{id}/reroute"), "to=smtp:[127.0.0.1]:26").await.unwrap();
        let shown = desk.answer("GET", &format!("/queue/{id}"), "").await.unwrap();
        assert_eq!(shown["route"], "smtp:[127.0.0.1]:26");
    }
}
