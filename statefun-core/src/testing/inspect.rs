//! What a test looks at: states, egress records, messages sent, failures, addresses that wait.

use std::any::Any;

use bytes::Bytes;

use crate::engine::registry::Registry;
use crate::engine::waiting::{WaitKind, WaitingAddress};
use crate::engine::worker::{Command, CommandResult, QueuedMessage};
use crate::id::Address;
use crate::metrics::{OwnMetric, OwnValue};
use crate::sdk::egress::{EgressId, egress_hash};
use crate::sdk::function::{StatefulFunction, Target};
use crate::sdk::message::Message;
use crate::testing::{Delivery, Harness, HarnessError, Sent, Written, or_fail};

impl Harness {
    /// Looks at the state of an instance as a handler would find it now; an address that was never used has the default
    /// one. What is not in memory is read from the store. Changes that `read` makes are taken back.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// # #[stateful_function(typename = "example/inbox", accepts(String))]
    /// # struct Inbox { #[persisted] mails: PersistedBuffer<String>, #[persisted] by_length: PersistedTable<u64, String> }
    /// # impl Handle<String> for Inbox {
    /// #     fn handle(&mut self, mail: String, _: &mut Context<'_, Self>) -> HandlerResult {
    /// #         self.by_length.set(mail.len() as u64, mail.clone());
    /// #         self.mails.append(mail);
    /// #         Ok(())
    /// #     }
    /// # }
    /// # let mut app = Harness::builder().function::<Inbox>().build()?;
    /// app.send(Inbox::at("bob"), "hi".to_owned()).run_until_idle();
    /// assert_eq!(app.state(Inbox::at("bob"), |inbox| inbox.mails.view())?, ["hi"]);
    /// assert_eq!(app.state(Inbox::at("bob"), |inbox| inbox.by_length.get(&2).map(Option::<&_>::cloned))?.as_deref(), Some("hi"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// When the function is not in this harness, or its state does not decode.
    #[track_caller]
    pub fn state<F: StatefulFunction, R>(
        &mut self,
        target: Target<F>,
        read: impl FnOnce(&mut F) -> R,
    ) -> R {
        or_fail(self.look(&target.into_address(), read))
    }

    fn look<F: StatefulFunction, R>(
        &mut self,
        to: &Address,
        read: impl FnOnce(&mut F) -> R,
    ) -> Result<R, HarnessError> {
        self.check_function(to)?;
        self.worker.fetch(to)?;
        self.serve()?;
        let (mut read, mut result) = (Some(read), None);
        let found = self.worker.inspect(to, &mut |instance: &mut dyn Any| {
            if let Some(function) = instance.downcast_mut::<F>() {
                result = read.take().map(|read| read(function));
            }
        });
        let unreadable = |problem: String| HarnessError::State {
            to: to.clone(),
            problem,
        };
        if let Some(result) = result {
            return Ok(result);
        }
        if found {
            return Err(unreadable("it is a stub in this harness".to_owned()));
        }
        let waiting = self.waiting_addresses()?;
        let parked = waiting.into_iter().find(|waiting| is_at(waiting, to));
        Err(unreadable(parked.map_or_else(
            || "it is not in memory".to_owned(),
            |parked| parked.problem,
        )))
    }

    /// The records that were written to an egress so far, in order, as far as their epochs have ended. They stay;
    /// [`take_egress`](Self::take_egress) takes them away.
    ///
    /// # Panics
    /// When there is no such egress, or a record is not an `M`.
    #[track_caller]
    pub fn egress<M: Message>(&self, egress: EgressId<M>) -> Vec<M> {
        let hash = or_fail(check_egress(&self.registry, egress.name()));
        let decode = |written: &Written| -> Result<M, HarnessError> {
            let other = |problem| HarnessError::OtherType {
                place: format!("egress `{}`", egress.name()),
                problem,
            };
            if written.message != M::TYPE_ID {
                let name = self
                    .registry
                    .message(written.message)
                    .map(|message| (message.type_name)());
                let name = name.map_or_else(
                    || "of another type".to_owned(),
                    |name| format!("a `{name}`"),
                );
                return Err(other(format!(
                    "a record is {name}, and was asked for as a `{}`",
                    M::type_name()
                )));
            }
            M::decode(&written.payload).map_err(|error| other(error.to_string()))
        };
        self.egress
            .iter()
            .filter(|written| written.egress == hash)
            .map(|written| or_fail(decode(written)))
            .collect()
    }

    /// As [`egress`](Self::egress), and takes the records away, so that the next call has only what came after them.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn take_egress<M: Message>(&mut self, egress: EgressId<M>) -> Vec<M> {
        let records = self.egress(egress);
        self.egress
            .retain(|written| written.egress != egress.hash());
        records
    }

    /// The records of an egress as bytes, such as those of a dead letter egress, which are of no type.
    ///
    /// # Panics
    /// When there is no such egress.
    #[track_caller]
    pub fn egress_bytes(&self, id: &str) -> Vec<Bytes> {
        let hash = or_fail(check_egress(&self.registry, id));
        self.egress
            .iter()
            .filter(|written| written.egress == hash)
            .map(|written| written.payload.clone())
            .collect()
    }

    /// All messages that were put on their way so far, in order, by whomever.
    pub fn sent(&self) -> &[Sent] {
        &self.trace.sent
    }

    /// The messages of type `M` that were sent to an address so far, in order: `app.sent_to::<Email>(Mailer::at("bob"))`.
    pub fn sent_to<M: Message>(&self, target: impl Into<Address>) -> Vec<M> {
        let to = target.into();
        self.trace
            .sent
            .iter()
            .filter(|sent| sent.to == to)
            .filter_map(|sent| sent.message.get())
            .collect()
    }

    /// All deliveries so far, in order: one for each attempt to handle a message.
    pub fn deliveries(&self) -> &[Delivery] {
        &self.trace.deliveries
    }

    /// The deliveries so far that failed, in order.
    pub fn failures(&self) -> Vec<&Delivery> {
        self.trace
            .deliveries
            .iter()
            .filter(|delivery| delivery.problem().is_some())
            .collect()
    }

    /// Makes failures fail the test.
    ///
    /// # Panics
    /// When a delivery failed so far.
    #[track_caller]
    pub fn assert_no_failures(&self) -> &Self {
        let failures: Vec<String> = self.failures().iter().map(ToString::to_string).collect();
        or_fail(if failures.is_empty() {
            Ok(self)
        } else {
            Err(HarnessError::Failures { failures })
        })
    }

    /// What a function has counted with [`ctx.counter`](crate::sdk::context::Context::counter) since the start or the last
    /// restart, whatever the labels; 0 when it has counted nothing.
    pub fn counter(&self, function: &str, name: &str) -> u64 {
        let metrics = self.metrics();
        let own = metrics
            .iter()
            .filter(|metric| metric.function == function && metric.name == name);
        own.map(|metric| match metric.value {
            OwnValue::Counter(count) => count,
            OwnValue::Gauge(_) | OwnValue::Histogram(_) => 0,
        })
        .sum()
    }

    /// All that functions have measured of their own since the start or the last restart, by name, function and labels.
    pub fn metrics(&self) -> Vec<OwnMetric> {
        self.worker.own_metrics().snapshot()
    }

    /// Forgets what was sent, delivered and written so far.
    pub fn forget(&mut self) -> &mut Self {
        self.trace.sent.clear();
        self.trace.deliveries.clear();
        self.egress.clear();
        self
    }

    /// The addresses that are parked: their first message failed for good, and the others wait behind it.
    ///
    /// # Panics
    /// When the application would stop.
    #[track_caller]
    pub fn parked(&mut self) -> Vec<WaitingAddress> {
        let mut waiting = self.waiting();
        waiting.retain(|waiting| waiting.kind == WaitKind::Parked);
        waiting
    }

    /// The addresses that are parked, and those whose first message failed and is tried again later.
    ///
    /// # Panics
    /// When the application would stop.
    #[track_caller]
    pub fn waiting(&mut self) -> Vec<WaitingAddress> {
        or_fail(self.waiting_addresses())
    }

    fn waiting_addresses(&mut self) -> Result<Vec<WaitingAddress>, HarnessError> {
        match self.worker.command(&Command::List { limit: usize::MAX })? {
            Ok(CommandResult::Waiting(waiting)) => Ok(waiting),
            _ => Ok(Vec::new()),
        }
    }

    /// The messages that wait at an address that is parked or retried, in order, the failed one first.
    ///
    /// # Panics
    /// When nothing waits there.
    #[track_caller]
    pub fn queued(&mut self, target: impl Into<Address>) -> Vec<QueuedMessage> {
        match or_fail(self.command(target, |address| Command::Show {
            address,
            messages: usize::MAX,
        })) {
            CommandResult::Shown(_, messages) => messages,
            _ => Vec::new(),
        }
    }

    /// Lets a parked address try its first message again, as `statefun parked retry` does. It runs with the next call.
    ///
    /// # Panics
    /// When nothing waits there.
    #[track_caller]
    pub fn retry(&mut self, target: impl Into<Address>) -> &mut Self {
        or_fail(self.command(target, Command::Retry));
        self
    }

    /// Drops the first message of a parked address, and lets it go on with the next, as `statefun parked skip` does.
    ///
    /// # Panics
    /// When nothing waits there.
    #[track_caller]
    pub fn skip(&mut self, target: impl Into<Address>) -> &mut Self {
        or_fail(self.command(target, Command::Skip));
        self
    }

    /// Drops all messages of a parked address, as `statefun parked drop` does.
    ///
    /// # Panics
    /// When nothing waits there.
    #[track_caller]
    pub fn drop_queue(&mut self, target: impl Into<Address>) -> &mut Self {
        or_fail(self.command(target, Command::Drop));
        self
    }

    fn command(
        &mut self,
        target: impl Into<Address>,
        command: impl FnOnce(Address) -> Command,
    ) -> Result<CommandResult, HarnessError> {
        let to = target.into();
        let result = self.worker.command(&command(to.clone()))?;
        self.serve()?;
        match result {
            Ok(result) => Ok(result),
            Err(error) => {
                let waiting = self.waiting_addresses()?;
                let waiting = waiting
                    .iter()
                    .map(|waiting| format!("{}/{}", waiting.function, waiting.id))
                    .collect();
                Err(HarnessError::not_waiting(&to, error, waiting))
            }
        }
    }
}

fn is_at(waiting: &WaitingAddress, to: &Address) -> bool {
    waiting.function == to.function().as_str() && waiting.id == to.id()
}

fn check_egress(registry: &Registry, id: &str) -> Result<u64, HarnessError> {
    let hash = egress_hash(id);
    if registry.has_egress(hash) {
        return Ok(hash);
    }
    Err(HarnessError::UnknownEgress {
        id: id.to_owned(),
        known: registry.egress_ids().map(str::to_owned).collect(),
    })
}
