//! Named objects under a URL: in the object store of a cloud, or in a directory.
//!
//! # What may be relied upon
//!
//! - An object is there as a whole or not at all. What a call has said is written is durable, and read and listed by
//!   whoever asks afterwards.
//! - Failures that may pass are tried again, with growing pauses, until [`Retries::give_up_after`] after the first
//!   one. All others are reported at once. [`BucketError::is_transient`] says which kind it was.
//! - An answer that is lost leaves a doubt: [`Bucket::create`] and [`Bucket::replace`] settle it by looking at what is
//!   there. So *what is written under a condition is unlike anything that anyone else writes under that name, and unlike
//!   what stood there before*: it names its writer and counts.
//! - A request whose answer was lost may still have its effect after the call, even after one that gave up. Under a
//!   condition that does no harm. Without one it can bring back an object that was deleted meanwhile.
//! - Cancel safety: a call that is dropped may or may not have its effect, as one that gave up.
//!
//! # Names
//!
//! Folders are separated by `/`. A name consists of ASCII letters, digits and `-._=`; no name is the folder of another, since
//! directories cannot hold both.

mod cloud;
mod error;
#[cfg(any(test, feature = "simulation"))]
mod faults;
mod health;
mod local;
#[cfg(any(test, feature = "simulation"))]
mod memory;
mod objects;
mod options;
mod pace;
mod retry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use self::health::HealthKeeper;
use self::local::Local;
use self::objects::{Cause, Condition, Failure, Objects};
use self::pace::Pace;
use self::retry::Retry;
use super::location::{Location, Place};
use crate::rand::Random;

pub use self::error::{Action, BucketError};
#[cfg(any(test, feature = "simulation"))]
pub use self::faults::{Fault, Faults, Request};
pub use self::health::{BucketHealth, Failing};
pub use self::objects::Version;
pub use self::options::{AzureOptions, BucketOptions, Environment, GcsOptions, Retries, S3Options};

/// How many times the time of one request a listing may take: it is many requests.
const LISTING: u32 = 20;

/// A place for objects. Clones share counters and pace.
#[derive(Clone)]
pub struct Bucket {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Objects>,
    url: String,
    /// What stands before all names: empty, or with a `/` at its end.
    prefix: String,
    retries: Retries,
    pace: Option<Pace>,
    health: HealthKeeper,
    /// For pauses.
    random: Mutex<Random>,
}

/// An object, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name, without the prefix of the bucket.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, by the clock of the store: milliseconds since 1970-01-01 UTC.
    pub modified_ms: u64,
}

/// What became of [`Bucket::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is there, and it is ours.
    Done,
    /// There is another object of that name.
    Exists,
}

/// What became of [`Bucket::replace`].
#[derive(Debug, Clone)]
pub enum Replaced {
    /// The object is there, and it is ours.
    Done(Version),
    /// What is there is not what was expected; ours was not written.
    Conflict,
    /// What is there is neither ours nor what was expected. An answer was lost: ours may have been there in between, seen
    /// and replaced by someone else. What is there now can tell, if it names its predecessors.
    Overtaken,
}

impl Bucket {
    /// Opens a place. A directory is created when it is missing; nothing is asked of a cloud yet.
    pub fn open(location: &Location, options: &BucketOptions) -> Result<Self, BucketError> {
        let (store, prefix): (Arc<dyn Objects>, &str) = match location.place() {
            Place::Directory(path) => {
                let store = Local::open(path).map_err(|error| BucketError::Setup {
                    url: location.url().to_owned(),
                    problem: format!("cannot use `{}` as a directory: {error}", path.display()),
                })?;
                (Arc::new(store), "")
            }
            Place::Cloud(place) => (cloud::open(location, place, options)?, &place.prefix),
        };
        let mut prefix = prefix.to_owned();
        if !prefix.is_empty() {
            prefix.push('/');
        }
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                url: location.url().to_owned(),
                prefix,
                retries: options.retries.clone(),
                pace: options.max_upload_bytes_per_second.map(Pace::new),
                health: HealthKeeper::default(),
                random: Mutex::new(Random::from_system()),
            }),
        })
    }

    /// Where it is, for messages. Holds no secrets.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// What it has done so far, and whether its store answers.
    pub fn health(&self) -> BucketHealth {
        self.inner.health.read()
    }

    /// Writes an object, or overwrites it. Names are unique, so what may be there is the same.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BucketError> {
        let mut retry = self.retry(Action::Write(name.to_owned()));
        let name = self.full(name, &retry)?;
        loop {
            match self
                .upload(&name, &bytes, Condition::None, &mut retry)
                .await
            {
                Ok(_) => return Ok(()),
                // Someone else is writing the same.
                Err(failure) if failure.cause == Cause::Condition => {
                    retry
                        .again(Failure::new(Cause::NotBegun, failure.problem))
                        .await?;
                }
                Err(failure) => retry.again(failure).await?,
            }
        }
    }

    /// Writes an object unless there is one of that name.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Created, BucketError> {
        let action = Action::Create(name.to_owned());
        Ok(match self.put_if(name, bytes, None, action).await? {
            Replaced::Done(_) => Created::Done,
            Replaced::Conflict | Replaced::Overtaken => Created::Exists,
        })
    }

    /// Writes an object if the one that is there is `expected`, or if none is there and none is expected.
    pub async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: Option<&Version>,
    ) -> Result<Replaced, BucketError> {
        let action = Action::Replace(name.to_owned());
        self.put_if(name, bytes, expected, action).await
    }

    /// An object; nothing when there is none.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, BucketError> {
        let found = self.read_versioned(name).await?;
        Ok(found.map(|(bytes, _)| bytes))
    }

    /// The bytes of a part of an object: fewer than asked for only at its end, but at least one.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let mut retry = self.retry(Action::Read(name.to_owned()));
        let found = self.read(name, Some(range), &mut retry).await?;
        let missing = || BucketError::Missing {
            url: self.inner.url.clone(),
            name: name.to_owned(),
        };
        found.map(|(bytes, _)| bytes).ok_or_else(missing)
    }

    /// An object, and what [`Bucket::replace`] expects of whoever has read it.
    pub async fn read_versioned(
        &self,
        name: &str,
    ) -> Result<Option<(Bytes, Version)>, BucketError> {
        let mut retry = self.retry(Action::Read(name.to_owned()));
        self.read(name, None, &mut retry).await
    }

    /// The objects whose names begin so, in the order of their names.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, BucketError> {
        let mut retry = self.retry(Action::List(prefix.to_owned()));
        let prefix = format!("{}{prefix}", self.inner.prefix);
        // Stores find what is in a folder.
        let folder = prefix.rfind('/').map_or("", |end| &prefix[..end]);
        loop {
            let patience = self.inner.retries.request_timeout * LISTING;
            match self.ask(patience, self.inner.store.list(folder)).await {
                Ok(mut found) => {
                    found.retain(|object| object.name.starts_with(&prefix));
                    for object in &mut found {
                        object.name.drain(..self.inner.prefix.len());
                    }
                    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
                    return Ok(found);
                }
                Err(failure) => retry.again(failure).await?,
            }
        }
    }

    /// Removes an object. That there is none is fine.
    pub async fn delete(&self, name: &str) -> Result<(), BucketError> {
        let mut retry = self.retry(Action::Delete(name.to_owned()));
        let name = self.full(name, &retry)?;
        loop {
            let patience = self.inner.retries.request_timeout;
            match self.ask(patience, self.inner.store.delete(&name)).await {
                Ok(()) => return Ok(()),
                Err(failure) if failure.cause == Cause::Missing => return Ok(()),
                Err(failure) => retry.again(failure).await?,
            }
        }
    }

    /// Finds out whether the store honours conditions. Some that speak the protocol of S3 take them and do not look.
    /// Everything that [`Bucket::create`] and [`Bucket::replace`] promise rests on them.
    pub async fn check_conditions(&self) -> Result<(), BucketError> {
        let number = Random::from_system().next_u64();
        let name = format!("probe-{number:016x}");
        let content = |count: u8| Bytes::from(format!("{number} {count}\n"));
        let honoured = self.probe(&name, content).await?;
        self.delete(&name).await?;
        if honoured {
            return Ok(());
        }
        Err(BucketError::Setup {
            url: self.inner.url.clone(),
            problem: "the store overwrites objects although it was told not to (`If-None-Match`, `If-Match`): two \
                      processes could both believe that they own the checkpoints. Use a store, or a version of it, that \
                      knows conditional writes"
                .to_owned(),
        })
    }

    async fn probe(&self, name: &str, content: impl Fn(u8) -> Bytes) -> Result<bool, BucketError> {
        if self.create(name, content(0)).await? != Created::Done
            || self.create(name, content(1)).await? != Created::Exists
        {
            return Ok(false);
        }
        let Some((_, first)) = self.read_versioned(name).await? else {
            return Ok(false);
        };
        let Replaced::Done(_) = self.replace(name, content(2), Some(&first)).await? else {
            return Ok(false);
        };
        let late = self.replace(name, content(3), Some(&first)).await?;
        Ok(!matches!(late, Replaced::Done(_)))
    }

    async fn put_if(
        &self,
        name: &str,
        bytes: Bytes,
        expected: Option<&Version>,
        action: Action,
    ) -> Result<Replaced, BucketError> {
        let mut retry = self.retry(action);
        let full = self.full(name, &retry)?;
        let condition = || expected.map_or(Condition::Absent, |it| Condition::Is(it.clone()));
        loop {
            let failure = match self.upload(&full, &bytes, condition(), &mut retry).await {
                Ok(version) => return Ok(Replaced::Done(version)),
                Err(failure) => failure,
            };
            // There is nothing to be replaced: some stores say that it is missing.
            let refused = failure.cause == Cause::Condition
                || (failure.cause == Cause::Missing && expected.is_some());
            if !refused {
                retry.again(failure).await?;
                continue;
            }
            // An earlier attempt of ours may be what is in the way, and a store may have refused because of a request that
            // has failed since.
            let there = self.read(name, None, &mut retry).await?;
            let in_doubt = retry.is_in_doubt();
            match there {
                Some((there, version)) if in_doubt && there == bytes => {
                    return Ok(Replaced::Done(version));
                }
                there if is_expected(there.as_ref().map(|(_, version)| version), expected) => {
                    retry
                        .again(Failure::new(Cause::NotBegun, failure.problem))
                        .await?;
                }
                _ if in_doubt => return Ok(Replaced::Overtaken),
                _ => return Ok(Replaced::Conflict),
            }
        }
    }

    /// An object or a part of it, with the retries of a call.
    async fn read(
        &self,
        name: &str,
        range: Option<Range<u64>>,
        retry: &mut Retry<'_>,
    ) -> Result<Option<(Bytes, Version)>, BucketError> {
        let full = self.full(name, retry)?;
        loop {
            match self.download(&full, range.clone()).await {
                Ok(found) => return Ok(Some(found)),
                Err(failure) if failure.cause == Cause::Missing => return Ok(None),
                Err(failure) => retry.again_reading(failure).await?,
            }
        }
    }

    async fn upload(
        &self,
        name: &str,
        bytes: &Bytes,
        condition: Condition,
        retry: &mut Retry<'_>,
    ) -> Result<Version, Failure> {
        if let Some(pace) = &self.inner.pace {
            // That is nothing that the store could be given up for.
            retry.excuse(pace.admit(bytes.len()).await);
        }
        let patience = self.inner.retries.patience(bytes.len() as u64);
        let put = self.inner.store.put(name, bytes.clone(), condition);
        let version = self.ask(patience, put).await?;
        self.inner.health.sent(bytes.len());
        Ok(version)
    }

    async fn download(
        &self,
        name: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Bytes, Version), Failure> {
        let retries = &self.inner.retries;
        let read = async {
            let get = self.inner.store.get(name, range);
            let opened = within(retries.request_timeout, get).await?;
            let bytes = within(retries.patience(opened.bytes), opened.body).await?;
            if bytes.len() as u64 != opened.bytes {
                let problem = format!("{} of {} bytes came", bytes.len(), opened.bytes);
                return Err(Failure::new(Cause::NotBegun, problem));
            }
            Ok((bytes, opened.version))
        };
        let answer = read.await;
        self.count(&answer);
        if let Ok((bytes, _)) = &answer {
            self.inner.health.received(bytes.len());
        }
        answer
    }

    /// One request, within its time, counted.
    async fn ask<T>(
        &self,
        patience: Duration,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let answer = within(patience, request).await;
        self.count(&answer);
        answer
    }

    fn count<T>(&self, answer: &Result<T, Failure>) {
        match answer {
            Err(failure) if !failure.is_answer() => {
                self.inner.health.failed(&self.inner.url, &failure.problem);
            }
            _ => self.inner.health.answered(&self.inner.url),
        }
    }

    fn retry(&self, action: Action) -> Retry<'_> {
        let random = &self.inner.random;
        let seed = random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64();
        Retry::new(&self.inner.retries, &self.inner.url, action, seed)
    }

    /// The name that the store knows.
    fn full(&self, name: &str, retry: &Retry<'_>) -> Result<String, BucketError> {
        if is_name(name) {
            Ok(format!("{}{name}", self.inner.prefix))
        } else {
            Err(retry.refused("an object cannot have that name"))
        }
    }
}

async fn within<T>(
    patience: Duration,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(patience, request)
        .await
        .unwrap_or_else(|_| {
            let patience = humantime::format_duration(patience);
            let problem = format!("no answer within {patience}");
            Err(Failure::new(Cause::Doubtful, problem))
        })
}

fn is_expected(there: Option<&Version>, expected: Option<&Version>) -> bool {
    match (there, expected) {
        (None, None) => true,
        (Some(there), Some(expected)) => there.is_same(expected),
        _ => false,
    }
}

/// Whether all stores, and directories, can hold an object of that name as it is.
fn is_name(name: &str) -> bool {
    name.len() <= 512
        && name.split('/').all(|part| {
            let known = |c: u8| c.is_ascii_alphanumeric() || b"-._=".contains(&c);
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(known)
        })
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.inner.url).finish()
    }
}
