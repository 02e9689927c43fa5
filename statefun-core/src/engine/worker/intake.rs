//! Taking in: records of ingresses, as the application's routers and wiring say, and what becomes of those that cannot be.

use bytes::Bytes;

use crate::engine::cut::egress_framing;
use crate::engine::registry::OnError;
use crate::engine::worker::{Body, Worker, WorkerError};
use crate::id::{Address, LazyTypeName, MessageTypeId};
use crate::io::egress::{DeadLetter, EgressRecord};
use crate::io::ingress::{Ack, AckOutcome, Record};
use crate::sdk::caught::caught;
use crate::sdk::egress::egress_hash;
use crate::sdk::message::TypedValue;
use crate::sdk::router::RecordInfo;
use crate::state::keys::{Space, address_key, push_escaped};

/// The type under which records that could not be read go to a dead letter egress: the bytes as they came.
pub(crate) const BAD_RECORD: &str = "io.statefun/BadRecord";

/// The address whose key group keeps the position of a partition.
pub(crate) fn partition_address(ingress: &str, partition: &str) -> Address {
    static NAME: LazyTypeName = LazyTypeName::new("io.statefun/source");
    let mut id = Vec::new();
    push_escaped(&mut id, ingress.as_bytes());
    id.extend_from_slice(partition.as_bytes());
    Address::new(NAME.get(), String::from_utf8_lossy(&id).as_ref())
}

/// The bytes of a record that was decoded, for its dead letter; none when they can no longer be written.
fn encoded(value: Body) -> Bytes {
    if let Some(dynamic) = value.as_any().downcast_ref::<TypedValue>() {
        return dynamic.value.clone();
    }
    let mut bytes = Vec::new();
    match caught("its serializer", || value.encode_any(&mut bytes)) {
        Ok(Ok(())) => bytes.into(),
        Ok(Err(_)) | Err(_) => Bytes::new(),
    }
}

impl Worker {
    /// Takes a record in. Its partition's position moves with it, in the same cut.
    pub(crate) fn admit(
        &mut self,
        ingress: u16,
        partition: Option<&Address>,
        mut record: Record,
    ) -> Result<(), WorkerError> {
        self.count_records(ingress, 1);
        self.take_in(ingress, partition, &mut record)?;
        self.send_all();
        Ok(())
    }

    /// Takes all of these records in.
    pub(crate) fn admit_all(
        &mut self,
        ingress: u16,
        partition: Option<&Address>,
        records: &mut Vec<Record>,
    ) -> Result<(), WorkerError> {
        self.count_records(ingress, records.len());
        for record in &mut *records {
            self.take_in(ingress, partition, record)?;
        }
        records.clear();
        self.send_all();
        Ok(())
    }

    fn count_records(&self, ingress: u16, records: usize) {
        if let Some(meter) = self.measure.meter.ingresses.get(usize::from(ingress)) {
            meter.records.add(records as u64);
        }
    }

    fn take_in(
        &mut self,
        ingress: u16,
        partition: Option<&Address>,
        record: &mut Record,
    ) -> Result<(), WorkerError> {
        self.changed = true;
        if let (Some(partition), Some(position)) = (partition, record.position.take()) {
            let key = address_key(Space::Source, self.groups, partition);
            self.rows.borrow_mut().put(key, position.to_vec());
        }
        let ack = record.ack.take();
        let routing = match &mut self.tracer {
            None => None,
            Some(tracer) => {
                let wiring = self.registry.ingress(ingress);
                let id = wiring.map_or("", |wiring| wiring.id.as_str());
                tracer.record(id, record.trace.take(), self.epoch)
            }
        };
        let first = self.invocation.sends.len();
        let (bytes, problem) = match record.take_value() {
            Ok(value) => {
                let info = RecordInfo {
                    key: record.key.as_deref(),
                    headers: &record.headers,
                    timestamp: record.timestamp,
                };
                let mut value = Some(value.0);
                let sends = &mut self.invocation.sends;
                let target = record.target.take().map(|target| *target);
                match self
                    .registry
                    .route(ingress, info, target, &mut value, sends)
                {
                    Ok(()) => {
                        if let (Some(routing), Some(tracer)) = (routing, &mut self.tracer) {
                            let sends = self.invocation.sends.get_mut(first..);
                            tracer.routed(routing, sends.unwrap_or_default(), None);
                        }
                        self.acks.extend(ack);
                        return Ok(());
                    }
                    Err(problem) => (value.map(encoded).unwrap_or_default(), problem),
                }
            }
            Err(bad) => (bad.bytes, bad.problem),
        };
        if let (Some(routing), Some(tracer)) = (routing, &mut self.tracer) {
            tracer.routed(routing, &mut [], Some(&problem));
        }
        self.refuse(ingress, bytes, problem, ack)
    }

    /// Another egress' receiver has refused a record: it becomes a record of this one, in the current epoch.
    pub(crate) fn take_dead_letter(&mut self, egress: u64, letter: DeadLetter) {
        let (message, record) = (letter_type(&letter.record), &letter.record);
        match (&mut self.tracer, &record.trace) {
            (Some(tracer), Some(context)) => {
                let trace = tracer.follow(context);
                let out = &mut self.invocation.egress;
                egress_framing::push_traced(out, egress, message, &trace, &record.payload);
                self.egress_count += 1;
            }
            _ => self.write_egress(egress, message, &record.payload),
        }
        self.acks.push(letter.done);
        self.changed = true;
    }

    fn write_egress(&mut self, egress: u64, message: MessageTypeId, payload: &[u8]) {
        egress_framing::push(&mut self.invocation.egress, egress, message, |out| {
            out.extend_from_slice(payload);
            Ok::<(), std::convert::Infallible>(())
        })
        .unwrap_or_default();
        self.egress_count += 1;
    }

    /// A record that cannot be read or routed: its client is told, or else the ingress' policy decides.
    fn refuse(
        &mut self,
        ingress: u16,
        bytes: Bytes,
        problem: String,
        ack: Option<Ack>,
    ) -> Result<(), WorkerError> {
        if let Some(meter) = self.measure.meter.ingresses.get(usize::from(ingress)) {
            meter.refused.add(1);
        }
        if let Some(ack) = ack {
            ack.tell(AckOutcome::Refused(problem));
            return Ok(());
        }
        let Some(wiring) = self.registry.ingress(ingress) else {
            return Ok(());
        };
        match &wiring.on_error {
            OnError::Fail => Err(WorkerError::Record {
                ingress: wiring.id.clone(),
                problem,
            }),
            OnError::Skip => {
                tracing::warn!(ingress = wiring.id, problem, "a record is left out");
                Ok(())
            }
            OnError::DeadLetter(egress) => {
                tracing::warn!(
                    ingress = wiring.id,
                    problem,
                    egress,
                    "a record goes to the dead letter egress"
                );
                let egress = egress_hash(egress);
                self.write_egress(egress, MessageTypeId::of(BAD_RECORD), &bytes);
                Ok(())
            }
        }
    }
}

/// What a dead letter is to the egress that takes it. One that expects JSON would not take a message of another format, which
/// only the first egress could; so that is what could not be read is: anything.
fn letter_type(record: &EgressRecord) -> MessageTypeId {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&record.payload).is_ok();
    MessageTypeId::of_name(if is_json { record.typename } else { BAD_RECORD })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_that_is_no_json_counts_as_unreadable() {
        for (payload, expected) in [
            (&b"{\"a\":1}"[..], "shop/Order"),
            (b"7", "shop/Order"),
            (b"\x81\xa1a\x01", BAD_RECORD),
            (b"", BAD_RECORD),
        ] {
            let record = EgressRecord {
                worker: 0,
                sequence: 0,
                typename: "shop/Order",
                payload: Bytes::from_static(payload),
                trace: None,
            };
            assert_eq!(letter_type(&record), MessageTypeId::of_name(expected));
        }
    }
}
