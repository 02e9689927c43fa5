//! Clients of the greeter that want to be greeted whatever happens: what was not answered they send again under the same key.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::podman::wait_for;

/// An answer that takes longer counts as none.
const ANSWER: Duration = Duration::from_secs(10);
/// Before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Greets once. What it was told, if it was.
pub(crate) fn greet(port: u16, user: &str, key: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let body = serde_json::json!({"user_id": user, "first_name": user}).to_string();
    write!(
        stream,
        "POST /greet?wait=5s HTTP/1.1\r\nHost: greeter\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer
        .strip_prefix("HTTP/1.1 200 ")
        .and_then(|rest| rest.split_once("\r\n\r\n"));
    let body = body.ok_or_else(|| io::Error::other(answer.clone()))?.1;
    serde_json::from_str(body).map_err(io::Error::other)
}

/// Greets until it is answered.
pub(crate) fn greeted(port: u16, user: &str, key: &str) -> Value {
    let problem = RefCell::new(String::new());
    let failed = |error: io::Error| {
        problem.replace(error.to_string());
    };
    let tried = || greet(port, user, key).map_err(failed).ok();
    wait_for("a reply", || problem.borrow().clone(), tried)
}

/// What the clients share.
#[derive(Default)]
pub(crate) struct Load {
    /// Where the greeter is now.
    pub(crate) port: AtomicU16,
    is_over: AtomicBool,
    is_abandoned: AtomicBool,
    answered: AtomicU64,
    problem: Mutex<String>,
}

impl Load {
    /// Starts a client; it returns how often it was greeted.
    pub(crate) fn client<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        user: &'scope str,
    ) -> ScopedJoinHandle<'scope, u64> {
        scope.spawn(move || {
            let mut greeted = 0;
            while !self.is_over.load(Ordering::Relaxed) {
                let key = format!("{user}-{greeted}");
                let told = loop {
                    match greet(self.port.load(Ordering::Relaxed), user, &key) {
                        Ok(told) => break told,
                        Err(_) if self.is_abandoned.load(Ordering::Relaxed) => return greeted,
                        Err(error) => *self.problem.lock().unwrap() = error.to_string(),
                    }
                    std::thread::sleep(PAUSE);
                };
                greeted += 1;
                // Neither lost nor counted twice.
                assert_eq!(told["seen"], greeted, "{told}");
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            greeted
        })
    }

    /// Waits until so many greetings have been answered.
    pub(crate) fn wait_for(&self, greetings: u64) {
        let problem = || self.problem.lock().unwrap().clone();
        wait_for(&format!("{greetings} greetings"), problem, || {
            (self.answered.load(Ordering::Relaxed) >= greetings).then_some(())
        });
    }

    /// No greeting is begun any more; those that are begun are still answered.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Has the clients give up when a test fails amid their work, for which its scope would wait.
pub(crate) struct Abandon<'a>(pub(crate) &'a Load);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        self.0
            .is_abandoned
            .store(std::thread::panicking(), Ordering::Relaxed);
    }
}

/// The numbers of the e-mails to a user, in the order in which they stand in the file.
pub(crate) fn numbers(file: &Path, user: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap();
    let mails = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line));
    mails
        .filter(|mail| mail["to"] == user)
        .map(|mail| mail["number"].as_u64().unwrap())
        .collect()
}
