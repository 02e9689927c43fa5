//! All metrics that `/metrics` shows, as the documentation lists them.

use super::snapshot::{Lag, Snapshot};
use crate::engine::shared::Hold;

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Observations by size.
    Histogram,
}

impl Kind {
    /// Its name in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels: by function, ingress, egress or worker, or a fixed few; never by address.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// What StateFun calls it, where it has the like.
    pub statefun: Option<&'static str>,
    pub(super) values: fn(&Snapshot, &mut Series<'_>),
}

/// Takes the values of a metric.
pub(super) trait Write {
    fn value(&mut self, labels: &[&str], value: f64);
    fn histogram(&mut self, labels: &[&str], histogram: &super::Histogram);
}

pub(super) type Series<'a> = dyn Write + 'a;

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    values: fn(&Snapshot, &mut Series<'_>),
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        labels,
        help,
        statefun: None,
        values,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    values: fn(&Snapshot, &mut Series<'_>),
) -> Metric {
    Metric {
        kind: Kind::Gauge,
        ..counter(name, labels, help, values)
    }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    values: fn(&Snapshot, &mut Series<'_>),
) -> Metric {
    Metric {
        kind: Kind::Histogram,
        ..counter(name, labels, help, values)
    }
}

const fn like(metric: Metric, statefun: &'static str) -> Metric {
    Metric {
        statefun: Some(statefun),
        ..metric
    }
}

macro_rules! each {
    ($list:ident, $label:ident, $value:ident) => {
        |all, out| {
            for one in &all.$list {
                out.value(&[&one.$label], one.$value as f64);
            }
        }
    };
}

macro_rules! each_worker {
    ($value:ident) => {
        |all, out| {
            for (worker, one) in all.workers.iter().enumerate() {
                out.value(&[&worker.to_string()], one.$value as f64);
            }
        }
    };
}

macro_rules! all_workers {
    ($value:ident) => {
        |all, out| {
            let sum: u64 = all.workers.iter().map(|worker| worker.$value).sum();
            out.value(&[], sum as f64);
        }
    };
}

macro_rules! of {
    ($($value:ident).+) => {
        |all, out| out.value(&[], all.$($value).+ as f64)
    };
}

macro_rules! of_checkpoints {
    (|$status:ident| $value:expr) => {
        |all, out| {
            if let Some($status) = &all.checkpoints
                && let Some(value) = $value
            {
                out.value(&[], value as f64);
            }
        }
    };
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

const FUNCTION: &[&str] = &["function"];
const INGRESS: &[&str] = &["ingress"];
const EGRESS: &[&str] = &["egress"];
const WORKER: &[&str] = &["worker"];

/// All of them, in the order in which they are shown.
pub const METRICS: &[Metric] = &[
    gauge(
        "statefun_info",
        &["version"],
        "1, for the version of statefun-core in the application",
        |_, out| out.value(&[env!("CARGO_PKG_VERSION")], 1.0),
    ),
    gauge(
        "statefun_uptime_seconds",
        &[],
        "How long the engine has run",
        |all, out| out.value(&[], seconds(all.uptime_ms)),
    ),
    like(
        counter(
            "statefun_function_in_total",
            FUNCTION,
            "Messages that the function was invoked with, failed invocations included",
            each!(functions, function, invocations),
        ),
        "in, inRate",
    ),
    counter(
        "statefun_function_errors_total",
        FUNCTION,
        "Invocations that failed",
        each!(functions, function, errors),
    ),
    like(
        counter(
            "statefun_function_out_local_total",
            FUNCTION,
            "Messages that the function sent to addresses of the same worker",
            each!(functions, function, out_local),
        ),
        "outLocal",
    ),
    like(
        counter(
            "statefun_function_out_remote_total",
            FUNCTION,
            "Messages that the function sent to addresses of other workers",
            each!(functions, function, out_remote),
        ),
        "outRemote",
    ),
    like(
        counter(
            "statefun_function_out_egress_total",
            FUNCTION,
            "Records that the function wrote to egresses",
            each!(functions, function, out_egress),
        ),
        "outEgress",
    ),
    histogram(
        "statefun_function_handler_seconds",
        FUNCTION,
        "How long its handler ran; on a busy worker, while handlers take microseconds, one invocation in 64 is timed and stands for all",
        |all, out| {
            for one in &all.functions {
                out.histogram(&[&one.function], &one.handler_seconds);
            }
        },
    ),
    like(
        gauge(
            "statefun_function_inflight_async_ops",
            FUNCTION,
            "Operations started with ctx.spawn that have not ended",
            each!(functions, function, inflight_async),
        ),
        "inflightAsyncOps",
    ),
    like(
        gauge(
            "statefun_function_backlog",
            FUNCTION,
            "Messages that wait at addresses whose state is read, that retry, or that are parked",
            each!(functions, function, backlog),
        ),
        "numBackLog",
    ),
    like(
        gauge(
            "statefun_function_blocked_addresses",
            &["function", "reason"],
            "Addresses that hold their messages back: `retrying` (the first one is tried again) or `parked` (an operator decides)",
            |all, out| {
                for one in &all.functions {
                    out.value(&[&one.function, "retrying"], one.retrying as f64);
                    out.value(&[&one.function, "parked"], one.parked as f64);
                }
            },
        ),
        "numBlockedAddress",
    ),
    counter(
        "statefun_ingress_records_total",
        INGRESS,
        "Records taken in",
        each!(ingresses, ingress, records),
    ),
    counter(
        "statefun_ingress_refused_total",
        INGRESS,
        "Records that could not be read or routed",
        each!(ingresses, ingress, refused),
    ),
    gauge(
        "statefun_ingress_lag_records",
        INGRESS,
        "Records that are there and have not been taken in; of ingresses that count records",
        |all, out| {
            for one in &all.ingresses {
                if let Some(Lag::Records(records)) = one.lag {
                    out.value(&[&one.ingress], records as f64);
                }
            }
        },
    ),
    gauge(
        "statefun_ingress_lag_bytes",
        INGRESS,
        "Bytes that are there and have not been taken in; of ingresses that read files",
        |all, out| {
            for one in &all.ingresses {
                if let Some(Lag::Bytes(bytes)) = one.lag {
                    out.value(&[&one.ingress], bytes as f64);
                }
            }
        },
    ),
    counter(
        "statefun_egress_records_total",
        EGRESS,
        "Records that the receiver has taken",
        each!(egresses, egress, records),
    ),
    counter(
        "statefun_egress_failures_total",
        EGRESS,
        "Times that the receiver did not take records, which are then tried again",
        each!(egresses, egress, failures),
    ),
    gauge(
        "statefun_egress_outbox_age_seconds",
        EGRESS,
        "How long the oldest record that has not been taken has been durable; 0 when none waits",
        |all, out| {
            for one in &all.egresses {
                out.value(&[&one.egress], seconds(one.outbox_age_ms));
            }
        },
    ),
    gauge(
        "statefun_egress_outbox_epochs",
        EGRESS,
        "Durable epochs whose records the receiver has not taken",
        each!(egresses, egress, outbox_epochs),
    ),
    gauge(
        "statefun_worker_queue",
        WORKER,
        "Messages that the worker can run now",
        each_worker!(queue),
    ),
    gauge(
        "statefun_worker_in_transit",
        WORKER,
        "Messages on their way to the worker from others",
        each_worker!(in_transit),
    ),
    like(
        counter(
            "statefun_feedback_produced_total",
            WORKER,
            "Messages from functions to functions",
            each_worker!(feedback),
        ),
        "feedback.produced",
    ),
    gauge(
        "statefun_timers_pending",
        &[],
        "Delayed messages that are not due yet; not shown while those of before the start are being counted",
        |all, out| {
            if let Some(timers) = all.timers {
                out.value(&[], timers as f64);
            }
        },
    ),
    counter(
        "statefun_cache_hits_total",
        &[],
        "Invocations whose address was in memory",
        all_workers!(cache_hits),
    ),
    counter(
        "statefun_cache_misses_total",
        &[],
        "Invocations whose address had to be read from the state store",
        all_workers!(cache_misses),
    ),
    gauge(
        "statefun_cache_bytes",
        &[],
        "What the instances in memory occupy, roughly",
        all_workers!(cache_bytes),
    ),
    counter(
        "statefun_handler_blocked_total",
        &[],
        "Handlers that ran longer than handler.warnAfter",
        all_workers!(blocked),
    ),
    counter(
        "statefun_expired_rows_total",
        &[],
        "Rows of states deleted since they had expired",
        all_workers!(expired),
    ),
    counter(
        "statefun_dead_letters_total",
        &[],
        "Messages between functions that could not be delivered and are kept aside",
        all_workers!(dead_letters),
    ),
    gauge(
        "statefun_epoch_durable",
        &[],
        "The last durable epoch",
        of!(epochs.durable),
    ),
    gauge(
        "statefun_epoch_applied",
        &[],
        "The last epoch that the state store has applied",
        of!(epochs.applied),
    ),
    gauge(
        "statefun_epochs_in_flight",
        &[],
        "Epochs that are cut, or being cut, and not durable yet",
        of!(epochs.in_flight),
    ),
    histogram(
        "statefun_epoch_seconds",
        &[],
        "From the call for a cut until what waited for the epoch was released",
        |all, out| out.histogram(&[], &all.epochs.seconds),
    ),
    histogram(
        "statefun_epoch_part_seconds",
        &["part"],
        "The parts of it: `cut` until all workers' parts are there, `fsync` until the log has them, `upload` until the blob store \
         does (durability: blob), `release` handing over output, replies and acknowledgements",
        |all, out| {
            out.histogram(&["cut"], &all.epochs.cut_seconds);
            out.histogram(&["fsync"], &all.epochs.fsync_seconds);
            out.histogram(&["upload"], &all.epochs.upload_seconds);
            out.histogram(&["release"], &all.epochs.release_seconds);
        },
    ),
    gauge(
        "statefun_hold",
        &["reason"],
        "1 while nothing is taken in for that reason: `disk_full`, `log_full`, `store_full`, `store_behind`, `blob_store`",
        |all, out| {
            for reason in Hold::ALL.map(Hold::name) {
                let is_held = all.epochs.holds.iter().any(|hold| hold == reason);
                out.value(&[reason], f64::from(u8::from(is_held)));
            }
        },
    ),
    gauge(
        "statefun_log_bytes",
        &[],
        "Bytes of the epoch log that are needed still",
        of!(state.log_bytes),
    ),
    counter(
        "statefun_log_written_bytes_total",
        &[],
        "Bytes written into the epoch log",
        of!(state.log_written_bytes),
    ),
    gauge(
        "statefun_flush_lag_epochs",
        &[],
        "Durable epochs that the state store has not applied",
        |all, out| {
            let lag = all.epochs.durable.saturating_sub(all.epochs.applied);
            out.value(&[], lag as f64);
        },
    ),
    gauge(
        "statefun_flush_lag_seconds",
        &[],
        "How long the oldest of them has been durable",
        |all, out| out.value(&[], seconds(all.state.flush_lag_ms)),
    ),
    gauge(
        "statefun_checkpoint_age_seconds",
        &[],
        "How old the newest checkpoint is",
        |all, out| {
            let latest = all.checkpoints.as_ref().and_then(|all| all.latest.as_ref());
            if let Some(latest) = latest {
                out.value(&[], seconds(all.taken_ms.saturating_sub(latest.created_ms)));
            }
        },
    ),
    gauge(
        "statefun_checkpoint_last_bytes",
        &[],
        "Bytes uploaded for the newest checkpoint",
        of_checkpoints!(|status| status.latest.as_ref().map(|latest| latest.uploaded_bytes)),
    ),
    gauge(
        "statefun_checkpoint_last_duration_seconds",
        &[],
        "How long the newest checkpoint took",
        of_checkpoints!(|status| status
            .latest
            .as_ref()
            .map(|_| seconds(status.latest_took_ms))),
    ),
    counter(
        "statefun_checkpoints_total",
        &[],
        "Checkpoints made",
        of_checkpoints!(|status| Some(status.made)),
    ),
    counter(
        "statefun_checkpoint_failures_total",
        &[],
        "Checkpoints that failed",
        of_checkpoints!(|status| Some(status.failed)),
    ),
    counter(
        "statefun_checkpoint_uploaded_bytes_total",
        &[],
        "Bytes uploaded for checkpoints",
        of_checkpoints!(|status| Some(status.uploaded_bytes)),
    ),
    gauge(
        "statefun_checkpoint_running",
        &[],
        "1 while a checkpoint is being made",
        of_checkpoints!(|status| Some(u64::from(status.under_way_ms.is_some()))),
    ),
    counter(
        "statefun_trace_spans_total",
        &["outcome"],
        "Spans for the collector: `exported` when it has taken them, `dropped` when there was no room for them, `failed` when it refused them \
         or was away for too long",
        |all, out| {
            if let Some(traces) = &all.traces {
                out.value(&["exported"], traces.exported as f64);
                out.value(&["dropped"], traces.dropped as f64);
                out.value(&["failed"], traces.failed as f64);
            }
        },
    ),
    gauge(
        "process_resident_memory_bytes",
        &[],
        "Memory in use",
        of!(process.resident_bytes),
    ),
    gauge(
        "process_virtual_memory_bytes",
        &[],
        "Address space",
        of!(process.virtual_bytes),
    ),
    counter(
        "process_cpu_seconds_total",
        &[],
        "Processor time",
        of!(process.cpu_seconds),
    ),
    gauge("process_open_fds", &[], "Open files", of!(process.open_fds)),
    gauge(
        "process_max_fds",
        &[],
        "Open files at most",
        of!(process.max_fds),
    ),
    gauge("process_threads", &[], "Threads", of!(process.threads)),
    gauge(
        "process_start_time_seconds",
        &[],
        "When the process was started, in Unix seconds",
        of!(process.start_seconds),
    ),
];
