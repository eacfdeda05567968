//! Events as log lines: one line for each event that an administrator greps for. Field names are an interface: they do not change.

use tracing::field::display;
use tracing::{debug as at_debug, error, info, trace, warn};
use waypost_types::{Event, Fact, Opinion};

/// Writes the line of an event, if its level is wanted.
pub(super) fn write(event: &Event<'_>) {
    match *event {
        Event::Connected { session, transport, peer, local } => {
            info!(event = "connected", session = %session, port = transport.word(), peer = %peer, local = %local);
        }
        Event::TurnedAway { peer, reply, limit } => {
            warn!(event = "turned_away", peer = %peer, limit, reply = %reply);
        }
        Event::TlsStarted { session, tls } => {
            info!(
                event = "tls",
                session = %session,
                version = tls.version,
                cipher = tls.cipher.as_str(),
                server_name = tls.server_name.as_deref(),
                resumed = tls.resumed,
            );
        }
        Event::TlsFailed { session, error } => warn!(event = "tls_failed", session = %session, error),
        Event::Authenticated { session, mechanism, user } => {
            info!(event = "authenticated", session = %session, mechanism, user);
        }
        Event::AuthenticationFailed { session, mechanism, user, peer } => {
            warn!(event = "authentication_failed", session = %session, mechanism, user, peer = %peer);
        }
        Event::Rejected { session, stage, reply, by, peer, sender, recipient } => {
            info!(
                event = "rejected",
                session = %session,
                stage = stage.word(),
                reply = %reply,
                by,
                peer = %peer,
                from = sender.map(display),
                recipient = recipient.map(display),
            );
        }
        Event::Accepted { session, id, sender, recipients, size, message_id, opinions, facts } => {
            let why = (!opinions.is_empty()).then_some(Why(opinions));
            let facts = (!facts.is_empty()).then_some(Stated(facts));
            info!(
                event = "accepted",
                session = %session,
                id = %id,
                from = %sender,
                recipients,
                size,
                message_id,
                why = why.as_ref().map(display),
                facts = facts.as_ref().map(display),
            );
        }
        Event::Decided { session, word, score, by, facts } => {
            let facts = display(Stated(facts));
            info!(event = "decided", session = %session, decision = word, score, by, facts);
        }
        Event::Discarded { session, by } => info!(event = "discarded", session = %session, by),
        Event::Disconnected { session, reason, messages, duration } => {
            info!(event = "disconnected", session = %session, reason, messages, seconds = duration.as_secs_f32());
        }
        Event::LimitReached { session, limit } => warn!(event = "limit", session = %session, limit),
        Event::PluginFault { session, plugin, stage, error, policy } => {
            warn!(event = "plugin_fault", session = session.map(display), plugin, stage = stage.word(), error, policy);
        }
        // Counted, not written: a plugin counts for every message.
        Event::PluginMetric { .. } => {}
        Event::PluginBreaker { plugin, state } => warn!(event = "plugin_breaker", plugin, state),
        Event::PluginLog { session, plugin, level, message } => {
            plugin_line(session.map(display), plugin, level, message)
        }
        ref other => write_queue(other),
    }
}

/// The queue's events, and the program's own.
fn write_queue(event: &Event<'_>) {
    match *event {
        Event::Attempted { id, recipient, outcome, target, security, attempt, age, retry_in, category } => {
            info!(
                event = "attempted",
                id = %id,
                recipient = %recipient,
                outcome = outcome.word(),
                target,
                tls = security,
                reply = outcome.reply().map(display),
                attempt,
                age = age.as_secs_f32(),
                retry_in = retry_in.map(|span| span.as_secs()),
                category,
            );
        }
        Event::PolicyFailed { domain, fault, error } => {
            warn!(event = "policy_failed", domain = %domain, fault, error);
        }
        Event::Bounced {
            session,
            id,
            form,
            what,
            recipient,
            status,
            category,
            about,
            message_id,
            proven,
            suppressed,
            diagnosis,
        } => {
            info!(
                event = "bounced",
                session = %session,
                id = %id,
                form,
                what,
                recipient,
                status = status.map(display),
                category,
                about = about.map(display),
                message_id,
                proven,
                suppressed,
                diagnosis,
            );
        }
        Event::Removed { id, age } => info!(event = "removed", id = %id, age = age.as_secs_f32()),
        Event::Noticed { id, about, kind, to } => {
            info!(event = "noticed", id = %id, about = %about, kind, to = %to);
        }
        Event::StoreFailed { error } => error!(event = "store_failed", error),
        Event::EntryCorrupt { id, error } => error!(event = "entry_corrupt", id = id.map(display), error),
        Event::Notice { level, message } => match level {
            "error" => error!(event = "notice", message),
            "warn" => warn!(event = "notice", message),
            _ => info!(event = "notice", message),
        },
        // An event without words of its own yet still says what it is.
        ref other => info!(event = "other", what = ?other),
    }
}

fn plugin_line(session: Option<impl tracing::Value>, plugin: &str, level: &str, message: &str) {
    match level {
        "error" => error!(event = "plugin", session, plugin, message),
        "warn" => warn!(event = "plugin", session, plugin, message),
        "debug" => at_debug!(event = "plugin", session, plugin, message),
        "trace" => trace!(event = "plugin", session, plugin, message),
        _ => info!(event = "plugin", session, plugin, message),
    }
}

/// Opinions and facts that a line names; the entry in the queue has more of them.
const NAMED_MAX: usize = 64;

/// The *why* of a message: `whitelist@rcpt=pass(2µs) dns-lists@rcpt=pass(812µs,3dns) spam-score@message=pass(341µs,10240b)`.
struct Why<'a>(&'a [Opinion]);

impl std::fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, opinion) in self.0.iter().take(NAMED_MAX).enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{}@{}={}({}µs", opinion.plugin, opinion.stage.word(), opinion.verdict, opinion.micros)?;
            if opinion.dns_asked > 0 {
                write!(f, ",{}dns", opinion.dns_asked)?;
            }
            if opinion.bytes_read > 0 {
                write!(f, ",{}b", opinion.bytes_read)?;
            }
            f.write_str(")")?;
        }
        more(f, self.0.len())
    }
}

/// Facts: `DNSL_ONE=0.6 HTML_ONLY=1.2`.
struct Stated<'a>(&'a [Fact]);

impl std::fmt::Display for Stated<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, fact) in self.0.iter().take(NAMED_MAX).enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{}={:.2}", fact.symbol, fact.weight)?;
        }
        more(f, self.0.len())
    }
}

fn more(f: &mut std::fmt::Formatter<'_>, count: usize) -> std::fmt::Result {
    if count > NAMED_MAX { write!(f, " and {} more", count - NAMED_MAX) } else { Ok(()) }
}
