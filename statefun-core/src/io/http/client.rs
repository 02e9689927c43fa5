//! Requests to one URL, over connections that are kept: of webhooks, and of traces to their collector.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::tls::{ClientTls, Names, Stream, Trust};
use crate::module::model::HttpUrl;

/// How much of an answer is read; a connection with a longer one is not used again.
const ANSWER_BYTES: usize = 64 << 10;

/// The receiver's answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Its body, or the beginning of it.
    pub(crate) text: String,
}

/// Where requests go.
pub(crate) struct Receiver<'a> {
    pub(crate) url: &'a HttpUrl,
    pub(crate) method: Method,
    pub(crate) trust: Trust<'a>,
    pub(crate) names: Names,
    /// Connections that are kept, at most.
    pub(crate) connections: usize,
}

/// Sends requests to one URL.
pub(crate) struct Client {
    /// Scheme, host and port: what may be shown.
    origin: String,
    host: String,
    port: u16,
    /// Where the URL is https://.
    tls: Option<ClientTls>,
    path: PathAndQuery,
    method: Method,
    /// Those of every request.
    headers: HeaderMap,
    connections: usize,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// A client of that receiver, with headers for every request; the error says what is wrong with the URL.
    pub(crate) fn new(receiver: Receiver<'_>, mut headers: HeaderMap) -> Result<Self, String> {
        let Receiver {
            url,
            method,
            trust,
            names,
            connections,
        } = receiver;
        let named = names.url;
        let uri: Uri = url
            .as_str()
            .parse()
            .map_err(|error| format!("{named} cannot be read: {error}"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("{named} is neither `http` nor `https`")),
        };
        let authority = uri
            .authority()
            .ok_or_else(|| format!("{named} names no host"))?;
        if authority.as_str().contains('@') {
            return Err(format!(
                "{named} holds a user name: write an `Authorization` header under `headers`"
            ));
        }
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| format!("{named} names no legal host"))?;
        headers.insert(HOST, host);
        if !headers.contains_key(USER_AGENT) {
            headers.insert(
                USER_AGENT,
                HeaderValue::from_static(concat!("statefun/", env!("CARGO_PKG_VERSION"))),
            );
        }
        let name = authority.host();
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let tls = https
            .then(|| ClientTls::load(name, trust, names))
            .transpose()?;
        Ok(Self {
            origin: url.origin(),
            host: name.to_owned(),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            tls,
            path: uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
            method,
            headers,
            connections,
            idle: Mutex::default(),
        })
    }

    /// Scheme, host and port of the URL.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Sends one request. Cancel safe: a connection whose answer was not read is closed.
    pub(crate) async fn send(&self, headers: HeaderMap, body: Bytes) -> Result<Answer, String> {
        if let Some(mut kept) = self.kept().await {
            match kept.send_request(self.request(&headers, &body)).await {
                Ok(response) => return self.answer(kept, response).await,
                // The receiver may close a connection at any time, and then the record is sent over another one: its
                // idempotency key tells the receiver if it has it already.
                Err(error) => {
                    tracing::debug!(url = self.origin, %error, "a kept connection was closed");
                }
            }
        }
        let mut fresh = self.connect().await?;
        fresh
            .ready()
            .await
            .map_err(|error| format!("the connection broke: {error}"))?;
        let sent = fresh.send_request(self.request(&headers, &body)).await;
        let response = sent.map_err(|error| format!("the connection broke: {error}"))?;
        self.answer(fresh, response).await
    }

    fn request(&self, headers: &HeaderMap, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.path.clone());
        // What module.yaml says comes last: it may name another content type.
        request.headers_mut().extend(headers.clone());
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        request
    }

    /// A connection that was used before and is still good, as far as can be known.
    async fn kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut connection = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()?;
            if !connection.is_closed() && connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let cannot =
            |error: &dyn std::fmt::Display| format!("no connection to {}: {error}", self.origin);
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| cannot(&error))?;
        // Without it the end of a body may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return begin(stream).await.map_err(|error| cannot(&error));
        };
        let stream = tls.connect(stream).await.map_err(|error| cannot(&error))?;
        begin(stream).await.map_err(|error| cannot(&error))
    }

    /// Reads the answer, and keeps the connection if it is read to its end.
    async fn answer(
        &self,
        connection: SendRequest<Full<Bytes>>,
        response: http::Response<Incoming>,
    ) -> Result<Answer, String> {
        let (head, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        let mut whole = true;
        while let Some(frame) = body.frame().await {
            // The status is what counts.
            let Ok(frame) = frame else {
                whole = false;
                break;
            };
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > ANSWER_BYTES {
                whole = false;
                break;
            }
        }
        if whole {
            self.keep(connection);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            text,
        })
    }

    fn keep(&self, connection: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.connections {
            idle.push(connection);
        }
    }
}

/// Begins to speak HTTP over a connection.
async fn begin(stream: impl Stream) -> hyper::Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
    });
    Ok(sender)
}
