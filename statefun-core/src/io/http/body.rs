//! Bodies: read within a size, a time, and the memory that all of them may take together.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::{self, Reply, problem};
use crate::module::units::ByteSize;

/// Longest pause within a body.
const PAUSE: Duration = Duration::from_secs(30);
/// Longest time for a whole body.
const WHOLE: Duration = Duration::from_mins(5);
/// How much of a body that is too large is read and thrown away, so that the client sees the answer and no reset.
const DRAINED_BYTES: usize = 8 << 20;
/// Longest time for that.
const DRAINING: Duration = Duration::from_secs(2);
/// The memory of bodies is counted in pieces of this size.
const PIECE: usize = 1024;

/// The memory that the bodies of one ingress may take together, from the socket until their records are durable.
#[derive(Debug, Clone)]
pub(in crate::io) struct Budget {
    pieces: Arc<Semaphore>,
    limit: ByteSize,
}

/// What a body takes of the budget; given back when dropped.
#[derive(Debug)]
pub(in crate::io) struct Share(
    #[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit,
);

impl Budget {
    /// Room for many bodies, each of up to `limit`.
    pub(in crate::io) fn for_bodies(limit: ByteSize) -> Self {
        let bytes = limit.bytes().saturating_mul(8).max(64 << 20);
        let pieces = (bytes / PIECE as u64).min(Semaphore::MAX_PERMITS as u64) as usize;
        Self {
            pieces: Arc::new(Semaphore::new(pieces)),
            limit,
        }
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, BodyError> {
        let pieces = bytes.div_ceil(PIECE).max(1) as u32;
        self.pieces
            .clone()
            .try_acquire_many_owned(pieces)
            .map_err(|_| BodyError::Busy)
    }

    /// Reads a body. `expects` tells whether the client asks before it sends one.
    pub(in crate::io) async fn read(
        &self,
        body: Incoming,
        expects: bool,
    ) -> Result<(Bytes, Share), Reply> {
        match timeout(WHOLE, self.frames(body, expects))
            .await
            .unwrap_or(Err(BodyError::Slow))
        {
            Ok(read) => Ok(read),
            Err(BodyError::TooLarge) => {
                let limit = self.limit;
                Err(problem(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format_args!(
                        "the body is larger than {limit}, the `maxBodyBytes` of this ingress"
                    ),
                ))
            }
            Err(BodyError::Busy) => Err(answer::busy(
                "too many requests are under way: try again in a moment",
            )),
            Err(BodyError::Slow) => Err(problem(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            )),
            Err(BodyError::Broken(error)) => Err(problem(
                StatusCode::BAD_REQUEST,
                format_args!("the body cannot be read: {error}"),
            )),
        }
    }

    async fn frames(&self, mut body: Incoming, expects: bool) -> Result<(Bytes, Share), BodyError> {
        let limit = usize::try_from(self.limit.bytes()).unwrap_or(usize::MAX);
        if body.size_hint().lower() > self.limit.bytes() {
            // Who asks first has not sent anything, and is not to be told to.
            if !expects {
                drain(&mut body).await;
            }
            return Err(BodyError::TooLarge);
        }
        let mut share = self.take(0)?;
        let mut taken = PIECE;
        let mut whole: Option<Bytes> = None;
        let mut pieces = BytesMut::new();
        let mut len = 0;
        while let Some(frame) = timeout(PAUSE, body.frame())
            .await
            .map_err(|_| BodyError::Slow)?
        {
            let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            len += data.len();
            if len > limit {
                drain(&mut body).await;
                return Err(BodyError::TooLarge);
            }
            if len > taken {
                share.merge(self.take(len - taken)?);
                taken += (len - taken).next_multiple_of(PIECE);
            }
            match whole.take() {
                None if pieces.is_empty() => whole = Some(data),
                first => {
                    if let Some(first) = first {
                        pieces.extend_from_slice(&first);
                    }
                    pieces.extend_from_slice(&data);
                }
            }
        }
        // A body of one frame is not copied.
        Ok((whole.unwrap_or_else(|| pieces.freeze()), Share(share)))
    }
}

async fn drain(body: &mut Incoming) {
    let reading = async {
        let mut len = 0;
        while let Some(Ok(frame)) = body.frame().await {
            len += frame.data_ref().map_or(0, Bytes::len);
            if len > DRAINED_BYTES {
                break;
            }
        }
    };
    // Whether it came to an end makes no difference to the answer.
    let _ = timeout(DRAINING, reading).await;
}

#[derive(Debug)]
enum BodyError {
    TooLarge,
    Busy,
    Slow,
    Broken(String),
}
