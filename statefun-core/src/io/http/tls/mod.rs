//! HTTPS, on both sides: certificates of servers, and trust in the receivers of webhooks.
//!
//! Certificates are read when the application starts; a renewed one is used from the next start on. Without the feature
//! `tls` the types are here all the same, but none of them can be made: what would make one says what to write into
//! Cargo.toml.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod present;
#[cfg(not(feature = "tls"))]
pub(super) use absent::{ClientTls, ServerTls};
#[cfg(feature = "tls")]
pub(super) use present::{ClientTls, ServerTls};

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}
