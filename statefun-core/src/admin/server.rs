//! What both servers do: one loop takes connections, whatever they come from, and has their requests answered.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use super::api::{Reply, answer};
use super::live::Live;
use super::socket::{AdminError, bind};

/// Longest time for the head of a request, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at a time; more wait until one ends.
const CONNECTIONS: usize = 64;
/// Pause after a connection could not be accepted, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come from.
pub(super) trait Door: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one; none when who is there may not come in.
    fn next(&self) -> impl Future<Output = io::Result<Option<Self::Stream>>> + Send;
}

/// Who answers requests.
pub(super) trait Answers: Send + Sync + 'static {
    /// Answers one.
    fn answer(&self, request: &Request<Incoming>) -> impl Future<Output = Reply> + Send;
}

/// Takes connections and has their requests answered. Connections end with this task.
pub(super) async fn accept(door: impl Door, answers: Arc<impl Answers>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = door.next(), if connections.len() < CONNECTIONS => match accepted {
                Ok(Some(stream)) => {
                    connections.spawn(serve(stream, answers.clone()));
                }
                Ok(None) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answers: Arc<impl Answers>,
) {
    let service = service_fn(|request| {
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away, or speaks something else, concerns nobody.
    let _ = connection.await;
}

/// Answers live commands on the Unix socket until it is dropped; the socket then disappears.
#[derive(Debug)]
pub struct AdminServer {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Makes the socket and starts to answer. A socket that a dead process left is replaced; only the user of this
    /// process may connect.
    pub fn start(path: &Path, live: Arc<dyn Live>, runtime: &Handle) -> Result<Self, AdminError> {
        let bound = bind(path)?;
        let _inside = runtime.enter();
        let listener = UnixListener::from_std(bound.listener).map_err(|source| AdminError::Io {
            operation: "listen on",
            path: path.to_path_buf(),
            source,
        })?;
        let door = SocketDoor {
            listener,
            owner: bound.owner,
        };
        let task = runtime.spawn(accept(door, Arc::new(Everything(live))));
        Ok(Self {
            path: path.to_path_buf(),
            task,
        })
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
        // A later start would replace it, too.
        let _ = std::fs::remove_file(&self.path);
    }
}

struct SocketDoor {
    listener: UnixListener,
    owner: u32,
}

impl Door for SocketDoor {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        // The file's permissions say the same; some systems do not look at them.
        let peer = stream.peer_cred().map(|peer| peer.uid());
        Ok(peer
            .is_ok_and(|user| user == self.owner || user == 0)
            .then_some(stream))
    }
}

/// Who may use the socket may do everything.
struct Everything(Arc<dyn Live>);

impl Answers for Everything {
    async fn answer(&self, request: &Request<Incoming>) -> Reply {
        answer(&*self.0, request).await
    }
}
