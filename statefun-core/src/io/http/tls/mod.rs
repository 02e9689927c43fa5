//! HTTPS, on both sides: certificates of servers, and trust in the receivers of webhooks.
//!
//! Certificates are read when the application starts; a renewed one is used from the next start on. Without the feature
//! `tls` the types are here all the same, but none of them can be made: what would make one says what to write into
//! Cargo.toml.

// Its words are tested in the builds that do not use it.
#[cfg(any(test, not(feature = "tls")))]
#[cfg_attr(
    feature = "tls",
    allow(dead_code, unreachable_pub, reason = "only its words are tested")
)]
mod absent;
#[cfg(feature = "tls")]
mod present;
#[cfg(not(feature = "tls"))]
pub use absent::ClientTls;
#[cfg(not(feature = "tls"))]
pub(super) use absent::ServerTls;
#[cfg(feature = "tls")]
pub use present::ClientTls;
#[cfg(feature = "tls")]
pub(super) use present::ServerTls;

use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};

/// Whose certificates a client takes for proof.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Those of the authorities that the system trusts.
    System,
    /// Of those, and of the authorities in a PEM file.
    SystemAnd(&'a Path),
    /// Of the authorities in a PEM file only.
    Only(&'a Path),
}

/// How the author of a URL has called it and the file of authorities: what errors speak of.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// The URL, as in "its `url`".
    pub url: &'static str,
    /// The file, as in `tls.ca`.
    pub ca: &'static str,
}

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}
