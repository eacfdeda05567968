//! Relay control: may this client send to this recipient, and does the recipient exist?
//!
//! Our own domains and those that we relay for are open to all. Everything else is for users who have logged in and for clients in the
//! door's relay networks. No judge can widen this.

use waypost_route::{Class, Leaf, Resolution};
use waypost_types::{Address, Enhanced};

use super::Refusal;

/// Where an accepted recipient leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To the address as given.
    Itself,
    /// To these instead: never empty.
    Others(Vec<Leaf>),
}

impl Target {
    /// How many recipients it makes.
    pub(crate) fn count(&self) -> usize {
        match self {
            Target::Itself => 1,
            Target::Others(leaves) => leaves.len(),
        }
    }
}

/// Judges one recipient. `may_relay` says whether the client is one of ours.
pub(crate) fn control(address: &Address, resolution: Resolution, may_relay: bool) -> Result<Target, Refusal> {
    let Resolution { class, leads } = resolution;
    match class {
        Class::Own => Ok(target(address, leads)),
        Class::Relay if may_relay || !is_routed(address) => Ok(target(address, leads)),
        Class::Foreign if may_relay => Ok(target(address, leads)),
        Class::Relay | Class::Foreign => Err(Refusal::new("relay", 550, Enhanced(5, 7, 1), "relaying denied")),
        Class::Unknown => Err(Refusal::new("recipient", 550, Enhanced(5, 1, 1), "no such recipient here")),
        Class::Broken(_) => {
            Err(Refusal::new("alias", 451, Enhanced(4, 3, 5), "recipient tables are being repaired, try again later"))
        }
        Class::Unsure(_) => {
            Err(Refusal::new("table", 451, Enhanced(4, 3, 0), "recipient tables do not answer now, try again later"))
        }
    }
}

fn target(address: &Address, leads: Vec<Leaf>) -> Target {
    match leads.as_slice() {
        [] => Target::Itself,
        [only] if only.address == *address && only.owner.is_none() => Target::Itself,
        _ => Target::Others(leads),
    }
}

/// `user%elsewhere@relay.example`, `elsewhere!user@…`, `"user@elsewhere"@…`: we never take such local parts apart, but the host
/// that we relay to might, and would take the mail because it comes from us.
fn is_routed(address: &Address) -> bool {
    address.local().contains(['%', '!', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    fn code(text: &str, class: Class, may_relay: bool) -> Result<Target, (u16, Enhanced)> {
        control(&address(text), Resolution { class, leads: Vec::new() }, may_relay)
            .map_err(|refusal| (refusal.reply.code, refusal.reply.enhanced.expect("our replies have one")))
    }

    #[test]
    fn strangers_reach_our_own_and_nobody_else() {
        assert_eq!(code("u@example.com", Class::Own, false), Ok(Target::Itself));
        assert_eq!(code("u@example.com", Class::Relay, false), Ok(Target::Itself));
        assert_eq!(code("u@example.com", Class::Foreign, false), Err((550, Enhanced(5, 7, 1))));
        assert_eq!(code("u@example.com", Class::Foreign, true), Ok(Target::Itself));
        assert_eq!(code("x@example.com", Class::Unknown, true), Err((550, Enhanced(5, 1, 1))));
        assert_eq!(code("x@example.com", Class::Broken("loop".into()), true), Err((451, Enhanced(4, 3, 5))));
        assert_eq!(code("x@example.com", Class::Unsure("gone".into()), true), Err((451, Enhanced(4, 3, 0))));
    }

    #[test]
    fn routes_hidden_in_local_parts_are_not_relayed_for_strangers() {
        for text in ["u%evil.example@relay.example", "evil.example!u@relay.example", "\"u@evil.example\"@relay.example"]
        {
            assert_eq!(code(text, Class::Relay, false), Err((550, Enhanced(5, 7, 1))), "{text}");
            assert_eq!(code(text, Class::Relay, true), Ok(Target::Itself), "{text}");
        }
    }

    #[test]
    fn an_alias_leads_to_others() {
        let leaf = |text: &str| Leaf { address: address(text), class: Class::Own, owner: None };
        let leads = vec![leaf("a@example.com"), leaf("b@example.com")];
        let got = control(&address("list@example.com"), Resolution { class: Class::Own, leads: leads.clone() }, false);
        assert_eq!(got, Ok(Target::Others(leads)));
    }
}
