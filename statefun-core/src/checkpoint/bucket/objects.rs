//! What a store does with one request, and how a request fails. No retries here.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;

use super::ObjectInfo;

/// What a request leads to, later.
pub(super) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A store of named objects. Names are complete: they include the prefix.
pub(super) trait Objects: Send + Sync + fmt::Debug {
    /// Writes an object as a whole, if the condition holds: [`Cause::Condition`] when it does not.
    fn put<'a>(&'a self, name: &'a str, bytes: Bytes, condition: Condition) -> Answer<'a, Version>;

    /// Opens an object, or a part of it, for reading; [`Cause::Missing`] when there is none.
    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> Answer<'a, Opened<'a>>;

    /// The objects in a folder and below it, in no order; all of them when it is empty.
    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ObjectInfo>>;

    /// Removes an object; [`Cause::Missing`] when there is none, or success.
    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;
}

/// When an object may be written.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    /// Always.
    None,
    /// When there is no object of the name.
    Absent,
    /// When the object of the name is this one.
    Is(Version),
}

/// An object that a store has begun to send.
pub(super) struct Opened<'a> {
    /// How many bytes are to come.
    pub(super) bytes: u64,
    pub(super) version: Version,
    pub(super) body: Answer<'a, Bytes>,
}

/// Which content of an object it is: what the store calls it.
#[derive(Debug, Clone)]
pub struct Version {
    /// The entity tag.
    pub(super) tag: Option<String>,
    /// A number or name that Google's store, and versioned buckets of others, give each content.
    pub(super) generation: Option<String>,
}

impl Version {
    /// Whether both are the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.generation(), other.generation()) {
            (Some(one), Some(other)) => one == other,
            _ => self.tag.is_some() && self.tag == other.tag,
        }
    }

    /// A bucket of S3 whose versions are suspended calls each content `null`.
    fn generation(&self) -> Option<&str> {
        let generation = self.generation.as_deref();
        generation.filter(|generation| *generation != "null")
    }
}

/// Why a request failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// In words.
    pub(super) problem: String,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// There is no object of the name.
    Missing,
    /// The condition does not hold, or another request was in the way.
    Condition,
    /// There is no such bucket.
    NoBucket,
    /// The store does not let us.
    Denied,
    /// Nothing that another try would change.
    Permanent,
    /// The request was not begun. Another try may succeed.
    NotBegun,
    /// Nothing is known about the effect of the request. Another try may succeed.
    Doubtful,
}

impl Failure {
    pub(super) fn new(cause: Cause, problem: impl Into<String>) -> Self {
        Self {
            cause,
            problem: problem.into(),
        }
    }

    /// Whether the store did what a store does: these are answers to questions.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.cause, Cause::Missing | Cause::Condition)
    }

    /// Whether another try may succeed.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self.cause, Cause::NotBegun | Cause::Doubtful)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tag: &str, generation: Option<&str>) -> Version {
        Version {
            tag: Some(tag.to_owned()),
            generation: generation.map(str::to_owned),
        }
    }

    #[test]
    fn a_generation_counts_more_than_a_tag_if_it_is_one() {
        assert!(version("a", None).is_same(&version("a", None)));
        assert!(!version("a", None).is_same(&version("b", None)));
        assert!(version("a", Some("1")).is_same(&version("\"a\"", Some("1"))));
        assert!(!version("a", Some("1")).is_same(&version("a", Some("2"))));
        assert!(!version("a", Some("null")).is_same(&version("b", Some("null"))));
        let unknown = Version {
            tag: None,
            generation: None,
        };
        assert!(!unknown.is_same(&unknown));
    }
}
