//! An application that runs, and how it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::engine::shared::EngineError;
use crate::engine::start::Engine;
use crate::io::http::HttpServers;

/// Waits for a signal, a failure, the end of all sources, or of those who read the standard output. Returns what a person is told.
pub(super) fn wait_for_end(
    engine: &Engine,
    servers: &HttpServers,
    reader_gone: &AtomicBool,
    runtime: &tokio::runtime::Runtime,
    mut signals: Signals,
) -> Option<&'static str> {
    let quiet = runtime.block_on(async {
        let mut quiet_looks = 0;
        loop {
            tokio::select! {
                () = signals.received() => return false,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            if engine.has_stopped() || reader_gone.load(Ordering::SeqCst) {
                return false;
            }
            // Twice, since a message may be between two workers' looks.
            quiet_looks = if engine.is_quiet() {
                quiet_looks + 1
            } else {
                0
            };
            if quiet_looks > 2 && servers.listening().is_empty() {
                return true;
            }
        }
    });
    if quiet {
        Some("statefun: all input has been read and worked off")
    } else if reader_gone.load(Ordering::SeqCst) {
        Some("statefun: nobody reads the standard output any more; stopping")
    } else if engine.has_stopped() {
        // Its error is said when it has ended.
        None
    } else {
        Some("statefun: stopping")
    }
}

/// Stops in order, and answers those who still wait.
pub(super) fn stop(
    engine: Engine,
    servers: &HttpServers,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), EngineError> {
    let stopped = engine.stop();
    runtime.block_on(servers.finish(Duration::from_secs(1)));
    stopped
}

/// What asks the application to stop. From [`Signals::listen`] on, it ends in order; until then, it ends at once.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// To be called inside of a runtime.
    pub(super) fn listen() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    async fn received(&mut self) {
        tokio::select! {
            () = received(&mut self.interrupt) => {}
            () = received(&mut self.terminate) => {}
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
