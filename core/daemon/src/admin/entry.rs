//! A queue entry as JSON, and as text for a terminal.

use std::fmt::Write;

use serde_json::{Value, json};
use waypost_queue::{Delivery, Entry, Kind, State};
use waypost_types::Timestamp;

/// An entry as the API gives it.
pub(crate) fn entry_json(entry: &Entry) -> Value {
    json!({
        "id": entry.id.to_string(),
        "kind": match entry.kind { Kind::Mail => "mail", Kind::Notice => "notice" },
        "accepted": entry.accepted.rfc3339(),
        "expires": entry.expires.rfc3339(),
        "due": entry.due().map(when),
        "held": entry.held,
        "size": entry.size,
        "from": entry.sender.to_string(),
        "origin": {
            "port": entry.origin.transport.word(),
            "session": entry.origin.session.map(|s| s.to_string()),
            "peer": entry.origin.peer.map(|p| p.to_string()),
            "helo": entry.origin.helo,
            "user": entry.origin.user,
        },
        "recipients": entry.recipients.iter().map(recipient_json).collect::<Vec<_>>(),
    })
}

fn recipient_json(delivery: &Delivery) -> Value {
    json!({
        "address": delivery.recipient.address.to_string(),
        "original": delivery.recipient.original,
        "state": state(delivery),
        "attempts": delivery.attempts,
        "due": delivery.is_pending().then(|| when(delivery.due)),
        "last": delivery.last.as_ref().map(|last| json!({
            "at": last.at.rfc3339(),
            "target": last.target,
            "reply": last.reply.to_string(),
        })),
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
    if let Some(reason) = entry["held"].as_str() {
        let _ = writeln!(out, "  held      {reason}");
    }
    for recipient in entry["recipients"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "  to        <{}>  {}, {} attempts",
            text(&recipient["address"]),
            text(&recipient["state"]),
            recipient["attempts"]
        );
        if let Some(due) = recipient["due"].as_str() {
            let _ = writeln!(out, "              next at {due}");
        }
        let last = &recipient["last"];
        if last.is_object() {
            let _ = writeln!(
                out,
                "              {} {}: {}",
                text(&last["at"]),
                text(&last["target"]),
                text(&last["reply"])
            );
        }
    }
    out
}
