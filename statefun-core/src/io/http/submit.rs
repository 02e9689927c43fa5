//! From a connection to a worker, and what became of the record.

#![expect(
    clippy::result_large_err,
    reason = "the error is the answer to a request: made once, and moved as it is"
)]

use std::time::Duration;

use http::StatusCode;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::answer::{self, Problem, Reply, problem};
use super::body::Share;
use crate::io::ingress::{Ack, AckOutcome, Record, RecordSender, TrySendError};

/// Records of one ingress that wait for one worker.
pub(in crate::io) const CHANNEL: usize = 1024;
/// Longest time that a client waits for its record to be durable.
const DURABLE: Duration = Duration::from_secs(30);

/// Hands a record over; what becomes of it comes by the receiver. The body's share is kept until then.
pub(super) fn hand_over(
    sender: &RecordSender,
    mut record: Record,
    share: Share,
) -> Result<oneshot::Receiver<AckOutcome>, Reply> {
    let (tell, told) = oneshot::channel();
    record.ack = Some(Ack::new(move |outcome| {
        drop(share);
        // Who went away needs no answer.
        let _ = tell.send(outcome);
    }));
    match sender.try_send(record) {
        Ok(()) => Ok(told),
        Err(TrySendError::Full(_)) => Err(answer::busy(
            "the application cannot take more at the moment: try again",
        )),
        Err(TrySendError::Stopping) => Err(answer::stopping("the application is stopping")),
    }
}

/// Hands a record over, and waits until it is durable; the error is the answer to give.
pub(in crate::io) async fn durable(
    sender: &RecordSender,
    record: Record,
    share: Share,
) -> Result<(), Reply> {
    match timeout(DURABLE, hand_over(sender, record, share)?).await {
        Ok(Ok(AckOutcome::Durable)) => Ok(()),
        Ok(Ok(AckOutcome::Refused(reason))) => Err(refused(reason)),
        Ok(Err(_)) => Err(untold()),
        Err(_) => Err(problem(
            StatusCode::GATEWAY_TIMEOUT,
            format_args!(
                "the message was not durable within {}: it may still take effect",
                humantime::format_duration(DURABLE)
            ),
        )),
    }
}

/// No target or router took the message.
pub(super) fn refused(reason: String) -> Reply {
    let problem = Problem {
        error: reason,
        durable: Some(false),
        ..Problem::default()
    };
    problem.reply(StatusCode::UNPROCESSABLE_ENTITY)
}

/// The process stopped before anybody could say what became of the message.
pub(super) fn untold() -> Reply {
    answer::stopping(
        "the application stopped before the message was known to be durable: it may still take effect",
    )
}
