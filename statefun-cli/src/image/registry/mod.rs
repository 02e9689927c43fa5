//! Pushing an image to a registry.
//!
//! What the registry has already is not sent; what is sent is read from the disk meanwhile; the manifest comes last, so that a
//! tag never names an image that is not there as a whole. Whoever pushes is who `docker login` or `podman login` says.

mod credentials;
mod error;
mod failure;
mod login;
mod source;
mod transfer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use super::reference::Reference;
pub(crate) use error::PushError;
use source::Source;
use transfer::Session;

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// The digest of the image: with it, `REGISTRY/NAME@DIGEST` names this image for ever.
    pub(crate) digest: String,
    /// What was sent, without the manifest.
    pub(crate) uploaded: Amount,
    /// What the registry had already.
    pub(crate) present: Amount,
}

/// A number of blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) blobs: usize,
    pub(crate) bytes: u64,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Progress<'a> {
    /// The image on disk is read as a whole.
    Checking,
    /// The registry has this blob.
    Present { digest: &'a str, bytes: u64 },
    /// So much of this blob is on its way.
    Uploading {
        digest: &'a str,
        sent: u64,
        bytes: u64,
    },
    /// The registry has got this blob.
    Uploaded { digest: &'a str, bytes: u64 },
    /// Something failed, and is tried again after that time.
    Retrying { problem: &'a str, delay: Duration },
}

/// How long failures are borne.
#[derive(Debug, Clone)]
struct Patience {
    /// How often a step is tried.
    attempts: u32,
    /// The time before the second attempt; it doubles with each.
    first_delay: Duration,
    /// The longest time in which nothing is sent and nothing comes back.
    stalled: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_delay: Duration::from_millis(500),
            // Registries in front of object stores take their time when the last byte has come.
            stalled: Duration::from_mins(2),
        }
    }
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.blobs += 1;
        self.bytes += bytes;
    }
}

/// Pushes the image of this digest, which is in an OCI layout, with the credentials of docker or podman.
pub(crate) async fn push(
    layout: &Path,
    digest: &str,
    reference: &Reference,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Pushed, PushError> {
    let variables = &credentials::process_variables;
    push_with(
        layout,
        digest,
        reference,
        progress,
        variables,
        &Patience::default(),
    )
    .await
}

/// Whether the registry is there and lets one in, before there is an image to push. Whether it then takes what is pushed, only
/// a push shows.
pub(crate) async fn reach(
    reference: &Reference,
    progress: &dyn Fn(Progress<'_>),
) -> Result<(), PushError> {
    let found = find(reference, &credentials::process_variables)?;
    Session::begin(reference, &found, &Patience::default(), progress).await?;
    Ok(())
}

fn find(
    reference: &Reference,
    variables: credentials::Variables<'_>,
) -> Result<credentials::Found, PushError> {
    credentials::find(reference, variables).map_err(|source| PushError::Credentials {
        registry: reference.registry().to_owned(),
        source,
    })
}

async fn push_with(
    layout: &Path,
    digest: &str,
    reference: &Reference,
    progress: &dyn Fn(Progress<'_>),
    variables: credentials::Variables<'_>,
    patience: &Patience,
) -> Result<Pushed, PushError> {
    progress(Progress::Checking);
    let source = Source::read(layout, digest).await?;
    let found = find(reference, variables)?;
    let mut session = Session::begin(reference, &found, patience, progress).await?;
    let mut pushed = Pushed {
        digest: source.digest.clone(),
        uploaded: Amount::default(),
        present: Amount::default(),
    };
    for blob in &source.blobs {
        if session.send_blob(blob).await? {
            pushed.uploaded.add(blob.bytes);
        } else {
            pushed.present.add(blob.bytes);
        }
    }
    session.send_manifest(&source).await?;
    Ok(pushed)
}
