//! A client of the HTTP ingress that sees every failure: nothing is retried behind its caller's back.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any request waits by itself.
const PATIENCE: Duration = Duration::from_secs(45);

/// One connection, opened when needed.
#[derive(Debug, Default)]
pub struct Client {
    connection: Option<(SocketAddr, BufReader<TcpStream>)>,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header lines, as they came.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Sends a `POST` and waits for the answer. After an error nobody knows whether the request was taken.
    pub fn post(
        &mut self,
        to: SocketAddr,
        path: &str,
        key: Option<&str>,
        body: &[u8],
    ) -> Result<Answer> {
        let headers = key.map_or_else(String::new, |key| format!("idempotency-key: {key}\r\n"));
        self.post_with(to, path, &headers, body)
    }

    /// As [`post`](Self::post), with header lines, each with its line end.
    pub fn post_with(
        &mut self,
        to: SocketAddr,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Answer> {
        let result = self.try_post(to, path, headers, body);
        let closes = |answer: &Answer| {
            answer
                .head
                .to_ascii_lowercase()
                .contains("connection: close")
        };
        if result.as_ref().map_or(true, closes) {
            self.connection = None;
        }
        result
    }

    fn try_post(
        &mut self,
        to: SocketAddr,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Answer> {
        if self
            .connection
            .as_ref()
            .is_none_or(|(address, _)| *address != to)
        {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            self.connection = Some((to, BufReader::new(stream)));
        }
        let Some((_, connection)) = &mut self.connection else {
            return Err(ErrorKind::NotConnected.into());
        };
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {to}\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        connection.get_mut().write_all(&bytes)?;
        read_answer(connection)
    }
}

fn read_answer(connection: &mut BufReader<TcpStream>) -> Result<Answer> {
    let malformed =
        |what: &str| Error::new(ErrorKind::InvalidData, format!("malformed answer: {what}"));
    let mut line = |head: &mut String| -> Result<String> {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        head.push_str(&line);
        Ok(line.trim_end().to_owned())
    };
    let mut head = String::new();
    let first = line(&mut head)?;
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed(&first))?;
    let mut length = 0;
    loop {
        let header = line(&mut head)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| malformed(&header))?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| malformed(&header))?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(Answer { status, head, body })
}
