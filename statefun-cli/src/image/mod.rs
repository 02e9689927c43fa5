//! Container images of applications, made without a daemon: the release binary ([`build`]), what it needs beside it
//! ([`libraries`], [`certificates`], [`timezones`]), what is said of it ([`labels`], [`sbom`]), put into [`layers`] of an
//! [`Image`](package::Image), which is written as a [`layout`] or an [`archive`].
//!
//! The same source gives the same digest: nothing of the machine, the directory, the time or the order in which the system
//! lists files gets in.

pub(crate) mod archive;
pub(crate) mod build;
pub(crate) mod certificates;
pub(crate) mod crates;
pub(crate) mod labels;
pub(crate) mod layers;
pub(crate) mod layout;
pub(crate) mod libraries;
pub(crate) mod names;
pub(crate) mod package;
pub(crate) mod reference;
#[cfg(feature = "push")]
pub(crate) mod registry;
pub(crate) mod sbom;
pub(crate) mod start;
pub(crate) mod target;
pub(crate) mod timezones;
pub(crate) mod tree;
pub(crate) mod wiring;

/// Where the application lies in an image.
pub(crate) const APP: &str = "/app";
/// The working directory and the volume: the only place that an application writes to.
pub(crate) const DATA: &str = "/data";
/// User and group that it runs as: the number that images without a distribution commonly use for "not root".
pub(crate) const USER: u32 = 65_532;
/// Where the operations endpoint listens.
pub(crate) const OPERATIONS_PORT: u16 = 9464;
/// Makes an ingress that says `${STATEFUN_LISTEN_HOST:-127.0.0.1}` reachable from outside of its container.
pub(crate) const LISTEN_HOST: &str = "STATEFUN_LISTEN_HOST";
