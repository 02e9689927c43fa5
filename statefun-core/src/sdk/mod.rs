//! What an author of functions sees.

pub mod async_result;
mod builtin;
pub(crate) mod caught;
pub mod context;
pub mod egress;
pub mod error;
pub(crate) mod fetch;
pub mod function;
pub mod message;
pub mod metrics;
pub mod module;
pub mod router;
pub mod state;
