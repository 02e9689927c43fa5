//! `statefun send` and `statefun call`: messages to HTTP ingresses.

mod target;

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::Full;

use crate::args::{Call, MessageArgs, Send};
use crate::client::{Answer, ClientError, Way, ask, block_on};
use crate::status::{Failure, Outcome, Status};
use crate::terminal::Terminal;
use crate::tls::trust;

use target::Target;

/// Longest time until a message is durable, a little more than the application takes before it says so itself.
const DURABLE: Duration = Duration::from_secs(40);
/// What the network may take beside the time that the application waits for a reply.
const EXTRA: Duration = Duration::from_secs(10);

/// `statefun send`.
pub(crate) fn send(args: &Send, terminal: &Terminal) -> Outcome {
    let target = Target::find(&args.message)?;
    let answer = post(&args.message, &target, None, DURABLE)?;
    conclude(&answer, &target)?;
    terminal.note(format_args!("{}: the message is durable", target.name));
    Ok(Status::Fine)
}

/// `statefun call`.
pub(crate) fn call(args: &Call, terminal: &Terminal) -> Outcome {
    let target = Target::find(&args.message)?;
    let wait = match args.wait {
        Some(wait) => format!("wait={}ms", wait.as_millis()),
        None => "wait".to_owned(),
    };
    let patience = args
        .wait
        .unwrap_or(target.longest_wait)
        .saturating_add(EXTRA);
    let answer = post(&args.message, &target, Some(&wait), patience)?;
    conclude(&answer, &target)?;
    if answer.status == StatusCode::ACCEPTED {
        terminal.note(format_args!(
            "{}: the message is durable; it has no reply",
            target.name
        ));
        return Ok(Status::Fine);
    }
    let mut body = answer.body.to_vec();
    let is_text =
        answer.content_type.starts_with("application/json") || terminal.is_read_by_person();
    if is_text && !body.ends_with(b"\n") {
        body.push(b'\n');
    }
    terminal.data(body)?;
    Ok(Status::Fine)
}

/// The message's bytes.
fn message(text: &str) -> Result<Bytes, Failure> {
    if text == "-" {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::usage(format_args!("cannot read standard input: {error}")))?;
        return Ok(bytes.into());
    }
    match text.strip_prefix('@') {
        Some(path) => std::fs::read(path).map(Bytes::from).map_err(|error| {
            Failure::input(format_args!("cannot read the message from {path}: {error}"))
        }),
        None => Ok(Bytes::from(text.to_owned())),
    }
}

fn post(
    args: &MessageArgs,
    target: &Target,
    query: Option<&str>,
    patience: Duration,
) -> Result<Answer, Failure> {
    let body = message(&args.message)?;
    let content_type = match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
        Ok(_) => "application/json",
        Err(_) => "application/octet-stream",
    };
    let uri = match query {
        None => target.path.clone(),
        Some(query) if target.path.contains('?') => format!("{}&{query}", target.path),
        Some(query) => format!("{}?{query}", target.path),
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(HOST, &target.authority)
        .header(CONTENT_TYPE, content_type);
    for (name, value) in &target.headers {
        request = request.header(name, value.as_bytes());
    }
    if let Some(key) = &args.idempotency_key {
        request = request.header("Idempotency-Key", key.as_bytes());
    }
    let request = request
        .body(Full::new(body))
        .map_err(|error| Failure::usage(format_args!("the request cannot be made: {error}")))?;
    let trusted = || trust(args.cacert.as_deref(), &target.authority, &target.name);
    let tls = target.is_https.then(trusted).transpose()?;
    let way = Way::Tcp {
        authority: &target.authority,
        tls: tls.as_ref(),
    };
    let answer = block_on(async { ask(&way, request, patience).await })?;
    answer.map_err(|error| unreachable(target, &error))
}

fn unreachable(target: &Target, error: &ClientError) -> Failure {
    let authority = &target.authority;
    match error {
        ClientError::Connect(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
            Failure::usage(format_args!("nothing listens on {authority}"))
                .help("start the application with `statefun run`, or say with `--url` where it is")
        }
        ClientError::Connect(io) => Failure::usage(format_args!("cannot connect to {authority}: {io}")),
        ClientError::Tls(io) => {
            Failure::usage(format_args!("no encrypted connection to {authority}: {io}"))
        }
        error => Failure::usage(format_args!("{} on {authority}: {error}", target.name))
            .help("the message may have taken effect; with `--idempotency-key` it is safe to send it again"),
    }
}

/// Whether the application took the message.
fn conclude(answer: &Answer, target: &Target) -> Result<(), Failure> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let message = format!(
        "{} answered {}: {}",
        target.name,
        status.as_u16(),
        answer.problem()
    );
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS => Failure::usage(message),
        status if status.is_client_error() => Failure::input(message),
        _ => Failure::usage(message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_application_is_no_wrong_input() {
        let target = Target {
            name: "a/in".to_owned(),
            authority: "h:1".to_owned(),
            is_https: false,
            path: "/in".to_owned(),
            headers: Vec::new(),
            longest_wait: DURABLE,
        };
        for (status, expected) in [
            (400, Status::WrongInput),
            (422, Status::WrongInput),
            (429, Status::Usage),
            (503, Status::Usage),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer {
                status,
                content_type: String::new(),
                body: Bytes::new(),
            };
            assert_eq!(conclude(&answer, &target).unwrap_err().status, expected);
        }
        let taken = Answer {
            status: StatusCode::ACCEPTED,
            content_type: String::new(),
            body: Bytes::new(),
        };
        assert!(conclude(&taken, &target).is_ok());
    }
}
