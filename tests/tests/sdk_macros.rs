//! What the macros make of an application: definitions, instances, registration, messages, shapes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "sdk_macros/definitions.rs"]
mod definitions;
#[path = "sdk_macros/messages.rs"]
mod messages;
#[path = "sdk_macros/shapes.rs"]
mod shapes;
#[forbid(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[deny(
    missing_docs,
    unreachable_pub,
    unused,
    unused_qualifications,
    unused_results,
    missing_debug_implementations,
    non_local_definitions,
    nonstandard_style,
    single_use_lifetimes,
    trivial_casts,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::absolute_paths,
    clippy::default_trait_access,
    clippy::missing_docs_in_private_items,
    clippy::question_mark_used,
    clippy::shadow_reuse,
    clippy::std_instead_of_core
)]
#[path = "sdk_macros/strict.rs"]
pub mod strict;
