//! Images of applications.

#[cfg(feature = "push")]
pub(crate) mod registry;
