//! The tests that every [`Store`] must pass: the law of `INTERNALS.md`, one promise a test.
//!
//! A store's crate implements [`Harness`] and writes `waypost_queue::conformance_tests!(run, harness)` in a test module: `run` takes a
//! future to its end (a runtime's `block_on`), `harness` is an expression that makes a [`Harness`].

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use waypost_types::{
    Address, Enhanced, MailParameters, Message, MessageId, Outcome, Recipient, Reply, ReversePath, SessionId,
    Timestamp, Transport,
};

use crate::{
    Attempt, Change, Claim, Delivery, Entry, FRESH_LEASE, Kind, Origin, Settled, Settlement, State, Store, StoreError,
};

/// How the suite gets at stores.
pub trait Harness {
    /// A new, empty store.
    fn open(&mut self) -> impl Future<Output = Arc<dyn Store>>;
    /// The store opened last, as a restart after a crash finds it; the old value is not used any more. `None` if the store
    /// cannot do that.
    fn reopen(&mut self) -> impl Future<Output = Option<Arc<dyn Store>>>;
}

/// Makes one `#[test]` of each promise.
#[macro_export]
macro_rules! conformance_tests {
    ($run:expr, $harness:expr) => {
        $crate::conformance_tests!(@each $run, $harness;
            accepted_is_claimed_and_can_be_read
            same_id_twice_is_one_message
            released_comes_back_with_a_higher_token
            a_lease_runs_out_and_fences_its_holder
            a_fresh_claim_runs_out_too
            the_earliest_come_first_and_no_more_than_asked_for
            settled_for_all_is_gone
            settled_for_some_stays_with_outcomes_and_due_time
            an_attempt_that_was_not_made_is_not_counted
            a_claim_that_is_kept_goes_on
            children_come_into_being_with_the_settlement
            a_fenced_settlement_changes_nothing
            held_is_never_due
            an_operator_changes_what_is_not_claimed
            one_is_claimed_by_its_id
            an_operator_gives_up_and_sends_elsewhere
            lists_are_in_order_and_bounded
            long_messages_come_in_chunks
            too_large_is_refused
            many_at_once_are_all_kept
            a_caller_that_goes_away_leaves_the_message_unclaimed_or_unwritten
            next_due_is_never_late
            closed_takes_no_more
            a_restart_finds_everything_acknowledged
        );
    };
    (@each $run:expr, $harness:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let mut harness = $harness;
                $run($crate::conformance::$name(&mut harness));
            }
        )*
    };
}

/// The time at which the suite's mail is accepted.
pub const NOW: Timestamp = Timestamp(1_795_500_000_000);

const LEASE: Duration = Duration::from_secs(60);

/// An entry and message number `n` from `alice@a.example`, accepted [`NOW`] plus `n` milliseconds and due at once.
pub fn mail(n: u64, recipients: &[&str]) -> (Entry, Message) {
    let accepted = Timestamp(NOW.0 + n);
    let message = Message::from_segments(vec![
        Bytes::from(format!("Received: by mx.example; {}\r\n", accepted.rfc5322())),
        Bytes::from(format!("From: alice@a.example\r\nSubject: number {n}\r\n\r\nHello {n}\r\n")),
    ]);
    let address = |text: &&str| Address::parse(text).expect("the caller writes addresses");
    let entry = Entry {
        id: MessageId::new(accepted, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        kind: Kind::Mail,
        accepted,
        expires: accepted.after(Duration::from_secs(5 * 86_400)),
        origin: Origin {
            transport: Transport::Mx,
            session: Some(SessionId::new(n)),
            peer: Some([192, 0, 2, 1].into()),
            helo: "client.example".into(),
            user: None,
        },
        sender: ReversePath::Mailbox(Address::parse("alice@a.example").expect("an address")),
        parameters: MailParameters::default(),
        recipients: recipients.iter().map(|r| Delivery::new(Recipient::new(address(r)), accepted)).collect(),
        size: message.len() as u64,
        held: None,
        route: None,
        why: None,
    };
    (entry, message)
}

/// 250.
pub fn ok() -> Reply {
    Reply::new(250, Enhanced(2, 0, 0), "taken")
}

/// 451.
pub fn later() -> Reply {
    Reply::new(451, Enhanced(4, 7, 1), "greylisted")
}

/// News of one recipient, after an attempt.
pub fn news(index: u32, outcome: Outcome, due: Timestamp) -> Settled {
    let reply = outcome.reply().cloned().unwrap_or_else(ok);
    let attempt = Attempt { at: NOW, target: "mx.b.example".into(), security: "".into(), reply };
    Settled { index, outcome, attempt: Some(attempt), due, delay_reported: false }
}

/// A settlement that relays every pending recipient.
pub fn all_relayed(claim: &Claim) -> Settlement {
    let pending = claim.entry.recipients.iter().enumerate().filter(|(_, d)| d.is_pending());
    let recipients = pending.map(|(i, _)| news(i as u32, Outcome::Relayed(ok()), NOW)).collect();
    Settlement { recipients, children: Vec::new(), release: true }
}

fn delayed(due: Timestamp) -> Settlement {
    Settlement { recipients: vec![news(0, Outcome::Delayed(later()), due)], children: Vec::new(), release: true }
}

fn at(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

/// The whole body, chunk by chunk.
pub async fn body_of(store: &dyn Store, id: MessageId) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    for index in 0.. {
        match store.read(id, index).await {
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(StoreError::Missing) if index > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(body)
}

async fn ids(store: &dyn Store, now: Timestamp, count_max: u32) -> Vec<MessageId> {
    let claims = store.claim(now, LEASE, count_max).await.expect("claims");
    claims.iter().map(|claim| claim.entry.id).collect()
}

async fn clean(store: &dyn Store) {
    assert_eq!(store.check().await, Ok(Vec::new()));
}

async fn accept_and_release(store: &dyn Store, (entry, message): (Entry, Message)) -> MessageId {
    let claim = store.accept(entry, message).await.expect("accepted");
    let id = claim.entry.id;
    store.release(claim).await.expect("released");
    id
}

/// Runs futures together on this task.
async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, slot) in running.iter_mut().zip(&mut done).filter(|(_, slot)| slot.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Polls a future once and drops it: a caller whose connection has gone.
async fn abandon<F: Future>(future: F) {
    let mut future = Box::pin(future);
    poll_fn(|cx| {
        let _ = future.as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
}

/// `accept` gives the claim and the message; both can be read back.
pub async fn accepted_is_claimed_and_can_be_read(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example", "v@c.example"]);
    let claim = store.accept(entry.clone(), message.clone()).await.unwrap();
    assert_eq!(*claim.entry, entry);
    assert_eq!(claim.message.as_ref().map(Message::contiguous), Some(message.contiguous()));
    assert_eq!(store.get(entry.id).await.unwrap(), Some(entry.clone()));
    assert_eq!(body_of(&*store, entry.id).await.unwrap(), message.contiguous());
    assert_eq!(ids(&*store, at(10), 10).await, [], "it is claimed");
    let counts = store.counts();
    assert_eq!((counts.entries, counts.claimed, counts.held), (1, 1, 0));
    clean(&*store).await;
}

/// Ids are names.
pub async fn same_id_twice_is_one_message(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    store.accept(entry.clone(), message.clone()).await.unwrap();
    let mut other = entry.clone();
    other.held = Some("other".into());
    let again = store.accept(other, Message::new(Bytes::from_static(b"other"))).await;
    assert_eq!(again.map(drop), Err(StoreError::Fenced));
    assert_eq!(store.get(entry.id).await.unwrap(), Some(entry.clone()));
    assert_eq!(body_of(&*store, entry.id).await.unwrap(), message.contiguous());
    assert_eq!(store.counts().entries, 1);
    clean(&*store).await;
}

/// Releasing makes an entry due again, and its next claim fences the old one.
pub async fn released_comes_back_with_a_higher_token(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    let old = store.accept(entry.clone(), message).await.unwrap();
    store.release(old.clone()).await.unwrap();
    assert_eq!(store.counts().claimed, 0);
    let claims = store.claim(at(1), LEASE, 10).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(*claims[0].entry, entry);
    assert!(claims[0].token > old.token);
    assert_eq!(store.release(old.clone()).await, Err(StoreError::Fenced));
    assert_eq!(store.settle(&old, all_relayed(&old)).await, Err(StoreError::Fenced));
    assert_eq!(store.settle(&claims[0], all_relayed(&claims[0])).await, Ok(None));
}

/// Leases end at `now + lease`, by the caller's clock.
pub async fn a_lease_runs_out_and_fences_its_holder(h: &mut impl Harness) {
    let store = h.open().await;
    let id = accept_and_release(&*store, mail(1, &["u@b.example"])).await;
    let old = store.claim(at(1), LEASE, 1).await.unwrap().remove(0);
    assert_eq!(ids(&*store, at(60), 10).await, []);
    assert_eq!(ids(&*store, at(61), 10).await, [id]);
    assert_eq!(store.settle(&old, all_relayed(&old)).await, Err(StoreError::Fenced));
    assert!(store.get(id).await.unwrap().is_some());
}

/// The claim that `accept` gives is a lease too.
pub async fn a_fresh_claim_runs_out_too(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(0, &["u@b.example"]);
    let old = store.accept(entry, message).await.unwrap();
    let end = NOW.after(FRESH_LEASE);
    assert_eq!(ids(&*store, Timestamp(end.0 - 1), 10).await, []);
    assert_eq!(ids(&*store, end, 10).await, [old.entry.id]);
    assert_eq!(store.release(old).await, Err(StoreError::Fenced));
}

/// Claims come in the order of due times; none before its time.
pub async fn the_earliest_come_first_and_no_more_than_asked_for(h: &mut impl Harness) {
    let store = h.open().await;
    let mut by_due = Vec::new();
    for (n, due) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
        let (mut entry, message) = mail(n, &["u@b.example"]);
        entry.recipients[0].due = at(due);
        by_due.push((due, accept_and_release(&*store, (entry, message)).await));
    }
    by_due.sort();
    let sorted: Vec<_> = by_due.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids(&*store, at(9), 10).await, []);
    assert_eq!(ids(&*store, at(35), 2).await, sorted[..2]);
    assert_eq!(ids(&*store, at(35), 10).await, sorted[2..3]);
    assert_eq!(ids(&*store, at(40), 10).await, sorted[3..]);
}

/// Nobody pending: entry, body and due key go together.
pub async fn settled_for_all_is_gone(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example", "v@b.example"]);
    let claim = store.accept(entry.clone(), message).await.unwrap();
    let settlement = Settlement {
        recipients: vec![news(0, Outcome::Relayed(ok()), NOW), news(1, Outcome::Failed(later()), NOW)],
        children: Vec::new(),
        release: false,
    };
    assert_eq!(store.settle(&claim, settlement).await, Ok(None));
    assert_eq!(store.get(entry.id).await, Ok(None));
    assert_eq!(store.read(entry.id, 0).await, Err(StoreError::Missing));
    assert_eq!(store.list(None, 10).await, Ok(Vec::new()));
    assert_eq!(ids(&*store, at(1_000_000), 10).await, []);
    assert_eq!(store.next_due().await, Ok(None));
    let counts = store.counts();
    assert_eq!((counts.entries, counts.claimed), (0, 0));
    assert_eq!(store.settle(&claim, Settlement::default()).await, Err(StoreError::Fenced));
    clean(&*store).await;
}

/// Somebody pending: outcomes, attempts, replies and due times are kept.
pub async fn settled_for_some_stays_with_outcomes_and_due_time(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example", "v@b.example"]);
    let claim = store.accept(entry.clone(), message.clone()).await.unwrap();
    let settlement = Settlement {
        recipients: vec![news(0, Outcome::Relayed(ok()), NOW), news(1, Outcome::Delayed(later()), at(300))],
        children: Vec::new(),
        release: true,
    };
    let after = store.settle(&claim, settlement).await.unwrap().expect("one is pending");
    assert_eq!(after.recipients[0].state, State::Done(Outcome::Relayed(ok())));
    assert_eq!(after.recipients[1].state, State::Pending);
    assert_eq!((after.recipients[1].attempts, after.recipients[1].due), (1, at(300)));
    assert_eq!(after.recipients[1].last.as_ref().map(|a| a.reply.clone()), Some(later()));
    assert_eq!(store.get(entry.id).await.unwrap().as_ref(), Some(&*after));
    assert_eq!(body_of(&*store, entry.id).await.unwrap(), message.contiguous());
    assert_eq!(ids(&*store, at(299), 10).await, []);
    clean(&*store).await;
    let claims = store.claim(at(300), LEASE, 10).await.unwrap();
    assert_eq!(claims[0].entry, after);
    assert_eq!(store.settle(&claims[0], all_relayed(&claims[0])).await, Ok(None));
    assert_eq!(store.counts().entries, 0);
    clean(&*store).await;
}

/// `attempt: None` puts off without ageing.
pub async fn an_attempt_that_was_not_made_is_not_counted(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    let claim = store.accept(entry, message).await.unwrap();
    let mut settlement = delayed(at(60));
    settlement.recipients[0].attempt = None;
    settlement.recipients[0].delay_reported = true;
    let after = store.settle(&claim, settlement).await.unwrap().expect("pending");
    assert_eq!((after.recipients[0].attempts, &after.recipients[0].last), (0, &None));
    assert!(after.recipients[0].delay_reported);
    assert_eq!(after.due(), Some(at(60)));
}

/// `release: false` settles and keeps the claim.
pub async fn a_claim_that_is_kept_goes_on(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example", "v@b.example"]);
    let claim = store.accept(entry, message).await.unwrap();
    let mut settlement = delayed(at(5));
    settlement.release = false;
    assert!(store.settle(&claim, settlement).await.unwrap().is_some());
    assert_eq!(ids(&*store, at(10), 10).await, []);
    let rest = Settlement {
        recipients: vec![news(0, Outcome::Relayed(ok()), NOW), news(1, Outcome::Relayed(ok()), NOW)],
        ..Settlement::default()
    };
    assert_eq!(store.settle(&claim, rest).await, Ok(None));
    clean(&*store).await;
}

/// A report exists from the moment at which its recipient has failed.
pub async fn children_come_into_being_with_the_settlement(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    let claim = store.accept(entry, message).await.unwrap();
    let (child, text) = mail(2, &["alice@a.example"]);
    let mut settlement = all_relayed(&claim);
    settlement.children.push((child.clone(), text.clone()));
    assert_eq!(store.settle(&claim, settlement).await, Ok(None));
    assert_eq!(store.counts().entries, 1);
    assert_eq!(body_of(&*store, child.id).await.unwrap(), text.contiguous());
    let due = store.next_due().await.unwrap().expect("a child is due");
    assert!(due <= child.accepted);
    assert_eq!(ids(&*store, at(1), 10).await, [child.id]);
    clean(&*store).await;
}

/// Nothing of a settlement by a stale claim happens, its children included.
pub async fn a_fenced_settlement_changes_nothing(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    let stale = store.accept(entry.clone(), message).await.unwrap();
    store.release(stale.clone()).await.unwrap();
    let (child, text) = mail(2, &["alice@a.example"]);
    let mut settlement = all_relayed(&stale);
    settlement.children.push((child.clone(), text));
    assert_eq!(store.settle(&stale, settlement).await, Err(StoreError::Fenced));
    assert_eq!(store.get(entry.id).await.unwrap(), Some(entry));
    assert_eq!(store.get(child.id).await, Ok(None));
    assert_eq!(store.counts().entries, 1);
    clean(&*store).await;
}

/// Held entries wait for an operator, whether they came in so or were held later.
pub async fn held_is_never_due(h: &mut impl Harness) {
    let store = h.open().await;
    let (mut entry, message) = mail(1, &["u@b.example"]);
    entry.held = Some("looked odd".into());
    let born = accept_and_release(&*store, (entry, message)).await;
    let later = accept_and_release(&*store, mail(2, &["u@b.example"])).await;
    store.change(later, Change::Hold("asked to".into())).await.unwrap();
    assert_eq!(ids(&*store, at(1_000_000), 10).await, []);
    assert_eq!(store.next_due().await, Ok(None));
    assert_eq!(store.counts().held, 2);
    clean(&*store).await;
    store.change(born, Change::Release).await.unwrap();
    assert_eq!(ids(&*store, at(1), 10).await, [born]);
    assert_eq!(store.counts().held, 1);
    store.change(later, Change::Remove).await.unwrap();
    assert_eq!(store.counts().held, 0);
    clean(&*store).await;
}

/// `Due` moves, `Remove` removes, `Busy` while claimed, `Missing` if there is none.
pub async fn an_operator_changes_what_is_not_claimed(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    let id = entry.id;
    let claim = store.accept(entry, message).await.unwrap();
    assert_eq!(store.change(id, Change::Remove).await, Err(StoreError::Busy));
    store.settle(&claim, delayed(at(3600))).await.unwrap();
    store.change(id, Change::Due(at(5))).await.unwrap();
    assert!(store.next_due().await.unwrap().is_some_and(|due| due <= at(5)));
    assert_eq!(ids(&*store, at(4), 10).await, []);
    let claim = store.claim(at(5), LEASE, 10).await.unwrap().remove(0);
    store.release(claim).await.unwrap();
    store.change(id, Change::Remove).await.unwrap();
    assert_eq!(store.get(id).await, Ok(None));
    assert_eq!(store.read(id, 0).await, Err(StoreError::Missing));
    assert_eq!(ids(&*store, at(10), 10).await, []);
    assert_eq!(store.change(id, Change::Release).await, Err(StoreError::Missing));
    clean(&*store).await;
}

/// One entry by its id, before its time; `Busy` while somebody has it, and nothing for an id that is not there.
pub async fn one_is_claimed_by_its_id(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    let id = entry.id;
    let claim = store.accept(entry, message).await.unwrap();
    assert_eq!(store.claim_one(id, at(2), LEASE).await.unwrap_err(), StoreError::Busy);
    store.settle(&claim, delayed(at(3600))).await.unwrap();
    store.change(id, Change::Hold("looked at".into())).await.unwrap();
    let claim = store.claim_one(id, at(2), LEASE).await.unwrap().expect("it is there");
    assert_eq!((claim.entry.id, claim.entry.recipients[0].attempts), (id, 1));
    assert_eq!(store.change(id, Change::Release).await, Err(StoreError::Busy));
    assert_eq!(ids(&*store, at(7200), 10).await, [], "held, and claimed");
    let claim = store.claim_one(id, at(100), LEASE).await.unwrap().expect("the lease is over");
    store.settle(&claim, all_relayed(&claim)).await.unwrap();
    assert!(store.claim_one(id, at(101), LEASE).await.unwrap().is_none());
    clean(&*store).await;
}

/// `Expire` makes it due with an end, `Reroute` stays with the entry.
pub async fn an_operator_gives_up_and_sends_elsewhere(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    let id = entry.id;
    let claim = store.accept(entry, message).await.unwrap();
    store.settle(&claim, delayed(at(3600))).await.unwrap();
    store.change(id, Change::Reroute(Some("smtp:[192.0.2.9]:25".into()))).await.unwrap();
    store.change(id, Change::Expire(at(10))).await.unwrap();
    let claim = store.claim(at(10), LEASE, 10).await.unwrap().remove(0);
    assert_eq!((claim.entry.expires, claim.entry.route.as_deref()), (at(10), Some("smtp:[192.0.2.9]:25")));
    clean(&*store).await;
}

/// Cursor and count.
pub async fn lists_are_in_order_and_bounded(h: &mut impl Harness) {
    let store = h.open().await;
    let mut all = Vec::new();
    for n in [3, 1, 5, 2, 4] {
        let (entry, message) = mail(n, &["u@b.example"]);
        all.push(entry.id);
        store.accept(entry, message).await.unwrap();
    }
    all.sort();
    let page = |entries: Vec<Entry>| entries.into_iter().map(|e| e.id).collect::<Vec<_>>();
    let first = page(store.list(None, 2).await.unwrap());
    let rest = page(store.list(Some(first[1]), 10).await.unwrap());
    assert_eq!([first, rest].concat(), all);
    assert_eq!(store.list(Some(all[4]), 10).await, Ok(Vec::new()));
}

/// Messages longer than a chunk, and exactly as long.
pub async fn long_messages_come_in_chunks(h: &mut impl Harness) {
    let store = h.open().await;
    let chunk = store.limits().chunk_bytes;
    for (n, len) in [(1, chunk), (2, 2 * chunk), (3, 2 * chunk + 17), (4, 1)] {
        let (entry, _) = mail(n, &["u@b.example"]);
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let parts = bytes.chunks(1 + len / 3).map(Bytes::copy_from_slice).collect();
        let claim = store.accept(entry.clone(), Message::from_segments(parts)).await.unwrap();
        assert_eq!(claim.entry.size, len as u64);
        assert!(body_of(&*store, entry.id).await.unwrap() == bytes, "message of {len} octets");
        assert_eq!(store.read(entry.id, 0).await.unwrap().len(), len.min(chunk));
        assert_eq!(store.read(entry.id, len.div_ceil(chunk) as u32).await, Err(StoreError::Missing));
        store.settle(&claim, all_relayed(&claim)).await.unwrap();
        assert_eq!(store.read(entry.id, 1).await, Err(StoreError::Missing));
    }
    clean(&*store).await;
}

/// One octet more than the limit.
pub async fn too_large_is_refused(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, _) = mail(1, &["u@b.example"]);
    let mebibyte = Bytes::from(vec![b'x'; 1 << 20]);
    let max = store.limits().message_bytes_max;
    let mut parts = vec![mebibyte.clone(); (max >> 20) as usize];
    parts.push(mebibyte.slice(..(max & 0xf_ffff) as usize + 1));
    assert_eq!(store.accept(entry, Message::from_segments(parts)).await.map(drop), Err(StoreError::TooLarge));
    assert_eq!(store.counts().entries, 0);
}

/// A hundred callers, then a hundred settlements.
pub async fn many_at_once_are_all_kept(h: &mut impl Harness) {
    let store = h.open().await;
    let accepts = (0..100).map(|n| {
        let (entry, message) = mail(n, &["u@b.example"]);
        store.accept(entry, message)
    });
    let claims: Vec<_> = together(accepts.collect()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(store.counts().entries, 100);
    let mut tokens: Vec<_> = claims.iter().map(|claim| claim.token).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 100);
    let settles = claims.iter().enumerate().map(|(n, claim)| {
        let settlement = if n % 2 == 0 { all_relayed(claim) } else { delayed(at(60)) };
        store.settle(claim, settlement)
    });
    together(settles.collect()).await.into_iter().for_each(|settled| drop(settled.unwrap()));
    assert_eq!(store.counts().entries, 50);
    assert_eq!(ids(&*store, at(60), 1000).await.len(), 50);
    clean(&*store).await;
}

/// A dropped `accept` leaves all or nothing, and nothing claimed for longer than the lease.
pub async fn a_caller_that_goes_away_leaves_the_message_unclaimed_or_unwritten(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    abandon(store.accept(entry.clone(), message.clone())).await;
    // Whatever was under way has ended when a later write has.
    accept_and_release(&*store, mail(2, &["u@b.example"])).await;
    if let Some(found) = store.get(entry.id).await.unwrap() {
        assert_eq!(found, entry);
        assert_eq!(body_of(&*store, entry.id).await.unwrap(), message.contiguous());
        assert!(ids(&*store, NOW.after(FRESH_LEASE).after(LEASE), 10).await.contains(&entry.id));
    }
    clean(&*store).await;
}

/// Whatever happens, a worker that sleeps until `next_due` is not late.
pub async fn next_due_is_never_late(h: &mut impl Harness) {
    let store = h.open().await;
    assert_eq!(store.next_due().await, Ok(None));
    let (entry, message) = mail(1, &["u@b.example"]);
    let claim = store.accept(entry, message).await.unwrap();
    store.settle(&claim, delayed(at(500))).await.unwrap();
    assert!(store.next_due().await.unwrap().is_some_and(|due| due <= at(500)));
    assert_eq!(ids(&*store, at(400), 10).await, []);
    assert_eq!(store.next_due().await, Ok(Some(at(500))), "a claim that found nothing made it true");
    let (mut entry, message) = mail(2, &["u@b.example"]);
    entry.recipients[0].due = at(450);
    accept_and_release(&*store, (entry, message)).await;
    assert!(store.next_due().await.unwrap().is_some_and(|due| due <= at(450)));
    let claims = store.claim(at(450), LEASE, 10).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert!(store.next_due().await.unwrap().is_some_and(|due| due <= at(500)));
    assert_eq!(ids(&*store, at(510), 10).await.len(), 2, "the lease of one is over, the other is due");
}

/// After `close` nothing is written.
pub async fn closed_takes_no_more(h: &mut impl Harness) {
    let store = h.open().await;
    let (entry, message) = mail(1, &["u@b.example"]);
    let claim = store.accept(entry, message).await.unwrap();
    store.close().await.unwrap();
    let (entry, message) = mail(2, &["u@b.example"]);
    assert!(matches!(store.accept(entry, message).await, Err(StoreError::Failed(_))));
    assert!(matches!(store.settle(&claim, all_relayed(&claim)).await, Err(StoreError::Failed(_))));
}

/// The crash table: accepted, deferred, held, settled and removed ones, claimed or not.
pub async fn a_restart_finds_everything_acknowledged(h: &mut impl Harness) {
    let store = h.open().await;
    let mut claims = Vec::new();
    for n in 0..6 {
        let (mut entry, message) = mail(n, &["u@b.example", "v@c.example"]);
        entry.held = (n == 3).then(|| "held".into());
        claims.push(store.accept(entry, message).await.unwrap());
    }
    let deferred = store.settle(&claims[1], delayed(at(600))).await.unwrap().expect("pending");
    store.settle(&claims[2], all_relayed(&claims[2])).await.unwrap();
    store.release(claims[4].clone()).await.unwrap();
    store.change(claims[4].entry.id, Change::Remove).await.unwrap();
    let (child, text) = mail(9, &["alice@a.example"]);
    let mut failed = all_relayed(&claims[5]);
    failed.children.push((child.clone(), text.clone()));
    store.settle(&claims[5], failed).await.unwrap();
    drop(store);
    let Some(store) = h.reopen().await else { return };
    let found = store.list(None, 100).await.unwrap();
    let expected = [(*claims[0].entry).clone(), (*deferred).clone(), (*claims[3].entry).clone(), child.clone()];
    assert_eq!(found, expected);
    for (entry, claim) in expected.iter().zip([&claims[0], &claims[1], &claims[3]]) {
        let message = claim.message.as_ref().expect("fresh claims carry it").contiguous();
        assert_eq!(body_of(&*store, entry.id).await.unwrap(), message);
    }
    assert_eq!(body_of(&*store, child.id).await.unwrap(), text.contiguous());
    let counts = store.counts();
    assert_eq!((counts.entries, counts.claimed, counts.held), (4, 0, 1));
    clean(&*store).await;
    assert!(store.next_due().await.unwrap().is_some_and(|due| due <= NOW));
    assert_eq!(ids(&*store, at(1), 10).await, [claims[0].entry.id, deferred.id, child.id]);
    assert_eq!(ids(&*store, at(599), 1).await, [claims[0].entry.id], "only its lease is over");
}
