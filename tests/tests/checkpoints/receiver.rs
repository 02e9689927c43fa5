//! A receiver of webhooks, which takes everything.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use statefun_tests::kill::files::parse;
use statefun_tests::kill::model::Handled;
use statefun_tests::kill::world::lock;

use crate::support::spawn;

/// What came in: the idempotency key, and the record.
pub(crate) type Received = Arc<Mutex<Vec<(String, Handled)>>>;

/// Starts one, which goes on until the tests end.
pub(crate) fn start() -> (SocketAddr, Received) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let received = Received::default();
    let everything = received.clone();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let received = received.clone();
            spawn(move || {
                let mut stream = BufReader::new(stream);
                // Ends with the process that sends.
                while let Some(one) = receive(&mut stream) {
                    lock(&received).push(one);
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if stream.get_mut().write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, everything)
}

fn receive(stream: &mut BufReader<TcpStream>) -> Option<(String, Handled)> {
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("idempotency-key") => {
                value.clone_into(&mut key);
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((key, parse(&body).pop()?))
}
