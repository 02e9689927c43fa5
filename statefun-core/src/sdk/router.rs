//! Routers: from an ingress' record to the functions that it is for.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::engine::envelope::Envelope;
use crate::id::{Address, TypeName};
use crate::module::description::RouterDescription;
use crate::sdk::error::{RouterError, RouterResult};
use crate::sdk::function::{AcceptedBy, StatefulFunction, Target};
use crate::sdk::message::{AnyMessage, Message, MessageDefinition, TypedValue};

/// Where a router puts what it forwards. A router that forwards nothing drops the record.
///
/// ```
/// # use statefun_core::prelude::*;
/// # use statefun_core::testing::Harness;
/// # use statefun_core::io::ingress::Record;
/// # #[stateful_function(typename = "example/sensor", accepts(f64))]
/// # struct Sensor { #[persisted] last: PersistedValue<f64> }
/// # impl Handle<f64> for Sensor {
/// #     fn handle(&mut self, value: f64, _: &mut Context<'_, Self>) -> HandlerResult { self.last.set(value); Ok(()) }
/// # }
/// # #[stateful_function(typename = "example/archive", accepts(TypedValue))]
/// # struct Archive { #[persisted] days: PersistedTable<u64, String> }
/// # impl Handle<TypedValue> for Archive {
/// #     fn handle(&mut self, value: TypedValue, ctx: &mut Context<'_, Self>) -> HandlerResult {
/// #         self.days.set(ctx.now().as_ms() / 86_400_000, value.typename.to_string());
/// #         Ok(())
/// #     }
/// # }
/// #[router(ingress = "example/readings", to(Sensor, Archive))]
/// fn readings(reading: f64, out: &mut Downstream<'_>) -> RouterResult {
///     let sensor = out.key().ok_or_else(|| RouterError::new("a reading without a sensor"))?.to_owned();
///     if out.header("archive").is_some() {
///         // To an address that is made at run time, as a dynamic value.
///         let month = out.timestamp().to_string()[..7].to_owned(); // as in 2025-01
///         let archive = Address::new(TypeName::parse("example/archive")?, month);
///         out.forward_to(archive, TypedValue::from_message(&reading)?);
///     }
///     out.forward(Sensor::at(sensor), reading);
///     Ok(())
/// }
///
/// let mut app = Harness::builder().function::<Sensor>().function::<Archive>().router("readings").build()?;
/// let mut record = Record::new(21.5f64).with_key("attic");
/// record.headers.insert("archive".to_owned(), "yes".to_owned());
/// app.ingest("example/readings", record).run_until_idle();
/// assert_eq!(app.state(Sensor::at("attic"), |sensor| *sensor.last), 21.5);
/// assert_eq!(app.sent_to::<f64>(Archive::at("2025-01")), [21.5]);
///
/// let refused = app.try_ingest("example/readings", Record::new(1.0f64)).unwrap_err();
/// assert!(refused.to_string().contains("a reading without a sensor"));
/// # Ok::<(), statefun_core::testing::HarnessError>(())
/// ```
#[derive(Debug)]
pub struct Downstream<'a> {
    pub(crate) record: RecordInfo<'a>,
    /// Without their sender, if they are to have one.
    pub(crate) out: &'a mut Vec<Envelope>,
}

/// What an ingress knows of a record beside its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordInfo<'a> {
    /// The record's key, as text, where the ingress has one.
    pub(crate) key: Option<&'a str>,
    /// Headers, where the ingress has any; names in lower case.
    pub(crate) headers: &'a BTreeMap<String, String>,
    /// When the record was made, by the ingress' account.
    pub(crate) timestamp: Timestamp,
}

impl Downstream<'_> {
    /// Sends a message to a function; call it several times to fan out. A function that is not under the router's
    /// `to(…)` fails the record.
    pub fn forward<F, M>(&mut self, target: Target<F>, message: M)
    where
        F: StatefulFunction,
        M: AcceptedBy<F>,
    {
        self.out.push(Envelope {
            to: target.into_address(),
            from: None,
            body: Box::new(message),
        });
    }

    /// Sends a dynamic value to an address known only at run time; its function, too, must be under the router's `to(…)`,
    /// and accept the value.
    pub fn forward_to(&mut self, target: Address, value: TypedValue) {
        self.out.push(Envelope {
            to: target,
            from: None,
            body: Box::new(value),
        });
    }

    /// The record's key, where the ingress has one.
    pub fn key(&self) -> Option<&str> {
        self.record.key
    }

    /// A header of the record; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.record.headers.get(name).map(String::as_str)
    }

    /// When the record was made, by the ingress' account.
    pub fn timestamp(&self) -> Timestamp {
        self.record.timestamp
    }
}

/// A router as `#[router]` registers it.
#[derive(Clone)]
pub struct RouterDefinition {
    /// The Rust function's name, unique in the application.
    pub name: &'static str,
    /// The ingress whose records it reads, if the attribute names one.
    pub ingress: Option<&'static str>,
    /// The message that it reads.
    pub message: MessageDefinition,
    /// The functions that it says it forwards to.
    pub to: Vec<TypeName>,
    #[doc(hidden)]
    pub route: fn(Box<dyn AnyMessage>, &mut Downstream<'_>) -> RouterResult,
}

impl RouterDefinition {
    /// What `describe` says of it.
    pub fn describe(&self) -> RouterDescription {
        RouterDescription {
            name: self.name.to_owned(),
            ingress: self.ingress.map(str::to_owned),
            message: (self.message.type_name)().to_owned(),
            to: self
                .to
                .iter()
                .map(|name| name.as_str().to_owned())
                .collect(),
        }
    }
}

impl std::fmt::Debug for RouterDefinition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RouterDefinition").field(&self.name).finish()
    }
}

/// Calls a router with a message of the type that it reads; what `#[router]` puts into [`RouterDefinition::route`].
#[doc(hidden)]
pub fn route_typed<M: Message>(
    message: Box<dyn AnyMessage>,
    out: &mut Downstream<'_>,
    router: fn(M, &mut Downstream<'_>) -> RouterResult,
) -> RouterResult {
    let found = message.message_type_name();
    match message.into_any().downcast::<M>() {
        Ok(message) => router(*message, out),
        Err(_) => Err(RouterError::new(format_args!(
            "the router reads `{}`, the record is a `{found}`",
            M::type_name(),
        ))),
    }
}
