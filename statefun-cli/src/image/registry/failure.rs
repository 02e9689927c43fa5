//! What a failed request means.

use std::error::Error;

use oci_client::errors::OciDistributionError;
use serde::Deserialize;

/// How much of what a registry says is repeated.
const MAX_SAID_CHARS: usize = 300;
/// What is to be begun anew: the registry has forgotten an upload, or has received something else than was sent.
const AGAIN_CODES: [&str; 3] = [
    "BLOB_UPLOAD_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "DIGEST_INVALID",
];

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another attempt may do.
    Transient,
    /// It cannot be reached: at the first attempt the name is likelier to be wrong than the network.
    Unreachable,
    /// There is no trust.
    Tls,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    Missing,
    /// Anything else.
    Refused,
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) cause: Cause,
    pub(super) problem: String,
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Failed {
    pub(super) fn new(cause: Cause, problem: impl Into<String>) -> Self {
        Self {
            cause,
            problem: problem.into(),
        }
    }

    /// An answer that is none of those expected.
    pub(super) fn answer(status: u16, body: &str) -> Self {
        let envelope = serde_json::from_str::<Envelope>(body).ok();
        let begin_anew = envelope.iter().flat_map(|envelope| &envelope.errors);
        let begin_anew = begin_anew
            .clone()
            .any(|said| AGAIN_CODES.contains(&said.code.as_str()));
        let cause = match status {
            _ if begin_anew => Cause::Transient,
            401 => Cause::Unauthorized,
            403 => Cause::Forbidden,
            404 => Cause::Missing,
            408 | 425 | 429 | 500..=599 => Cause::Transient,
            _ => Cause::Refused,
        };
        let said = envelope.map_or_else(|| body.to_owned(), |envelope| envelope.told());
        let said = readable(&said);
        let name = http::StatusCode::from_u16(status).ok();
        let name = name
            .and_then(|status| status.canonical_reason())
            .unwrap_or("no known status");
        Self::new(
            cause,
            // Pages of HTML tell nothing to someone who reads a line.
            if said.is_empty() || said.starts_with('<') {
                format!("it answers {status} {name}")
            } else {
                format!("it answers {status} {name}: {said}")
            },
        )
    }
}

impl Envelope {
    fn told(&self) -> String {
        let told: Vec<String> = self
            .errors
            .iter()
            .map(|said| match (said.code.as_str(), said.message.as_str()) {
                ("", message) => message.to_owned(),
                (code, "") => code.to_owned(),
                (code, message) => format!("{code}: {message}"),
            })
            .collect();
        told.join("; ")
    }
}

impl From<reqwest::Error> for Failed {
    fn from(error: reqwest::Error) -> Self {
        if let Some(status) = error.status() {
            return Self::answer(status.as_u16(), "");
        }
        let is_tls = std::iter::successors(error.source(), |error| of_inner(*error))
            .any(<dyn Error>::is::<rustls::Error>);
        let cause = if is_tls {
            Cause::Tls
        } else if error.is_builder() || error.is_redirect() {
            Cause::Refused
        } else if error.is_connect() {
            Cause::Unreachable
        } else {
            Cause::Transient
        };
        Self::new(cause, chain(&error))
    }
}

impl From<OciDistributionError> for Failed {
    fn from(error: OciDistributionError) -> Self {
        match error {
            OciDistributionError::RequestError(error) => error.into(),
            OciDistributionError::ServerError { code, message, .. } => Self::answer(code, &message),
            OciDistributionError::AuthenticationFailure(problem) => {
                Self::new(Cause::Unauthorized, readable(&problem))
            }
            OciDistributionError::UnauthorizedError { .. } => {
                Self::new(Cause::Unauthorized, "it answers 401 Unauthorized")
            }
            other => Self::new(Cause::Refused, readable(&chain(&other))),
        }
    }
}

/// What is behind an error. Those of input and output hide what they were made of.
fn of_inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let hidden = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    hidden
        .map(|hidden| hidden as &(dyn Error + 'static))
        .or_else(|| error.source())
}

/// What an error comes from, each thing once; the error itself where it comes from nothing.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut told = Vec::<String>::new();
    // The clients' own errors say what was asked for, and that a client failed.
    let is_outer = |text: &str| {
        text.starts_with("error sending request") || text.starts_with("client error (")
    };
    for error in std::iter::successors(Some(error), |error| of_inner(*error)) {
        let text = error.to_string();
        if of_inner(error).is_some() && is_outer(&text) {
            continue;
        }
        if !told.iter().any(|before| before.contains(&text)) {
            told.push(text);
        }
    }
    readable(&told.join(": "))
}

/// A line that can be shown.
fn readable(text: &str) -> String {
    let text: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_SAID_CHARS)
        .collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_means() {
        for (status, body, cause, problem) in [
            (401, "", Cause::Unauthorized, "it answers 401 Unauthorized"),
            (
                403,
                r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#,
                Cause::Forbidden,
                "it answers 403 Forbidden: DENIED: no; X",
            ),
            (404, "<html>\n", Cause::Missing, "it answers 404 Not Found"),
            (
                503,
                "later\nplease",
                Cause::Transient,
                "it answers 503 Service Unavailable: later please",
            ),
            (
                429,
                "",
                Cause::Transient,
                "it answers 429 Too Many Requests",
            ),
            (
                404,
                r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"who?"}]}"#,
                Cause::Transient,
                "it answers 404 Not Found: BLOB_UPLOAD_UNKNOWN: who?",
            ),
            (418, "{}", Cause::Refused, "it answers 418 I'm a teapot: {}"),
            (999, "", Cause::Refused, "it answers 999 no known status"),
        ] {
            let failed = Failed::answer(status, body);
            assert_eq!((failed.cause, failed.problem.as_str()), (cause, problem));
        }
        let long = Failed::answer(400, &"x".repeat(10_000));
        assert!(long.problem.len() < 400);
    }
}
