//! What a request says beside its value: id, type, idempotency key, waiting time, token.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use super::route::percent_decode;
use crate::module::model::{JsonPointer, PathSegment, RequestPart};
use crate::module::units::{UnitError, parse_duration};

/// The header that makes a request take effect once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest idempotency key, in bytes.
const KEY_BYTES: usize = 256;

/// Headers that no router sees: secrets, which must not come into the log, and what belongs to the connection.
const HIDDEN: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Where in a request a name stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// What stands in place of the placeholder of that number.
    Path(usize),
    /// A header.
    Header(HeaderName),
    /// A place in the JSON body.
    Pointer(JsonPointer),
}

impl Part {
    /// The part of a spec; none when the path lacks the placeholder, which module.yaml's checks refuse.
    pub(super) fn of(
        part: &RequestPart,
        path: &[PathSegment],
        placeholder: &PathSegment,
    ) -> Option<Self> {
        match part {
            RequestPart::Path => {
                let mut placeholders = path
                    .iter()
                    .filter(|segment| !matches!(segment, PathSegment::Literal(_)));
                placeholders
                    .position(|segment| segment == placeholder)
                    .map(Self::Path)
            }
            RequestPart::Header(name) => HeaderName::from_bytes(name.as_str().as_bytes())
                .ok()
                .map(Self::Header),
            RequestPart::Pointer(pointer) => Some(Self::Pointer(pointer.clone())),
        }
    }

    /// Reads it; the error says what is missing.
    pub(super) fn read(
        &self,
        captures: &[String],
        headers: &HeaderMap,
        body: Option<&serde_json::Value>,
    ) -> Result<String, String> {
        match self {
            Self::Path(index) => Ok(captures.get(*index).cloned().unwrap_or_default()),
            Self::Header(name) => {
                let value = headers
                    .get(name)
                    .ok_or_else(|| format!("the header `{name}` is missing"))?;
                match std::str::from_utf8(value.as_bytes()) {
                    Ok("") => Err(format!("the header `{name}` is empty")),
                    Ok(text) => Ok(text.to_owned()),
                    Err(_) => Err(format!("the header `{name}` is not UTF-8")),
                }
            }
            Self::Pointer(pointer) => {
                use serde_json::Value;
                match body.and_then(|body| body.pointer(pointer.as_str())) {
                    Some(Value::String(text)) if text.is_empty() => {
                        Err(format!("`{pointer}` is empty"))
                    }
                    Some(Value::String(text)) => Ok(text.clone()),
                    Some(Value::Bool(value)) => Ok(value.to_string()),
                    // A number that is not whole, or too large, has several spellings, and would name several things.
                    Some(Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
                    Some(Value::Number(_)) => Err(format!(
                        "`{pointer}` is not a whole number of at most 64 bits: write it as a text"
                    )),
                    Some(_) => Err(format!(
                        "`{pointer}` is neither a text nor a number nor a boolean"
                    )),
                    None => Err(format!("the body has no `{pointer}`")),
                }
            }
        }
    }
}

/// How long a request waits for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It does not: it is answered when it is durable.
    No,
    /// As long as the ingress allows.
    Longest,
    /// So long.
    For(Duration),
}

impl Wait {
    /// Reads `wait` in a query: alone, as a duration, or as a number of seconds.
    pub(super) fn of(query: Option<&str>) -> Result<Self, String> {
        let mut found = None;
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name != "wait" {
                continue;
            }
            if found.is_some() {
                return Err("`wait` is given twice".to_owned());
            }
            let value = percent_decode(&value.replace('+', " "))
                .map_err(|error| format!("`wait`: {error}"))?;
            found = Some(Self::parse(&value)?);
        }
        Ok(found.unwrap_or(Self::No))
    }

    fn parse(value: &str) -> Result<Self, String> {
        if value.is_empty() {
            return Ok(Self::Longest);
        }
        let duration = match parse_duration(value) {
            Ok(duration) => duration,
            Err(UnitError::NoUnit { number }) => Duration::from_secs(number),
            Err(error) => {
                return Err(format!(
                    "`wait` is no duration, as in `5s` or `500ms`: {error}"
                ));
            }
        };
        Ok(if duration.is_zero() {
            Self::No
        } else {
            Self::For(duration)
        })
    }
}

/// The idempotency key, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, String> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err("`Idempotency-Key` is given twice".to_owned());
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok("") => Err("`Idempotency-Key` is empty".to_owned()),
        Ok(key) if key.len() <= KEY_BYTES => Ok(Some(key)),
        Ok(key) => Err(format!(
            "`Idempotency-Key` has {} bytes; at most {KEY_BYTES} are taken",
            key.len()
        )),
        Err(_) => Err("`Idempotency-Key` is not UTF-8".to_owned()),
    }
}

/// The headers that routers see; those given several times are joined with commas.
pub(super) fn record_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            continue;
        };
        if HIDDEN.contains(&name) {
            continue;
        }
        if let Some(known) = seen.get_mut(name) {
            known.push_str(", ");
            known.push_str(value);
        } else {
            seen.insert(name.to_owned(), value.to_owned());
        }
    }
    seen
}

/// Whether a request carries the token.
pub(crate) fn is_authorised(headers: &HeaderMap, token: &str) -> bool {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(given), None) = (given.next(), given.next()) else {
        return false;
    };
    let Some((scheme, rest)) = given.as_bytes().split_at_checked(7) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"bearer ") && equal(rest.trim_ascii(), token.as_bytes())
}

/// Compares in a time that depends on the length of `given` only.
fn equal(given: &[u8], secret: &[u8]) -> bool {
    let mut secrets = secret.iter().cycle();
    let mut difference = u8::from(given.len() != secret.len()) | u8::from(secret.is_empty());
    for byte in given {
        difference = black_box(difference | (byte ^ secrets.next().copied().unwrap_or_default()));
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waiting_times() {
        for (query, wait) in [
            ("", Wait::No),
            ("other=1", Wait::No),
            ("wait", Wait::Longest),
            ("wait=", Wait::Longest),
            ("a=b&wait=5", Wait::For(Duration::from_secs(5))),
            ("wait=500ms&x", Wait::For(Duration::from_millis(500))),
            ("wait=1+min", Wait::For(Duration::from_mins(1))),
            ("wait=1%20min", Wait::For(Duration::from_mins(1))),
            ("wait=0", Wait::No),
            ("wait=0s", Wait::No),
        ] {
            assert_eq!(Wait::of(Some(query)), Ok(wait), "{query}");
        }
        for bad in [
            "wait=x",
            "wait=-1",
            "wait=1.5s",
            "wait=1s&wait=2s",
            "wait=%zz",
            "wait=99999999999999999999",
        ] {
            assert!(Wait::of(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(Wait::of(None), Ok(Wait::No));
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let authorised = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            is_authorised(&headers, "secret")
        };
        assert!(authorised("Bearer secret") && authorised("bearer  secret "));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer secre",
            "Bearer secrets",
            "Bearer secretsecret",
            "Basic secret",
        ] {
            assert!(!authorised(bad), "{bad:?}");
        }
        assert!(!is_authorised(&HeaderMap::new(), "secret"));
        assert!(
            !equal(b"", b"") && !equal(b"x", b""),
            "an empty token admits nobody"
        );
    }

    #[test]
    fn secrets_and_hop_by_hop_headers_stay_out_of_the_log() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "x"),
            ("cookie", "x"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("te", "x"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.insert("x-latin", HeaderValue::from_bytes(b"\xe4").unwrap());
        let seen = record_headers(&headers);
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            [("x-a".to_owned(), "1, 2".to_owned())]
        );
    }

    #[test]
    fn keys() {
        let key = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            idempotency_key(&headers).map(|key| key.map(str::to_owned))
        };
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["ä b".as_bytes()]), Ok(Some("ä b".to_owned())));
        assert_eq!(key(&[&[b'x'; KEY_BYTES]]), Ok(Some("x".repeat(KEY_BYTES))));
        for bad in [
            &[&b""[..]][..],
            &[b"a", b"a"],
            &[b"\xff"],
            &[&[b'x'; KEY_BYTES + 1]],
        ] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_from_the_body_have_one_spelling() {
        let pointer: JsonPointer = serde_json::from_str("\"/a/b~1c\"").unwrap();
        let part = Part::Pointer(pointer);
        let read = |body: &str| {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            part.read(&[], &HeaderMap::new(), Some(&body))
        };
        assert_eq!(read(r#"{"a": {"b/c": "x"}}"#), Ok("x".to_owned()));
        assert_eq!(read(r#"{"a": {"b/c": -7}}"#), Ok("-7".to_owned()));
        assert_eq!(
            read(r#"{"a": {"b/c": 18446744073709551615}}"#),
            Ok("18446744073709551615".to_owned())
        );
        assert_eq!(read(r#"{"a": {"b/c": true}}"#), Ok("true".to_owned()));
        for bad in [
            "\"\"",
            "1.0",
            "1e3",
            "18446744073709551616",
            "null",
            "[]",
            "{}",
        ] {
            let body = format!(r#"{{"a": {{"b/c": {bad}}}}}"#);
            assert!(read(&body).is_err(), "{body}");
        }
        assert!(read("{}").is_err());
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "[wait=&%+0-9sm\\PC]{0,40}") {
            let _ = Wait::of(Some(&query));
        }

        #[test]
        fn tokens_are_equal_when_their_bytes_are(given: Vec<u8>, secret: Vec<u8>) {
            prop_assert_eq!(equal(&given, &secret), given == secret && !secret.is_empty());
            prop_assert_eq!(equal(&secret, &secret), !secret.is_empty());
        }
    }
}
