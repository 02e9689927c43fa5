//! What listens: one server per address, whose routes come from several connectors.
//!
//! Invariants: a server is bound when its first connector opens, so that a taken port is found at start; it accepts
//! connections only after [`HttpServers::start`]; from the moment the process stops it answers new requests with 503,
//! and [`HttpServers::finish`] ends it.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs as _};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

use super::answer::{self, Reply, problem};
use super::route::{self, Segment};
use super::tls::{ServerTls, Stream};
use crate::module::model::Tls;

/// Longest time for the head of a request, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes; a larger one is answered with 431.
const HEADER_BYTES: usize = 64 << 10;
/// Connections of one server; more wait until one ends.
const CONNECTIONS: usize = 8192;
/// Longest time until a client has agreed on the encryption.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// What is said to a client that speaks plain HTTP where HTTPS is spoken.
const SPEAKS_HTTPS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 63\r\n\r\n{\"error\":\"HTTPS is spoken here: write https:// in front of it\"}";
/// Pause after a connection could not be accepted, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers the requests of one route.
pub(in crate::io) trait Endpoint: Send + Sync + 'static {
    /// Answers a request; `captures` are what stands in place of the placeholders of its path.
    fn call(self: Arc<Self>, request: Request<Incoming>, captures: Vec<String>) -> Answering;
}

/// An answer under way.
pub(in crate::io) type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// A connector's place on a server.
pub(in crate::io) struct Route {
    /// The ingress or egress, for messages.
    pub(in crate::io) component: String,
    pub(in crate::io) methods: &'static [Method],
    pub(in crate::io) path: Vec<Segment>,
    pub(in crate::io) example: Example,
    pub(in crate::io) endpoint: Arc<dyn Endpoint>,
    /// Is true while the disk is full, where that matters to the endpoint: its clients are sent away then.
    pub(in crate::io) full: Option<watch::Receiver<bool>>,
}

type Make = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A command that calls a route. It is made up when it is first asked for.
pub(in crate::io) struct Example {
    make: Box<Make>,
    made: OnceLock<Option<String>>,
}

impl Example {
    /// `make` makes it up, given the URL up to the path.
    pub(in crate::io) fn new(
        make: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            make: Box::new(make),
            made: OnceLock::new(),
        }
    }

    fn at(&self, base: &str) -> Option<String> {
        self.made.get_or_init(|| (self.make)(base)).clone()
    }
}

/// What a server is opened with.
pub(in crate::io) struct Opening<'a> {
    pub(in crate::io) host: &'a str,
    pub(in crate::io) port: u16,
    /// The certificate, where HTTPS is spoken.
    pub(in crate::io) tls: Option<&'a Tls>,
    pub(in crate::io) runtime: &'a Handle,
    pub(in crate::io) stopping: &'a watch::Receiver<bool>,
}

/// A place where the application takes requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The ingress or egress that answers there.
    pub component: String,
    /// The address, with the port that the system chose where module.yaml says 0.
    pub address: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The method of the requests.
    pub method: String,
    /// The path, with `{placeholders}`.
    pub path: String,
    /// A command that sends a message there, to be pasted into a shell. Where a token is needed it reads it from
    /// `$TOKEN`. None when no value could be made up that the message's type accepts.
    pub example: Option<String>,
}

/// All servers of one application. Its connectors share it.
#[derive(Debug, Default)]
pub struct HttpServers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    servers: Vec<Arc<Server>>,
}

impl HttpServers {
    /// No servers yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a route to the server of an address, which is bound now if it is the first one. Each route with port 0
    /// has a server of its own. The error says what is wrong and how to mend it.
    pub(in crate::io) fn add(
        &self,
        opening: &Opening<'_>,
        route: Route,
    ) -> Result<SocketAddr, String> {
        // The name has an address of either family on many machines; one server is meant.
        let host = if opening.host == "localhost" {
            "127.0.0.1"
        } else {
            opening.host
        };
        let mut state = self.state();
        let shared = state
            .servers
            .iter()
            .find(|server| opening.port != 0 && server.port == opening.port && server.host == host);
        let server = if let Some(server) = shared {
            if server.tls_files.as_ref() != opening.tls {
                return Err(format!(
                    "`{}` shares {} with other ingresses and has another `tls`: write the same for all, or give it \
                     another port",
                    route.component, server.local
                ));
            }
            server.clone()
        } else {
            let server = Server::bind(host, opening)?;
            if state.started {
                server.accept_connections();
            }
            state.servers.push(server.clone());
            server
        };
        server.add(route)?;
        Ok(server.local)
    }

    /// Starts to accept connections, at all addresses.
    pub fn start(&self) {
        let mut state = self.state();
        state.started = true;
        for server in &state.servers {
            server.accept_connections();
        }
    }

    /// Where an ingress or egress listens.
    pub fn bound(&self, component: &str) -> Option<SocketAddr> {
        let listening = self.listening();
        listening
            .iter()
            .find(|listening| listening.component == component)
            .map(|found| found.address)
    }

    /// All places where the application takes requests, sorted by connector.
    pub fn listening(&self) -> Vec<Listening> {
        let servers = self.state().servers.clone();
        let mut listening: Vec<Listening> = servers
            .iter()
            .flat_map(|server| server.listening())
            .collect();
        listening.sort_by(|one, other| {
            (&one.component, &one.path).cmp(&(&other.component, &other.path))
        });
        listening
    }

    /// Waits until all requests under way are answered, but no longer than `grace`, and then closes all servers.
    /// To be called after the process began to stop, when the last epoch is released.
    pub async fn finish(&self, grace: Duration) {
        let servers = self.state().servers.clone();
        let answered = async {
            for server in &servers {
                // The sender lives in the server, so the wait ends with all connections closed.
                let _ = server
                    .connections
                    .subscribe()
                    .wait_for(|open| *open == 0)
                    .await;
            }
        };
        let _ = tokio::time::timeout(grace, answered).await;
        for server in &servers {
            server.close();
            let accepting = server
                .accepting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(accepting) = accepting {
                // It ends by itself now, and the port is free then.
                let _ = accepting.await;
            }
            let _ = server
                .connections
                .subscribe()
                .wait_for(|open| *open == 0)
                .await;
        }
    }
}

impl Drop for HttpServers {
    fn drop(&mut self) {
        for server in &self.state().servers {
            server.close();
        }
    }
}

struct Server {
    host: String,
    port: u16,
    local: SocketAddr,
    /// What module.yaml says of its certificate, and that certificate.
    tls_files: Option<Tls>,
    tls: Option<ServerTls>,
    /// Until it accepts connections.
    socket: Mutex<Option<StdListener>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// Sorted, the most exact first.
    routes: Mutex<Arc<Vec<Arc<Route>>>>,
    runtime: Handle,
    stopping: watch::Receiver<bool>,
    closed: watch::Sender<bool>,
    /// How many are open.
    connections: watch::Sender<usize>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.local)
    }
}

impl Server {
    fn bind(host: &str, opening: &Opening<'_>) -> Result<Arc<Self>, String> {
        let port = opening.port;
        let tls = opening.tls.map(ServerTls::load).transpose()?;
        let shown = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let bound = (host, port)
            .to_socket_addrs()
            .and_then(|addresses| StdListener::bind(addresses.collect::<Vec<_>>().as_slice()));
        let prepared = bound.and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok((socket.local_addr()?, socket))
        });
        let (local, socket) = prepared.map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::AddrInUse => {
                    "is another process using it? Stop that one, or choose another port"
                }
                ErrorKind::AddrNotAvailable => "this machine has no such address",
                ErrorKind::PermissionDenied => {
                    "choose a port from 1024 up, or allow the process to use this one"
                }
                _ => "choose another address",
            };
            format!("cannot listen on {shown}: {error} ({hint})")
        })?;
        Ok(Arc::new(Self {
            host: host.to_owned(),
            port,
            local,
            tls_files: opening.tls.cloned(),
            tls,
            socket: Mutex::new(Some(socket)),
            accepting: Mutex::default(),
            routes: Mutex::default(),
            runtime: opening.runtime.clone(),
            stopping: opening.stopping.clone(),
            closed: watch::Sender::new(false),
            connections: watch::Sender::new(0),
        }))
    }

    fn routes(&self) -> Arc<Vec<Arc<Route>>> {
        self.routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, route: Route) -> Result<(), String> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = routes
            .iter()
            .find(|other| route::alike(&other.path, &route.path))
        {
            return Err(format!(
                "`{}` and `{}` share {} and both answer {}: give one of them another `path` or port",
                other.component,
                route.component,
                self.local,
                route::show(&route.path)
            ));
        }
        let mut all = routes.to_vec();
        all.push(Arc::new(route));
        all.sort_by(|one, other| one.path.cmp(&other.path));
        *routes = Arc::new(all);
        Ok(())
    }

    fn listening(&self) -> Vec<Listening> {
        let shown = match self.local {
            // Every address: of these, the own machine's is sure to be one.
            all if all.ip().is_unspecified() && all.is_ipv4() => {
                format!("127.0.0.1:{}", all.port())
            }
            all if all.ip().is_unspecified() => format!("[::1]:{}", all.port()),
            one => one.to_string(),
        };
        let scheme = match self.tls {
            Some(_) => "https",
            None => "http",
        };
        let base = format!("{scheme}://{shown}");
        let routes = self.routes();
        let listening = routes.iter().map(|route| Listening {
            component: route.component.clone(),
            address: self.local,
            scheme,
            method: route
                .methods
                .first()
                .map(Method::to_string)
                .unwrap_or_default(),
            path: route::show(&route.path),
            example: route.example.at(&base),
        });
        listening.collect()
    }

    fn close(&self) {
        self.closed.send_replace(true);
        self.socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn accept_connections(self: &Arc<Self>) {
        let socket = self
            .socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(socket) = socket else { return };
        let server = self.clone();
        let _inside = self.runtime.enter();
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                let accepting = tokio::spawn(server.accept(socket));
                *self
                    .accepting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(accepting);
            }
            Err(error) => {
                tracing::error!(address = %self.local, %error, "the server cannot accept connections");
            }
        }
    }

    async fn accept(self: Arc<Self>, socket: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut closed = self.closed.subscribe();
        let mut closed = pin!(closed.wait_for(|closed| *closed));
        loop {
            let accepted = async {
                let place = room.clone().acquire_owned().await.ok();
                (socket.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accepted => accepted,
                _ = &mut closed => return,
            };
            match accepted {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().serve(stream, place))),
                Err(error) => {
                    tracing::warn!(address = %self.local, %error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, place: Option<OwnedSemaphorePermit>) {
        let _open = Open::count(&self.connections);
        let _place = place;
        // Without it a small answer may wait for the client's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.converse(stream).await;
        };
        let mut closed = self.closed.subscribe();
        let agreed = tokio::time::timeout(HANDSHAKE_TIMEOUT, agree(tls, stream));
        let agreed = tokio::select! {
            agreed = agreed => agreed,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        match agreed {
            Ok(Ok(Some(stream))) => self.converse(stream).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::debug!(address = %self.local, %error, "a client did not agree on the encryption");
            }
            Err(_) => {
                tracing::debug!(address = %self.local, "a client took too long to agree on the encryption");
            }
        }
    }

    async fn converse(self: &Arc<Self>, stream: impl Stream) {
        let service = service_fn(|request| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let (mut stopping, mut closed) = (self.stopping.clone(), self.closed.subscribe());
        // Who comes while the process stops is told so, and not cut off.
        let mut told = *stopping.borrow();
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(address = %self.local, %error, "a connection ended early");
                    }
                    return;
                }
                _ = stopping.wait_for(|stopping| *stopping), if !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = closed.wait_for(|closed| *closed) => return,
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        if *self.stopping.borrow() {
            return answer::stopping("the application is stopping");
        }
        let shown = request.uri().path();
        let path = match route::split(shown) {
            Ok(path) => path,
            Err(error) => {
                return problem(
                    StatusCode::BAD_REQUEST,
                    format_args!("the path cannot be read: {error}"),
                );
            }
        };
        let routes = self.routes();
        let found = path.and_then(|path| {
            routes
                .iter()
                .find_map(|route| Some((route, route::capture(&route.path, &path)?)))
        });
        let Some((route, captures)) = found else {
            let known: Vec<String> = routes
                .iter()
                .map(|route| {
                    let method = route.methods.first().map_or("", Method::as_str);
                    format!("{method} {}", route::show(&route.path))
                })
                .collect();
            return problem(
                StatusCode::NOT_FOUND,
                format_args!(
                    "nothing answers at `{shown}`; there is {}",
                    known.join(", ")
                ),
            );
        };
        if !route.methods.contains(request.method()) {
            let allowed = route
                .methods
                .iter()
                .map(Method::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            let error = format_args!("`{shown}` takes {allowed}, not {}", request.method());
            let mut reply = problem(StatusCode::METHOD_NOT_ALLOWED, error);
            if let Ok(allowed) = HeaderValue::from_str(&allowed) {
                reply.headers_mut().insert(ALLOW, allowed);
            }
            return reply;
        }
        let answer = route.endpoint.clone().call(request, captures);
        let Some(mut full) = route.full.clone() else {
            return answer.await;
        };
        if *full.borrow() {
            return answer::full(
                "the disk of the application is full, so it takes nothing in: try again later",
                false,
            );
        }
        tokio::select! {
            biased;
            reply = answer => reply,
            Ok(_) = full.wait_for(|full| *full) => answer::full(
                "the disk of the application is full, so the message is not durable yet: it may still take effect when there is \
                 space. An `Idempotency-Key` makes it safe to send a message again",
                true,
            ),
        }
    }
}

/// Begins an encrypted connection; none for a client that does not try to, which is told.
async fn agree(tls: &ServerTls, mut stream: TcpStream) -> io::Result<Option<impl Stream + use<>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first != [TLS_HANDSHAKE] {
        // What it says is read, or closing the connection would take the answer away from it.
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        stream.write_all(SPEAKS_HTTPS).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    tls.accept(stream).await.map(Some)
}

/// Counts a connection while it is open.
struct Open(watch::Sender<usize>);

impl Open {
    fn count(connections: &watch::Sender<usize>) -> Self {
        connections.send_modify(|open| *open += 1);
        Self(connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}
