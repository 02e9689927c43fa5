//! A harness for the tests of functions: an application in memory, with virtual time.
//!
//! It drives the same worker that runs in production, with its epochs, queues, timers and undo, over a store in memory.
//! What passes here behaves the same there.
//!
//! ```
//! use statefun_core::prelude::*;
//! use statefun_core::testing::Harness;
//!
//! #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
//! #[message(typename = "example/GreetRequest")]
//! struct GreetRequest { first_name: String }
//!
//! #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
//! #[message(typename = "example/Remind")]
//! struct Remind {}
//!
//! #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
//! #[message(typename = "example/Greeting")]
//! struct Greeting(String);
//!
//! const GREETINGS: EgressId<Greeting> = EgressId::new("example/greetings");
//!
//! #[stateful_function(typename = "example/greeter", accepts(GreetRequest, Remind), egress(GREETINGS))]
//! struct Greeter {
//!     #[persisted]
//!     seen_count: PersistedValue<u32>,
//! }
//!
//! impl Handle<GreetRequest> for Greeter {
//!     fn handle(&mut self, request: GreetRequest, ctx: &mut Context<'_, Self>) -> HandlerResult {
//!         *self.seen_count += 1;
//!         ctx.egress(GREETINGS, &Greeting(format!("Hello {} ({})", request.first_name, *self.seen_count)));
//!         ctx.send_after(Duration::from_mins(1), Greeter::at(ctx.id()), Remind {}).with_token("remind");
//!         Ok(())
//!     }
//! }
//!
//! impl Handle<Remind> for Greeter {
//!     fn handle(&mut self, _: Remind, ctx: &mut Context<'_, Self>) -> HandlerResult {
//!         ctx.egress(GREETINGS, &Greeting(format!("Where are you, {}?", ctx.id())));
//!         Ok(())
//!     }
//! }
//!
//! let mut app = Harness::builder().function::<Greeter>().build()?;
//! app.send(Greeter::at("bob"), GreetRequest { first_name: "Bob".into() }).run_until_idle();
//! assert_eq!(app.take_egress(GREETINGS), [Greeting("Hello Bob (1)".into())]);
//! assert_eq!(app.state(Greeter::at("bob"), |greeter| *greeter.seen_count), 1);
//!
//! app.restart(); // everything is written, and read back
//! app.advance(Duration::from_mins(1));
//! assert_eq!(app.take_egress(GREETINGS), [Greeting("Where are you, bob?".into())]);
//! app.assert_no_failures();
//! # Ok::<(), statefun_core::testing::HarnessError>(())
//! ```
//!
//! # How it runs
//!
//! Nothing runs by itself. [`Harness::send`] and its like put messages on their way; [`Harness::run_until_idle`] handles
//! them and all that follows from them, waits for the operations that `ctx.spawn` started, and ends the epoch. Only then
//! egress records and replies are there to be seen, as in production. Several invocations between two such calls share
//! an epoch; [`Harness::run`] handles only so many messages and does not end it.
//!
//! Time stands still until [`Harness::advance`] moves it, and moves through everything that is due on the way: delayed
//! messages, retries. Expiration follows the same time. Operations are the exception: they run in real time.
//!
//! Every message is encoded and decoded once, though between functions of a process it moves as it is: in production any
//! message may be, when an epoch ends while it is on its way. One that its format cannot hold fails the test.
//!
//! A handler that fails does not fail the test: it is retried in virtual time, and its address is parked in the end.
//! [`Harness::failures`] tells, and [`Harness::assert_no_failures`] makes it fail the test.
//!
//! # What panics
//!
//! The plain methods panic with a [`HarnessError`] where the test itself makes no sense (a function that is not there, a
//! value that does not decode, a cycle that never ends); methods that begin with `try_` return it instead.

mod builder;
mod drive;
mod error;
mod inspect;
mod migrated;
mod operations;
mod send;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::engine::registry::Registry;
use crate::engine::request::Answer;
use crate::engine::worker::Worker;
use crate::id::MessageTypeId;
use crate::migrate::MigrationReport;
use crate::state::memory::MemoryStore;

pub use crate::engine::registry::OnError;
pub use crate::engine::waiting::{WaitKind, WaitingAddress};
pub use crate::engine::worker::QueuedMessage;
pub use builder::HarnessBuilder;
pub use error::HarnessError;
pub use migrated::{MigrateError, migrated};
pub use send::PendingReply;
pub use trace::{Delivery, DeliveryOutcome, Sent, SentValue};

/// An application in memory; see the [module's page](self).
pub struct Harness {
    registry: Arc<Registry>,
    /// What belongs to the rows, as `catalog.json` tells it elsewhere.
    catalog: Catalog,
    store: Arc<MemoryStore>,
    worker: Worker,
    now: Timestamp,
    settings: builder::Settings,
    trace: trace::Trace,
    /// Egress records of ended epochs, in order.
    egress: Vec<Written>,
    /// Messages that the last epoch carried.
    carried: Bytes,
    /// The last epoch's record.
    last_record: Bytes,
    replies: HashMap<CompactString, Answer>,
    requests: u64,
    operations: operations::Operations,
}

/// An egress record that has left.
struct Written {
    egress: u64,
    message: MessageTypeId,
    payload: Bytes,
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness")
            .field("now", &self.now)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// Fails the test: there is nobody else to handle the error.
#[track_caller]
fn or_fail<T>(result: Result<T, HarnessError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

impl Harness {
    /// A harness with everything that is linked into the test: what `run` would start.
    ///
    /// ```standalone_crate
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// #[stateful_function(typename = "example/echo", accepts(String))]
    /// struct Echo {}
    ///
    /// impl Handle<String> for Echo {
    ///     fn handle(&mut self, message: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         Ok(ctx.reply(message)?)
    ///     }
    /// }
    ///
    /// let mut app = Harness::new();
    /// let reply: String = app.call(Echo::at("x"), "hello".to_owned());
    /// assert_eq!(reply, "hello");
    /// ```
    ///
    /// # Panics
    /// With what would stop the real application at its start; see [`HarnessBuilder::build`].
    #[expect(
        clippy::new_without_default,
        reason = "it depends on what is linked in, and can fail"
    )]
    #[track_caller]
    pub fn new() -> Self {
        or_fail(Self::builder().linked().build())
    }

    /// Puts a harness together from what is named only; `linked()` adds the rest.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// #[stateful_function(typename = "example/priced", accepts(i64))]
    /// struct Priced {
    ///     currency: Currency,
    ///     #[persisted]
    ///     total: PersistedValue<i64>,
    /// }
    ///
    /// struct Currency(String); // without a Default
    ///
    /// impl Handle<i64> for Priced {
    ///     fn handle(&mut self, price: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         *self.total += price;
    ///         Ok(ctx.reply(format!("{} {}", *self.total, self.currency.0))?)
    ///     }
    /// }
    ///
    /// struct Shop;
    ///
    /// impl Module for Shop {
    ///     fn configure(&self, global: &GlobalConfiguration, binder: &mut Binder) {
    ///         let currency = global.get("currency").unwrap_or("EUR").to_owned();
    ///         binder.function(move || Priced::with_fields(Currency(currency.clone())));
    ///     }
    /// }
    ///
    /// let mut app = Harness::builder().module(Shop).configuration("currency", "CHF").build()?;
    /// let reply: String = app.call(Priced::at("cart"), 12);
    /// assert_eq!(reply, "12 CHF");
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
    pub fn builder() -> HarnessBuilder {
        HarnessBuilder::default()
    }

    /// The virtual time.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Handles all messages that can be handled now, and all that follows from them; waits for operations; ends the epoch.
    ///
    /// # Panics
    /// When that never ends, when operations do not end in time, or when the application would stop.
    #[track_caller]
    pub fn run_until_idle(&mut self) -> &mut Self {
        or_fail(self.settle());
        self
    }

    /// As [`run_until_idle`](Self::run_until_idle), for tests of what it panics with.
    ///
    /// # Errors
    /// See there.
    pub fn try_run_until_idle(&mut self) -> Result<&mut Self, HarnessError> {
        self.settle()?;
        Ok(self)
    }

    /// Handles so many messages, or all if there are fewer, and does not end the epoch: for restarts in the middle.
    /// The queue of an address that was waiting counts as one message.
    ///
    /// # Panics
    /// When the application would stop.
    #[track_caller]
    pub fn run(&mut self, messages: usize) -> &mut Self {
        or_fail(self.handle(messages));
        self
    }

    /// Moves the time, and stops on the way at everything that is due: delayed messages and retries happen at their time
    /// and in their order. Runs until idle before, in between and at the end.
    ///
    /// # Panics
    /// As [`run_until_idle`](Self::run_until_idle).
    #[track_caller]
    pub fn advance(&mut self, duration: Duration) -> &mut Self {
        or_fail(self.pass(duration));
        self
    }

    /// As [`advance`](Self::advance), for tests of what it panics with; the time stays where it was then.
    ///
    /// # Errors
    /// See there.
    pub fn try_advance(&mut self, duration: Duration) -> Result<&mut Self, HarnessError> {
        self.pass(duration)?;
        Ok(self)
    }

    /// Ends the process and starts it again: all states, messages and timers are encoded, everything in memory is
    /// thrown away, and what was encoded is read back. Nothing runs before the next call. Operations under way are gone;
    /// their addresses get `AsyncOutcome::Unknown`. Outside clients keep waiting for their replies.
    ///
    /// # Panics
    /// When something cannot be encoded or read back.
    #[track_caller]
    pub fn restart(&mut self) -> &mut Self {
        or_fail(self.start_again());
        self
    }

    /// As [`restart`](Self::restart), for tests of what it panics with.
    ///
    /// # Errors
    /// See there.
    pub fn try_restart(&mut self) -> Result<&mut Self, HarnessError> {
        self.start_again()?;
        Ok(self)
    }

    /// Ends the process and starts another version of the code on the same data, as a deploy does: states and messages that
    /// it does not read are refused, and rows of earlier versions are converted when they are read.
    ///
    /// Two functions of one type name are in a test then. In a test program of their own they disturb nobody who asks for
    /// [`linked`](HarnessBuilder::linked) functions.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// mod v1 {
    ///     # use statefun_core::prelude::*;
    ///     #[stateful_function(typename = "example/till", accepts(i64))]
    ///     pub(crate) struct Till {
    ///         #[persisted]
    ///         total: PersistedValue<Total>,
    ///     }
    ///
    ///     #[persisted]
    ///     pub(crate) struct Total { pub(crate) euros: i64 }
    ///
    ///     impl Handle<i64> for Till {
    ///         fn handle(&mut self, euros: i64, _: &mut Context<'_, Self>) -> HandlerResult {
    ///             self.total.euros += euros;
    ///             Ok(())
    ///         }
    ///     }
    /// }
    ///
    /// #[stateful_function(typename = "example/till", accepts(i64))]
    /// struct Till {
    ///     #[persisted]
    ///     total: PersistedValue<Total>,
    /// }
    ///
    /// #[persisted(version = 2, migrate_from = v1::Total)]
    /// struct Total { cents: i64 }
    ///
    /// impl From<v1::Total> for Total {
    ///     fn from(old: v1::Total) -> Self {
    ///         Self { cents: old.euros * 100 }
    ///     }
    /// }
    ///
    /// impl Handle<i64> for Till {
    ///     fn handle(&mut self, cents: i64, _: &mut Context<'_, Self>) -> HandlerResult {
    ///         self.total.cents += cents;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut app = Harness::builder().function::<v1::Till>().build()?;
    /// app.send(v1::Till::at("door"), 3).run_until_idle();
    /// app.restart_as(Harness::builder().function::<Till>());
    /// app.send(Till::at("door"), 50).run_until_idle();
    /// assert_eq!(app.state(Till::at("door"), |till| till.total.cents), 350);
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
    ///
    /// Of the builder, what makes up the application counts; time, seed and limits stay as they are.
    ///
    /// # Panics
    /// When the application does not fit the data, or cannot be put together.
    #[track_caller]
    pub fn restart_as(&mut self, code: HarnessBuilder) -> &mut Self {
        or_fail(code.registry().and_then(|registry| self.start_as(registry)));
        self
    }

    /// As [`restart_as`](Self::restart_as), for tests of what it panics with; then the code of before goes on.
    ///
    /// # Errors
    /// See there.
    pub fn try_restart_as(&mut self, code: HarnessBuilder) -> Result<&mut Self, HarnessError> {
        let registry = code.registry()?;
        self.start_as(registry)?;
        Ok(self)
    }

    /// What a dry run of another version of the code says of the data: the addresses that it would not read, and why. Nothing
    /// changes.
    ///
    /// # Panics
    /// When that code cannot be put together.
    #[track_caller]
    pub fn dry_run_as(&mut self, code: HarnessBuilder) -> MigrationReport {
        or_fail(
            code.registry()
                .and_then(|registry| self.rehearse(&registry)),
        )
    }
}
