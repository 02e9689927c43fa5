//! How handlers and routers fail.

use std::error::Error;
use std::fmt;

/// What a handler returns: `Ok(())`, or an error after which nothing of the invocation remains.
pub type HandlerResult = Result<(), HandlerError>;

/// What a router returns.
pub type RouterResult = Result<(), RouterError>;

/// Why a handler failed. Any error converts into one with `?`.
///
/// The invocation's state changes, sends and egress records are dropped. It is tried again by the function's retry
/// policy; then, or at once after [`HandlerError::permanent`], the address is parked with its messages in order.
pub struct HandlerError {
    permanent: bool,
    problem: String,
}

impl HandlerError {
    /// A failure that another attempt may mend.
    pub fn new(problem: impl fmt::Display) -> Self {
        Self {
            permanent: false,
            problem: problem.to_string(),
        }
    }

    /// A failure that no further attempt can mend: the address is parked at once.
    pub fn permanent(problem: impl fmt::Display) -> Self {
        Self {
            permanent: true,
            problem: problem.to_string(),
        }
    }

    /// Whether another attempt is pointless.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }
}

/// The error and what lies under it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl<E: Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self {
            permanent: false,
            problem: chain(&error),
        }
    }
}
impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}
impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

/// Why a router could not route a record; the ingress' `onError` policy decides what happens to the record.
pub struct RouterError(String);

impl RouterError {
    /// A failure with that description.
    pub fn new(problem: impl fmt::Display) -> Self {
        Self(problem.to_string())
    }
}
impl<E: Error> From<E> for RouterError {
    fn from(error: E) -> Self {
        Self(chain(&error))
    }
}
impl fmt::Display for RouterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for RouterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
