//! A client that sends any bytes, and reads answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    /// All headers, names in lower case, a line each.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A connection. It fails when no answer comes for a long time.
pub(super) struct Connection(TcpStream);

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(stream)
    }

    pub(super) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have closed it already: what matters is the answer.
        let _ = self.0.write_all(bytes.as_ref());
    }

    /// The next answer; none when the server closed the connection.
    pub(super) fn read(&mut self) -> Option<Response> {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        let head_end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            match self.0.read(&mut piece) {
                Ok(0) => {
                    assert!(
                        bytes.is_empty(),
                        "half an answer: {:?}",
                        String::from_utf8_lossy(&bytes)
                    );
                    return None;
                }
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = headers.lines().fold(String::new(), |all, line| {
            let (name, value) = line.split_once(':').unwrap();
            all + &format!("{}: {}\n", name.to_ascii_lowercase(), value.trim())
        });
        let mut response = Response {
            status,
            head: headers,
            body: bytes[head_end + 4..].to_vec(),
        };
        let len: usize = response
            .header("content-length")
            .map_or(0, |len| len.parse().unwrap());
        while response.body.len() < len {
            let read = self.0.read(&mut piece).unwrap();
            assert!(read > 0, "the body is cut off");
            response.body.extend_from_slice(&piece[..read]);
        }
        assert_eq!(response.body.len(), len, "more than one answer");
        Some(response)
    }

    /// The answer, if it is there; else the client goes away.
    pub(super) fn read_now(mut self) -> Option<Response> {
        self.0.set_nonblocking(true).unwrap();
        let there = self.0.peek(&mut [0]).is_ok();
        self.0.set_nonblocking(false).unwrap();
        if there { self.read() } else { None }
    }

    /// All that comes until the server closes the connection.
    pub(super) fn read_to_end(&mut self, bytes: &mut Vec<u8>) {
        match self.0.read_to_end(bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }

    pub(super) fn close_sending(&mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

/// Sends the bytes of a request over a connection of its own.
pub(super) fn raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Response> {
    let mut connection = Connection::open(address);
    connection.write(bytes);
    connection.read()
}

/// The bytes of a request; `headers` are lines.
pub(super) fn request(
    method: &str,
    path: &str,
    headers: &[&str],
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Sends a request over a connection of its own.
pub(super) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: impl AsRef<[u8]>,
) -> Response {
    raw(address, request(method, path, headers, body)).expect("an answer")
}

/// Posts a body.
pub(super) fn post(address: SocketAddr, path: &str, body: impl AsRef<[u8]>) -> Response {
    send(address, "POST", path, &[], body)
}
