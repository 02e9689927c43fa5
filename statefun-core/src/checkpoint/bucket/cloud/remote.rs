//! Any store of `object_store`, and what its errors mean.

use std::error::Error as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
    UpdateVersion,
};

use crate::checkpoint::bucket::ObjectInfo;
use crate::checkpoint::bucket::objects::{
    Answer, Cause, Condition, Failure, Objects, Opened, Version,
};

/// How much of what a store says is repeated.
const MAX_PROBLEM_BYTES: usize = 600;

/// A bucket in a cloud.
#[derive(Debug)]
pub(super) struct Remote {
    store: Box<dyn ObjectStore>,
}

impl Remote {
    pub(super) fn over(store: impl ObjectStore) -> Arc<dyn Objects> {
        Arc::new(Self {
            store: Box::new(store),
        })
    }
}

/// None but our own.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// The client asks for the process's way of encryption when it is built. An application may have chosen one.
pub(super) fn prepare_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails when another thread was quicker, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Why a client cannot be built. Its errors leave out what they come from.
pub(super) fn unusable(error: &Error) -> String {
    let mut problem = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !problem.contains(&cause) {
            problem = format!("{problem}: {cause}");
        }
        source = error.source();
    }
    let problem = told(&problem);
    if problem.contains("CA certificates") {
        format!(
            "{problem}: install the package `ca-certificates`, or name a file of certificates in SSL_CERT_FILE"
        )
    } else {
        problem
    }
}

impl Objects for Remote {
    fn put<'a>(&'a self, name: &'a str, bytes: Bytes, condition: Condition) -> Answer<'a, Version> {
        let mode = match condition {
            Condition::None => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Is(version) => PutMode::Update(UpdateVersion {
                e_tag: version.tag,
                version: version.generation,
            }),
        };
        Box::pin(async move {
            let options = PutOptions::from(mode);
            let path = path(name)?;
            let put = self.store.put_opts(&path, bytes.into(), options);
            let result = put.await.map_err(failure)?;
            Ok(Version {
                tag: result.e_tag,
                generation: result.version,
            })
        })
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> Answer<'a, Opened<'a>> {
        Box::pin(async move {
            let options = GetOptions {
                range: range.map(Into::into),
                ..GetOptions::default()
            };
            let path = path(name)?;
            let found = self.store.get_opts(&path, options).await;
            let found = found.map_err(failure)?;
            Ok(Opened {
                bytes: found.range.end.saturating_sub(found.range.start),
                version: Version {
                    tag: found.meta.e_tag.clone(),
                    generation: found.meta.version.clone(),
                },
                body: Box::pin(async move { found.bytes().await.map_err(failure) }),
            })
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ObjectInfo>> {
        Box::pin(async move {
            let folder = path(folder)?;
            let objects = self.store.list(Some(&folder)).map_ok(|found| ObjectInfo {
                name: found.location.into(),
                bytes: found.size,
                modified_ms: found.last_modified.timestamp_millis().max(0) as u64,
            });
            objects.try_collect().await.map_err(failure)
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.store.delete(&path(name)?).await.map_err(failure) })
    }
}

fn path(name: &str) -> Result<Path, Failure> {
    Path::parse(name).map_err(|error| Failure::new(Cause::Permanent, error.to_string()))
}

fn failure(error: Error) -> Failure {
    let problem = told(&error.to_string());
    let cause = match &error {
        _ if says_no_bucket(&problem) => Cause::NoBucket,
        Error::NotFound { .. } => Cause::Missing,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            Cause::Condition
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Cause::Denied,
        Error::Generic { .. } => generic(&error, &problem),
        Error::JoinError { .. } => Cause::Doubtful,
        _ => Cause::Permanent,
    };
    Failure::new(cause, explained(problem))
}

/// What is behind an error that is of no kind.
fn generic(error: &Error, problem: &str) -> Cause {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return match error.kind() {
                HttpErrorKind::Connect => Cause::NotBegun,
                _ => Cause::Doubtful,
            };
        }
        source = error.source();
    }
    let permanent = ["redirect without LOCATION", "Wanted range starting at"];
    if permanent.iter().any(|known| problem.contains(known)) {
        return Cause::Permanent;
    }
    // The type that holds the status is not public.
    let status = problem.split_once("status code: ");
    let status = status.and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    match status {
        Some(429) => Cause::NotBegun,
        Some(408) => Cause::Doubtful,
        Some(501) => Cause::Permanent,
        Some(status) if status < 500 => Cause::Permanent,
        _ => Cause::Doubtful,
    }
}

/// That an object is missing has the same status.
fn says_no_bucket(problem: &str) -> bool {
    let known = [
        "NoSuchBucket",
        "ContainerNotFound",
        "The specified bucket does not exist",
    ];
    known.iter().any(|known| problem.contains(known))
}

/// In one line, and no longer than a reader wants.
fn told(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > MAX_PROBLEM_BYTES {
        line.truncate(line.floor_char_boundary(MAX_PROBLEM_BYTES));
        line.push('…');
    }
    line
}

/// With what to do, where the store's words do not say it.
fn explained(problem: String) -> String {
    let asks_the_instance = ["169.254.", "metadata.google.internal"];
    if asks_the_instance.iter().any(|host| problem.contains(host)) {
        format!(
            "{problem}. There are no credentials in the environment, so the machine was asked for its own, and gave none"
        )
    } else if problem.contains("redirect without LOCATION") {
        format!("{problem}: set AWS_REGION or `checkpoint.s3.region` to the region of the bucket")
    } else {
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Failure {
        failure(Error::Generic {
            store: "S3",
            source: format!("Server returned non-2xx status code: {text}").into(),
        })
    }

    #[test]
    fn a_status_says_whether_another_try_may_help() {
        for (text, cause) in [
            ("500 Internal Server Error: x", Cause::Doubtful),
            ("503 Service Unavailable: SlowDown", Cause::Doubtful),
            ("429 Too Many Requests: ", Cause::NotBegun),
            ("408 Request Timeout: ", Cause::Doubtful),
            ("400 Bad Request: InvalidArgument", Cause::Permanent),
            ("501 Not Implemented: A header", Cause::Permanent),
            ("404 Not Found: <Code>NoSuchBucket</Code>", Cause::NoBucket),
        ] {
            assert_eq!(status(text).cause, cause, "{text}");
        }
    }

    #[test]
    fn long_answers_are_cut() {
        let failure = status(&format!("500 x: {}", "ä \n".repeat(2000)));
        assert!(failure.problem.len() < MAX_PROBLEM_BYTES + 10);
        assert!(!failure.problem.contains('\n'));
    }
}
