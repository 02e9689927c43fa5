//! The server on the Unix socket.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

use super::api::answer;
use super::live::Live;
use super::socket::{AdminError, bind};

/// Longest time for the head of a request, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at a time; more wait until one ends.
const CONNECTIONS: usize = 64;
/// Pause after a connection could not be accepted, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers live commands until it is dropped; the socket then disappears.
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
        let task = runtime.spawn(accept(listener, bound.owner, live));
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

/// Connections end with this task.
async fn accept(listener: UnixListener, owner: u32, live: Arc<dyn Live>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                // The file's permissions say the same; some systems do not look at them.
                Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0) => {
                    connections.spawn(serve(stream, live.clone()));
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: UnixStream, live: Arc<dyn Live>) {
    let service = service_fn(|request| {
        let live = live.clone();
        async move { Ok::<_, Infallible>(answer(&*live, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away, or speaks something else, concerns nobody.
    let _ = connection.await;
}
