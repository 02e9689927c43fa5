//! A server that takes requests and says no more than a status: of webhooks, and of traces.

use std::io::{BufRead as _, BufReader, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// What came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// The request line.
    pub line: String,
    /// Header lines, as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

type Take = dyn Fn(Received) -> u16 + Send + Sync;

/// Starts one, which goes on until the process ends. `take` says which status each request is answered with.
///
/// # Errors
/// When there is no port or thread for it.
pub fn start(take: impl Fn(Received) -> u16 + Send + Sync + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let take: Arc<Take> = Arc::new(take);
    let thread = || std::thread::Builder::new().name("receiver".to_owned());
    thread().spawn(move || {
        for stream in listener.incoming().flatten() {
            let take = take.clone();
            // Without a thread the connection ends, which its client sees.
            let _ = thread().spawn(move || serve(stream, &*take));
        }
    })?;
    Ok(address)
}

/// Ends with the process that sends.
fn serve(stream: TcpStream, take: &Take) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let status = take(receive(&mut stream)?);
        let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

fn receive(stream: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut line = || {
        let mut line = String::new();
        let read = stream.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(": ") else {
            break;
        };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut received = Received {
        line: first,
        headers,
        body: Vec::new(),
    };
    let length = received.header("content-length")?.parse().ok()?;
    received.body = vec![0; length];
    stream.read_exact(&mut received.body).ok()?;
    Some(received)
}
