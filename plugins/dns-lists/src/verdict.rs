//! What the lists say about a client, as it is kept for the rest of the connection.

use serde::{Deserialize, Serialize};
use waypost_sdk::{Action, Reply};

/// A verdict about a client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// A permit list has it.
    pub permits: bool,
    /// Block lists have it, with weight enough.
    pub refusal: Option<Reply>,
    /// What is to be stated in each transaction.
    pub facts: Vec<Fact>,
}

/// One listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// The list's symbol.
    pub symbol: String,
    /// Its weight.
    pub weight: f64,
    /// The list and its answer.
    pub detail: String,
}

/// The kept form; a type of its own since replies are the contract's.
#[derive(Serialize, Deserialize)]
struct Kept(bool, Option<(u16, (u8, u8, u16), String)>, Vec<Fact>);

impl Verdict {
    /// What to do with a recipient.
    pub fn action(self) -> Action {
        match self.refusal {
            Some(reply) => Action::Reject(reply),
            None if self.permits => Action::Accept,
            None => Action::Next,
        }
    }

    /// To be kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let refusal = self.refusal.clone().map(|reply| (reply.code, reply.enhanced, reply.text));
        serde_json::to_vec(&Kept(self.permits, refusal, self.facts.clone()))
            .expect("numbers and text always have a JSON form")
    }

    /// As kept.
    pub fn from_bytes(bytes: &[u8]) -> Option<Verdict> {
        let Kept(permits, refusal, facts) = serde_json::from_slice(bytes).ok()?;
        Some(Verdict {
            permits,
            refusal: refusal.map(|(code, enhanced, text)| Reply::new(code, enhanced, text)),
            facts,
        })
    }
}
