//! `io.statefun.http.v1`: messages in by `POST`, and out as webhooks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::names::{
    ComponentId, EgressId, FunctionType, HEADER_NAME, HeaderName, HttpUrl, JsonPointer,
    ListenAddress, RouterName, ValueType,
};
use super::parts::{OnError, PointerKey, Secret};
use crate::module::codes;
use crate::module::schema::{Absent, Check, FieldType, Type, record};
use crate::module::units::ByteSize;

record! {
    /// Takes messages in by HTTP `POST`. The answer is 202 when the message is durable, or the function's reply with `?wait`.
    pub struct HttpIngress {
        /// Identifier of the ingress, `namespace/name`.
        pub id: ComponentId => "id",
        /// Function types that each get every message; the address is the type and the id that `idFrom` finds.
        pub targets: Vec<FunctionType> => "targets",
        /// Names of the routers that see every message and decide where it goes.
        pub routers: Vec<RouterName> => "routers",
        /// What becomes of a message that cannot be decoded or routed: `fail`, `skip`, or `deadLetter: <egress id>`.
        /// The sender is told (400) in each case.
        pub on_error: OnError => "onError" = "skip",
        /// `host:port` to listen on. Several ingresses may share one, with different paths. Port 0 takes any free port.
        pub address: ListenAddress => "address" = "127.0.0.1:8080",
        /// Path of the requests. The segment `{id}` stands for the id of the target, `{type}` for the value type: its full
        /// name with `/` written as `%2F`, or what stands behind its last `/`.
        /// Without it: `/`, the name part of `id`, and `/{id}` where the id comes from the path.
        pub path: Option<PathTemplate> => "path",
        /// Type of every message.
        pub value_type: Option<ValueType> => "valueType",
        /// Types that the messages may have; `typeFrom` says which one it is.
        pub value_types: Vec<ValueType> => "valueTypes",
        /// Where the id of the target stands: `path`, `{header: NAME}` or `{pointer: /json/pointer}`.
        /// Without it: `path`, when `path` has `{id}`.
        pub id_from: Option<RequestPart> => "idFrom",
        /// Where the type of the value stands: `path`, `{header: NAME}` or `{pointer: /json/pointer}`.
        /// Without it: `path`, when `path` has `{type}`.
        pub type_from: Option<RequestPart> => "typeFrom",
        /// Largest body that is taken; a larger one is answered with 413.
        pub max_body_bytes: ByteSize => "maxBodyBytes" = "1MiB",
        /// Longest time that a request with `?wait` waits for its reply; then it is answered with 504.
        pub max_wait: Duration => "maxWait" = "30s",
        /// What is remembered of requests with an `Idempotency-Key`.
        pub idempotency: Idempotency => "idempotency",
        /// Who may send. Without it: everyone who reaches the address.
        pub auth: Option<HttpAuth> => "auth",
        /// Certificate for HTTPS; needs the feature `tls`. Ingresses that share an address share it as well.
        pub tls: Option<Tls> => "tls",
    }
}

impl HttpIngress {
    /// The path with its default filled in.
    pub fn path_template(&self) -> PathTemplate {
        self.path.clone().unwrap_or_else(|| {
            let from_path = matches!(self.id_from, None | Some(RequestPart::Path));
            let id = if from_path { "/{id}" } else { "" };
            PathTemplate(format!("/{}{id}", self.id.name()))
        })
    }

    /// The types of its messages, from either field.
    pub fn value_types(&self) -> &[ValueType] {
        match &self.value_type {
            Some(one) => std::slice::from_ref(one),
            None => &self.value_types,
        }
    }

    /// Where the id of the target stands, with its default filled in; None when nothing says it.
    pub fn id_source(&self) -> Option<RequestPart> {
        self.id_from.clone().or_else(|| {
            let has_id = self.path_template().segments().contains(&PathSegment::Id);
            has_id.then_some(RequestPart::Path)
        })
    }

    /// Where the type of the value stands, with its default filled in; None when there is only one type.
    pub fn type_source(&self) -> Option<RequestPart> {
        self.type_from.clone().or_else(|| {
            let has_type = self.path_template().segments().contains(&PathSegment::Type);
            has_type.then_some(RequestPart::Path)
        })
    }
}

record! {
    /// What is remembered of requests with an `Idempotency-Key`.
    pub struct Idempotency {
        /// How long a key is remembered, from the first request under it on. Within it the same key with the same body takes effect once.
        pub retention: Duration => "retention" = "24h",
    }
}

record! {
    /// Who may send.
    pub struct HttpAuth {
        /// Token that each request must carry as `Authorization: Bearer …`.
        pub bearer: Secret => "bearer",
    }
}

record! {
    /// Certificate and key for HTTPS.
    pub struct Tls {
        /// PEM file with the server's certificate first, and then those of its issuers. It is read at the start.
        pub certificate: PathBuf => "certificate",
        /// PEM file with the private key, not encrypted.
        pub key: PathBuf => "key",
    }
}

/// A part of a request that names something.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestPart {
    /// The placeholder in the path.
    Path,
    /// A header.
    Header(HeaderName),
    /// A place in the JSON body.
    Pointer(JsonPointer),
}

impl FieldType for RequestPart {
    const TYPE: Type = Type::Either {
        words: &["path"],
        keyed: &[("header", HeaderName::TYPE), ("pointer", JsonPointer::TYPE)],
    };
}

/// The path of an HTTP ingress, with placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct PathTemplate(String);

/// A segment of a [`PathTemplate`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathSegment {
    /// Exactly this text.
    Literal(String),
    /// `{id}`: the id of the target.
    Id,
    /// `{type}`: the type of the value.
    Type,
}

impl PathTemplate {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments. The path `/` has none.
    pub fn segments(&self) -> Vec<PathSegment> {
        self.0
            .split('/')
            .skip(1)
            .filter(|segment| !segment.is_empty())
            .map(|segment| match segment {
                "{id}" => PathSegment::Id,
                "{type}" => PathSegment::Type,
                literal => PathSegment::Literal(literal.to_owned()),
            })
            .collect()
    }

    /// The path with every placeholder written alike: two paths with one shape match the same requests.
    pub fn shape(&self) -> String {
        self.segments()
            .iter()
            .fold(String::new(), |shape, segment| {
                shape
                    + "/"
                    + match segment {
                        PathSegment::Literal(literal) => literal,
                        PathSegment::Id | PathSegment::Type => "{}",
                    }
            })
    }
}

impl FieldType for PathTemplate {
    const TYPE: Type = Type::Checked(&Check {
        what: "path",
        code: codes::BAD_PATH,
        check: check_path,
        help: "write it as in `/orders/{id}`; `{id}` and `{type}` are whole segments",
    });
}

fn check_path(text: &str) -> Result<(), String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("it does not begin with `/`".to_owned());
    };
    if rest.is_empty() {
        return Ok(());
    }
    let mut seen = Vec::new();
    for segment in rest.split('/') {
        match segment {
            "" => return Err("it has an empty segment".to_owned()),
            "{id}" | "{type}" => {
                if seen.contains(&segment) {
                    return Err("it has the same placeholder twice".to_owned());
                }
                seen.push(segment);
            }
            "." | ".." => return Err("it has a segment of dots only".to_owned()),
            _ if segment.contains(['{', '}']) => {
                return Err(
                    "its only placeholders are `{id}` and `{type}`, as whole segments".to_owned(),
                );
            }
            _ if segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')) => {}
            _ => return Err("it has characters that a path segment here cannot have".to_owned()),
        }
    }
    Ok(())
}

record! {
    /// Sends each record as a request to a URL. Delivery is at least once, with an `Idempotency-Key` that stays the same.
    pub struct HttpEgress {
        /// Identifier of the egress, `namespace/name`.
        pub id: ComponentId => "id",
        /// Where the requests go: an absolute `http` or `https` URL; `https` needs the feature `tls`.
        pub url: HttpUrl => "url",
        /// Method of the requests.
        pub method: HttpMethod => "method" = "POST",
        /// Headers of each request.
        pub headers: Headers => "headers",
        /// Where in the record the key stands. Records with one key leave in order; without it all records do.
        pub key_from: Option<WebhookKey> => "keyFrom",
        /// Longest time that one request may take.
        pub timeout: Duration => "timeout" = "10s",
        /// How requests are repeated that fail: connection errors, timeouts, 408, 425, 429 and 5xx.
        pub retry: Retry => "retry",
        /// Egress that takes the records that the receiver refuses (other 4xx). Without it they are dropped, each with an error in the log.
        pub dead_letter: Option<EgressId> => "deadLetter",
        /// How much may wait for the receiver before the ingresses are slowed.
        pub max_outbox_bytes: ByteSize => "maxOutboxBytes" = "64MiB",
        /// Whom to trust behind an `https` URL. Without it: the authorities that the system trusts.
        pub tls: Option<Trust> => "tls",
    }
}

impl HttpEgress {
    /// Whether its requests are encrypted.
    pub fn is_https(&self) -> bool {
        self.url.origin().starts_with("https:")
    }
}

record! {
    /// Whom to trust.
    pub struct Trust {
        /// PEM file with certificates of authorities that are trusted as well, such as a company's own.
        pub ca: PathBuf => "ca",
    }
}

/// Where in an outgoing JSON record its key stands.
pub type WebhookKey = PointerKey;

/// Headers of outgoing requests. Their values may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, Secret>);

impl FieldType for Headers {
    const TYPE: Type = Type::Map {
        key: Some(&HEADER_NAME),
        // Not all values are secrets: those are hidden whose header is known for it.
        value: &Type::Text,
    };
    const ABSENT: Absent = Absent::EmptyMap;
}

/// Methods of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

impl FieldType for HttpMethod {
    const TYPE: Type = Type::Choice {
        words: &["POST", "PUT", "PATCH"],
    };
}

record! {
    /// How failing requests are repeated: with a delay that doubles from the first to the longest.
    pub struct Retry {
        /// Delay before the first repetition.
        pub initial_delay: Duration => "initialDelay" = "100ms",
        /// Longest delay.
        pub max_delay: Duration => "maxDelay" = "1min",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in ["/", "/a", "/a/{id}", "/{type}/{id}", "/v1.0/a-b_c~d/{id}/x"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/{id}/{id}",
            "/{ID}",
            "/x{id}",
            "/{id",
            "/a b",
            "/a?b",
            "/é",
            "/..",
            "/{}",
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shapes_forget_the_names_of_placeholders() {
        let shape = |path: &str| PathTemplate(path.to_owned()).shape();
        assert_eq!(shape("/a/{id}"), shape("/a/{type}"));
        assert_ne!(shape("/a/{id}"), shape("/a/id"));
        assert_ne!(shape("/a/{id}"), shape("/a"));
        assert_eq!(shape("/"), "");
    }
}
