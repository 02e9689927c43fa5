//! Running what an author wrote outside of a handler: codecs, routers. A panic there is a failure of the one thing that was
//! being done, as in a handler, and not of the process.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// Runs it; a panic is an error that begins with `what` panicked.
///
/// Nothing that it may have left half done is used again: buffers are cut back by whoever calls this.
pub(crate) fn caught<T>(what: &str, run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|panic| format!("{what} panicked: {}", panic_message(&*panic)))
}
