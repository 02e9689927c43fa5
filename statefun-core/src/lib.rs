//! Stateful functions with exactly-once state and messaging: the SDK and the runtime.

pub mod disk;
pub mod log;
pub mod module;
pub mod shape;
