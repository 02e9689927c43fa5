//! From what the engine's threads write to a snapshot.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::hot::Sums;
use super::meter::{EpochMeter, FunctionMeter, Meters};
use super::process::process;
use super::snapshot::{
    EgressMetrics, EpochMetrics, FunctionMetrics, Histogram, IngressMetrics, Lag, Snapshot,
    StateMetrics, WorkerMetrics,
};
use crate::engine::handle::EngineHandle;
use crate::engine::registry::Registry;
use crate::engine::shared::{Hold, Shared};
use crate::engine::sinks::SinkFeed;

/// Everything that an engine has measured since its start.
pub(crate) fn collect(engine: &EngineHandle) -> Snapshot {
    let (shared, meters) = (&*engine.shared, &*engine.meters);
    let workers: Vec<WorkerMetrics> = (0..meters.workers.len())
        .map(|worker| of_worker(worker, meters, shared))
        .collect();
    let mut sums = Sums::default();
    for worker in &meters.workers {
        sums.add(&worker.hot.lock().unwrap_or_else(PoisonError::into_inner));
    }
    let sinks = engine.sinks.iter();
    Snapshot {
        taken_ms: engine.clock.now().as_ms(),
        uptime_ms: shared.epochs.uptime().as_millis() as u64,
        functions: functions(&engine.registry, meters),
        ingresses: ingresses(&engine.registry, meters),
        egresses: sinks
            .map(|(id, feed)| of_egress(id, feed, shared))
            .collect(),
        workers,
        epochs: epochs(shared),
        timers: meters.timers(),
        state: StateMetrics {
            log_bytes: engine.retention.retained_bytes(),
            log_written_bytes: shared.epochs.log_written_bytes.get(),
            flush_lag_ms: age_ms(&shared.epochs, shared.applied.load(Ordering::Acquire) + 1),
        },
        checkpoints: engine.checkpoints(),
        traces: engine.tracing(),
        process: process(),
        hottest: sums.hottest(),
        own: shared.own.snapshot(),
    }
}

/// How long an epoch has been durable, in ms; 0 when it is not.
fn age_ms(epochs: &EpochMeter, epoch: u64) -> u64 {
    let age = epochs.durable_for(epoch).unwrap_or_default();
    age.as_millis() as u64
}

fn functions(registry: &Registry, meters: &Meters) -> Vec<FunctionMetrics> {
    let functions = registry.functions().iter().enumerate();
    let mut all: Vec<FunctionMetrics> = functions
        .filter(|(_, function)| !function.typename.is_own())
        .map(|(index, function)| {
            let own = || {
                let workers = meters.workers.iter();
                workers.filter_map(|worker| worker.functions.get(index))
            };
            let sum = |of: fn(&FunctionMeter) -> u64| own().map(of).fold(0, u64::wrapping_add);
            let mut handler_seconds = Histogram::default();
            own().for_each(|meter| meter.handler.add_to(&mut handler_seconds));
            let out_remote = sum(|meter| meter.out_remote.get());
            FunctionMetrics {
                function: function.typename.as_str().to_owned(),
                invocations: sum(|meter| meter.invocations.get()),
                errors: sum(|meter| meter.errors.get()),
                // Read after the remote ones, which are counted later: never below zero.
                out_local: sum(|meter| meter.out.get()).saturating_sub(out_remote),
                out_remote,
                out_egress: sum(|meter| meter.out_egress.get()),
                handler_seconds,
                inflight_async: sum(|meter| meter.inflight.get()),
                backlog: sum(|meter| meter.backlog.get()),
                retrying: sum(|meter| meter.retrying.get()),
                parked: sum(|meter| meter.parked.get()),
            }
        })
        .collect();
    all.sort_by(|one, other| one.function.cmp(&other.function));
    all
}

fn ingresses(registry: &Registry, meters: &Meters) -> Vec<IngressMetrics> {
    let ids = registry.ingress_ids().enumerate();
    ids.map(|(index, id)| {
        let own = || {
            let workers = meters.workers.iter();
            workers.filter_map(|worker| worker.ingresses.get(index))
        };
        IngressMetrics {
            ingress: id.to_owned(),
            records: own().map(|meter| meter.records.get()).sum(),
            refused: own().map(|meter| meter.refused.get()).sum::<u64>()
                + meters.unreadable_of(Some(index as u16)).count(),
            lag: own().fold(None, |sum, meter| Lag::sum(sum, meter.lag())),
        }
    })
    .collect()
}

fn of_egress(id: &str, feed: &SinkFeed, shared: &Shared) -> EgressMetrics {
    let durable = shared.durable.load(Ordering::Acquire);
    let waits_from = feed.waits_from();
    EgressMetrics {
        egress: id.to_owned(),
        records: feed.meter.records.get(),
        failures: feed.meter.failures.get(),
        outbox_age_ms: waits_from.map_or(0, |epoch| age_ms(&shared.epochs, epoch)),
        outbox_epochs: waits_from.map_or(0, |epoch| (durable + 1).saturating_sub(epoch)),
    }
}

fn of_worker(worker: usize, meters: &Meters, shared: &Shared) -> WorkerMetrics {
    let gauge = |gauges: &[std::sync::atomic::AtomicUsize]| {
        gauges
            .get(worker)
            .map_or(0, |gauge| gauge.load(Ordering::Relaxed) as u64)
    };
    let Some(meter) = meters.workers.get(worker) else {
        return WorkerMetrics::default();
    };
    let sum = |of: fn(&FunctionMeter) -> u64| meter.functions.iter().map(of).sum::<u64>();
    let cache_misses = meter.cache_misses.get();
    WorkerMetrics {
        queue: gauge(&shared.backlog),
        in_transit: gauge(&shared.in_transit),
        feedback: sum(|meter| meter.out.get()),
        cache_hits: sum(|meter| meter.invocations.get()).saturating_sub(cache_misses),
        cache_misses,
        cache_bytes: meter.cache_bytes.get(),
        blocked: meter.blocked.get(),
        expired: meter.expired.get(),
        dead_letters: meter.dead_letters.get(),
    }
}

fn epochs(shared: &Shared) -> EpochMetrics {
    let of = |cells: &super::cell::DurationCells| {
        let mut histogram = Histogram::default();
        cells.add_to(&mut histogram);
        histogram
    };
    let durable = shared.durable.load(Ordering::Acquire);
    let requested = shared.requested.load(Ordering::Acquire);
    let meter = &shared.epochs;
    EpochMetrics {
        durable,
        applied: shared.applied.load(Ordering::Acquire),
        // The one that is asked for has begun, those before it are cut or being cut.
        in_flight: requested.saturating_sub(durable + 1),
        seconds: of(&meter.whole),
        cut_seconds: of(&meter.cut),
        fsync_seconds: of(&meter.fsync),
        upload_seconds: of(&meter.upload),
        release_seconds: of(&meter.release),
        holds: Hold::ALL
            .into_iter()
            .filter(|hold| shared.is_held_by(*hold))
            .map(|hold| hold.name().to_owned())
            .collect(),
    }
}
