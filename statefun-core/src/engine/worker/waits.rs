//! The addresses of a worker whose messages wait, and how many they are: counts follow from what goes in and out.

use std::sync::Arc;

use crate::engine::envelope::Envelope;
use crate::engine::registry::Registry;
use crate::engine::waiting::{Wait, WaitKind, WaitRow};
use crate::engine::worker::AddressMap;
use crate::id::Address;
use crate::metrics::meter::{FunctionMeter, WorkerMeter};

/// See the module's page.
pub(super) struct Waits {
    map: AddressMap<Wait>,
    /// Messages in memory.
    messages: usize,
    registry: Arc<Registry>,
    meter: Arc<WorkerMeter>,
}

impl Waits {
    pub(super) fn new(registry: &Arc<Registry>, meter: &Arc<WorkerMeter>) -> Self {
        Self {
            map: AddressMap::default(),
            messages: 0,
            registry: registry.clone(),
            meter: meter.clone(),
        }
    }

    fn meter_of(&self, address: &Address) -> Option<&FunctionMeter> {
        let function = self.registry.function_index(address.function())?;
        self.meter.functions.get(function)
    }

    fn count(&mut self, address: &Address, wait: &Wait) {
        self.messages += wait.memory.len();
        if let Some(meter) = self.meter_of(address) {
            meter
                .backlog
                .add(wait.memory.len() as u64 + wait.stored_len());
            match wait.kind {
                WaitKind::Retrying => meter.retrying.add(1),
                WaitKind::Parked => meter.parked.add(1),
                WaitKind::Loading | WaitKind::Draining => {}
            }
        }
    }

    fn discount(&mut self, address: &Address, wait: &Wait) {
        self.messages -= wait.memory.len();
        if let Some(meter) = self.meter_of(address) {
            meter
                .backlog
                .sub(wait.memory.len() as u64 + wait.stored_len());
            match wait.kind {
                WaitKind::Retrying => meter.retrying.sub(1),
                WaitKind::Parked => meter.parked.sub(1),
                WaitKind::Loading | WaitKind::Draining => {}
            }
        }
    }

    pub(super) fn insert(&mut self, address: Address, wait: Wait) {
        self.count(&address, &wait);
        if let Some(before) = self.map.insert(address.clone(), wait) {
            self.discount(&address, &before);
        }
    }

    pub(super) fn remove(&mut self, address: &Address) -> Option<Wait> {
        let wait = self.map.remove(address)?;
        self.discount(address, &wait);
        Some(wait)
    }

    /// Puts a message behind those in memory.
    pub(super) fn push(&mut self, envelope: Envelope) {
        if let Some(meter) = self.meter_of(&envelope.to) {
            meter.backlog.add(1);
        }
        if let Some(wait) = self.map.get_mut(&envelope.to) {
            wait.memory.push_back(envelope);
            self.messages += 1;
        }
    }

    /// Changes a wait in its place.
    pub(super) fn change<R>(
        &mut self,
        address: &Address,
        change: impl FnOnce(&mut Wait) -> R,
    ) -> Option<R> {
        let mut wait = self.remove(address)?;
        let changed = change(&mut wait);
        self.insert(address.clone(), wait);
        Some(changed)
    }

    /// Lets an address go from memory that goes on waiting in rows: it still counts.
    pub(super) fn release(&mut self, address: &Address) {
        if let Some(wait) = self.map.remove(address) {
            self.messages -= wait.memory.len();
        }
    }

    /// An address is known to wait in rows alone.
    pub(super) fn found(&mut self, address: &Address, row: WaitRow) {
        let wait = row.into_wait();
        self.count(address, &wait);
    }

    /// A parked address that was [found](Self::found) or [released](Self::release) comes into memory: from now on it counts by
    /// what is in there.
    pub(super) fn recall(&mut self, address: &Address, wait: &Wait) {
        if wait.kind == WaitKind::Parked {
            self.discount(address, wait);
        }
    }

    pub(super) fn get(&self, address: &Address) -> Option<&Wait> {
        self.map.get(address)
    }

    pub(super) fn contains(&self, address: &Address) -> bool {
        self.map.contains_key(address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Address, &Wait)> {
        self.map.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Addresses in memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Messages in memory.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }
}
