//! What became of one recipient of one message after an attempt.

use crate::Reply;

/// The result of an attempt for one recipient. The reply is the peer's, or one of ours in the same words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In the mailbox: final. DSN action `delivered`.
    Delivered(Reply),
    /// Taken over by another host with `250`: final for us. DSN action `relayed`.
    Relayed(Reply),
    /// Replaced by other recipients (alias, list): final. DSN action `expanded`.
    Expanded,
    /// Not now: stays in the queue with this as its last reply.
    Delayed(Reply),
    /// Never: final, reported to the sender. DSN action `failed`.
    Failed(Reply),
}

impl Outcome {
    /// Whether the recipient is done with, one way or the other.
    pub fn is_final(&self) -> bool {
        !matches!(self, Outcome::Delayed(_))
    }

    /// The reply that led here, where there was one.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Outcome::Delivered(reply) | Outcome::Relayed(reply) | Outcome::Delayed(reply) | Outcome::Failed(reply) => {
                Some(reply)
            }
            Outcome::Expanded => None,
        }
    }

    /// One word for logs: `delivered`, `relayed`, `expanded`, `delayed`, `failed`.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Delivered(_) => "delivered",
            Outcome::Relayed(_) => "relayed",
            Outcome::Expanded => "expanded",
            Outcome::Delayed(_) => "delayed",
            Outcome::Failed(_) => "failed",
        }
    }
}
