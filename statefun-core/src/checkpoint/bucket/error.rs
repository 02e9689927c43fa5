//! What a caller is told when a bucket cannot do what was asked.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// A request to a bucket that failed.
#[derive(Debug, Clone, Error)]
pub enum BucketError {
    /// The part of an object that was asked for is of an object that does not exist.
    #[error("{url}: there is no object `{name}`")]
    Missing {
        /// The bucket.
        url: String,
        /// The object.
        name: String,
    },
    /// There is no such bucket.
    #[error(
        "{url}: there is no such bucket: create it, or correct the URL of the checkpoints (the store says: {problem})"
    )]
    NoBucket {
        /// The bucket.
        url: String,
        /// What the store says.
        problem: String,
    },
    /// The store does not let us.
    #[error(
        "{url}: not allowed to {action}: check the credentials in the environment and what they permit (the store says: {problem})"
    )]
    Denied {
        /// The bucket.
        url: String,
        /// What was to be done.
        action: Action,
        /// What the store says.
        problem: String,
    },
    /// Another try would not help.
    #[error("{url}: cannot {action}: {problem}")]
    Refused {
        /// The bucket.
        url: String,
        /// What was to be done.
        action: Action,
        /// What the store says.
        problem: String,
    },
    /// It was tried for as long as the options say.
    #[error(
        "{url}: cannot {action}: gave up after {attempts} attempts in {}; the last one: {problem}{}",
        humantime::format_duration(Duration::from_millis(elapsed.as_millis() as u64)),
        if *in_doubt { " (whether it was done is not known)" } else { "" }
    )]
    GaveUp {
        /// The bucket.
        url: String,
        /// What was to be done.
        action: Action,
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        elapsed: Duration,
        /// How the last attempt ended.
        problem: String,
        /// Whether an attempt may have had its effect, or may still have it.
        in_doubt: bool,
    },
    /// The store cannot be used as it is set up.
    #[error("{url}: {problem}")]
    Setup {
        /// The bucket.
        url: String,
        /// What is wrong, and how to mend it.
        problem: String,
    },
}

impl BucketError {
    /// Whether the same request may succeed later with nothing changed on our side.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::GaveUp { .. })
    }

    /// Whether the request may have had its effect all the same, or may still have it.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::GaveUp { in_doubt: true, .. })
    }
}

/// What was to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Writing an object.
    Write(String),
    /// Creating an object.
    Create(String),
    /// Replacing an object.
    Replace(String),
    /// Reading an object.
    Read(String),
    /// Listing objects whose names begin so.
    List(String),
    /// Deleting an object.
    Delete(String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(name) => write!(f, "write `{name}`"),
            Self::Create(name) => write!(f, "create `{name}`"),
            Self::Replace(name) => write!(f, "replace `{name}`"),
            Self::Read(name) => write!(f, "read `{name}`"),
            Self::List(prefix) if prefix.is_empty() => write!(f, "list its objects"),
            Self::List(prefix) => write!(f, "list `{prefix}…`"),
            Self::Delete(name) => write!(f, "delete `{name}`"),
        }
    }
}
