//! Whether an application is ready for work, and whether its process should go on.
//!
//! *Ready* asks whether what is sent now is taken in and becomes durable. *Live* asks whether a new process would do better:
//! a long recovery, a full disk or a blob store that is away are no reason, since a new process would find the same.

use std::time::Duration;

use super::live::Live;
use super::stage::{Stage, State};
use super::wire::{Health, Liveness};
use crate::engine::condition::{Blocked, Condition};
use crate::engine::shared::Hold;
use crate::metrics::Snapshot;

/// How long the application may lag behind its own work before that counts: under load it does so all the time, briefly.
const BEHIND_FOR: Duration = Duration::from_secs(10);
/// How long a handler may block its worker before the application is not ready: nobody's messages become durable meanwhile.
const BLOCKED_FOR: Duration = Duration::from_secs(10);
/// How long a handler may block its worker before a new process is the better way. It would run the same message again, so
/// that this is for handlers that wait for each other or for a connection that is dead, not for slow ones.
const STUCK_FOR: Duration = Duration::from_mins(15);
/// How long output may wait for its receiver before that is noted.
const OUTPUT_WAITS_MS: u64 = 10_000;

/// Whether it is ready.
pub(super) fn ready(stage: &Stage) -> Health {
    let mut health = match stage.get() {
        State::Starting(doing) => Health {
            missing: vec![doing.to_string()],
            ..Health::default()
        },
        State::Running(live) => of_running(&*live),
    };
    if stage.is_stopping() && !health.missing.iter().any(|known| known == STOPPING) {
        health.missing.insert(0, STOPPING.to_owned());
    }
    health.ready = health.missing.is_empty();
    health
}

/// Whether it should go on.
pub(super) fn live(stage: &Stage) -> Liveness {
    let problem = match stage.get() {
        State::Starting(_) => None,
        State::Running(live) => {
            let condition = live.condition();
            let stuck = condition
                .blocked
                .iter()
                .find(|one| one.running_for > STUCK_FOR);
            let failed = condition.failed.as_deref().map(failure);
            failed.or_else(|| stuck.map(blocks))
        }
    };
    Liveness {
        live: problem.is_none(),
        problem,
    }
}

const STOPPING: &str = "stopping: the application takes nothing in any more";

fn of_running(live: &dyn Live) -> Health {
    let Condition {
        stopping,
        failed,
        held,
        blocked,
    } = live.condition();
    let mut health = Health::default();
    if let Some(error) = &failed {
        health.missing.push(failure(error));
    } else if stopping {
        health.missing.push(STOPPING.to_owned());
    }
    for (hold, lasted) in held {
        if lasted >= tolerated(hold) {
            health.missing.push(why(hold).to_owned());
        }
    }
    let blocked = blocked.iter().filter(|one| one.running_for > BLOCKED_FOR);
    health.missing.extend(blocked.map(blocks));
    health.notes = notes(&live.metrics());
    health
}

fn failure(error: &str) -> String {
    format!("engine: it has failed, and the process is about to end: {error}")
}

fn blocks(blocked: &Blocked) -> String {
    format!(
        "worker {}: a handler of {} has run for {} s, and nothing becomes durable meanwhile; the log names the address",
        blocked.worker,
        blocked.function,
        blocked.running_for.as_secs()
    )
}

/// How long the intake may be held for that reason before the application is not ready.
fn tolerated(hold: Hold) -> Duration {
    match hold {
        Hold::NoSpace | Hold::StoreNoSpace | Hold::NoBlobStore => Duration::ZERO,
        Hold::LogFull | Hold::GathererBehind => BEHIND_FOR,
    }
}

/// Why nothing is taken in, and what to do.
fn why(hold: Hold) -> &'static str {
    match hold {
        Hold::NoSpace => {
            "disk: that of the epoch log is full, so nothing is taken in; free some space, and work goes on by itself"
        }
        Hold::StoreNoSpace => {
            "disk: that of the state store is full, so nothing is taken in; free some space, and work goes on by itself"
        }
        Hold::NoBlobStore => {
            "blob store: it does not take epochs, which `durability: blob` waits for, so nothing is taken in; the application's log says \
             what it answers"
        }
        Hold::LogFull => {
            "epoch log: it has reached `log.maxBytes`, since the state store or an egress lags behind, so nothing is taken in; see which \
             egress has output that waits, or whether the disk is slow"
        }
        Hold::GathererBehind => {
            "state store: it lags far behind the epoch log, so nothing is taken in until it has followed; see whether the disk is slow"
        }
    }
}

/// What holds nothing up, and should be looked at all the same.
fn notes(measured: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    for egress in &measured.egresses {
        if egress.outbox_age_ms >= OUTPUT_WAITS_MS {
            notes.push(format!(
                "egress {}: output has waited for {} s; it is kept until its receiver takes it",
                egress.egress,
                egress.outbox_age_ms / 1000
            ));
        }
    }
    let parked: u64 = measured
        .functions
        .iter()
        .map(|function| function.parked)
        .sum();
    if parked > 0 {
        notes.push(format!(
            "parked: {parked} address{} with messages that fail; `statefun parked ls` shows them",
            if parked == 1 { "" } else { "es" }
        ));
    }
    if let Some(problem) = measured
        .checkpoints
        .as_ref()
        .and_then(|of| of.problem.as_ref())
    {
        notes.push(format!("checkpoints: they fail: {}", problem.error));
    }
    notes
}
