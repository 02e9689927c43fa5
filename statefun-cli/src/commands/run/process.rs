//! The application's process, and the signals that this command gets in its place.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::status::Failure;

/// How long an application may take to stop before it is killed. What it has not finished goes on at its next start.
const GRACE: Duration = Duration::from_secs(10);

/// The running application. It ends with this value.
pub(super) struct Application {
    child: Child,
}

impl Application {
    pub(super) fn start(
        executable: &Path,
        arguments: &[OsString],
        directory: &Path,
    ) -> Result<Self, Failure> {
        let failed = |error| {
            Failure::usage(format_args!(
                "cannot start {}: {error}",
                executable.display()
            ))
        };
        // A relative program would be looked for in the new working directory.
        let program = std::path::absolute(executable).map_err(failed)?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            // It is the project's wiring that was checked.
            .env_remove("STATEFUN_HOME")
            .kill_on_drop(true)
            .spawn();
        Ok(Self {
            child: child.map_err(failed)?,
        })
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        let ended = self.child.wait().await;
        ended.map_err(|error| {
            Failure::usage(format_args!("cannot wait for the application: {error}"))
        })
    }

    /// Passes a signal on, unless the terminal has sent it to the application as well.
    pub(super) fn pass_on(&self, received: Received) {
        if !(received.is_from_terminal() && is_in_foreground()) {
            self.send(received.signal());
        }
    }

    fn send(&self, signal: Signal) {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()))
        {
            // It may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to stop, and makes it when it does not.
    pub(super) async fn stop(mut self) -> Result<ExitStatus, Failure> {
        self.send(Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(GRACE, self.ended()).await {
            return ended;
        }
        self.send(Signal::KILL);
        self.ended().await
    }
}

/// The exit code for a status, as shells have it.
pub(crate) fn code_of(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

/// A signal to this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    Interrupt,
    Terminate,
    Hangup,
}

impl Received {
    fn signal(self) -> Signal {
        match self {
            Self::Interrupt => Signal::INT,
            Self::Terminate => Signal::TERM,
            Self::Hangup => Signal::HUP,
        }
    }

    /// Whether terminals send it, to all processes in front.
    fn is_from_terminal(self) -> bool {
        self != Self::Terminate
    }
}

fn is_in_foreground() -> bool {
    File::open("/dev/tty")
        .is_ok_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}

/// The signals that would end this command.
pub(super) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::usage(format_args!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.interrupt.recv() => Received::Interrupt,
            _ = self.terminate.recv() => Received::Terminate,
            _ = self.hangup.recv() => Received::Hangup,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_shells() {
        for (raw, code) in [(0, 0), (3 << 8, 3), (15, 143), (9, 137)] {
            assert_eq!(code_of(ExitStatus::from_raw(raw)), code);
        }
    }
}
