//! A receiver of webhooks that does what a test tells it to.

use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request that came in.
#[derive(Debug, Clone)]
pub(super) struct Received {
    /// The first line.
    pub(super) line: String,
    /// The header lines, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    /// The connection that it came over.
    pub(super) connection: usize,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Answer with that status, header lines and body.
    Answer(u16, &'static str, &'static str),
    /// Answer with 200, and close the connection without a word of it.
    AnswerAndClose,
    /// Close the connection instead of answering.
    Drop,
    /// Do not answer.
    Hang,
    /// Answer with bytes that are no HTTP.
    Garbage,
}

/// What a test has it do: given the number of the request, from 0, and the request.
type Script = dyn Fn(usize, &Received) -> Act + Send + Sync;

pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    script: Box<Script>,
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    closed: AtomicBool,
    /// Requests that are being dealt with, and the most that ever were at a time.
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Receiver {
    pub(super) fn start(script: impl Fn(usize, &Received) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Box::new(script),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let accepting = state.clone();
        let accept = move || {
            for stream in listener.incoming() {
                if accepting.closed.load(Ordering::SeqCst) {
                    return;
                }
                let state = accepting.clone();
                let number = state.connections.fetch_add(1, Ordering::SeqCst);
                let serve = move || state.serve(stream.unwrap(), number);
                super::thread(serve);
            }
        };
        super::thread(accept);
        Self { address, state }
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    pub(super) fn bodies(&self) -> Vec<String> {
        self.received()
            .into_iter()
            .map(|received| received.body)
            .collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The most requests at a time.
    pub(super) fn most(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream, connection: usize) -> Option<()> {
        let mut bytes: Vec<u8> = Vec::new();
        loop {
            let received = read(&mut stream, &mut bytes, connection)?;
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            let number = {
                let mut all = self.received.lock().unwrap();
                all.push(received.clone());
                all.len() - 1
            };
            let act = (self.script)(number, &received);
            self.running.fetch_sub(1, Ordering::SeqCst);
            match act {
                Act::Answer(status, headers, body) => {
                    let head = format!(
                        "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(head.as_bytes()).ok()?;
                }
                Act::AnswerAndClose => {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                        .ok()?;
                    stream.shutdown(Shutdown::Both).ok()?;
                    return None;
                }
                Act::Drop => return None,
                Act::Hang => {
                    // Until the other side gives up.
                    stream
                        .set_read_timeout(Some(Duration::from_secs(20)))
                        .ok()?;
                    let _ = stream.read(&mut [0]);
                    return None;
                }
                Act::Garbage => {
                    stream.write_all(b"\x00\xff nonsense\r\n\r\n").ok()?;
                    return None;
                }
            }
        }
    }
}

/// Reads a request; none when the connection ends.
pub(super) fn read(
    stream: &mut impl Read,
    bytes: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    let mut piece = [0; 4096];
    let mut more = |bytes: &mut Vec<u8>| match stream.read(&mut piece) {
        Ok(read) if read > 0 => {
            bytes.extend_from_slice(&piece[..read]);
            Some(())
        }
        _ => None,
    };
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(bytes)?;
    };
    let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
    let mut lines = head.trim_end().lines();
    let line = lines.next().unwrap().to_owned();
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        })
        .collect();
    let len = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, len)| len.parse().unwrap());
    while bytes.len() < len {
        more(bytes)?;
    }
    let body = String::from_utf8_lossy(&bytes.drain(..len).collect::<Vec<u8>>()).into_owned();
    Some(Received {
        line,
        headers,
        body,
        connection,
    })
}
