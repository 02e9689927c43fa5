//! Stateful functions with exactly-once state and messaging: the SDK and the runtime.

pub mod module;
pub mod shape;
