//! Panics as events: without this, each would be a few lines that are no JSON.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use tracing::Level;

use super::json::head;
use super::say::{TARGET, write_line};
use crate::engine::current::current;
use crate::logging::json::Members;
use crate::sdk::caught::panic_message;

/// From now on a panic is an event. Whoever catches it says what follows from it.
pub(super) fn become_events() {
    std::panic::set_hook(Box::new(|panic| write_line(&event(panic).to_string())));
}

fn event(panic: &PanicHookInfo<'_>) -> Members {
    let message = format!("panicked: {}", panic_message(panic.payload()));
    let mut fields = Members::default();
    if let Some(location) = panic.location() {
        fields.text("location", &location.to_string());
    }
    let thread = std::thread::current();
    fields.text("thread", thread.name().unwrap_or_default());
    // There is one when RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        fields.text("backtrace", &backtrace.to_string());
    }
    let mut line = head(Level::ERROR, TARGET, &message, current().as_ref());
    line.raw("fields", format_args!("{fields}"));
    line
}
