//! One HTTP request, over the network or over the socket of a data directory.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use statefun_core::io::http::tls::ClientTls;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::status::Failure;

/// Longest time to get a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// Nobody listens.
    #[error("nobody answers there: {0}")]
    Connect(io::Error),
    /// The other side does not prove that it is the host, or does not speak TLS.
    #[error("no encrypted connection: {0}")]
    Tls(io::Error),
    /// It took too long.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Late(Duration),
    /// The connection broke, or what is there does not speak HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
}

#[derive(Deserialize)]
struct Problem {
    error: String,
}

impl Answer {
    /// What the other side says is wrong.
    pub(crate) fn problem(&self) -> String {
        if let Ok(problem) = serde_json::from_slice::<Problem>(&self.body) {
            return problem.error;
        }
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        if text.is_empty() {
            self.status
                .canonical_reason()
                .unwrap_or("it says nothing about it")
                .to_owned()
        } else {
            text
        }
    }
}

/// Runs what waits for the network, on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::usage(format_args!("cannot use the network: {error}")))?;
    Ok(runtime.block_on(work))
}

/// How a request gets there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'a> {
    /// By the socket of a data directory.
    Socket(&'a Path),
    /// By the network.
    Tcp {
        /// `host:port`.
        authority: &'a str,
        /// Whom to trust, where it is encrypted.
        tls: Option<&'a ClientTls>,
    },
}

/// A connection of any kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Way<'_> {
    async fn connect(&self) -> Result<Box<dyn Stream>, ClientError> {
        let late = |_| ClientError::Late(CONNECT);
        let (authority, tls) = match self {
            Self::Socket(path) => {
                let connected = statefun_core::admin::connect(path).await;
                return Ok(Box::new(connected.map_err(ClientError::Connect)?));
            }
            Self::Tcp { authority, tls } => (authority, tls),
        };
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(authority))
            .await
            .map_err(late)?
            .map_err(ClientError::Connect)?;
        let Some(tls) = tls else {
            return Ok(Box::new(stream));
        };
        let stream = tokio::time::timeout(CONNECT, tls.connect(stream))
            .await
            .map_err(late)?
            .map_err(ClientError::Tls)?;
        Ok(Box::new(stream))
    }
}

/// Sends a request, and waits for all of the answer.
pub(crate) async fn ask(
    way: &Way<'_>,
    request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<Answer, ClientError> {
    let stream = way.connect().await?;
    over(stream, request, patience).await
}

/// Sends a request, and gives each line of the answer to `each` as it comes, until that breaks. An answer that is no success
/// is not given in lines, but returned. `patience` goes for each piece.
pub(crate) async fn ask_lines(
    way: &Way<'_>,
    request: Request<Full<Bytes>>,
    patience: Duration,
    each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<Option<Answer>, ClientError> {
    let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
    let late = |_| ClientError::Late(patience);
    let stream = way.connect().await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let _connection = AbortOnDrop(tokio::spawn(connection));
    let response = tokio::time::timeout(patience, sender.send_request(request))
        .await
        .map_err(late)?
        .map_err(broken)?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let body = tokio::time::timeout(patience, body.collect()).await;
        return Ok(Some(Answer {
            status,
            content_type: String::new(),
            body: body.map_err(late)?.map_err(broken)?.to_bytes(),
        }));
    }
    let mut begun: Vec<u8> = Vec::new();
    while let Some(frame) = tokio::time::timeout(patience, body.frame())
        .await
        .map_err(late)?
    {
        let Ok(piece) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        let mut rest = &piece[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            let told = if begun.is_empty() {
                each(line)
            } else {
                begun.extend_from_slice(line);
                each(&std::mem::take(&mut begun))
            };
            if told.is_break() {
                return Ok(None);
            }
            rest = behind;
        }
        begun.extend_from_slice(rest);
    }
    Ok(None)
}

/// A connection that ends with what uses it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<Answer, ClientError> {
    let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // The connection ends when the sender is dropped; its errors come to the sender, too.
        let connection = tokio::spawn(connection);
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let content_type = response.headers().get(http::header::CONTENT_TYPE);
            let content_type = content_type
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            let status = response.status();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(broken)?
                .to_bytes();
            Ok(Answer {
                status,
                content_type,
                body,
            })
        }
        .await;
        connection.abort();
        answer
    };
    tokio::time::timeout(patience, exchange)
        .await
        .map_err(|_| ClientError::Late(patience))?
}

/// Text as a part of a path or query.
pub(crate) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_urls_is_encoded() {
        assert_eq!(
            percent_encode("a/b?c&d=é %"),
            "a%2Fb%3Fc%26d%3D%C3%A9%20%25"
        );
        assert_eq!(percent_encode("A-z.0_9~"), "A-z.0_9~");
    }

    #[test]
    fn a_problem_is_what_the_other_side_says() {
        let answer = |body: &'static str| Answer {
            status: StatusCode::BAD_REQUEST,
            content_type: String::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        for (body, expected) in [
            (r#"{"error": "no such thing", "line": 3}"#, "no such thing"),
            ("plain\ntext", "plaintext"),
            ("", "Bad Request"),
            (r#"{"message": 1}"#, r#"{"message": 1}"#),
        ] {
            assert_eq!(answer(body).problem(), expected);
        }
    }
}
