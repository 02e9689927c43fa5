//! A message on its way, and its bytes in a log record.
//!
//! Layout (little endian): `length (u32) · to · flags (u8) · [sender] · [trace] · type name length (u16) · type name · body`,
//! where an address is `function type id (u32) · id length (u32) · id`, flag 1 says that there is a sender, and flag 2 that
//! there is a trace context, as [`carried`] writes it.

use bytes::Bytes;
use thiserror::Error;

use crate::engine::registry::Registry;
use crate::id::{Address, FunctionTypeId};
use crate::sdk::caught::caught;
use crate::sdk::message::{AnyMessage, CodecError, Taken, TypedValue};
use crate::trace::TraceContext;
use crate::trace::carried::{self, Traced};

const HAS_SENDER: u8 = 1;
const HAS_TRACE: u8 = 2;

/// A message, from whom and for whom.
pub(crate) struct Envelope {
    pub(crate) to: Address,
    pub(crate) from: Option<Address>,
    pub(crate) body: Box<dyn AnyMessage>,
}

impl Clone for Envelope {
    fn clone(&self) -> Self {
        Self {
            to: self.to.clone(),
            from: self.from.clone(),
            body: self.body.clone_any(),
        }
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.body.message_type_name(), self.to)
    }
}

/// Bytes that are no envelope of this application.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// They end early or hold no text where text is due.
    #[error("a stored message is malformed")]
    Malformed,
    /// The target's function type is gone.
    #[error(
        "a stored message is for function number {0:#010x}, which this application does not have"
    )]
    UnknownFunction(u32),
}

impl Envelope {
    /// The message as a value of its own; here, an empty one stays in its place.
    #[cold]
    pub(crate) fn take(&mut self) -> Self {
        Self {
            to: self.to.clone(),
            from: self.from.take(),
            body: std::mem::replace(&mut self.body, Box::new(Taken)),
        }
    }

    /// Appends the envelope; returns how many bytes its body has. Nothing of it remains when it cannot be written.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<usize, CodecError> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        push_address(out, &self.to);
        let trace = self.body.trace();
        let sender = self.from.as_ref().map_or(0, |_| HAS_SENDER);
        out.push(sender | trace.map_or(0, |_| HAS_TRACE));
        if let Some(from) = &self.from {
            push_address(out, from);
        }
        if let Some(trace) = trace {
            carried::push(out, trace);
        }
        let body;
        let written = if let Some(dynamic) = self.body.as_any().downcast_ref::<TypedValue>() {
            push_name(out, &dynamic.typename);
            body = out.len();
            out.extend_from_slice(&dynamic.value);
            Ok(())
        } else {
            let name = self.body.message_type_name();
            push_name(out, name);
            body = out.len();
            caught("its serializer", || self.body.encode_any(out))
                .unwrap_or_else(|problem| Err(CodecError::new(name, problem)))
        };
        let len = u32::try_from(out.len() - start - 4)
            .map_err(|_| CodecError::new(self.body.message_type_name(), "it is beyond 4 GiB"));
        let header = written.and(len);
        match (header, out.get_mut(start..start + 4)) {
            (Ok(len), Some(header)) => {
                header.copy_from_slice(&len.to_le_bytes());
                Ok(out.len() - body)
            }
            (Err(error), _) => {
                out.truncate(start);
                Err(error)
            }
            (Ok(_), None) => Ok(0),
        }
    }

    /// Takes an envelope from the front of `bytes`, and moves `bytes` behind it.
    pub(crate) fn decode(bytes: &mut Bytes, registry: &Registry) -> Result<Self, EnvelopeError> {
        let len = take_u32(bytes)? as usize;
        if len > bytes.len() {
            return Err(EnvelopeError::Malformed);
        }
        let mut own = bytes.split_to(len);
        let (function, id) = take_address(&mut own)?;
        let name = registry
            .function_name(function)
            .ok_or(EnvelopeError::UnknownFunction(function.0))?;
        let to = Address::new(name, id.as_str());
        let flags = take_flags(&mut own)?;
        let mut from = None;
        if flags & HAS_SENDER != 0 {
            let (function, id) = take_address(&mut own)?;
            // A sender that is gone can no longer be replied to; its message stands.
            from = registry
                .function_name(function)
                .map(|name| Address::new(name, id.as_str()));
        }
        let trace = take_trace(flags, &mut own)?;
        let name_len = own.split_off_front(2)?;
        let name_len = name_len
            .first_chunk()
            .map_or(0, |len| u16::from_le_bytes(*len));
        let typename = text(&own.split_off_front(usize::from(name_len))?)?;
        let body = Box::new(TypedValue {
            typename: typename.into(),
            value: own,
        });
        let body: Box<dyn AnyMessage> = match trace {
            None => body,
            Some(context) => Box::new(Traced { context, body }),
        };
        Ok(Self { to, from, body })
    }
}

impl Envelope {
    /// The target's function type number and the type's name of the envelope at the front of `bytes`, which moves behind it;
    /// none when there is none.
    pub(crate) fn peek(bytes: &mut Bytes) -> Option<(u32, String)> {
        let len = take_u32(bytes).ok()? as usize;
        let mut own = bytes.split_off_front(len).ok()?;
        let (function, _) = take_address(&mut own).ok()?;
        let flags = take_flags(&mut own).ok()?;
        if flags & HAS_SENDER != 0 {
            take_address(&mut own).ok()?;
        }
        take_trace(flags, &mut own).ok()?;
        let name_len = own.split_off_front(2).ok()?;
        let name_len = u16::from_le_bytes(*name_len.first_chunk()?);
        Some((
            function.0,
            text(&own.split_off_front(usize::from(name_len)).ok()?).ok()?,
        ))
    }
}

trait Front {
    fn split_off_front(&mut self, len: usize) -> Result<Bytes, EnvelopeError>;
}
impl Front for Bytes {
    fn split_off_front(&mut self, len: usize) -> Result<Bytes, EnvelopeError> {
        if len > self.len() {
            Err(EnvelopeError::Malformed)
        } else {
            Ok(self.split_to(len))
        }
    }
}

fn take_flags(bytes: &mut Bytes) -> Result<u8, EnvelopeError> {
    let flags = bytes.split_off_front(1)?.first().copied();
    // A flag of a later version stands for something that this one would take for something else.
    flags
        .filter(|flags| flags & !(HAS_SENDER | HAS_TRACE) == 0)
        .ok_or(EnvelopeError::Malformed)
}

fn take_trace(flags: u8, bytes: &mut Bytes) -> Result<Option<TraceContext>, EnvelopeError> {
    if flags & HAS_TRACE == 0 {
        return Ok(None);
    }
    let mut rest = &bytes[..];
    let context = carried::take(&mut rest).ok_or(EnvelopeError::Malformed)?;
    let taken = bytes.len() - rest.len();
    bytes.split_off_front(taken)?;
    Ok(Some(context))
}

fn take_u32(bytes: &mut Bytes) -> Result<u32, EnvelopeError> {
    let number = bytes.split_off_front(4)?;
    Ok(number
        .first_chunk()
        .map_or(0, |number| u32::from_le_bytes(*number)))
}

fn text(bytes: &Bytes) -> Result<String, EnvelopeError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| EnvelopeError::Malformed)
}

fn push_address(out: &mut Vec<u8>, address: &Address) {
    out.extend_from_slice(&address.function().function_type_id().0.to_le_bytes());
    out.extend_from_slice(&(address.id().len() as u32).to_le_bytes());
    out.extend_from_slice(address.id().as_bytes());
}

fn take_address(bytes: &mut Bytes) -> Result<(FunctionTypeId, String), EnvelopeError> {
    let function = FunctionTypeId(take_u32(bytes)?);
    let len = take_u32(bytes)? as usize;
    let id = text(&bytes.split_off_front(len)?)?;
    Ok((function, id))
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    let name = name.get(..usize::from(u16::MAX)).unwrap_or(name);
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}
