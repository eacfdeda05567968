//! The trait that a plugin implements.

use crate::types::{AuthResult, Credentials, DeliveryEvent, NextRoute, Outcome, Recipient, Registration};
use crate::{Action, Host};

/// A plugin. Implement [`init`](Plugin::init) and the stages that you want, and name those stages in [`export!`](crate::export):
/// the others are never called and cost the server nothing.
///
/// One instance serves one call at a time. Unless its isolation is `transaction` it sees many sessions in turn, so what belongs
/// to a session goes to [`Session::set_var`](crate::host::Session::set_var) and only what belongs to the plugin into `self`.
#[allow(unused_variables)]
pub trait Plugin: Sized {
    /// Called once, before anything else: read the settings and make the instance. An `Err` is shown to the operator, who must be
    /// able to mend the configuration from its text.
    fn init(host: &Host) -> Result<(Self, Registration), String>;

    /// Before the greeting.
    fn connect(&mut self, host: &Host) -> Outcome {
        Ok(Action::Next)
    }

    /// After HELO, EHLO (`esmtp`) or LHLO.
    fn helo(&mut self, host: &Host, name: &str, esmtp: bool) -> Outcome {
        Ok(Action::Next)
    }

    /// When credentials were shown.
    fn authenticate(&mut self, host: &Host, credentials: &Credentials) -> Result<AuthResult, String> {
        Ok(AuthResult::PassOn)
    }

    /// After MAIL; an empty sender is `<>`.
    fn mail(&mut self, host: &Host, sender: &str) -> Outcome {
        Ok(Action::Next)
    }

    /// After each RCPT.
    fn rcpt(&mut self, host: &Host, recipient: &Recipient) -> Outcome {
        Ok(Action::Next)
    }

    /// After pipelined RCPTs, all in one call: one answer each. Unless overridden, asks [`rcpt`](Plugin::rcpt) for each.
    fn rcpt_batch(&mut self, host: &Host, recipients: &[Recipient]) -> Vec<Outcome> {
        recipients.iter().map(|recipient| self.rcpt(host, recipient)).collect()
    }

    /// After DATA, before 354.
    fn data(&mut self, host: &Host) -> Outcome {
        Ok(Action::Next)
    }

    /// When the header block is complete.
    fn headers(&mut self, host: &Host) -> Outcome {
        Ok(Action::Next)
    }

    /// After the final dot, before its reply.
    fn message(&mut self, host: &Host) -> Outcome {
        Ok(Action::Next)
    }

    /// When the message has its queue id and is about to be stored; after every other change. Signing happens here.
    fn queue(&mut self, host: &Host, queue_id: &str) -> Outcome {
        Ok(Action::Next)
    }

    /// Where mail for `domain` goes, if this plugin knows better.
    fn route(&mut self, host: &Host, domain: &str) -> Result<Option<NextRoute>, String> {
        Ok(None)
    }

    /// What became of messages, in batches, after the fact.
    fn delivery(&mut self, host: &Host, events: &[DeliveryEvent]) {}

    /// An operator's command, never asked by mail; a message that it is about is there as at stage message. The answer is shown
    /// to the operator.
    fn command(&mut self, host: &Host, name: &str, argument: &str) -> Result<String, String> {
        Err(format!("there is no command `{name}`"))
    }

    /// Now and then.
    fn timer(&mut self, host: &Host) {}
}
