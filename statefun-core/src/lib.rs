//! Stateful functions with exactly-once state and messaging: the SDK and the runtime.
//!
//! | feature | what it adds |
//! |---|---|
//! | `tls` | HTTPS: `tls:` of HTTP ingresses, and webhooks to `https://` URLs |
//! | `s3` | checkpoints in Amazon S3, and in what speaks its protocol |
//! | `gcs` | checkpoints in Google Cloud Storage |
//! | `azure` | checkpoints in Azure Blob Storage |
//! | `allocator` | the global allocator mimalloc, for static binaries: musl's own has one lock for all threads. `statefun build-image` turns it on there |

// The macros name this crate `::statefun_core`, here too.
extern crate self as statefun_core;

pub mod admin;
pub mod app;
#[doc(hidden)]
pub mod catalog;
#[doc(hidden)]
pub mod checkpoint;
pub mod clock;
#[doc(hidden)]
pub mod disk;
pub mod engine;
pub mod id;
pub mod inspect;
pub mod io;
#[doc(hidden)]
pub mod log;
pub mod logging;
pub mod metrics;
pub mod migrate;
pub mod module;
pub mod rand;
pub mod runtime;
pub mod sdk;
pub mod settings;
pub mod shape;
#[cfg(test)]
mod simulation;
pub mod state;
#[doc(hidden)]
pub mod steps;
pub mod testing;
pub mod trace;
mod unwinding;

pub use app::{App, Exit, main};
pub use tracing;

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What an author of functions needs in scope.
///
/// Functions and routers register themselves when they are linked into the program. Those of a library crate are linked
/// in when any name of that crate is used, or the crate itself: a dependency that `Cargo.toml` alone names is left out by
/// the compiler. So an application whose functions all live in libraries says, in its `main.rs`:
///
/// ```ignore
/// use my_functions as _;
///
/// fn main() -> statefun::Exit {
///     statefun::main()
/// }
/// ```
///
/// That holds for private functions in private modules too, and for optimised builds with link-time optimisation.
/// `statefun validate` and the [harness](crate::testing::Harness::new) show what is there.
pub mod prelude {
    pub use std::time::Duration;

    pub use serde::{Deserialize, Serialize};
    pub use statefun_macros::{Message, persisted, router, stateful_function};
    pub use tracing;

    pub use crate::clock::Timestamp;
    pub use crate::id::{Address, TypeName};
    pub use crate::module::description::Expiration;
    pub use crate::sdk::async_result::{AsyncOutcome, AsyncResult};
    pub use crate::sdk::context::Context;
    pub use crate::sdk::egress::EgressId;
    pub use crate::sdk::error::{HandlerError, HandlerResult, RouterError, RouterResult};
    pub use crate::sdk::function::{Handle, StatefulFunction, Target};
    pub use crate::sdk::message::{Message, TypedValue};
    pub use crate::sdk::module::{Binder, GlobalConfiguration, Module};
    pub use crate::sdk::router::Downstream;
    pub use crate::sdk::state::{
        PersistedBuffer, PersistedRegistry, PersistedTable, PersistedValue,
    };
}

/// What generated code calls. No part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use prost;
    pub use serde;

    pub use crate::id::{FunctionTypeId, LazyTypeName, MessageTypeId, TypeName};
    pub use crate::module::description::{
        EgressUse, Expiration, MessageFormat, StateDescription, StateKind,
    };
    pub use crate::sdk::context::Context;
    pub use crate::sdk::egress::EgressId;
    pub use crate::sdk::error::{HandlerResult, RouterResult};
    pub use crate::sdk::fetch::{NoText, TextProbe};
    pub use crate::sdk::function::{
        Accepts, FunctionDefinition, FunctionLimits, Handle, Handler, RetryPolicy,
        SendsDynamically, SendsTo, StatefulFunction,
    };
    pub use crate::sdk::message::{CodecError, Message, MessageDefinition, serde_codec};
    pub use crate::sdk::module::Registration;
    pub use crate::sdk::router::{Downstream, RouterDefinition, route_typed};
    pub use crate::sdk::state::{
        FormerVersion, MigratesFrom, PersistedState, StateDefinition, StateVisitor, Unversioned,
        Versions,
    };
    pub use crate::shape::{
        Field, OpaqueShape, Shape, ShapeFields, ShapeProbe, ShapeScope, Shaped, Variant,
    };

    /// Finds the `Default` of any type, where it has one. Only for generated code, where the type is concrete.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct DefaultProbe<T>(std::marker::PhantomData<T>);

    impl<T> DefaultProbe<T> {
        pub const fn new() -> Self {
            Self(std::marker::PhantomData)
        }
    }

    impl<T: Default> DefaultProbe<T> {
        pub fn default_value(self) -> Option<T> {
            Some(T::default())
        }
    }

    /// The answer of [`DefaultProbe`] for types without a `Default`.
    pub trait NoDefault<T>: Sized {
        fn default_value(self) -> Option<T> {
            None
        }
    }

    impl<T> NoDefault<T> for DefaultProbe<T> {}
}

/// The code of the project's README is tested.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
