//! A server that is far away: what comes from it comes later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use statefun_tests::yardstick::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// Takes connections in, and passes everything on; each answer later by so much.
pub(crate) struct Delay {
    address: SocketAddr,
}

impl Delay {
    pub(crate) fn start(runtime: &Handle, endpoint: &str, by: Duration) -> Result<Self, Failure> {
        let server: SocketAddr = endpoint.trim_start_matches("http://").parse()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(server).await {
                    // Else they wait for one another's small packets.
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    let asked = Arc::new(AtomicBool::new(false));
                    tokio::spawn(pass(from_client, to_server, asked.clone(), None));
                    tokio::spawn(pass(from_server, to_client, asked, Some(by)));
                }
            }
        });
        Ok(Self { address })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Passes bytes on; the first of an answer wait.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Arc<AtomicBool>,
    delay: Option<Duration>,
) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        match delay {
            None => asked.store(true, Ordering::SeqCst),
            Some(by) if asked.swap(false, Ordering::SeqCst) => tokio::time::sleep(by).await,
            Some(_) => {}
        }
        if to
            .write_all(buffer.get(..bytes).unwrap_or_default())
            .await
            .is_err()
        {
            return;
        }
    }
}
