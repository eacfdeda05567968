//! Recipients after aliases, parted by the sender under which their mail goes on: one entry of the queue for each.
//!
//! Nearly every message is one part. A list with an owner, and mail that an alias sends on to another site, are parts of their own: their
//! bounces go to the owner, or come back through us (SRS). Mail that is sent on to another site carries `Delivered-To` with the address that
//! sent it on; when it comes back with it, it is in a loop (a hop count can be stripped, this is the alias's own mark).

use bytes::Bytes;
use waypost_route::{Class, Leaf, Router};
use waypost_types::{Address, Message, Recipient, ReversePath, Timestamp, header};

use crate::check::relay::Target;
use crate::trace_header;

/// Recipients that are served by one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) sender: ReversePath,
    /// The address of ours that sends it on to another site.
    pub(crate) via: Option<Address>,
    pub(crate) recipients: Vec<Recipient>,
}

/// The parts of a message.
pub(crate) struct Parts<'a> {
    router: &'a Router,
    sender: &'a ReversePath,
    now: Timestamp,
    parts: Vec<Part>,
    seen: Seen,
}

/// Up to here comparing is cheaper than hashing.
const COMPARED_MAX: usize = 16;

/// Nobody gets a message twice.
#[derive(Default)]
struct Seen {
    few: Vec<Address>,
    /// Only made when there are so many that comparing each with all would cost.
    many: Option<ahash::AHashSet<Address>>,
}

impl Seen {
    fn is_new(&mut self, address: &Address) -> bool {
        if self.many.is_none() && self.few.len() < COMPARED_MAX {
            let new = !self.few.contains(address);
            if new {
                self.few.push(address.clone());
            }
            return new;
        }
        let few = &mut self.few;
        self.many.get_or_insert_with(|| few.drain(..).collect()).insert(address.clone())
    }
}

impl<'a> Parts<'a> {
    /// Parts of a message from `sender`; the first is for whoever gets it as it came.
    pub(crate) fn new(router: &'a Router, sender: &'a ReversePath, recipients: usize, now: Timestamp) -> Parts<'a> {
        let recipients = Vec::with_capacity(recipients);
        let first = Part { sender: sender.clone(), via: None, recipients };
        Parts { router, sender, now, parts: vec![first], seen: Seen::default() }
    }

    /// Adds a recipient of the envelope.
    pub(crate) async fn add(&mut self, recipient: &Recipient, target: &Target) {
        match target {
            Target::Itself => {
                if self.seen.is_new(&recipient.address) {
                    self.parts[0].recipients.push(recipient.clone());
                }
            }
            Target::Others(leaves) => {
                for leaf in leaves {
                    if self.seen.is_new(&leaf.address) {
                        self.add_leaf(recipient, leaf).await;
                    }
                }
            }
        }
    }

    async fn add_leaf(&mut self, recipient: &Recipient, leaf: &Leaf) {
        let sender = self.router.forwarding_sender(self.sender, leaf, self.now).get().await;
        let sender = sender.map_or_else(|| self.sender.clone(), ReversePath::Mailbox);
        let via = (leaf.class == Class::Foreign).then(|| recipient.address.clone());
        let replaced = replaced(recipient, &leaf.address);
        match self.parts.iter_mut().find(|part| part.sender == sender && part.via == via) {
            Some(part) => part.recipients.push(replaced),
            None => self.parts.push(Part { sender, via, recipients: vec![replaced] }),
        }
    }

    /// What there is; empty if nobody is left.
    pub(crate) fn end(mut self) -> Vec<Part> {
        if self.parts[0].recipients.is_empty() {
            self.parts.remove(0);
        }
        self.parts
    }
}

/// The recipient at another address; what it was goes into ORCPT, unless the client gave one (RFC 3461 §5.2.7).
fn replaced(recipient: &Recipient, address: &Address) -> Recipient {
    let mut recipient = recipient.clone();
    if recipient.address != *address {
        if recipient.original.is_none() {
            recipient.original = Some(trace_header::original(&recipient.address));
        }
        recipient.address = address.clone();
    }
    recipient
}

/// The address that has sent this message on before, if one of those that would send it on now has.
pub(crate) fn loops<'p>(message: &Message, parts: &'p [Part]) -> Option<&'p Address> {
    let vias: Vec<&Address> = parts.iter().filter_map(|part| part.via.as_ref()).collect();
    if vias.is_empty() {
        return None;
    }
    let block = message.header_block();
    let marks: Vec<String> =
        header::fields(&block).filter(|field| field.is("Delivered-To")).map(|field| field.unfolded()).collect();
    let carries = |via: &&&Address| {
        let text = via.to_string();
        marks.iter().any(|mark| mark.trim_matches(['<', '>']).eq_ignore_ascii_case(&text))
    };
    vias.iter().find(carries).copied()
}

/// Puts the part's mark in front.
pub(crate) fn mark(message: &mut Message, part: &Part) {
    if let Some(via) = &part.via {
        message.prepend(Bytes::from(format!("Delivered-To: {via}\r\n")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_route::{Srs, Tables};
    use waypost_types::{Domain, Host};

    fn address(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    fn leaf(text: &str, class: Class, owner: Option<&str>) -> Leaf {
        Leaf { address: address(text), class, owner: owner.map(address) }
    }

    fn router() -> Router {
        let domain = Domain::parse("example.com").expect("a domain");
        let srs = Srs { domain: domain.clone(), keys: vec![(*b"key").into()], days_max: 21 };
        Tables { own: vec![Host::Name(domain)], srs: Some(srs), ..Tables::default() }.build().expect("right")
    }

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    async fn parts(sender: ReversePath, recipients: &[(Recipient, Target)]) -> Vec<Part> {
        let router = router();
        let mut parts = Parts::new(&router, &sender, 1, NOW);
        for (recipient, target) in recipients {
            parts.add(recipient, target).await;
        }
        parts.end()
    }

    fn joe() -> ReversePath {
        ReversePath::Mailbox(address("joe@home.example"))
    }

    #[tokio::test]
    async fn aliases_are_replaced_once_each_and_remember_what_they_were() {
        let own = |text: &str| leaf(text, Class::Own, None);
        let list = Recipient::new(address("list@example.com"));
        let given = Recipient { original: Some("rfc822;x@y".into()), ..list.clone() };
        let got = parts(
            joe(),
            &[
                (Recipient::new(address("a@example.com")), Target::Itself),
                (list, Target::Others(vec![own("a@example.com"), own("b@example.com")])),
                (given, Target::Others(vec![own("b@example.com"), own("c@example.com")])),
            ],
        )
        .await;
        let [only] = got.as_slice() else { panic!("{got:?}") };
        let recipients: Vec<_> = only
            .recipients
            .iter()
            .map(|r| (r.address.to_string(), r.original.as_deref().map(str::to_string)))
            .collect();
        let some = |text: &str| Some(text.to_string());
        assert_eq!(
            recipients,
            [
                ("a@example.com".to_string(), None),
                ("b@example.com".to_string(), some("rfc822;list@example.com")),
                ("c@example.com".to_string(), some("rfc822;x@y"))
            ]
        );
        assert_eq!((&only.sender, &only.via), (&joe(), &None));
    }

    #[tokio::test]
    async fn what_is_sent_on_is_a_part_of_its_own() {
        let list = || Recipient::new(address("list@example.com"));
        let target = || {
            Target::Others(vec![
                leaf("a@example.com", Class::Own, None),
                leaf("b@else.example", Class::Foreign, None),
                leaf("c@else.example", Class::Foreign, Some("owner-list@example.com")),
            ])
        };
        let got = parts(joe(), &[(list(), target())]).await;
        assert_eq!(got.iter().map(|part| part.recipients.len()).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!((got[0].sender.clone(), got[0].via.clone()), (joe(), None));
        assert!(got[1].sender.to_string().starts_with("SRS0="), "{:?}", got[1]);
        assert_eq!(got[1].via, Some(address("list@example.com")));
        assert_eq!(got[2].sender.to_string(), "owner-list@example.com");
        let notice = parts(ReversePath::Null, &[(list(), target())]).await;
        assert!(notice.iter().all(|part| part.sender == ReversePath::Null), "a notice is never answered");
    }

    #[tokio::test]
    async fn a_message_that_comes_back_to_whoever_sent_it_on_is_known() {
        let forward = Target::Others(vec![leaf("b@else.example", Class::Foreign, None)]);
        let got = parts(joe(), &[(Recipient::new(address("bob@example.com")), forward)]).await;
        let message = Message::new(Bytes::from_static(b"Delivered-To: alice@example.com\r\nSubject: x\r\n\r\n"));
        assert_eq!(loops(&message, &got), None);
        let mut marked = message.clone();
        mark(&mut marked, &got[0]);
        assert_eq!(loops(&marked, &got), Some(&address("bob@example.com")));
        let stays = parts(joe(), &[(Recipient::new(address("bob@example.com")), Target::Itself)]).await;
        assert_eq!(loops(&marked, &stays), None, "what ends in a mailbox cannot loop");
    }

    #[tokio::test]
    async fn a_thousand_recipients_are_told_apart_like_two() {
        let one = |n: usize| (Recipient::new(address(&format!("u{n}@example.com"))), Target::Itself);
        let recipients: Vec<_> = (0..1000).chain(0..1000).map(one).collect();
        assert_eq!(parts(joe(), &recipients).await[0].recipients.len(), 1000);
    }
}
