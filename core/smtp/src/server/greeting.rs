//! The greeting and the answers to HELO, EHLO and LHLO: what this session offers at this moment.

use std::fmt::Write;

use waypost_types::{Reply, SessionFacts, Timestamp};

use super::policy::{Policy, TlsMode};
use crate::extension::{Extension, ExtensionSet};

/// `220 mx.example.com ESMTP Waypost`.
pub(super) fn greeting(policy: &Policy) -> Reply {
    Reply::plain(220, format!("{} {}", policy.hostname, policy.greeting))
}

/// What a refusal of the client becomes: 554 or 421 (RFC 5321 §3.1), 521 (RFC 7504) as it is.
pub(super) fn turned_away(reply: Reply) -> Reply {
    let code = match reply.code {
        521 => 521,
        code if code / 100 == 4 => 421,
        _ => 554,
    };
    Reply { code, ..reply }
}

/// The extensions that make sense now: STARTTLS before TLS, REQUIRETLS inside it, AUTH when and where the policy allows it and nobody
/// has logged in.
pub(super) fn offered(
    policy: &Policy,
    extensions: ExtensionSet,
    facts: &SessionFacts,
    has_clock: bool,
) -> ExtensionSet {
    let inside_tls = facts.tls.is_some();
    let keep = |extension: Extension| match extension {
        Extension::StartTls => !inside_tls && matches!(policy.tls, TlsMode::Opportunistic | TlsMode::Required),
        Extension::RequireTls => inside_tls,
        Extension::Auth => {
            policy.auth.is_offered(inside_tls) && policy.mechanisms(facts.tls.as_deref()).next().is_some()
        }
        Extension::BinaryMime => extensions.contains(Extension::Chunking),
        Extension::FutureRelease => has_clock,
        _ => true,
    };
    let kept = Extension::ALL.into_iter().filter(|extension| extensions.contains(*extension) && keep(*extension));
    kept.fold(ExtensionSet::EMPTY, ExtensionSet::with)
}

/// The answer to EHLO and LHLO.
pub(super) fn hello(policy: &Policy, facts: &SessionFacts, offered: ExtensionSet, clock: Option<Timestamp>) -> Reply {
    let mut text = policy.hostname.to_string();
    for extension in Extension::ALL.into_iter().filter(|extension| offered.contains(*extension)) {
        if extension == Extension::Auth && facts.user.is_some() {
            continue;
        }
        text.push('\n');
        text.push_str(extension.keyword());
        arguments(&mut text, extension, policy, facts, clock);
    }
    Reply::plain(250, text)
}

fn arguments(text: &mut String, extension: Extension, policy: &Policy, facts: &SessionFacts, clock: Option<Timestamp>) {
    match extension {
        Extension::Size => write!(text, " {}", policy.message_bytes_max),
        Extension::Limits => write!(text, " MAILMAX={} RCPTMAX={}", policy.messages_max, policy.recipients_max),
        // RFC 4865 §4: how long, and until when.
        Extension::FutureRelease => {
            let until = clock.unwrap_or_default().after(policy.hold_max);
            let date = Timestamp(until.seconds() * 1000).rfc3339();
            write!(text, " {} {}", policy.hold_max.as_secs(), date.replace(".000", ""))
        }
        Extension::XClient => write!(text, " {}", super::proxied::CLIENT_ATTRIBUTES),
        Extension::XForward => write!(text, " {}", super::proxied::FORWARD_ATTRIBUTES),
        Extension::Auth => {
            let mut mechanisms = policy.mechanisms(facts.tls.as_deref());
            mechanisms.try_for_each(|mechanism| write!(text, " {}", mechanism.name()))
        }
        _ => Ok(()),
    }
    .expect("a String takes what is written to it");
}
