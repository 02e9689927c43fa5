//! Clients that wait for a reply, and what they are told.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::answer::{self, Problem, Reply};
use super::submit;
use crate::engine::request::Answer;
use crate::io::clients::Clients;
use crate::io::ingress::{AckOutcome, Decoder};
use crate::module::description::MessageFormat;
use crate::sdk::message::TypedValue;

/// A connection that waits for an answer; it stops when the client goes away.
pub(super) struct Waiting<'a> {
    pub(super) clients: &'a Clients,
    pub(super) id: &'a str,
    pub(super) connection: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.clients.forget(self.id, self.connection);
    }
}

/// What a client waits for.
pub(super) struct Outcome {
    pub(super) answer: oneshot::Receiver<Answer>,
    pub(super) told: oneshot::Receiver<AckOutcome>,
    pub(super) limit: Duration,
    pub(super) waits: bool,
    pub(super) has_key: bool,
}

impl Outcome {
    /// Waits for it.
    pub(super) async fn reply(mut self, decoder: &Decoder) -> Result<Reply, Reply> {
        let mut durable = false;
        let mut late = std::pin::pin!(sleep(self.limit));
        loop {
            tokio::select! {
                biased;
                answer = &mut self.answer => return match answer {
                    Ok(Answer::Reply(reply)) if self.waits => {
                        let content_type = content_type(decoder, &reply);
                        Ok(answer::value(reply, content_type))
                    }
                    Ok(Answer::Accepted | Answer::Reply(_)) => Ok(answer::accepted()),
                    Ok(Answer::KeyReused) => Err(Problem {
                        error: "another message was sent under this `Idempotency-Key`: use a new key for each message"
                            .to_owned(),
                        durable: Some(false),
                        ..Problem::default()
                    }
                    .reply(StatusCode::UNPROCESSABLE_ENTITY)),
                    Ok(Answer::Refused(reason)) => Err(submit::refused(reason)),
                    Err(_) => Err(submit::untold()),
                },
                told = &mut self.told, if !durable => match told {
                    Ok(AckOutcome::Durable) => durable = true,
                    Ok(AckOutcome::Refused(reason)) => return Err(submit::refused(reason)),
                    Err(_) => return Err(submit::untold()),
                },
                () = &mut late => return Err(self.late(durable)),
            }
        }
    }

    fn late(&self, durable: bool) -> Reply {
        let limit = humantime::format_duration(self.limit);
        let mut error = match (self.waits, durable) {
            (true, true) => {
                format!("no reply within {limit}; the message is durable and takes effect")
            }
            (_, false) => format!(
                "no answer within {limit}; the message is not known to be durable: it may still take effect"
            ),
            (false, true) => format!("the message is durable, and was not routed within {limit}"),
        };
        error += if self.has_key {
            ". Sending it again with the same `Idempotency-Key` is safe, and answered with the first one's reply"
        } else {
            ". An `Idempotency-Key` makes it safe to send a message again"
        };
        let problem = Problem {
            error,
            durable: durable.then_some(true),
            ..Problem::default()
        };
        problem.reply(StatusCode::GATEWAY_TIMEOUT)
    }
}

/// How a reply's bytes are to be read. Nobody needs to declare the types of replies; those unknown are looked at.
fn content_type(decoder: &Decoder, reply: &TypedValue) -> &'static str {
    let format = match decoder.definition(&reply.typename) {
        Some(definition) => Some(definition.format),
        None if reply.typename.starts_with("io.statefun.types/") => Some(MessageFormat::Protobuf),
        None => super::looks_like_json(&reply.value).then_some(MessageFormat::Json),
    };
    super::content_type(format)
}
