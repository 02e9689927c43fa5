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
///
/// ```
/// # use statefun_core::prelude::*;
/// # use statefun_core::testing::Harness;
/// #[stateful_function(typename = "example/parser", accepts(String), retry(max_attempts = 3, initial_delay = "1s"))]
/// struct Parser {
///     #[persisted]
///     sum: PersistedValue<i64>,
/// }
///
/// impl Handle<String> for Parser {
///     fn handle(&mut self, text: String, _: &mut Context<'_, Self>) -> HandlerResult {
///         if text.is_empty() {
///             return Err(HandlerError::permanent("nothing to parse")); // no further attempt can mend that
///         }
///         *self.sum += 1; // taken back when the next line fails
///         let number: i64 = text.parse()?; // any error
///         *self.sum += number - 1;
///         Ok(())
///     }
/// }
///
/// let mut app = Harness::builder().function::<Parser>().build()?;
/// app.send(Parser::at("a"), "7".to_owned()).send(Parser::at("a"), "seven".to_owned());
/// app.send(Parser::at("b"), String::new()).run_until_idle();
/// assert_eq!(app.parked().len(), 1, "b, at once");
/// app.advance(Duration::from_mins(1));
/// assert_eq!((app.parked().len(), app.failures().len()), (2, 1 + 3));
/// app.skip(Parser::at("a"));
/// assert_eq!(app.state(Parser::at("a"), |parser| *parser.sum), 7);
/// # Ok::<(), statefun_core::testing::HarnessError>(())
/// ```
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
    pub(crate) fn is_permanent(&self) -> bool {
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
