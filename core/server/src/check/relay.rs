//! Relay control: may this client send to this recipient, and does the recipient exist?
//!
//! Our own domains and those that we relay for are open to all. Everything else is for users who have logged in and for clients in the
//! door's relay networks. No judge can widen this.

use waypost_route::Resolution;
use waypost_types::{Address, Enhanced};

use super::Refusal;

/// Where an accepted recipient leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To the address as given.
    Itself,
    /// To these addresses instead: never empty.
    Others(Vec<Address>),
}

impl Target {
    /// How many recipients it makes.
    pub(crate) fn count(&self) -> usize {
        match self {
            Target::Itself => 1,
            Target::Others(addresses) => addresses.len(),
        }
    }
}

/// Judges one recipient. `may_relay` says whether the client is one of ours.
pub(crate) fn control(address: &Address, resolution: Resolution, may_relay: bool) -> Result<Target, Refusal> {
    match resolution {
        Resolution::Deliver(addresses) => Ok(target(address, addresses)),
        Resolution::Relay(to) if may_relay || !is_routed(address) => Ok(target(address, vec![to])),
        Resolution::Foreign(to) if may_relay => Ok(target(address, vec![to])),
        Resolution::Relay(_) | Resolution::Foreign(_) => {
            Err(Refusal::new("relay", 550, Enhanced(5, 7, 1), "relaying denied"))
        }
        Resolution::Unknown => Err(Refusal::new("recipient", 550, Enhanced(5, 1, 1), "no such recipient here")),
        Resolution::Broken(_) => {
            Err(Refusal::new("alias", 451, Enhanced(4, 3, 5), "recipient tables are being repaired, try again later"))
        }
    }
}

fn target(address: &Address, addresses: Vec<Address>) -> Target {
    if addresses.is_empty() || addresses.as_slice() == std::slice::from_ref(address) {
        return Target::Itself;
    }
    Target::Others(addresses)
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

    fn code(text: &str, resolution: Resolution, may_relay: bool) -> Result<Target, (u16, Enhanced)> {
        control(&address(text), resolution, may_relay)
            .map_err(|refusal| (refusal.reply.code, refusal.reply.enhanced.expect("our replies have one")))
    }

    #[test]
    fn strangers_reach_our_own_and_nobody_else() {
        let a = address("u@example.com");
        assert_eq!(code("u@example.com", Resolution::Deliver(vec![a.clone()]), false), Ok(Target::Itself));
        assert_eq!(code("u@example.com", Resolution::Relay(a.clone()), false), Ok(Target::Itself));
        assert_eq!(code("u@example.com", Resolution::Foreign(a.clone()), false), Err((550, Enhanced(5, 7, 1))));
        assert_eq!(code("u@example.com", Resolution::Foreign(a), true), Ok(Target::Itself));
        assert_eq!(code("x@example.com", Resolution::Unknown, true), Err((550, Enhanced(5, 1, 1))));
        assert_eq!(code("x@example.com", Resolution::Broken("loop".into()), true), Err((451, Enhanced(4, 3, 5))));
    }

    #[test]
    fn routes_hidden_in_local_parts_are_not_relayed_for_strangers() {
        for text in ["u%evil.example@relay.example", "evil.example!u@relay.example", "\"u@evil.example\"@relay.example"]
        {
            let to = Resolution::Relay(address(text));
            assert_eq!(code(text, to.clone(), false), Err((550, Enhanced(5, 7, 1))), "{text}");
            assert_eq!(code(text, to, true), Ok(Target::Itself), "{text}");
        }
    }

    #[test]
    fn an_alias_leads_to_others() {
        let others = vec![address("a@example.com"), address("b@example.com")];
        let got = code("list@example.com", Resolution::Deliver(others.clone()), false);
        assert_eq!(got, Ok(Target::Others(others)));
    }
}
