//! The operations endpoint of an application, as a client has it.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use http::StatusCode;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::request::Builder;
use statefun_core::io::http::tls::ClientTls;

use crate::args::{LiveArgs, TOKEN_VARIABLE};
use crate::client::{Answer, ClientError, Way};
use crate::status::Failure;
use crate::tls::trust;
use crate::url::Url;

/// How the URL of an endpoint looks.
const EXAMPLE: &str = "http://127.0.0.1:9464";

/// An operations endpoint.
pub(super) struct Endpoint {
    url: Url,
    tls: Option<ClientTls>,
    /// The header that has the token. It is marked as what is not to be shown.
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// The one at a URL, with the token that file or environment have.
    pub(super) fn find(url: &str, args: &LiveArgs) -> Result<Self, Failure> {
        let url = Url::parse(url, EXAMPLE).map_err(|failure| match url.split_once("://") {
            Some(("s3" | "gs" | "az" | "abfss" | "file", _)) => {
                failure.help("where checkpoints are is said with `--checkpoint-url`")
            }
            _ => failure,
        })?;
        let trusted = || {
            trust(
                args.cacert.as_deref(),
                &url.authority,
                &format!("https://{}", url.authority),
            )
        };
        Ok(Self {
            tls: url.is_https.then(trusted).transpose()?,
            authorization: authorization(args.token_file.as_deref())?,
            url,
        })
    }

    pub(super) fn way(&self) -> Way<'_> {
        Way::Tcp {
            authority: &self.url.authority,
            tls: self.tls.as_ref(),
        }
    }

    /// Directs a request there.
    pub(super) fn address(&self, builder: Builder, uri: &str) -> Builder {
        // Behind a proxy the endpoint may be below a path.
        let before = self.url.path.trim_end_matches('/');
        let builder = builder
            .uri(format!("{before}{uri}"))
            .header(HOST, &self.url.authority);
        match &self.authorization {
            Some(authorization) => builder.header(AUTHORIZATION, authorization),
            None => builder,
        }
    }

    /// What an answer means that is about who asks, and not about what.
    pub(super) fn refused(&self, answer: &Answer) -> Option<Failure> {
        let problem = answer.problem();
        match (answer.status, &self.authorization) {
            (StatusCode::UNAUTHORIZED, None) => Some(
                Failure::usage(format_args!("{self} wants a token: {problem}")).help(format_args!(
                    "set {TOKEN_VARIABLE}, or name a file that holds the token with `--token-file`"
                )),
            ),
            (StatusCode::UNAUTHORIZED, Some(_)) => Some(
                Failure::usage(format_args!("{self} does not take the token: {problem}")).help(
                    format_args!(
                        "it must be that of the application's `operations.token`, or of {TOKEN_VARIABLE} where the application runs"
                    ),
                ),
            ),
            (StatusCode::FORBIDDEN, _) => Some(
                Failure::usage(format_args!("{self} refuses that: {problem}")).help(format_args!(
                    "give the application a token, by `operations: {{token: …}}` in its statefun.yaml or by {TOKEN_VARIABLE}, and the \
                     command line the same, by {TOKEN_VARIABLE} or `--token-file`"
                )),
            ),
            _ => None,
        }
    }

    pub(super) fn unreachable(&self, error: &ClientError) -> Failure {
        match error {
            ClientError::Connect(io) if io.kind() == ErrorKind::ConnectionRefused => {
                Failure::usage(format_args!("nothing listens at {self}")).help(
                    "does the application run? It says at its start where its operations endpoint is, as `operations: http://…`; from \
                     other machines it is reached when `operations.listen` names an address that they reach",
                )
            }
            ClientError::Connect(io) => {
                Failure::usage(format_args!("cannot connect to {self}: {io}"))
                    .help("is the host right, and reachable from here?")
            }
            ClientError::Tls(io) => {
                Failure::usage(format_args!("no encrypted connection to {self}: {io}")).help(
                    "the endpoint itself speaks plain HTTP: write http://, unless something in front of it speaks HTTPS",
                )
            }
            error => Failure::usage(format_args!("{self} does not answer as it should: {error}"))
                .help("is that the operations endpoint of an application?"),
        }
    }
}

/// The content of a file, or of the variable.
fn authorization(file: Option<&Path>) -> Result<Option<HeaderValue>, Failure> {
    let (token, from) = match file {
        Some(file) => {
            let from = file.display().to_string();
            let text = std::fs::read_to_string(file)
                .map_err(|error| Failure::input(format_args!("cannot read {from}: {error}")))?;
            (text, from)
        }
        None => match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.is_empty() => (token, TOKEN_VARIABLE.to_owned()),
            _ => return Ok(None),
        },
    };
    let token = token.trim();
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = plain.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let Some(mut value) = value.flatten() else {
        return Err(
            Failure::input(format_args!("{from} holds no token")).help(
                "a token is one word of letters, digits and signs, with nothing but a line end behind it",
            ),
        );
    };
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Up to the host, and without the token.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.url.is_https { "https" } else { "http" };
        let path = self.url.path.trim_end_matches('/');
        write!(f, "{scheme}://{}{path}", self.url.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(url: &str, token: Option<&str>) -> Result<Endpoint, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        if let Some(token) = token {
            std::fs::write(&file, token).unwrap();
        }
        let args = LiveArgs {
            token_file: token.map(|_| file),
            ..LiveArgs::default()
        };
        Endpoint::find(url, &args)
    }

    #[test]
    fn the_token_is_sent_and_never_shown() {
        let endpoint = find("http://h:1/behind/", Some("hush\n")).unwrap();
        let request = endpoint
            .address(http::Request::builder(), "/v1/status?a=b")
            .body(())
            .unwrap();
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer hush");
        assert_eq!(request.uri(), "/behind/v1/status?a=b");
        assert_eq!(request.headers()[HOST], "h:1");
        assert_eq!(endpoint.to_string(), "http://h:1/behind");
        assert!(!format!("{endpoint:?} {request:?}").contains("hush"));
    }

    #[test]
    fn what_is_no_token_or_no_url_is_named() {
        for bad in ["", " \n", "two words", "line\nline", "ü"] {
            let failure = find("http://h:1", Some(bad)).unwrap_err();
            assert!(failure.message.contains("holds no token"), "{bad:?}");
            assert!(!failure.message.contains("words"), "{}", failure.message);
        }
        let bucket = find("s3://bucket/shop", None).unwrap_err();
        assert!(bucket.help.unwrap().contains("--checkpoint-url"));
        let absent = LiveArgs {
            token_file: Some("/nowhere/token".into()),
            ..LiveArgs::default()
        };
        let failure = Endpoint::find("http://h:1", &absent).unwrap_err();
        assert!(failure.message.contains("/nowhere/token"));
    }

    #[test]
    fn who_is_refused_is_told_what_to_set() {
        let answer = |status: StatusCode| Answer {
            status,
            content_type: String::new(),
            body: bytes::Bytes::from_static(b"{\"error\":\"no\"}"),
        };
        let without = find("http://h:1", None).unwrap();
        let with = find("http://h:1", Some("hush")).unwrap();
        let help = |endpoint: &Endpoint, status: StatusCode| {
            let failure = endpoint.refused(&answer(status)).unwrap();
            assert!(
                failure.message.contains("http://h:1"),
                "{}",
                failure.message
            );
            assert!(failure.message.ends_with("no"), "{}", failure.message);
            failure.help.unwrap()
        };
        assert!(help(&without, StatusCode::UNAUTHORIZED).contains("--token-file"));
        assert!(help(&with, StatusCode::UNAUTHORIZED).contains("operations.token"));
        assert!(help(&without, StatusCode::FORBIDDEN).contains("operations: {token"));
        assert!(without.refused(&answer(StatusCode::NOT_FOUND)).is_none());
    }
}
