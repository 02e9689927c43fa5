//! One connection: sends a message until it is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use statefun::rand::Random;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::report::Stats;

/// The longest time that one attempt may take: longer than the application lets a client wait.
const PATIENCE: Duration = Duration::from_secs(40);
/// The first and the longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// An answer that no further attempt will change.
#[derive(Debug, Error)]
#[error("{path}: {status} {body}")]
pub(crate) struct Fatal {
    path: String,
    status: StatusCode,
    body: String,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a request wants to be measured as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A driver's location.
    Location,
    /// A passenger's request, until a driver is found.
    Match,
    /// Anything else.
    Other,
}

/// A connection to the application, made again whenever it breaks.
#[derive(Debug)]
pub(crate) struct Client {
    authority: String,
    connection: Option<SendRequest<Full<Bytes>>>,
    random: Random,
    stats: Arc<Stats>,
}

impl Client {
    pub(crate) fn new(authority: &str, stats: Arc<Stats>, seed: u64) -> Self {
        Self {
            authority: authority.to_owned(),
            connection: None,
            random: Random::seeded(seed),
            stats,
        }
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Sends a message until it is answered. With a key it takes effect once, however often it is sent.
    pub(crate) async fn post<R: DeserializeOwned>(
        &mut self,
        kind: Kind,
        path: &str,
        key: Option<&str>,
        message: &(impl Serialize + Sync),
    ) -> Result<R, Fatal> {
        let body = Bytes::from(serde_json::to_vec(message).unwrap_or_default());
        let start = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            let attempt = timeout(PATIENCE, self.attempt(path, key, body.clone())).await;
            let answered = attempt.unwrap_or_else(|_| Err("no answer".into()));
            let (status, body) = answered.unwrap_or_else(|_| {
                self.connection = None;
                (StatusCode::SERVICE_UNAVAILABLE, Bytes::new())
            });
            if status == StatusCode::OK
                && let Ok(reply) = serde_json::from_slice(&body)
            {
                self.stats.answered(kind, start.elapsed());
                return Ok(reply);
            }
            // Too much at the moment, being restarted, or not yet: the same again, a little later.
            let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            if !again {
                let body = String::from_utf8_lossy(&body).into_owned();
                return Err(Fatal {
                    path: path.to_owned(),
                    status,
                    body,
                });
            }
            self.stats.retries.fetch_add(1, Ordering::Relaxed);
            sleep(pause.mul_f64(0.5 + self.random.unit())).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn attempt(
        &mut self,
        path: &str,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        if self.connection.as_ref().is_none_or(SendRequest::is_closed) {
            let stream = TcpStream::connect(&self.authority).await?;
            stream.set_nodelay(true)?;
            let (connection, drive) = handshake(TokioIo::new(stream)).await?;
            // It ends with its connection, which says why.
            tokio::spawn(drive);
            self.connection = Some(connection);
        }
        let Some(connection) = &mut self.connection else {
            return Err("not connected".into());
        };
        let mut request = Request::post(path)
            .header("host", &self.authority)
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        connection.ready().await?;
        let response = connection
            .send_request(request.body(Full::new(body))?)
            .await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
