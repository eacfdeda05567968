//! The built-in checks by name: when each is made, what it says by default, and what a port makes of it.
//!
//! The words are those of `[checks]` in the configuration and of the log (`by`). How a check is made is the server's.

use std::borrow::Cow;

use crate::{Enhanced, Reply, Stage, Transport};

/// A built-in check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is a row of the table below")]
pub enum Check {
    HeloRequired,
    HeloSyntax,
    HeloOwn,
    HeloFqdn,
    HeloResolvable,
    ClientName,
    ClientConfirmed,
    EnvelopeSyntax,
    SenderFqdn,
    SenderDomain,
    SenderNullMx,
    RecipientFqdn,
    Relay,
    Recipient,
    RecipientDomain,
    RecipientNullMx,
}

/// What is known about a check.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Which.
    pub check: Check,
    /// Its name in configuration and log.
    pub word: &'static str,
    /// When it is made.
    pub stage: Stage,
    /// Reply code, enhanced status and text when it fails.
    pub reply: (u16, Enhanced, &'static str),
    /// Whether it can be switched off, and its reply chosen. Not for what makes a server an open relay, nor for what the protocol itself says.
    pub choice: Choice,
}

/// What an operator may do with a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Everything.
    Any,
    /// On or off: the reply is the protocol's.
    OnOff,
    /// The reply alone: it is always made.
    Reply,
}

const fn about(
    check: Check,
    word: &'static str,
    stage: Stage,
    code: u16,
    enhanced: Enhanced,
    text: &'static str,
    choice: Choice,
) -> About {
    About { check, word, stage, reply: (code, enhanced, text), choice }
}

use Choice::{Any, OnOff};

/// Every check, in the order in which they are made.
#[rustfmt::skip]
pub const CHECKS: [About; 16] = [
    about(Check::HeloRequired, "helo-required", Stage::Helo, 503, Enhanced(5, 5, 1), "say HELO first", OnOff),
    about(Check::HeloSyntax, "helo-syntax", Stage::Helo, 501, Enhanced(5, 5, 2), "HELO needs a name that DNS can carry, or an address literal", Any),
    about(Check::HeloOwn, "helo-own", Stage::Helo, 550, Enhanced(5, 7, 1), "you are not me", Any),
    about(Check::HeloFqdn, "helo-fqdn", Stage::Helo, 504, Enhanced(5, 5, 2), "HELO needs a fully qualified name", Any),
    about(Check::HeloResolvable, "helo-resolvable", Stage::Helo, 550, Enhanced(5, 7, 1), "your HELO name has no address", Any),
    about(Check::ClientName, "client-name", Stage::Mail, 550, Enhanced(5, 7, 25), "your address has no name", Any),
    about(Check::ClientConfirmed, "client-confirmed", Stage::Mail, 550, Enhanced(5, 7, 25), "your address and its name do not lead to each other", Any),
    about(Check::EnvelopeSyntax, "envelope-syntax", Stage::Mail, 501, Enhanced(5, 5, 4), "an address stands in angle brackets", OnOff),
    about(Check::SenderFqdn, "sender-fqdn", Stage::Mail, 550, Enhanced(5, 1, 8), "the sender needs a fully qualified domain", Any),
    about(Check::SenderDomain, "sender-domain", Stage::Mail, 550, Enhanced(5, 1, 8), "the sender's domain does not exist", Any),
    about(Check::SenderNullMx, "sender-null-mx", Stage::Mail, 550, Enhanced(5, 7, 27), "the sender's domain takes no mail (null MX)", Any),
    about(Check::RecipientFqdn, "recipient-fqdn", Stage::Rcpt, 550, Enhanced(5, 1, 2), "the recipient needs a fully qualified domain", Any),
    about(Check::Relay, "relay", Stage::Rcpt, 550, Enhanced(5, 7, 1), "relaying denied", Choice::Reply),
    about(Check::Recipient, "recipient", Stage::Rcpt, 550, Enhanced(5, 1, 1), "no such recipient here", Choice::Reply),
    about(Check::RecipientDomain, "recipient-domain", Stage::Rcpt, 550, Enhanced(5, 1, 2), "the recipient's domain does not exist", Any),
    about(Check::RecipientNullMx, "recipient-null-mx", Stage::Rcpt, 556, Enhanced(5, 1, 10), "the recipient's domain takes no mail (null MX)", Any),
];

impl Check {
    /// What is known about it.
    pub fn about(self) -> &'static About {
        &CHECKS[self as usize]
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        self.about().word
    }

    /// The check of this name.
    pub fn named(word: &str) -> Option<Check> {
        CHECKS.iter().find(|about| about.word == word).map(|about| about.check)
    }

    /// Its own reply.
    pub fn reply(self) -> Reply {
        let (code, enhanced, text) = self.about().reply;
        Reply::new(code, enhanced, text)
    }
}

/// What a port makes of a check that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is not made.
    Off,
    /// It is made, and only the log hears of it.
    Warn,
    /// The client is told this: 4yz or 5yz.
    Say(Reply),
}

impl Action {
    /// Reads `off`, `warn`, `reject`, `defer`, or a reply such as `554 5.7.1 go away`; parts that are left out are the check's own.
    pub fn parse(check: Check, text: &str) -> Result<Action, String> {
        let about = check.about();
        let word = about.word;
        let action = match text {
            "off" => Action::Off,
            "warn" => Action::Warn,
            "reject" => Action::Say(check.reply()),
            "defer" => Action::Say(deferred(&check.reply())),
            text => Action::Say(parse_reply(check, text)?),
        };
        match (about.choice, &action) {
            (Choice::OnOff, Action::Off) => Ok(action),
            (Choice::OnOff, _) if text == "reject" => Ok(action),
            (Choice::OnOff, _) => Err(format!("`{word}` is the protocol's own: it can be reject or off")),
            (Choice::Reply, Action::Off | Action::Warn) => {
                Err(format!("`{word}` cannot be switched off: that would be an open relay, or mail that nobody gets"))
            }
            _ => Ok(action),
        }
    }
}

fn parse_reply(check: Check, text: &str) -> Result<Reply, String> {
    let wrong =
        || format!("{text:?} is no action: write off, warn, reject, defer, or a reply such as 554 5.7.1 go away");
    let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
    let code: u16 = code.parse().ok().filter(|code| (400..600).contains(code)).ok_or_else(wrong)?;
    let own = check.reply();
    let class = (code / 100) as u8;
    let (enhanced, rest) = match Enhanced::parse_prefix(rest.trim_start()) {
        Some((enhanced, rest)) if enhanced.0 == class => (enhanced, rest),
        Some((enhanced, _)) => return Err(format!("{text:?}: {enhanced} does not go with {code}")),
        None => {
            let of = own.status();
            (Enhanced(class, of.1, of.2), rest.trim_start())
        }
    };
    let text = if rest.is_empty() { own.text } else { Cow::Owned(rest.to_string()) };
    Ok(Reply::new(code, enhanced, text))
}

/// The same for a moment: what a client is told while DNS is unsure.
pub fn deferred(reply: &Reply) -> Reply {
    let status = reply.status();
    let code = if reply.is_transient() { reply.code } else { 450 };
    Reply::new(code, Enhanced(4, status.1, status.2), reply.text.clone())
}

/// What a port makes of every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions([Action; CHECKS.len()]);

impl Actions {
    /// What an experienced administrator picks for this kind of door: nothing that refuses mail which somebody wants.
    pub fn preset(transport: Transport) -> Actions {
        let mut actions = Actions(CHECKS.map(|about| match about.choice {
            Choice::Reply => Action::Say(about.check.reply()),
            _ => Action::Off,
        }));
        actions.set(Check::HeloRequired, Action::Say(Check::HeloRequired.reply()));
        let on: &[Check] = match transport {
            Transport::Mx => &[Check::HeloOwn, Check::SenderDomain, Check::SenderNullMx],
            Transport::Submission | Transport::Submissions => &[Check::SenderFqdn, Check::RecipientFqdn],
            Transport::Relay | Transport::Lmtp | Transport::Local => &[],
        };
        on.iter().for_each(|check| actions.set(*check, Action::Say(check.reply())));
        actions
    }

    /// What becomes of a check that fails.
    pub fn get(&self, check: Check) -> &Action {
        &self.0[check as usize]
    }

    /// Whether it is made.
    pub fn is_on(&self, check: Check) -> bool {
        *self.get(check) != Action::Off
    }

    /// Sets one.
    pub fn set(&mut self, check: Check, action: Action) {
        self.0[check as usize] = action;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_is_of_one_class() {
        for about in CHECKS {
            let (code, enhanced, _) = about.reply;
            assert_eq!(code / 100, u16::from(enhanced.0), "{}", about.word);
            assert_eq!(Check::named(about.word), Some(about.check));
            assert_eq!(about.check.about().word, about.word, "the rows stand in the order of the names");
        }
    }

    #[test]
    fn actions_are_read_and_fill_in_what_is_left_out() {
        let say = |check, text| match Action::parse(check, text) {
            Ok(Action::Say(reply)) => reply.to_string(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(say(Check::SenderDomain, "reject"), "550 5.1.8 the sender's domain does not exist");
        assert_eq!(say(Check::SenderDomain, "defer"), "450 4.1.8 the sender's domain does not exist");
        assert_eq!(say(Check::SenderDomain, "554"), "554 5.1.8 the sender's domain does not exist");
        assert_eq!(say(Check::Relay, "554 no way"), "554 5.7.1 no way");
        assert_eq!(say(Check::HeloOwn, "521 5.7.0 get lost"), "521 5.7.0 get lost");
        assert_eq!(Action::parse(Check::HeloFqdn, "off"), Ok(Action::Off));
    }

    #[test]
    fn what_is_no_action_is_told() {
        for (check, text, problem) in [
            (Check::HeloFqdn, "maybe", "write off, warn"),
            (Check::HeloFqdn, "250 ok", "write off, warn"),
            (Check::HeloFqdn, "550 4.1.1 x", "does not go with"),
            (Check::Relay, "off", "open relay"),
            (Check::Recipient, "warn", "cannot be switched off"),
            (Check::HeloRequired, "550 x", "reject or off"),
        ] {
            let told = Action::parse(check, text).expect_err(text);
            assert!(told.contains(problem), "{text}: {told}");
        }
    }

    #[test]
    fn doors_differ() {
        let (mx, submission) = (Actions::preset(Transport::Mx), Actions::preset(Transport::Submission));
        assert!(mx.is_on(Check::SenderDomain) && !submission.is_on(Check::SenderDomain));
        assert!(!mx.is_on(Check::ClientConfirmed) && submission.is_on(Check::SenderFqdn));
        assert!(Actions::preset(Transport::Lmtp).is_on(Check::Relay), "always");
    }
}
