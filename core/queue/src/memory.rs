//! A [`Store`] in memory: for tests of every floor, and for the simulator.
//!
//! It keeps the law of `INTERNALS.md` to the letter, except that "durable" means "in this value": [`MemoryStore::crash`] gives the store
//! that a restart would find. Faults come on demand: [`MemoryStore::set_fault`].
//! Every future that it returns is ready at once; [`ready`] takes its value without a runtime.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use waypost_types::{Message, MessageId, Timestamp};

use crate::{
    Change, Claim, Counts, Entry, FRESH_LEASE, Problem, Settlement, Store, StoreError, StoreLimits, Task, codec,
};

/// The value of a future that need not wait: those of [`MemoryStore`].
///
/// # Panics
/// If it has to wait after all.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future is not ready"),
    }
}

/// A queue that lives as long as this value.
#[derive(Debug)]
pub struct MemoryStore {
    limits: StoreLimits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Entries as `codec` writes them, so that tests with this store exercise the codec.
    entries: BTreeMap<MessageId, Vec<u8>>,
    messages: HashMap<MessageId, Message>,
    due: BTreeSet<(Timestamp, MessageId)>,
    claims: HashMap<MessageId, Lease>,
    token: u64,
    fault: Option<StoreError>,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    token: u64,
    end: Timestamp,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new(StoreLimits { chunk_bytes: 64 * 1024, message_bytes_max: 64 << 20, batch_bytes_max: 80 << 20 })
    }
}

impl MemoryStore {
    /// An empty store with these limits.
    pub fn new(limits: StoreLimits) -> MemoryStore {
        MemoryStore { limits, inner: Mutex::default() }
    }

    /// What a restart finds: everything that was acknowledged, nothing claimed, no fault.
    #[must_use]
    pub fn crash(&self) -> MemoryStore {
        let inner = self.lock();
        let after = Inner {
            entries: inner.entries.clone(),
            messages: inner.messages.clone(),
            due: inner.due.clone(),
            ..Inner::default()
        };
        MemoryStore { limits: self.limits, inner: Mutex::new(after) }
    }

    /// From now on writes fail so: `Busy`, `Full` (only `accept`) or `Failed`. `None` ends it.
    pub fn set_fault(&self, fault: Option<StoreError>) {
        self.lock().fault = fault;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics half-way through a change")
    }

    fn check_size(&self, message: &Message) -> Result<(), StoreError> {
        if message.len() as u64 > self.limits.message_bytes_max { Err(StoreError::TooLarge) } else { Ok(()) }
    }
}

fn task<'a, T: Send + 'a>(value: Result<T, StoreError>) -> Task<'a, T> {
    Box::pin(std::future::ready(value))
}

impl Inner {
    fn writable(&self) -> Result<(), StoreError> {
        match &self.fault {
            _ if self.closed => Err(StoreError::Failed("the store is closed".into())),
            Some(StoreError::Full) | None => Ok(()),
            Some(fault) => Err(fault.clone()),
        }
    }

    fn accept(&mut self, mut entry: Entry, message: Message) -> Result<Claim, StoreError> {
        if self.fault == Some(StoreError::Full) {
            return Err(StoreError::Full);
        }
        self.writable()?;
        if self.entries.contains_key(&entry.id) {
            return Err(StoreError::Fenced);
        }
        entry.size = message.len() as u64;
        self.insert(&entry, message.clone());
        let token = self.take(entry.id, entry.accepted.after(FRESH_LEASE));
        Ok(Claim { entry: Arc::new(entry), message: Some(message), token })
    }

    fn insert(&mut self, entry: &Entry, message: Message) {
        let due = entry.due().expect("an entry comes in with somebody pending");
        self.messages.insert(entry.id, message);
        self.due.insert((due, entry.id));
        self.write(entry);
    }

    fn write(&mut self, entry: &Entry) {
        let mut bytes = Vec::new();
        codec::encode(entry, &mut bytes);
        self.entries.insert(entry.id, bytes);
    }

    fn get(&self, id: MessageId) -> Result<Option<Entry>, StoreError> {
        let decode = |bytes: &Vec<u8>| codec::decode(bytes).map_err(|e| StoreError::Corrupt(e.to_string()));
        self.entries.get(&id).map(decode).transpose()
    }

    fn take(&mut self, id: MessageId, end: Timestamp) -> u64 {
        self.token += 1;
        self.claims.insert(id, Lease { token: self.token, end });
        self.token
    }

    fn hold(&self, claim: &Claim) -> Result<(), StoreError> {
        let lease = self.claims.get(&claim.entry.id).filter(|lease| lease.token == claim.token);
        lease.map(|_| ()).ok_or(StoreError::Fenced)
    }

    fn claim(&mut self, now: Timestamp, lease: Duration, count_max: u32) -> Result<Vec<Claim>, StoreError> {
        self.claims.retain(|_, lease| lease.end > now);
        let ids: Vec<_> = self
            .due
            .iter()
            .take_while(|(due, _)| *due <= now && *due != Timestamp::NEVER)
            .map(|(_, id)| *id)
            .filter(|id| !self.claims.contains_key(id))
            .take(count_max as usize)
            .collect();
        ids.into_iter()
            .map(|id| {
                let entry = self.get(id)?.expect("the due index names entries that are there");
                Ok(Claim { entry: Arc::new(entry), message: None, token: self.take(id, now.after(lease)) })
            })
            .collect()
    }

    fn claim_one(&mut self, id: MessageId, now: Timestamp, lease: Duration) -> Result<Option<Claim>, StoreError> {
        if self.claims.get(&id).is_some_and(|lease| lease.end > now) {
            return Err(StoreError::Busy);
        }
        let Some(entry) = self.get(id)? else { return Ok(None) };
        Ok(Some(Claim { entry: Arc::new(entry), message: None, token: self.take(id, now.after(lease)) }))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let mut unclaimed = self.due.iter().filter(|(_, id)| !self.claims.contains_key(id));
        let ends = self.claims.values().map(|lease| lease.end).min();
        let first = unclaimed.next().map(|(due, _)| *due).filter(|due| *due != Timestamp::NEVER);
        first.into_iter().chain(ends).min()
    }

    fn settle(&mut self, claim: &Claim, settlement: Settlement) -> Result<Option<Arc<Entry>>, StoreError> {
        self.writable()?;
        self.hold(claim)?;
        if settlement.children.iter().any(|(child, _)| self.entries.contains_key(&child.id)) {
            return Err(StoreError::Fenced);
        }
        let before = self.get(claim.entry.id)?.ok_or(StoreError::Fenced)?;
        let after = before.settled(&settlement);
        for (mut child, message) in settlement.children {
            child.size = message.len() as u64;
            self.insert(&child, message);
        }
        self.replace(&before, (!after.is_done()).then_some(&after));
        if settlement.release || after.is_done() {
            self.claims.remove(&after.id);
        }
        Ok((!after.is_done()).then(|| Arc::new(after)))
    }

    fn replace(&mut self, before: &Entry, after: Option<&Entry>) {
        if let Some(due) = before.due() {
            self.due.remove(&(due, before.id));
        }
        match after {
            Some(entry) => {
                self.due.extend(entry.due().map(|due| (due, entry.id)));
                self.write(entry);
            }
            None => {
                self.entries.remove(&before.id);
                self.messages.remove(&before.id);
            }
        }
    }

    fn change(&mut self, id: MessageId, change: &Change) -> Result<(), StoreError> {
        self.writable()?;
        let before = self.get(id)?.ok_or(StoreError::Missing)?;
        if self.claims.contains_key(&id) {
            return Err(StoreError::Busy);
        }
        let after = before.changed(change);
        self.replace(&before, after.as_ref());
        Ok(())
    }

    fn read(&self, id: MessageId, index: u32, chunk_bytes: usize) -> Result<Bytes, StoreError> {
        let message = self.messages.get(&id).ok_or(StoreError::Missing)?;
        let chunk = message.read(chunk_bytes.saturating_mul(index as usize), chunk_bytes);
        if chunk.is_empty() { Err(StoreError::Missing) } else { Ok(chunk.into()) }
    }

    fn list(&self, after: Option<MessageId>, count_max: u32) -> Result<Vec<Entry>, StoreError> {
        let above = |id: &MessageId| after.is_none_or(|after| *id > after);
        let ids = self.entries.keys().filter(|id| above(id)).take(count_max as usize);
        ids.filter_map(|id| self.get(*id).transpose()).collect()
    }

    fn check(&self) -> Vec<Problem> {
        let wrong = |id: &MessageId, text: &str| Problem { id: Some(*id), text: text.into() };
        let mut problems = Vec::new();
        for id in self.entries.keys() {
            match self.get(*id) {
                Ok(Some(entry)) if !self.due.contains(&(entry.due().unwrap_or(Timestamp::NEVER), *id)) => {
                    problems.push(wrong(id, "not in the due index"));
                }
                Err(error) => problems.push(wrong(id, &error.to_string())),
                Ok(_) => {}
            }
        }
        problems
    }

    fn counts(&self) -> Counts {
        let held = self.due.iter().filter(|(due, _)| *due == Timestamp::NEVER).count() as u64;
        Counts { entries: self.entries.len() as u64, claimed: self.claims.len() as u64, held, corrupt: 0 }
    }
}

impl Store for MemoryStore {
    fn limits(&self) -> StoreLimits {
        self.limits
    }

    fn accept(&self, entry: Entry, message: Message) -> Task<'_, Claim> {
        task(self.check_size(&message).and_then(|()| self.lock().accept(entry, message)))
    }

    fn claim(&self, now: Timestamp, lease: Duration, count_max: u32) -> Task<'_, Vec<Claim>> {
        task(self.lock().claim(now, lease, count_max))
    }

    fn claim_one(&self, id: MessageId, now: Timestamp, lease: Duration) -> Task<'_, Option<Claim>> {
        task(self.lock().claim_one(id, now, lease))
    }

    fn next_due(&self) -> Task<'_, Option<Timestamp>> {
        task(Ok(self.lock().next_due()))
    }

    fn read(&self, id: MessageId, index: u32) -> Task<'_, Bytes> {
        task(self.lock().read(id, index, self.limits.chunk_bytes))
    }

    fn settle(&self, claim: &Claim, settlement: Settlement) -> Task<'_, Option<Arc<Entry>>> {
        let sized = settlement.children.iter().try_for_each(|(_, message)| self.check_size(message));
        task(sized.and_then(|()| self.lock().settle(claim, settlement)))
    }

    fn release(&self, claim: Claim) -> Task<'_, ()> {
        let mut inner = self.lock();
        task(inner.hold(&claim).map(|()| {
            inner.claims.remove(&claim.entry.id);
        }))
    }

    fn get(&self, id: MessageId) -> Task<'_, Option<Entry>> {
        task(self.lock().get(id))
    }

    fn list(&self, after: Option<MessageId>, count_max: u32) -> Task<'_, Vec<Entry>> {
        task(self.lock().list(after, count_max))
    }

    fn change(&self, id: MessageId, change: Change) -> Task<'_, ()> {
        task(self.lock().change(id, &change))
    }

    fn counts(&self) -> Counts {
        self.lock().counts()
    }

    fn check(&self) -> Task<'_, Vec<Problem>> {
        task(Ok(self.lock().check()))
    }

    fn close(&self) -> Task<'_, ()> {
        self.lock().closed = true;
        task(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Harness};

    struct Memory;

    impl Harness for Memory {
        async fn open(&mut self) -> Arc<dyn Store> {
            open()
        }

        async fn reopen(&mut self) -> Option<Arc<dyn Store>> {
            LAST.with_borrow_mut(|last| {
                *last = Arc::new(last.crash());
                Some(last.clone() as Arc<dyn Store>)
            })
        }
    }

    thread_local! {
        static LAST: std::cell::RefCell<Arc<MemoryStore>> = std::cell::RefCell::default();
    }

    fn open() -> Arc<dyn Store> {
        let store = Arc::new(MemoryStore::default());
        LAST.set(store.clone());
        store
    }

    crate::conformance_tests!(ready, Memory);

    #[test]
    fn faults_come_and_go() {
        let store = MemoryStore::default();
        let (entry, message) = conformance::mail(1, &["u@b.example"]);
        store.set_fault(Some(StoreError::Full));
        assert_eq!(ready(store.accept(entry.clone(), message.clone())).map(drop), Err(StoreError::Full));
        store.set_fault(Some(StoreError::Failed("EIO".into())));
        assert!(matches!(ready(store.accept(entry.clone(), message.clone())), Err(StoreError::Failed(_))));
        store.set_fault(None);
        let claim = ready(store.accept(entry, message)).unwrap();
        store.set_fault(Some(StoreError::Full));
        assert_eq!(ready(store.settle(&claim, conformance::all_relayed(&claim))), Ok(None), "full stores still settle");
    }
}
