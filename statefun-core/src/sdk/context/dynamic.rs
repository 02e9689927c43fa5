//! What is sent to addresses that are known only at run time, callers among them.

use std::time::Duration;

use thiserror::Error;

use crate::id::Address;
use crate::sdk::context::{Context, DelayedSend};
use crate::sdk::function::{SendsDynamically, StatefulFunction};
use crate::sdk::message::{AnyMessage, Message, TypedValue};

/// A dynamic send that cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// No function of the application has that type.
    #[error("no function `{0}` in this application: check the type name of the address")]
    UnknownFunction(String),
    /// The function does not accept the type of the value.
    #[error(
        "`{function}` does not accept `{message}`: list it under its `accepts(…)`, or send another type"
    )]
    NotAccepted {
        /// The target's function type.
        function: String,
        /// The type of the value.
        message: String,
    },
    /// The function does not say that it sends there.
    #[error(
        "`{function}` does not say that it sends to `{target}`: list it under `sends(…)`, or add `dynamic_sends`"
    )]
    NotDeclared {
        /// The sending function's type.
        function: String,
        /// The target's function type.
        target: String,
    },
    /// The value is larger than what the function takes.
    #[error(
        "the message has {bytes} bytes, and `{function}` takes {limit} at most: send less, or raise its `max_message_bytes`"
    )]
    TooLarge {
        /// The target's function type.
        function: String,
        /// The size of the encoded value.
        bytes: usize,
        /// The target's limit.
        limit: usize,
    },
    /// There is nobody to reply to: the message came from an ingress that takes no replies, or from a timer.
    #[error("there is nobody to reply to: the message came from an ingress that takes no replies")]
    NoCaller,
}

impl<F: StatefulFunction> Context<'_, F> {
    /// Sends a dynamic value to an address known only at run time, such as one that a message or the configuration names.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// # use statefun_core::sdk::context::SendError;
    /// /// Passes values on to whoever has subscribed; knows neither their types nor the functions.
    /// #[stateful_function(typename = "example/topic", accepts(Subscribe, TypedValue), dynamic_sends)]
    /// struct Topic {
    ///     #[persisted]
    ///     subscribers: PersistedValue<Vec<Address>>,
    /// }
    /// # #[derive(Clone, Serialize, Deserialize, Message)]
    /// # #[message(typename = "example/Subscribe")]
    /// # struct Subscribe(Address);
    ///
    /// impl Handle<Subscribe> for Topic {
    ///     fn handle(&mut self, Subscribe(who): Subscribe, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         // A message of a known type to an unknown function, and one that comes later:
    ///         ctx.send_message_to(who.clone(), "welcome".to_owned())?;
    ///         let reminder = TypedValue::from_message(&"still there?".to_owned())?;
    ///         ctx.send_to_after(Duration::from_hours(24), who.clone(), reminder)?.with_token(who.id());
    ///         self.subscribers.push(who);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Handle<TypedValue> for Topic {
    ///     fn handle(&mut self, value: TypedValue, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         for subscriber in &*self.subscribers {
    ///             match ctx.send_to(subscriber.clone(), value.clone()) {
    ///                 Ok(()) | Err(SendError::NotAccepted { .. }) => {} // who does not take such values, gets none
    ///                 Err(error) => return Err(HandlerError::permanent(error)),
    ///             }
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut app = Harness::builder().function::<Topic>().stub("example/reader").build()?;
    /// let reader = app.address("example/reader", "ada");
    /// app.send(Topic::at("news"), Subscribe(reader.clone())).run_until_idle();
    /// app.send_to(Topic::at("news").into(), TypedValue::from_message(&7i64)?).run_until_idle();
    /// assert_eq!(app.sent_to::<String>(reader.clone()), ["welcome"]);
    /// assert_eq!(app.sent_to::<i64>(reader.clone()), [7]);
    /// app.advance(Duration::from_hours(24));
    /// assert_eq!(app.sent_to::<String>(reader), ["welcome", "still there?"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When no function of the application has that type, or it does not accept the value, or not one of that size.
    pub fn send_to(&mut self, target: Address, value: TypedValue) -> Result<(), SendError>
    where
        F: SendsDynamically,
    {
        self.dynamic(target, Box::new(value))
    }

    /// Sends a message to whoever is at an address known only at run time, such as a caller kept from an earlier message.
    ///
    /// # Errors
    /// When no function of the application has that type, or it does not accept the message.
    pub fn send_message_to<M: Message>(
        &mut self,
        target: Address,
        message: M,
    ) -> Result<(), SendError>
    where
        F: SendsDynamically,
    {
        self.dynamic(target, Box::new(message))
    }

    /// As [`send_to`](Self::send_to), after a delay.
    ///
    /// # Errors
    /// When no function of the application has that type, or it does not accept the value.
    pub fn send_to_after(
        &mut self,
        delay: Duration,
        target: Address,
        value: TypedValue,
    ) -> Result<DelayedSend<'_>, SendError>
    where
        F: SendsDynamically,
    {
        let body: Box<dyn AnyMessage> = Box::new(value);
        self.scope.registry.check_accepts(&target, &*body)?;
        Ok(self.delay(delay, target, body))
    }

    /// Answers the caller: the function that sent the message, or an outside client that waits.
    ///
    /// Where messages also come from ingresses that take no replies, ask for the [`caller`](Self::caller) first, or the
    /// error fails the invocation:
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # #[stateful_function(typename = "example/prices", accepts(String))]
    /// # struct Prices {}
    /// impl Handle<String> for Prices {
    ///     fn handle(&mut self, product: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         if ctx.caller().is_some() {
    ///             ctx.reply(format!("{product}: 12 CHF"))?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// When there is no caller, or the calling function does not accept the message.
    pub fn reply<M: Message>(&mut self, message: M) -> Result<(), SendError> {
        let caller = self.scope.caller.ok_or(SendError::NoCaller)?.clone();
        self.dynamic(caller, Box::new(message))
    }

    /// Answers a caller of an earlier message, whose address the function has kept in its state. An outside client may
    /// always be answered; a function only if it is under `sends(…)`, or with `dynamic_sends`.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// #[stateful_function(typename = "example/kitchen", accepts(String, bool))]
    /// struct Kitchen {
    ///     #[persisted]
    ///     guest: PersistedValue<Option<Address>>,
    /// }
    ///
    /// impl Handle<String> for Kitchen {
    ///     fn handle(&mut self, _order: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         self.guest.set(ctx.caller().cloned());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Handle<bool> for Kitchen {
    ///     fn handle(&mut self, _ready: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         if let Some(guest) = self.guest.take() {
    ///             ctx.reply_to(guest, "bon appétit".to_owned())?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut app = Harness::builder().function::<Kitchen>().build()?;
    /// let order = app.request(Kitchen::at("k"), "soup".to_owned());
    /// app.run_until_idle();
    /// assert_eq!(app.reply::<String>(&order), None);
    /// app.send(Kitchen::at("k"), true).run_until_idle();
    /// assert_eq!(app.reply::<String>(&order).as_deref(), Some("bon appétit"));
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
    ///
    /// # Errors
    /// When the function does not say that it sends there, or the other one does not accept the message.
    pub fn reply_to<M: Message>(&mut self, caller: Address, message: M) -> Result<(), SendError> {
        let own = self.scope.address.function();
        if !self.scope.registry.may_reply(own, caller.function()) {
            return Err(SendError::NotDeclared {
                function: own.to_string(),
                target: caller.function().to_string(),
            });
        }
        self.dynamic(caller, Box::new(message))
    }

    fn dynamic(&mut self, target: Address, body: Box<dyn AnyMessage>) -> Result<(), SendError> {
        self.scope.registry.check_accepts(&target, &*body)?;
        self.put(target, body);
        Ok(())
    }
}
