//! Who holds which claim, and when the next entry is due: what a restart forgets.
//!
//! An entry that is claimed, being changed, or being set aside has a *slot*; nobody else touches it meanwhile. All others are on disk only. Beside the slots
//! stand two bounds that spare scans of the due index: `next`, at or before the due time of any entry without a slot, and `floor`, at or before
//! the due time of any entry at all, where a scan begins (so that it does not wade through what has been deleted in front of it).

use std::collections::HashMap;
use std::sync::Arc;

use waypost_queue::{Claim, Entry, StoreError};
use waypost_types::{MessageId, Timestamp};

struct Slot {
    token: u64,
    /// When the lease is over; never for what the store itself is doing.
    end: Timestamp,
    /// As it will be when everything that was pushed is written; `None` while it is still being read.
    entry: Option<Arc<Entry>>,
    /// Settlements on their way to the disk.
    writing: u32,
    /// Given back, or nobody pending: the slot goes when `writing` is 0.
    leaving: bool,
}

/// See the head of this page.
pub(crate) struct Table {
    slots: HashMap<MessageId, Slot>,
    token: u64,
    next: Timestamp,
    floor: Timestamp,
    /// The lowest that `next` and `floor` were asked to become while a scan was under way.
    lowered_next: Timestamp,
    lowered_floor: Timestamp,
    /// At or before the end of every lease.
    lease_min: Timestamp,
    /// Nothing can be settled any more: no slot goes, so that nothing is handed out, and delivered, twice.
    frozen: bool,
}

impl Table {
    pub(crate) fn new(first_due: Timestamp) -> Table {
        Table {
            slots: HashMap::new(),
            token: 0,
            next: first_due,
            floor: first_due,
            lowered_next: Timestamp::NEVER,
            lowered_floor: Timestamp::NEVER,
            lease_min: Timestamp::NEVER,
            frozen: false,
        }
    }

    /// Makes a slot, with an entry and the end of its lease or for the store's own use. `None` if somebody has one.
    pub(crate) fn reserve(&mut self, id: MessageId, leased: Option<(Arc<Entry>, Timestamp)>) -> Option<u64> {
        let std::collections::hash_map::Entry::Vacant(place) = self.slots.entry(id) else { return None };
        self.token += 1;
        let (entry, end) = leased.map_or((None, Timestamp::NEVER), |(entry, end)| (Some(entry), end));
        // A fresh entry is not on disk yet: its lease cannot end before it is.
        let writing = entry.is_some().into();
        place.insert(Slot { token: self.token, end, entry, writing, leaving: false });
        self.lease_min = self.lease_min.min(end);
        Some(self.token)
    }

    /// Gives the slot made for a claim its entry and lease; returns the claim's token.
    pub(crate) fn lease(&mut self, id: MessageId, entry: Arc<Entry>, end: Timestamp) -> u64 {
        let slot = self.slots.get_mut(&id).expect("the claiming scan made this slot");
        (slot.entry, slot.end) = (Some(entry), end);
        self.lease_min = self.lease_min.min(end);
        slot.token
    }

    /// Takes a slot away without further ado.
    pub(crate) fn forget(&mut self, id: MessageId) {
        self.slots.remove(&id);
    }

    fn held(&mut self, claim: &Claim) -> Result<&mut Slot, StoreError> {
        let slot = self.slots.get_mut(&claim.entry.id);
        slot.filter(|slot| slot.token == claim.token && !slot.leaving).ok_or(StoreError::Fenced)
    }

    /// The entry of a claim that is still held.
    pub(crate) fn entry(&mut self, claim: &Claim) -> Result<Arc<Entry>, StoreError> {
        self.held(claim)?.entry.clone().ok_or(StoreError::Fenced)
    }

    /// A settlement was pushed.
    pub(crate) fn on_settle(&mut self, id: MessageId, after: Arc<Entry>, release: bool) {
        let slot = self.slots.get_mut(&id).expect("the claim was held a moment ago, under the same lock");
        slot.leaving = release || after.is_done();
        slot.entry = Some(after);
        slot.writing += 1;
    }

    /// Gives a claim back.
    pub(crate) fn release(&mut self, claim: &Claim) -> Result<(), StoreError> {
        self.held(claim)?.leaving = true;
        self.leave(claim.entry.id);
        Ok(())
    }

    /// Removes a slot that is leaving, once nothing of it is on its way.
    fn leave(&mut self, id: MessageId) {
        let Some(slot) = self.slots.get(&id) else { return };
        if slot.leaving && slot.writing == 0 && !self.frozen {
            let due = slot.entry.as_ref().and_then(|entry| entry.due());
            self.slots.remove(&id);
            due.into_iter().for_each(|due| self.unclaimed(due));
        }
    }

    /// A fresh entry is on disk.
    pub(crate) fn on_inserted(&mut self, id: MessageId, due: Timestamp) {
        self.on_put(due);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.writing -= 1;
            self.leave(id);
        }
    }

    /// A settlement is on disk.
    pub(crate) fn on_settled(&mut self, id: MessageId, due: Option<Timestamp>) {
        due.into_iter().for_each(|due| self.on_put(due));
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.writing -= 1;
            self.leave(id);
        }
    }

    /// An operator's change is on disk.
    pub(crate) fn on_changed(&mut self, id: MessageId, due: Option<Timestamp>) {
        self.slots.remove(&id);
        due.into_iter().for_each(|due| self.on_child(due));
    }

    /// An entry that nobody holds is on disk.
    pub(crate) fn on_child(&mut self, due: Timestamp) {
        self.on_put(due);
        self.unclaimed(due);
    }

    /// The store has failed.
    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
    }

    fn on_put(&mut self, due: Timestamp) {
        self.floor = self.floor.min(due);
        self.lowered_floor = self.lowered_floor.min(due);
    }

    fn unclaimed(&mut self, due: Timestamp) {
        self.next = self.next.min(due);
        self.lowered_next = self.lowered_next.min(due);
    }

    /// Whether a claim at `now` can find anything.
    pub(crate) fn may_be_due(&self, now: Timestamp) -> bool {
        self.next <= now || (self.lease_min <= now && !self.frozen)
    }

    /// When something may be due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let ends = if self.slots.is_empty() || self.frozen { Timestamp::NEVER } else { self.lease_min };
        Some(self.next.min(ends)).filter(|due| *due != Timestamp::NEVER)
    }

    pub(crate) fn claimed(&self) -> u64 {
        self.slots.values().filter(|slot| slot.entry.is_some()).count() as u64
    }

    /// Ends leases. A settlement on its way to the disk keeps its claim until it is there.
    pub(crate) fn sweep(&mut self, now: Timestamp) {
        if self.lease_min > now || self.frozen {
            return;
        }
        let over = |slot: &Slot| slot.end <= now && slot.writing == 0;
        let ids: Vec<_> = self.slots.iter().filter(|(_, slot)| over(slot)).map(|(id, _)| *id).collect();
        for id in ids {
            self.slots.get_mut(&id).expect("found a moment ago").leaving = true;
            self.leave(id);
        }
        self.lease_min = self.slots.values().map(|slot| slot.end).min().unwrap_or(Timestamp::NEVER);
    }

    /// A scan for what is due at `now` begins: says where.
    pub(crate) fn begin_scan(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.sweep(now);
        (self.lowered_next, self.lowered_floor) = (Timestamp::NEVER, Timestamp::NEVER);
        (self.next <= now).then_some(self.floor)
    }

    /// The scan has ended: `first` is the first due time it met, `next` the first one that it left unclaimed.
    pub(crate) fn end_scan(&mut self, first: Timestamp, next: Timestamp) {
        self.floor = first.min(self.lowered_floor);
        self.next = next.min(self.lowered_next);
    }
}
