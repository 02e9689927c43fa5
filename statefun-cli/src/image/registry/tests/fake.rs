//! A registry in memory, which answers as a test wants it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::digest;

pub(super) type Answer = Response<Full<Bytes>>;

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// `GET /v2/?a=b`.
    pub(super) line: String,
    pub(super) authorization: Option<String>,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn is(&self, start: &str) -> bool {
        self.line.starts_with(start)
    }

    pub(super) fn shows(&self, authorization: &str) -> bool {
        self.authorization.as_deref() == Some(authorization)
    }
}

/// A running registry.
pub(super) struct Fake {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Asked first, with the registry's address; what it leaves open is answered as registries do that let everyone in.
type Rule = dyn Fn(&str, &Seen) -> Option<Answer> + Send + Sync;

impl Fake {
    pub(super) fn start(
        rule: impl Fn(&str, &Seen) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (recorded, named): (_, Arc<str>) = (seen.clone(), address.as_str().into());
        let rule: Arc<Rule> = Arc::new(rule);
        let serve = async move {
            let blobs: Arc<Mutex<BTreeSet<String>>> = Arc::default();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (recorded, named) = (recorded.clone(), named.clone());
                let (rule, blobs) = (rule.clone(), blobs.clone());
                let service = service_fn(move |request| {
                    let (recorded, named) = (recorded.clone(), named.clone());
                    let (rule, blobs) = (rule.clone(), blobs.clone());
                    async move {
                        let seen = read(request).await;
                        recorded.lock().unwrap().push(seen.clone());
                        let ruled = rule(&named, &seen);
                        Ok::<_, Infallible>(
                            ruled.unwrap_or_else(|| usual(&seen, &mut blobs.lock().unwrap())),
                        )
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        };
        // It ends with the process of the tests.
        std::thread::Builder::new()
            .name("fake registry".to_owned())
            .spawn(move || crate::client::block_on(serve))
            .unwrap();
        Self { address, seen }
    }

    /// Requests that begin so.
    pub(super) fn seen(&self, start: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.is(start)).cloned().collect()
    }
}

async fn read(request: Request<Incoming>) -> Seen {
    let (parts, body) = request.into_parts();
    let authorization = parts.headers.get("authorization");
    Seen {
        line: format!("{} {}", parts.method, parts.uri),
        authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
        body: body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default(),
    }
}

/// An answer with these headers.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let builder = Response::builder().status(status);
    let builder = headers.iter().fold(builder, |builder, (name, value)| {
        builder.header(*name, *value)
    });
    builder
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap()
}

fn usual(seen: &Seen, blobs: &mut BTreeSet<String>) -> Answer {
    let place = seen
        .line
        .rsplit(['/', '='])
        .next()
        .unwrap()
        .replace("%3A", ":");
    let (method, path) = seen.line.split_once(' ').unwrap();
    match method {
        "GET" if path == "/v2/" => answer(200, &[], "{}"),
        "HEAD" if blobs.contains(&place) => answer(200, &[], ""),
        "POST" => answer(202, &[("Location", "/upload?state=some")], ""),
        "PUT" if path.starts_with("/upload?state=some&digest=") && digest(&seen.body) == place => {
            blobs.insert(place);
            answer(201, &[("Location", "/there")], "")
        }
        "PUT" if path.contains("/manifests/") => answer(201, &[("Location", "/there")], ""),
        _ => answer(404, &[], ""),
    }
}
