//! Where the records of an ingress go.

use super::{OnError, Registry, Wiring};
use crate::engine::envelope::Envelope;
use crate::id::Address;
use crate::sdk::caught::caught;
use crate::sdk::context::SendError;
use crate::sdk::message::{AnyMessage, Message, TypedValue};
use crate::sdk::router::{Downstream, RecordInfo, RouterDefinition};

impl Registry {
    /// Takes a record to its targets and through its routers. The value is taken; when it fails, it is given
    /// back where the ingress keeps such records.
    pub(crate) fn route(
        &self,
        ingress: u16,
        record: RecordInfo<'_>,
        target: Option<Address>,
        value: &mut Option<Box<dyn AnyMessage>>,
        out: &mut Vec<Envelope>,
    ) -> Result<(), String> {
        let Some(body) = value.take() else {
            return Err("the record has no value".to_owned());
        };
        if let Some(to) = target {
            if let Err(error) = self.check_accepts(&to, &*body) {
                *value = Some(body);
                return Err(error.to_string());
            }
            out.push(Envelope {
                to,
                from: None,
                body,
            });
            return Ok(());
        }
        let Some(wiring) = self.ingresses.get(usize::from(ingress)) else {
            return Err(format!("there is no ingress number {ingress}"));
        };
        if matches!(wiring.spec.on_error, OnError::DeadLetter(_)) {
            *value = Some(body.clone_any());
        }
        let first = out.len();
        let routed = self.route_by_wiring(wiring, record, body, out);
        if routed.is_err() {
            out.truncate(first);
        }
        routed
    }

    fn route_by_wiring(
        &self,
        wiring: &Wiring,
        record: RecordInfo<'_>,
        value: Box<dyn AnyMessage>,
        out: &mut Vec<Envelope>,
    ) -> Result<(), String> {
        // Each takes a value of its own, the last one the record's.
        let mut value = Some(self.typed(value)?);
        let mut left = wiring.routers.len() + wiring.spec.targets.len();
        let mut take = || {
            left -= 1;
            if left == 0 {
                value.take()
            } else {
                value.as_ref().map(|value| value.clone_any())
            }
        };
        for router in &wiring.routers {
            let from = out.len();
            let mut downstream = Downstream {
                record,
                out: &mut *out,
            };
            let Some(value) = take() else { break };
            let routed = caught("it", || (router.route)(value, &mut downstream))
                .and_then(|routed| routed.map_err(|error| error.to_string()));
            let routed = routed.and_then(|()| {
                out.iter()
                    .skip(from)
                    .try_for_each(|forward| self.check_forward(router, forward))
            });
            routed.map_err(|problem| format!("router `{}`: {problem}", router.name))?;
        }
        for target in &wiring.spec.targets {
            let Some(key) = record.key else {
                return Err(format!(
                    "the record has no key, and `{target}` needs one as its id"
                ));
            };
            let to = Address::new(*target, key);
            let Some(body) = take() else { break };
            self.check_accepts(&to, &*body)
                .map_err(|error| error.to_string())?;
            out.push(Envelope {
                to,
                from: None,
                body,
            });
        }
        Ok(())
    }

    /// Whether a router may forward that: the target is one that it declares, and takes the value.
    fn check_forward(&self, router: &RouterDefinition, forward: &Envelope) -> Result<(), String> {
        let function = forward.to.function();
        if !router.to.contains(&function) {
            return Err(if self.function_index(function).is_some() {
                format!(
                    "it forwards to `{function}`, which is not under its `to(…)`: list the function there, \
                     so that `statefun graph` and `validate` know the edge"
                )
            } else {
                SendError::UnknownFunction(function.to_string()).to_string()
            });
        }
        // What has a Rust type was checked by the compiler.
        if self.function_index(function).is_some()
            && forward.body.message_type() != TypedValue::TYPE_ID
        {
            return Ok(());
        }
        self.check_accepts(&forward.to, &*forward.body)
            .map_err(|error| error.to_string())
    }

    /// A dynamic value in its Rust type, where the application has one for it.
    fn typed(&self, value: Box<dyn AnyMessage>) -> Result<Box<dyn AnyMessage>, String> {
        if let Some(dynamic) = value.as_any().downcast_ref::<TypedValue>()
            && let Some(message) = self.messages.get(&dynamic.type_id())
        {
            return (message.decode)(&dynamic.value).map_err(|error| error.to_string());
        }
        Ok(value)
    }
}
