//! The operations endpoint as something that listens.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs as _};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::operations::Operations;
use super::server::{Door, accept};
use super::stage::Stage;
use crate::module::model::ListenAddress;
use crate::settings::{DEFAULT_LISTEN, Listen, OperationsSettings};

/// Why there is no operations endpoint.
#[derive(Debug, Error)]
#[error("operations: cannot listen on {address}: {source} ({hint})")]
pub struct OperationsError {
    address: String,
    source: io::Error,
    hint: &'static str,
}

/// The operations endpoint. It answers until it is dropped.
#[derive(Debug)]
pub struct OperationsServer {
    address: SocketAddr,
    /// The port that it would have had, when that is taken.
    instead_of: Option<SocketAddr>,
    guarded: bool,
    task: JoinHandle<()>,
}

impl OperationsServer {
    /// Listens where the settings say, and answers from now on; none when they switch it off. Ports that the application needs for
    /// something else are left alone, as far as the settings leave a choice.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(
        settings: &OperationsSettings,
        needed: &[u16],
        stage: Arc<Stage>,
        runtime: &Handle,
    ) -> Result<Option<Self>, OperationsError> {
        let (socket, address, instead_of) = match &settings.listen {
            Listen::Off => return Ok(None),
            Listen::At(wanted) => {
                let (socket, address) = bind(wanted).map_err(|error| failed(wanted, error))?;
                (socket, address, None)
            }
            Listen::Default => by_default(needed)?,
        };
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(socket).map_err(|source| OperationsError {
            address: address.to_string(),
            source,
            hint: "are too many files open?",
        })?;
        let operations = Operations::new(stage, address, settings.token.as_ref());
        Ok(Some(Self {
            address,
            instead_of,
            guarded: settings.token.is_some(),
            task: runtime.spawn(accept(TcpDoor(listener), Arc::new(operations))),
        }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it would listen, were that not taken.
    pub fn instead_of(&self) -> Option<SocketAddr> {
        self.instead_of
    }

    /// Whether its port is the one that the settings say, and not one that the system chose.
    pub fn is_where_expected(&self, settings: &OperationsSettings) -> bool {
        match &settings.listen {
            Listen::At(wanted) => wanted.port() == self.address.port(),
            Listen::Default => self.instead_of.is_none(),
            Listen::Off => true,
        }
    }

    /// Whether commands and state are not offered, since other machines reach it and it has no token.
    pub fn is_restricted(&self) -> bool {
        !self.guarded && !self.address.ip().to_canonical().is_loopback()
    }
}

impl Drop for OperationsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct TcpDoor(TcpListener);

impl Door for TcpDoor {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<Option<TcpStream>> {
        let (stream, _) = self.0.accept().await?;
        // Without it a small answer may wait for the client's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        Ok(Some(stream))
    }
}

type Bound = (StdListener, SocketAddr);

/// The usual port; another one where that is taken, since nobody has asked for it: several applications share a machine.
fn by_default(
    needed: &[u16],
) -> Result<(StdListener, SocketAddr, Option<SocketAddr>), OperationsError> {
    let usual = DEFAULT_LISTEN;
    let failed = |source| OperationsError {
        address: usual.to_string(),
        source,
        hint: "set `operations.listen` to an address of this machine, or to `off`",
    };
    if !needed.contains(&usual.port()) {
        match bind_to(&[usual]) {
            Ok((socket, address)) => return Ok((socket, address, None)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(failed(error)),
        }
    }
    // Kept until another one is found, or the system might give the same again.
    let mut passed_over = Vec::new();
    loop {
        let (socket, address) = bind_to(&[SocketAddr::new(usual.ip(), 0)]).map_err(failed)?;
        if !needed.contains(&address.port()) {
            return Ok((socket, address, Some(usual)));
        }
        passed_over.push(socket);
    }
}

fn bind(wanted: &ListenAddress) -> io::Result<Bound> {
    // The name has an address of either family on many machines; one endpoint is meant.
    let host = match wanted.host() {
        "localhost" => "127.0.0.1",
        host => host,
    };
    let addresses: Vec<SocketAddr> = (host, wanted.port()).to_socket_addrs()?.collect();
    bind_to(&addresses)
}

fn bind_to(addresses: &[SocketAddr]) -> io::Result<Bound> {
    let socket = StdListener::bind(addresses)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

fn failed(wanted: &ListenAddress, source: io::Error) -> OperationsError {
    let hint = match source.kind() {
        ErrorKind::AddrInUse => {
            "another process has that port, perhaps another application: stop that one, or give `operations.listen` another port; \
             without the setting a free one is taken"
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; set another one as `operations.listen`"
        }
        ErrorKind::PermissionDenied => {
            "choose a port from 1024 up for `operations.listen`, or allow the process to use this one"
        }
        _ => "set another address as `operations.listen`, or `off`",
    };
    OperationsError {
        address: wanted.to_string(),
        source,
        hint,
    }
}
