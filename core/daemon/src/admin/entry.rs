//! A queue entry as JSON, and as text for a terminal.

use std::fmt::Write;

use serde_json::{Value, json};
use waypost_queue::bounce::Table;
use waypost_queue::{Attempt, Delivery, Entry, Kind, State};
use waypost_types::Timestamp;

/// An entry as the API gives it; `table` says what replies mean.
pub(crate) fn entry_json(entry: &Entry, table: &Table) -> Value {
    json!({
        "id": entry.id.to_string(),
        "kind": match entry.kind { Kind::Mail => "mail", Kind::Notice => "notice" },
        "accepted": entry.accepted.rfc3339(),
        "expires": entry.expires.rfc3339(),
        "due": entry.due().map(when),
        "held": entry.held,
        "route": entry.route,
        "why": entry.why,
        "size": entry.size,
        "from": entry.sender.to_string(),
        "origin": {
            "port": entry.origin.transport.word(),
            "session": entry.origin.session.map(|s| s.to_string()),
            "peer": entry.origin.peer.map(|p| p.to_string()),
            "helo": entry.origin.helo,
            "user": entry.origin.user,
        },
        "envelope": envelope_json(entry),
        "recipients": entry.recipients.iter().map(|delivery| recipient_json(entry, delivery, table)).collect::<Vec<_>>(),
    })
}

/// What MAIL asked for beyond the sender; nothing that was left away.
fn envelope_json(entry: &Entry) -> Value {
    let p = &entry.parameters;
    let mut asked = serde_json::Map::new();
    let mut say = |name: &str, value: Option<Value>| asked.extend(value.map(|value| (name.to_string(), value)));
    say("smtputf8", p.smtputf8.then(|| true.into()));
    say("require_tls", p.require_tls.then(|| true.into()));
    say("priority", (p.priority != 0).then(|| p.priority.into()));
    say("envelope_id", p.envelope_id.as_deref().map(Into::into));
    say("hold_for", p.hold_for.map(|span| span.as_secs().into()));
    asked.into()
}

/// Why a recipient waits, and for what.
fn why(entry: &Entry, delivery: &Delivery) -> Option<String> {
    let now = crate::observe::now();
    Some(match (&entry.held, &delivery.last) {
        _ if !delivery.is_pending() => return None,
        (Some(reason), _) => format!("held {reason}, until released"),
        _ if delivery.due <= now => "due: waits for its turn, or is being tried now".into(),
        (None, None) => {
            "not tried yet: the sender asked for a later time, or the destination does not answer or is suspended"
                .into()
        }
        (None, Some(last)) if last.reply.is_transient() => {
            format!("pause after attempt {}: {}", delivery.attempts, last.reply)
        }
        (None, Some(_)) => format!("pause after attempt {}", delivery.attempts),
    })
}

fn attempt_json(attempt: &Attempt, table: &Table) -> Value {
    let category = (!attempt.reply.is_positive()).then(|| table.of_reply(&attempt.reply).name.to_string());
    json!({
        "at": attempt.at.rfc3339(),
        "target": attempt.target,
        "security": attempt.security,
        "reply": attempt.reply.to_string(),
        "category": category,
    })
}

fn recipient_json(entry: &Entry, delivery: &Delivery, table: &Table) -> Value {
    let notify = delivery.recipient.notify;
    let wanted = [("failure", notify.failure), ("delay", notify.delay), ("success", notify.success)];
    json!({
        "address": delivery.recipient.address.to_string(),
        "original": delivery.recipient.original,
        "state": state(delivery),
        "attempts": delivery.attempts,
        "due": delivery.is_pending().then(|| when(delivery.due)),
        "why": why(entry, delivery),
        "reports": wanted.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| *name).collect::<Vec<_>>(),
        "delay_reported": delivery.delay_reported,
        "last": delivery.last.as_ref().map(|attempt| attempt_json(attempt, table)),
        "earlier": delivery.earlier.iter().map(|attempt| attempt_json(attempt, table)).collect::<Vec<_>>(),
    })
}

fn state(delivery: &Delivery) -> &'static str {
    match &delivery.state {
        State::Pending => "pending",
        State::Done(outcome) => outcome.word(),
    }
}

fn when(time: Timestamp) -> String {
    if time == Timestamp::NEVER { "held".into() } else { time.rfc3339() }
}

/// The whole story of an entry, for people. Takes the JSON form, so that a running server and a store opened directly tell it alike.
pub(crate) fn entry_text(entry: &Value) -> String {
    let mut out = String::new();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let _ = writeln!(out, "{}  {}  {} octets", text(&entry["id"]), text(&entry["kind"]), entry["size"]);
    let _ = writeln!(out, "  from      <{}>", entry["from"].as_str().unwrap_or(""));
    let origin = &entry["origin"];
    let _ = writeln!(
        out,
        "  came      {} by {} from {} ({}){}",
        text(&entry["accepted"]),
        text(&origin["port"]),
        text(&origin["peer"]),
        text(&origin["helo"]),
        origin["user"].as_str().map(|user| format!(", user {user}")).unwrap_or_default()
    );
    let _ = writeln!(out, "  expires   {}", text(&entry["expires"]));
    for (name, value) in entry["envelope"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "  {name:9} {value}");
    }
    if let Some(route) = entry["route"].as_str() {
        let _ = writeln!(out, "  route     {route}, by an operator");
    }
    if let Some(reason) = entry["held"].as_str() {
        let _ = writeln!(out, "  held      {reason}");
    }
    for (index, line) in entry["why"].as_str().unwrap_or("").lines().enumerate() {
        let _ = writeln!(out, "  {:9} {line}", if index == 0 { "why" } else { "" });
    }
    for recipient in entry["recipients"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "  to        <{}>  {}, {} attempts",
            text(&recipient["address"]),
            text(&recipient["state"]),
            recipient["attempts"]
        );
        let earlier = recipient["earlier"].as_array().into_iter().flatten();
        for attempt in earlier.chain([&recipient["last"]].into_iter().filter(|last| last.is_object())) {
            let secured = attempt["security"].as_str().filter(|text| !text.is_empty());
            let _ = writeln!(
                out,
                "              {} {}{}: {}{}",
                text(&attempt["at"]),
                text(&attempt["target"]),
                secured.map(|text| format!(" ({text})")).unwrap_or_default(),
                text(&attempt["reply"]),
                attempt["category"].as_str().map(|name| format!(" [{name}]")).unwrap_or_default()
            );
        }
        if let Some(due) = recipient["due"].as_str() {
            let _ = writeln!(out, "              next at {due}: {}", text(&recipient["why"]));
        }
    }
    out
}
