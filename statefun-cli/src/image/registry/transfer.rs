//! Bringing what is in a layout to a registry: what it has is left alone, what fails is tried again.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::HeaderValue;
use oci_client::RegistryOperation;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use tokio::io::AsyncReadExt as _;

use super::credentials::Found;
use super::error::PushError;
use super::failure::{Cause, Failed};
use super::login::{self, Door, Stopped};
use super::source::{Blob, Source};
use super::{Patience, Progress};
use crate::image::reference::Reference;

/// How often it is shown how far an upload is.
const TICK: Duration = Duration::from_millis(100);
/// What is read from the disk, and sent, at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A registry that has let us in.
pub(super) struct Session<'a> {
    reference: &'a Reference,
    found: &'a Found,
    patience: &'a Patience,
    progress: &'a dyn Fn(Progress<'_>),
    image: oci_client::Reference,
    http: reqwest::Client,
    door: Door,
    registry: oci_client::Client,
}

/// The attempts of one step.
struct Attempts<'a> {
    action: &'a str,
    failures: u32,
    was_renewed: bool,
}

impl<'a> Attempts<'a> {
    fn at(action: &'a str) -> Self {
        Self {
            action,
            failures: 0,
            was_renewed: false,
        }
    }
}

impl<'a> Session<'a> {
    /// Goes in.
    pub(super) async fn begin(
        reference: &'a Reference,
        found: &'a Found,
        patience: &'a Patience,
        progress: &'a dyn Fn(Progress<'_>),
    ) -> Result<Self, PushError> {
        let image = oci_client::Reference::with_tag(
            reference.registry().to_owned(),
            reference.name().to_owned(),
            reference.tag().to_owned(),
        );
        let http = login::client(reference)?;
        let mut attempts = Attempts::at("logging in");
        let (door, registry) = loop {
            let entered = async {
                let door = login::knock(&http, reference, image.resolve_registry()).await?;
                let registry = enter(&http, reference, found, &image, &door).await?;
                Ok::<_, Stopped>((door, registry))
            };
            match entered.await {
                Ok(entered) => break entered,
                Err(Stopped::Final(error)) => return Err(error),
                Err(Stopped::Failed(failed)) => {
                    let step = Step {
                        reference,
                        found,
                        patience,
                        progress,
                        is_inside: false,
                    };
                    step.again(&mut attempts, failed).await?;
                }
            }
        };
        Ok(Self {
            reference,
            found,
            patience,
            progress,
            image,
            http,
            door,
            registry,
        })
    }

    /// Has the registry have a blob; whether that took an upload.
    pub(super) async fn send_blob(&mut self, blob: &Blob) -> Result<bool, PushError> {
        let action = format!("uploading {}", blob.digest);
        let mut attempts = Attempts::at(&action);
        loop {
            match self.try_blob(blob).await {
                Ok(is_new) => return Ok(is_new),
                Err(failed) => self.again(&mut attempts, failed).await?,
            }
        }
    }

    /// Has the tag name the image. All blobs are there.
    pub(super) async fn send_manifest(&mut self, source: &Source) -> Result<(), PushError> {
        let action = format!("uploading the manifest {}", source.digest);
        let mut attempts = Attempts::at(&action);
        loop {
            match self.try_manifest(source).await {
                Ok(()) => return Ok(()),
                Err(failed) => self.again(&mut attempts, failed).await?,
            }
        }
    }

    async fn try_blob(&self, blob: &Blob) -> Result<bool, Failed> {
        // Also after a failure: the registry may have got it, and only the answer was lost.
        let there = self.registry.blob_exists(&self.image, &blob.digest);
        if self.watch(there, &AtomicU64::new(0), |_| {}).await?? {
            (self.progress)(Progress::Present {
                digest: &blob.digest,
                bytes: blob.bytes,
            });
            return Ok(false);
        }
        let sent = Arc::new(AtomicU64::new(0));
        let pieces = pieces(blob.clone(), sent.clone());
        let upload =
            self.registry
                .push_blob_stream(&self.image, pieces, &blob.digest, Some(blob.bytes));
        let tell = |sent| {
            (self.progress)(Progress::Uploading {
                digest: &blob.digest,
                sent,
                bytes: blob.bytes,
            });
        };
        tell(0);
        self.watch(upload, &sent, tell).await??;
        (self.progress)(Progress::Uploaded {
            digest: &blob.digest,
            bytes: blob.bytes,
        });
        Ok(true)
    }

    async fn try_manifest(&self, source: &Source) -> Result<(), Failed> {
        let media_type = HeaderValue::from_str(&source.media_type).map_err(|_| {
            Failed::new(
                Cause::Refused,
                format!("`{}` is no media type", source.media_type),
            )
        })?;
        let manifest = source.manifest.clone();
        let pushed = self
            .registry
            .push_manifest_raw(&self.image, manifest, media_type);
        self.watch(pushed, &AtomicU64::new(0), |_| {}).await??;
        Ok(())
    }

    /// Waits for the other side for as long as something is sent, and some time more.
    async fn watch<T>(
        &self,
        work: impl Future<Output = T>,
        sent: &AtomicU64,
        tell: impl Fn(u64),
    ) -> Result<T, Failed> {
        let mut work = pin!(work);
        let mut last = sent.load(Ordering::Relaxed);
        let mut idle = Duration::ZERO;
        loop {
            if let Ok(done) = tokio::time::timeout(TICK, &mut work).await {
                return Ok(done);
            }
            let now = sent.load(Ordering::Relaxed);
            if now == last {
                idle += TICK;
            } else {
                (last, idle) = (now, Duration::ZERO);
                tell(now);
            }
            if idle >= self.patience.stalled {
                let patience = humantime::format_duration(self.patience.stalled);
                return Err(Failed::new(
                    Cause::Transient,
                    format!("nothing happens for {patience}"),
                ));
            }
        }
    }

    /// Makes the next attempt possible; an error when there is none.
    async fn again(
        &mut self,
        attempts: &mut Attempts<'_>,
        failed: Failed,
    ) -> Result<(), PushError> {
        // Tokens are for a few minutes, uploads may take longer.
        let is_stale = failed.cause == Cause::Unauthorized && self.door.wants_token();
        let Self {
            reference,
            found,
            patience,
            progress,
            ..
        } = *self;
        let step = Step {
            reference,
            found,
            patience,
            progress,
            is_inside: self.door.wants_token(),
        };
        if !is_stale || attempts.was_renewed {
            return step.again(attempts, failed).await;
        }
        attempts.was_renewed = true;
        match enter(&self.http, reference, found, &self.image, &self.door).await {
            Ok(registry) => self.registry = registry,
            Err(Stopped::Final(error)) => return Err(error),
            Err(Stopped::Failed(failed)) => {
                attempts.was_renewed = false;
                step.again(attempts, failed).await?;
            }
        }
        Ok(())
    }
}

/// What is known when a step has failed.
struct Step<'a> {
    reference: &'a Reference,
    found: &'a Found,
    patience: &'a Patience,
    progress: &'a dyn Fn(Progress<'_>),
    /// Credentials were accepted by whoever issues tokens.
    is_inside: bool,
}

impl Step<'_> {
    /// Waits before the next attempt.
    async fn again(&self, attempts: &mut Attempts<'_>, failed: Failed) -> Result<(), PushError> {
        if !matches!(failed.cause, Cause::Transient | Cause::Unreachable) {
            return Err(self.error(attempts.action, failed));
        }
        attempts.failures += 1;
        if attempts.failures >= self.patience.attempts {
            return Err(PushError::GaveUp {
                registry: self.reference.registry().to_owned(),
                action: attempts.action.to_owned(),
                attempts: attempts.failures,
                problem: failed.problem,
            });
        }
        let delay = self.patience.first_delay * 2_u32.saturating_pow(attempts.failures - 1);
        (self.progress)(Progress::Retrying {
            problem: &failed.problem,
            delay,
        });
        tokio::time::sleep(delay).await;
        Ok(())
    }

    fn error(&self, action: &str, Failed { cause, problem }: Failed) -> PushError {
        let registry = self.reference.registry().to_owned();
        let name = self.reference.name().to_owned();
        let found = self.found;
        match cause {
            Cause::Unauthorized | Cause::Forbidden if found.credentials.is_none() => {
                PushError::NoCredentials {
                    registry,
                    files: found.files.clone(),
                }
            }
            Cause::Unauthorized if !self.is_inside => PushError::WrongCredentials {
                registry,
                from: found.told(),
                problem,
            },
            Cause::Unauthorized | Cause::Forbidden => PushError::Forbidden {
                registry,
                name,
                who: format!("who logs in with the credentials of {}", found.told()),
                problem,
            },
            Cause::Missing => PushError::NotFound {
                registry,
                name,
                problem,
            },
            Cause::Tls => PushError::Tls { registry, problem },
            Cause::Refused | Cause::Transient | Cause::Unreachable => PushError::Refused {
                registry,
                action: action.to_owned(),
                problem,
            },
        }
    }
}

/// A client that shows what the door asks for.
async fn enter(
    http: &reqwest::Client,
    reference: &Reference,
    found: &Found,
    image: &oci_client::Reference,
    door: &Door,
) -> Result<oci_client::Client, Stopped> {
    let shown = door.open(http, reference, found).await?;
    let host = image.resolve_registry();
    let mut config = ClientConfig {
        protocol: if door.is_plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        // A body that is sent in one request is what all registries take; none of them has to assemble it.
        use_monolithic_push: true,
        connect_timeout: Some(login::CONNECT),
        user_agent: login::USER_AGENT,
        ..ClientConfig::default()
    };
    if reference.is_loopback() {
        // A proxy that no host is reached by takes the place of those of the environment: see `login::client`.
        let unused = Some(format!("http://{host}"));
        config.http_proxy.clone_from(&unused);
        config.https_proxy = unused;
        config.no_proxy = Some("*,0.0.0.0/0,::/0".to_owned());
    }
    let client = oci_client::Client::try_from(config)
        .map_err(|error| Stopped::Final(PushError::Client(Failed::from(error).problem)))?;
    match shown {
        RegistryAuth::Anonymous => {}
        // Asked now, a registry that fails here is not mistaken later for one that lets nobody in.
        basic @ RegistryAuth::Basic(..) => {
            for operation in [RegistryOperation::Pull, RegistryOperation::Push] {
                let asked = client.auth(image, &basic, operation).await;
                asked.map_err(|error| Stopped::Failed(error.into()))?;
            }
        }
        token @ RegistryAuth::Bearer(_) => client.store_auth_if_needed(host, &token).await,
    }
    Ok(client)
}

/// What is in a blob, read while it is sent.
fn pieces(
    blob: Blob,
    sent: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, OciDistributionError>> + Send + 'static {
    stream::try_unfold(None, move |file: Option<tokio::fs::File>| {
        let (path, sent) = (blob.path.clone(), sent.clone());
        async move {
            let mut file = match file {
                Some(file) => file,
                None => tokio::fs::File::open(path).await?,
            };
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            if file.read_buf(&mut piece).await? == 0 {
                return Ok(None);
            }
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(Some((Bytes::from(piece), Some(file))))
        }
    })
}
