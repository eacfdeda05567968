//! Who is told what became of the mail: the reports that a settlement brings into the queue with it.

use bytes::Bytes;
use waypost_queue::dsn::{self, Making, Reason, Reporter};
use waypost_queue::{Entry, Settlement, Store};
use waypost_types::{Address, Message, Timestamp};

use crate::chance::Dice;
use crate::held::{self, Held, News};
use crate::options::Expand;

/// Turns news into a settlement. Recipients and reports about them become durable together: there is never one without the other.
pub(crate) async fn settlement(
    reporter: &Reporter,
    store: &dyn Store,
    dice: &Dice,
    held: &Held,
    news: Vec<News>,
    release: bool,
    now: Timestamp,
) -> (Settlement, Vec<Reason>) {
    let entry = held.entry();
    let mut about: [(Reason, Vec<u32>); 3] =
        [Reason::Failure, Reason::Delay, Reason::Success].map(|reason| (reason, Vec::new()));
    let mut recipients = Vec::with_capacity(news.len());
    for News { mut settled, dsn_passed } in news {
        if let Some(reason) = dsn::wanted(reporter, entry, &settled, dsn_passed, now) {
            settled.delay_reported = reason == Reason::Delay;
            let list = about.iter_mut().find(|(of, _)| *of == reason).expect("all reasons are listed");
            list.1.push(settled.index);
        }
        recipients.push(settled);
    }
    let mut settlement = Settlement { recipients, children: Vec::new(), release };
    let mut reasons = Vec::new();
    if about.iter().any(|(_, recipients)| !recipients.is_empty()) {
        let after = entry.settled(&settlement);
        for (reason, recipients) in about.iter().filter(|(_, recipients)| !recipients.is_empty()) {
            let original = original(reporter, store, held, &after, *reason).await;
            let making = Making { id: dice.message_id(now), now, random: dice.throw() };
            settlement.children.push(dsn::report(reporter, &after, *reason, recipients, &original, making));
            reasons.push(*reason);
        }
    }
    (settlement, reasons)
}

/// Sends a report where its address leads: to whoever stands behind an alias, or back along the way of a forwarded message. An address that
/// leads nowhere stays, and the report fails there.
pub(crate) async fn readdress(report: &mut Entry, expand: &Expand) {
    let [delivery] = report.recipients.as_slice() else { return };
    let leads = expand(&delivery.recipient.address).get().await;
    if leads.is_empty() || leads.as_slice() == std::slice::from_ref(&delivery.recipient.address) {
        return;
    }
    let at = |address: Address| {
        let mut delivery = delivery.clone();
        delivery.recipient.address = address;
        delivery
    };
    report.recipients = leads.into_iter().map(at).collect();
}

/// What the report returns of the message. A message that cannot be read must not keep its report from being sent.
async fn original(reporter: &Reporter, store: &dyn Store, held: &Held, entry: &Entry, reason: Reason) -> Message {
    if let Some(message) = held.in_memory() {
        return message.clone();
    }
    if dsn::returns_whole(reporter, entry, reason) {
        // Bounded by the reporter's `return_bytes_max`.
        return held::read(store, entry).await.unwrap_or_default();
    }
    let first: Bytes = store.read(entry.id, 0).await.unwrap_or_default();
    Message::new(first)
}
