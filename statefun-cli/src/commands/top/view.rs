//! What a view shows: the difference of two samples. As JSON, its shape is for scripts: names stay, and fields are only added.

use serde::Serialize;
use statefun_core::checkpoint::CheckpointStatus;
use statefun_core::metrics::{
    EgressMetrics, FunctionMetrics, Histogram, HotAddress, IngressMetrics, Lag, Snapshot,
    WorkerMetrics,
};

use super::sample::Sample;

/// One view. Rates are over [`interval_ms`](Self::interval_ms); quantiles are of what happened in it, and null when nothing did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct View {
    /// When the later sample was taken, in Unix ms.
    pub(super) taken_ms: u64,
    /// Time between the samples; null where there is but one, and then all rates and quantiles are.
    pub(super) interval_ms: Option<u64>,
    pub(super) application: Application,
    pub(super) process: Process,
    pub(super) epochs: Epochs,
    pub(super) log: Log,
    pub(super) workers: Workers,
    /// Null when no checkpoints are made.
    pub(super) checkpoints: Option<Checkpoints>,
    /// By name.
    pub(super) functions: Vec<Function>,
    /// As in module.yaml.
    pub(super) ingresses: Vec<Ingress>,
    /// As in module.yaml.
    pub(super) egresses: Vec<Egress>,
    /// Addresses that took most lately, the hottest first.
    pub(super) hottest: Hottest,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Application {
    pub(super) pid: u32,
    pub(super) core_version: String,
    /// How often its data directory has been started, this time included.
    pub(super) attempt: u64,
    pub(super) uptime_ms: u64,
    pub(super) stopping: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Process {
    /// Processor cores that it kept busy.
    pub(super) cpu_cores: Option<f64>,
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Epochs {
    /// The last durable one.
    pub(super) durable: u64,
    /// The last one that the state store has applied.
    pub(super) applied: u64,
    pub(super) in_flight: u64,
    pub(super) per_second: Option<f64>,
    /// From the call for an epoch's cut until what waited for it was released.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// Of which: writing it into the log, and syncing that.
    pub(super) fsync_p50_ms: Option<f64>,
    pub(super) fsync_p99_ms: Option<f64>,
    /// Why nothing is taken in at the moment.
    pub(super) holds: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Log {
    pub(super) bytes: u64,
    pub(super) written_bytes_per_second: Option<f64>,
    /// How far the state store is behind the log.
    pub(super) flush_lag_ms: u64,
    pub(super) flush_lag_epochs: u64,
}

/// All workers together.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Workers {
    pub(super) count: usize,
    /// Messages that can be run now.
    pub(super) queue: u64,
    /// Messages on their way from one worker to another.
    pub(super) in_transit: u64,
    /// Messages that functions sent to functions.
    pub(super) feedback_per_second: Option<f64>,
    /// Delayed messages that are not due yet; null while those of before the start are being counted.
    pub(super) timers: Option<u64>,
    /// The part of invocations, from 0 to 1, whose address was in memory.
    pub(super) cache_hit_share: Option<f64>,
    pub(super) cache_bytes: u64,
    /// Handlers that ran longer than `handler.warnAfter`.
    pub(super) blocked_per_second: Option<f64>,
    pub(super) expired_rows_per_second: Option<f64>,
    /// Messages that could not be delivered since the start, and are kept aside.
    pub(super) dead_letters: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Checkpoints {
    pub(super) url: String,
    /// How often one is made.
    pub(super) every_ms: u64,
    /// The newest one: its epoch, its age, what it consists of, what it took.
    pub(super) epoch: Option<u64>,
    pub(super) age_ms: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) uploaded_bytes: Option<u64>,
    pub(super) took_ms: Option<u64>,
    /// Since the start.
    pub(super) made: u64,
    pub(super) failed: u64,
    pub(super) under_way_ms: Option<u64>,
    /// Why they fail at present.
    pub(super) problem: Option<Problem>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Problem {
    /// For how long they have failed.
    pub(super) age_ms: u64,
    pub(super) error: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Function {
    pub(super) function: String,
    pub(super) in_per_second: Option<f64>,
    pub(super) errors_per_second: Option<f64>,
    /// Messages to addresses of the same worker, and of other ones.
    pub(super) out_local_per_second: Option<f64>,
    pub(super) out_remote_per_second: Option<f64>,
    pub(super) out_egress_per_second: Option<f64>,
    pub(super) handler_p50_ms: Option<f64>,
    pub(super) handler_p99_ms: Option<f64>,
    /// Operations of `ctx.spawn` that have not ended.
    pub(super) inflight_async: u64,
    /// Messages that wait.
    pub(super) backlog: u64,
    /// Addresses whose first message is about to be tried again.
    pub(super) retrying: u64,
    pub(super) parked: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Ingress {
    pub(super) ingress: String,
    pub(super) records_per_second: Option<f64>,
    pub(super) refused_per_second: Option<f64>,
    /// What is there and was not taken in; an ingress tells it in records or in bytes, or not at all.
    pub(super) lag_records: Option<u64>,
    pub(super) lag_bytes: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Egress {
    pub(super) egress: String,
    pub(super) records_per_second: Option<f64>,
    pub(super) failures_per_second: Option<f64>,
    /// How long the oldest record has waited that the receiver has not taken.
    pub(super) outbox_age_ms: u64,
    pub(super) outbox_epochs: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Hottest {
    pub(super) by_time: Vec<HotByTime>,
    pub(super) by_bytes: Vec<HotByBytes>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct HotByTime {
    pub(super) function: String,
    pub(super) id: String,
    /// Of the time of all handlers, from 0 to 1.
    pub(super) share: f64,
    pub(super) handler_ms_per_second: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct HotByBytes {
    pub(super) function: String,
    pub(super) id: String,
    /// Of all that was written, from 0 to 1.
    pub(super) share: f64,
    pub(super) bytes_per_second: f64,
}

/// The time between two samples of one process.
#[derive(Debug, Clone, Copy)]
struct Span(Option<f64>);

impl Span {
    fn rate(self, now: u64, then: Option<u64>) -> Option<f64> {
        // Counts are read one after the other while the application runs, so one may be a little behind.
        Some(now.saturating_sub(then?) as f64 / self.0?)
    }
}

/// Looks for the same thing in the sample before; what is new there began with nothing.
fn before<'s, T>(
    then: Option<&'s [T]>,
    none: &'s T,
    is_same: impl Fn(&T) -> bool,
) -> Option<&'s T> {
    then.map(|then| then.iter().find(|one| is_same(one)).unwrap_or(none))
}

impl View {
    /// Of what happened between two samples. A sample of another process says nothing about this one's rates.
    pub(super) fn between(then: Option<&Sample>, now: &Sample) -> Self {
        let seconds = then.and_then(|then| now.seconds_since(then));
        let then = then.filter(|_| seconds.is_some()).map(|then| &then.metrics);
        let span = Span(seconds);
        let metrics = &now.metrics;
        Self {
            taken_ms: metrics.taken_ms,
            interval_ms: seconds.map(|seconds| (seconds * 1000.0).round() as u64),
            application: Application {
                pid: now.status.pid,
                core_version: now.status.core_version.clone(),
                attempt: now.status.attempt,
                uptime_ms: metrics.uptime_ms,
                stopping: now.status.stopping,
            },
            process: process(then, metrics, seconds),
            epochs: epochs(then, metrics, span),
            log: log(then, metrics, span),
            workers: workers(then, metrics, span, now.status.workers),
            checkpoints: metrics
                .checkpoints
                .as_ref()
                .map(|status| checkpoints(status, metrics.taken_ms)),
            functions: functions(then, metrics, span),
            ingresses: ingresses(then, metrics, span),
            egresses: egresses(then, metrics, span),
            hottest: Hottest {
                by_time: metrics.hottest.by_time.iter().map(by_time).collect(),
                by_bytes: metrics.hottest.by_bytes.iter().map(by_bytes).collect(),
            },
        }
    }
}

fn process(then: Option<&Snapshot>, now: &Snapshot, seconds: Option<f64>) -> Process {
    let cpu_cores = then.zip(seconds).map(|(then, seconds)| {
        (now.process.cpu_seconds - then.process.cpu_seconds).max(0.0) / seconds
    });
    Process {
        cpu_cores,
        resident_bytes: now.process.resident_bytes,
        threads: now.process.threads,
        open_fds: now.process.open_fds,
        max_fds: now.process.max_fds,
    }
}

fn epochs(then: Option<&Snapshot>, now: &Snapshot, span: Span) -> Epochs {
    let then = then.map(|then| &then.epochs);
    let now = &now.epochs;
    let whole = then.map(|then| now.seconds.since(&then.seconds));
    let fsync = then.map(|then| now.fsync_seconds.since(&then.fsync_seconds));
    Epochs {
        durable: now.durable,
        applied: now.applied,
        in_flight: now.in_flight,
        per_second: span.rate(now.durable, then.map(|then| then.durable)),
        p50_ms: quantile_ms(whole.as_ref(), 0.5),
        p99_ms: quantile_ms(whole.as_ref(), 0.99),
        fsync_p50_ms: quantile_ms(fsync.as_ref(), 0.5),
        fsync_p99_ms: quantile_ms(fsync.as_ref(), 0.99),
        holds: now.holds.clone(),
    }
}

fn log(then: Option<&Snapshot>, now: &Snapshot, span: Span) -> Log {
    let then = then.map(|then| then.state.log_written_bytes);
    Log {
        bytes: now.state.log_bytes,
        written_bytes_per_second: span.rate(now.state.log_written_bytes, then),
        flush_lag_ms: now.state.flush_lag_ms,
        flush_lag_epochs: now.epochs.durable.saturating_sub(now.epochs.applied),
    }
}

fn workers(then: Option<&Snapshot>, now: &Snapshot, span: Span, count: usize) -> Workers {
    let now_sum = |part: fn(&WorkerMetrics) -> u64| -> u64 { now.workers.iter().map(part).sum() };
    let then_sum = |part: fn(&WorkerMetrics) -> u64| -> Option<u64> {
        then.map(|then| then.workers.iter().map(part).sum())
    };
    let rate = |part| span.rate(now_sum(part), then_sum(part));
    let difference = |part| Some(now_sum(part).saturating_sub(then_sum(part)?));
    let hits = difference(|worker| worker.cache_hits);
    let misses = difference(|worker| worker.cache_misses);
    let hit_share = hits.zip(misses).and_then(|(hits, misses)| {
        let all = hits + misses;
        (all > 0).then(|| hits as f64 / all as f64)
    });
    Workers {
        count: count.max(now.workers.len()),
        queue: now_sum(|worker| worker.queue),
        in_transit: now_sum(|worker| worker.in_transit),
        feedback_per_second: rate(|worker| worker.feedback),
        timers: now.timers,
        cache_hit_share: hit_share,
        cache_bytes: now_sum(|worker| worker.cache_bytes),
        blocked_per_second: rate(|worker| worker.blocked),
        expired_rows_per_second: rate(|worker| worker.expired),
        dead_letters: now_sum(|worker| worker.dead_letters),
    }
}

fn checkpoints(status: &CheckpointStatus, taken_ms: u64) -> Checkpoints {
    let latest = status.latest.as_ref();
    Checkpoints {
        url: status.url.clone(),
        every_ms: status.interval_ms,
        epoch: latest.map(|entry| entry.epoch),
        age_ms: latest.map(|entry| taken_ms.saturating_sub(entry.created_ms)),
        bytes: latest.map(|entry| entry.bytes),
        uploaded_bytes: latest.map(|entry| entry.uploaded_bytes),
        // What is found in the bucket at the start was made by another process.
        took_ms: latest
            .filter(|_| status.made > 0)
            .map(|_| status.latest_took_ms),
        made: status.made,
        failed: status.failed,
        under_way_ms: status.under_way_ms,
        problem: status.problem.as_ref().map(|problem| Problem {
            age_ms: taken_ms.saturating_sub(problem.since_ms),
            error: problem.error.clone(),
        }),
    }
}

fn functions(then: Option<&Snapshot>, now: &Snapshot, span: Span) -> Vec<Function> {
    let then = then.map(|then| &then.functions[..]);
    let none = FunctionMetrics::default();
    let function = |now: &FunctionMetrics| {
        let then = before(then, &none, |one| one.function == now.function);
        let rate = |part: fn(&FunctionMetrics) -> u64| span.rate(part(now), then.map(part));
        let handler = then.map(|then| now.handler_seconds.since(&then.handler_seconds));
        Function {
            function: now.function.clone(),
            in_per_second: rate(|one| one.invocations),
            errors_per_second: rate(|one| one.errors),
            out_local_per_second: rate(|one| one.out_local),
            out_remote_per_second: rate(|one| one.out_remote),
            out_egress_per_second: rate(|one| one.out_egress),
            handler_p50_ms: quantile_ms(handler.as_ref(), 0.5),
            handler_p99_ms: quantile_ms(handler.as_ref(), 0.99),
            inflight_async: now.inflight_async,
            backlog: now.backlog,
            retrying: now.retrying,
            parked: now.parked,
        }
    };
    now.functions.iter().map(function).collect()
}

fn ingresses(then: Option<&Snapshot>, now: &Snapshot, span: Span) -> Vec<Ingress> {
    let then = then.map(|then| &then.ingresses[..]);
    let none = IngressMetrics::default();
    let ingress = |now: &IngressMetrics| {
        let then = before(then, &none, |one| one.ingress == now.ingress);
        let (lag_records, lag_bytes) = match now.lag {
            Some(Lag::Records(records)) => (Some(records), None),
            Some(Lag::Bytes(bytes)) => (None, Some(bytes)),
            None => (None, None),
        };
        Ingress {
            ingress: now.ingress.clone(),
            records_per_second: span.rate(now.records, then.map(|then| then.records)),
            refused_per_second: span.rate(now.refused, then.map(|then| then.refused)),
            lag_records,
            lag_bytes,
        }
    };
    now.ingresses.iter().map(ingress).collect()
}

fn egresses(then: Option<&Snapshot>, now: &Snapshot, span: Span) -> Vec<Egress> {
    let then = then.map(|then| &then.egresses[..]);
    let none = EgressMetrics::default();
    let egress = |now: &EgressMetrics| {
        let then = before(then, &none, |one| one.egress == now.egress);
        Egress {
            egress: now.egress.clone(),
            records_per_second: span.rate(now.records, then.map(|then| then.records)),
            failures_per_second: span.rate(now.failures, then.map(|then| then.failures)),
            outbox_age_ms: now.outbox_age_ms,
            outbox_epochs: now.outbox_epochs,
        }
    };
    now.egresses.iter().map(egress).collect()
}

fn by_time(address: &HotAddress) -> HotByTime {
    HotByTime {
        function: address.function.clone(),
        id: address.id.clone(),
        share: address.share,
        handler_ms_per_second: address.rate * 1000.0,
    }
}

fn by_bytes(address: &HotAddress) -> HotByBytes {
    HotByBytes {
        function: address.function.clone(),
        id: address.id.clone(),
        share: address.share,
        bytes_per_second: address.rate,
    }
}

fn quantile_ms(histogram: Option<&Histogram>, share: f64) -> Option<f64> {
    Some(histogram?.quantile(share)? * 1000.0)
}
