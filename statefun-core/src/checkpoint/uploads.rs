//! Uploading: a few objects at a time, so that memory stays bounded and the network busy.

use std::collections::VecDeque;
use std::future::Future;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::checkpoint::bucket::{Bucket, BucketError};
use crate::checkpoint::error::CheckpointError;
use crate::steps::{Step, reached};

/// Objects under way at a time.
const AT_A_TIME: usize = 3;

/// Waits for what is asked of the blob store, on a thread that may block, unless the process is to stop.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) runtime: Handle,
    /// Turns true when nobody is to wait any more.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Waiting {
    pub(crate) fn on<T, E>(
        &self,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CheckpointError>
    where
        CheckpointError: From<E>,
    {
        let mut stopping = self.stopping.clone();
        self.runtime.block_on(async {
            let stopped = async {
                if stopping.wait_for(|stop| *stop).await.is_err() {
                    // Nobody is left who could say so.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                answer = asked => Ok(answer?),
                () = stopped => Err(CheckpointError::Stopped),
            }
        })
    }
}

/// Objects on their way to the blob store. Those under way are given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Uploads<'a> {
    bucket: &'a Bucket,
    waiting: &'a Waiting,
    under_way: VecDeque<JoinHandle<Result<(), BucketError>>>,
    bytes: u64,
}

impl<'a> Uploads<'a> {
    pub(crate) fn new(bucket: &'a Bucket, waiting: &'a Waiting) -> Self {
        Self {
            bucket,
            waiting,
            under_way: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Uploads an object; waits while too many are under way.
    pub(crate) fn put(&mut self, name: String, bytes: Bytes) -> Result<(), CheckpointError> {
        while self.under_way.len() >= AT_A_TIME {
            self.await_one()?;
        }
        reached(Step::Uploading);
        self.bytes += bytes.len() as u64;
        let bucket = self.bucket.clone();
        let upload = async move { bucket.put(&name, bytes).await };
        self.under_way.push_back(self.waiting.runtime.spawn(upload));
        Ok(())
    }

    fn await_one(&mut self) -> Result<(), CheckpointError> {
        let Some(first) = self.under_way.front_mut() else {
            return Ok(());
        };
        let ended = self
            .waiting
            .on(async { Ok::<_, CheckpointError>(first.await) })?;
        self.under_way.pop_front();
        match ended {
            Ok(uploaded) => Ok(uploaded?),
            Err(error) => Err(CheckpointError::Upload(error.to_string())),
        }
    }

    /// Waits for all. Returns how many bytes were given to it since it was made.
    pub(crate) fn finish(mut self) -> Result<u64, CheckpointError> {
        while !self.under_way.is_empty() {
            self.await_one()?;
        }
        Ok(self.bytes)
    }
}

impl Drop for Uploads<'_> {
    fn drop(&mut self) {
        for upload in &self.under_way {
            upload.abort();
        }
    }
}
