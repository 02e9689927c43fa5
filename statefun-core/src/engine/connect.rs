//! Opening the ingresses and egresses of an application, each where the last epoch left it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use crossbeam_channel::Sender;
use tokio::sync::watch;

use crate::clock::Stopwatch;
use crate::engine::cut::SinkPosition;
use crate::engine::driver::{ActiveSource, ToCommit};
use crate::engine::registry::Registry;
use crate::engine::shared::{EngineError, Shared};
use crate::engine::sinks::{SinkFeed, SinkRunner};
use crate::engine::starting::{StartListener, StartStep};
use crate::engine::stored::each_row;
use crate::engine::worker::partition_address;
use crate::id::MessageTypeId;
use crate::io::clients::Clients;
use crate::io::egress::{Egress, EgressContext};
use crate::io::ingress::{Ingress, IngressContext, SourceStatus};
use crate::log::EpochLog;
use crate::metrics::meter::Meters;
use crate::state::keys::{Space, parse_address_key, take_escaped};
use crate::state::{StateError, StateReader};
use crate::trace::Tracer;

/// What all connectors are opened with.
pub(crate) struct Connect<'a> {
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) runtime: &'a tokio::runtime::Handle,
    pub(crate) stopping: &'a watch::Receiver<bool>,
    pub(crate) listener: &'a StartListener,
    pub(crate) tracer: Option<&'a Tracer>,
    pub(crate) meters: &'a Meters,
}

impl Connect<'_> {
    /// Opens the ingresses; returns what each worker is to poll.
    pub(crate) fn ingresses(
        &self,
        ingresses: Vec<(String, Box<dyn Ingress>)>,
        store: &dyn StateReader,
        workers: usize,
        clients: &Arc<Clients>,
    ) -> Result<Vec<Vec<ActiveSource>>, EngineError> {
        let mut sources: Vec<Vec<ActiveSource>> = (0..workers).map(|_| Vec::new()).collect();
        let wakers: Vec<_> = (0..workers)
            .map(|worker| self.shared.waker(worker))
            .collect();
        for (id, mut ingress) in ingresses {
            self.listener.tell(StartStep::Ingress(&id));
            let index = self.registry.ingress_index(&id);
            let decoder = self.registry.decoder();
            let context = IngressContext {
                positions: positions(store, &id)?,
                id,
                workers,
                decoder: match index {
                    Some(index) => decoder.with_limit(self.registry.record_limit(index)),
                    None => decoder,
                },
                runtime: self.runtime.clone(),
                stopping: self.stopping.clone(),
                full: self.shared.full(),
                clients: clients.clone(),
                wakers: wakers.clone(),
                key_groups: self.registry.key_groups,
                limits: self.registry.message_limits(),
                tracer: self.tracer.cloned(),
                unreadable: self.meters.unreadable_of(index),
            };
            let index = index.ok_or_else(|| context.error("it is not wired"))?;
            for partition in ingress.open(&context)? {
                let own = sources.get_mut(partition.worker).ok_or_else(|| {
                    context.error(format_args!(
                        "a partition names worker {}, and there are {workers}",
                        partition.worker
                    ))
                })?;
                own.push(ActiveSource {
                    ingress: index,
                    partition: partition
                        .name
                        .map(|name| partition_address(&context.id, &name)),
                    source: partition.source,
                    status: SourceStatus::Ready,
                    polled: Stopwatch::start(),
                });
            }
        }
        Ok(sources)
    }

    /// Opens the egresses, at the positions that the log has of them.
    pub(crate) fn egresses(
        &self,
        egresses: Vec<(String, Box<dyn Egress>)>,
        log: &EpochLog,
        (lineage, positions): (u64, &[SinkPosition]),
        restored: Option<&BTreeMap<String, u64>>,
        commit: &Sender<ToCommit>,
    ) -> Result<Vec<SinkRunner>, EngineError> {
        let names = {
            let registry = self.registry.clone();
            Arc::new(move |id: MessageTypeId| registry.type_name(id))
        };
        let mut runners = Vec::new();
        for (id, mut egress) in egresses {
            self.listener.tell(StartStep::Egress(&id));
            let known = positions.iter().find(|position| position.egress == id);
            egress.open(&EgressContext {
                id: id.clone(),
                position: known
                    .map(|known| known.position.clone())
                    .filter(|position| !position.is_empty()),
                lineage,
                restored: restored.is_some_and(|accepted| {
                    accepted.get(&id).copied() == known.map(|known| known.through_epoch)
                }),
                runtime: self.runtime.clone(),
                stopping: self.stopping.clone(),
            })?;
            runners.push(SinkRunner {
                feed: Arc::new(SinkFeed::reading_from(
                    known.map_or(0, |known| known.through_epoch) + 1,
                )),
                settled: Arc::new(AtomicBool::new(!egress.is_in_doubt())),
                id,
                egress,
                log: log.reader(),
                commit: commit.clone(),
                shared: self.shared.clone(),
                names: names.clone(),
                tracer: self.tracer.cloned(),
            });
        }
        Ok(runners)
    }
}

/// The positions of an ingress' partitions.
fn positions(
    store: &dyn StateReader,
    ingress: &str,
) -> Result<BTreeMap<String, Bytes>, StateError> {
    let source = partition_address(ingress, "").function().function_type_id();
    let mut positions = BTreeMap::new();
    each_row(store, Space::Source, |key, value| {
        let Some(parsed) = parse_address_key(&key).filter(|parsed| parsed.function == source)
        else {
            return;
        };
        let mut id = parsed.id.as_bytes();
        if take_escaped(&mut id).is_some_and(|of| of == ingress.as_bytes()) {
            positions.insert(String::from_utf8_lossy(id).into_owned(), Bytes::from(value));
        }
    })?;
    Ok(positions)
}
