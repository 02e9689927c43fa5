//! Texts of a special form. Each is checked when module.yaml is read, so that a value of these types is well-formed.

use std::fmt;

use serde::Deserialize;

use crate::module::codes;
use crate::module::schema::{Check, FieldType, Role, Type};

macro_rules! text {
    ($(#[doc = $doc:literal])* $name:ident, $kind:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// As written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FieldType for $name {
            const TYPE: Type = $kind;
        }
    };
}

macro_rules! qualified {
    ($($(#[doc = $doc:literal])* $name:ident, $role:expr;)*) => {$(
        text!($(#[doc = $doc])* $name, Type::Name($role));

        impl $name {
            /// What stands before the last `/`.
            pub fn namespace(&self) -> &str {
                self.0.rsplit_once('/').map_or("", |(namespace, _)| namespace)
            }

            /// What stands behind the last `/`.
            pub fn name(&self) -> &str {
                self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
            }
        }
    )*};
}

qualified! {
    /// The id of an ingress or egress, `namespace/name`.
    ComponentId, Role::Id;
    /// The id of an egress that something writes to, `namespace/name`.
    EgressId, Role::Egress;
    /// The type of a function, `namespace/name`.
    FunctionType, Role::Function;
    /// The type of a value, `namespace/name`.
    ValueType, Role::ValueType;
}

text!(
    /// The name of a router: that of the Rust function.
    RouterName,
    Type::Name(Role::Router)
);

text!(
    /// A JSON pointer (RFC 6901).
    JsonPointer,
    Type::Checked(&Check {
        what: "JSON pointer",
        code: codes::BAD_POINTER,
        check: check_pointer,
        help: "write a `/` before each step, as in `/order/id`",
    })
);

text!(
    /// The name of a field of a JSON object, or of a column.
    FieldName,
    Type::Checked(&Check {
        what: "field name",
        code: codes::BAD_TEXT,
        check: check_field_name,
        help: "write the name as the records have it, as in `traceparent`",
    })
);

text!(
    /// The name of an HTTP header.
    HeaderName,
    Type::Checked(&HEADER_NAME)
);

text!(
    /// `host:port` to listen on.
    ListenAddress,
    Type::Checked(&Check {
        what: "address to listen on",
        code: codes::BAD_ADDRESS,
        check: check_address,
        help: "write `host:port`, as in `127.0.0.1:8080`",
    })
);

/// An absolute `http` or `https` URL. It may hold a secret, so it is only shown up to the host.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// Reads one; the error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        check_url(text).map(|()| Self(text.to_owned()))
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Scheme, host and port, without a user name: what may be shown.
    pub fn origin(&self) -> String {
        let uri: Option<http::Uri> = self.0.parse().ok();
        uri.and_then(|uri| {
            let host = uri.host()?;
            let port = uri.port().map_or(String::new(), |port| format!(":{port}"));
            Some(format!("{}://{host}{port}", uri.scheme_str()?))
        })
        .unwrap_or_default()
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpUrl({}/…)", self.origin())
    }
}

impl FieldType for HttpUrl {
    const TYPE: Type = Type::Checked(&Check {
        what: "URL",
        code: codes::BAD_URL,
        check: check_url,
        help: "write it in full, as in `https://example.com/hook`",
    });
}

/// The check of a header's name, for the keys of header maps.
pub(super) const HEADER_NAME: Check = Check {
    what: "header name",
    code: codes::BAD_HEADER,
    check: check_header_name,
    help: "a header's name has letters, digits and `-`, as in `X-Request-Id`",
};

impl ListenAddress {
    /// Reads one that does not stand in module.yaml. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_address(text).map(|()| Self(text.to_owned()))
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port; 0 takes any free one.
    pub fn port(&self) -> u16 {
        self.0
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(0)
    }
}

impl JsonPointer {
    /// Its steps, unescaped.
    pub fn steps(&self) -> impl Iterator<Item = String> {
        self.0
            .split('/')
            .skip(1)
            .map(|step| step.replace("~1", "/").replace("~0", "~"))
    }
}

/// Says what is wrong with a `namespace/name`.
pub(crate) fn check_qualified(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(bad) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(if bad == ' ' {
            "it has a blank in it".to_owned()
        } else {
            "it has a control character in it".to_owned()
        });
    }
    match text.rsplit_once('/') {
        None => Err("it has no namespace".to_owned()),
        Some(("", _)) => Err("nothing stands before the `/`".to_owned()),
        Some((_, "")) => Err("nothing stands behind the `/`".to_owned()),
        Some((namespace, _)) if namespace.split('/').any(str::is_empty) => {
            Err("a part of its namespace is empty".to_owned())
        }
        Some(_) => Ok(()),
    }
}

/// Says what is wrong with a plain name.
pub(crate) fn check_plain(text: &str) -> Result<(), String> {
    if text.is_empty() {
        Err("it is empty".to_owned())
    } else if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Err("it has a blank in it".to_owned())
    } else {
        Ok(())
    }
}

fn check_pointer(text: &str) -> Result<(), String> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err("it does not begin with `/`".to_owned());
    }
    for (at, _) in text.match_indices('~') {
        if !matches!(text.as_bytes().get(at + 1), Some(b'0' | b'1')) {
            return Err("a `~` in it is not followed by `0` or `1`".to_owned());
        }
    }
    Ok(())
}

fn check_header_name(text: &str) -> Result<(), String> {
    http::HeaderName::from_bytes(text.as_bytes())
        .map(|_| ())
        .map_err(|_| "it has characters that a header's name cannot have".to_owned())
}

fn check_address(text: &str) -> Result<(), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("it has no port".to_owned());
    };
    if host.is_empty() {
        return Err("it has no host".to_owned());
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err()
    {
        return Err("its port is not a number from 0 to 65535".to_owned());
    }
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner
            .strip_suffix(']')
            .map(str::parse::<std::net::Ipv6Addr>);
        return match address {
            Some(Ok(_)) => Ok(()),
            _ => Err("its host is not an IPv6 address".to_owned()),
        };
    }
    if host.contains(':') {
        return Err("an IPv6 address must stand in brackets".to_owned());
    }
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numeric && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err("its host is not an IPv4 address".to_owned());
    }
    let plain = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if plain {
        Ok(())
    } else {
        Err("its host is neither a name nor an address".to_owned())
    }
}

fn check_field_name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(())
}

fn check_url(text: &str) -> Result<(), String> {
    if !text.contains("://") {
        return Err("it has no scheme".to_owned());
    }
    let Ok(uri) = text.parse::<http::Uri>() else {
        return Err("it cannot be read as one".to_owned());
    };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err("its scheme is neither `http` nor `https`".to_owned()),
        None => return Err("it has no scheme".to_owned()),
    }
    match uri.host() {
        Some(host) if !host.is_empty() => Ok(()),
        _ => Err("it names no host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualified_names() {
        for good in [
            "a/b",
            "com.example/greets",
            "a/b/c",
            "type.googleapis.com/x.Y",
        ] {
            assert_eq!(check_qualified(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "a", "a/", "/b", "a b/c", "a//b", "a/b\n", "//"] {
            assert!(check_qualified(bad).is_err(), "{bad:?}");
        }
        let name = FunctionType("a/b/c".to_owned());
        assert_eq!((name.namespace(), name.name()), ("a/b", "c"));
    }

    #[test]
    fn addresses() {
        for good in [
            "127.0.0.1:8080",
            "localhost:0",
            "[::1]:80",
            "0.0.0.0:65535",
            "my_host-1.x:1",
        ] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in [
            "8080",
            ":8080",
            "localhost:",
            "localhost:65536",
            "localhost:+1",
            "::1:80",
            "[::1:80",
            "[x]:1",
            "256.0.0.1:1",
            "a b:1",
            "http://x:1",
            "127.0.0.1:80a",
        ] {
            assert!(check_address(bad).is_err(), "{bad:?}");
        }
        let address = ListenAddress("[::1]:80".to_owned());
        assert_eq!((address.host(), address.port()), ("::1", 80));
    }

    #[test]
    fn pointers() {
        for good in ["", "/", "/a/b", "/a~0b/~1", "/0"] {
            assert_eq!(check_pointer(good), Ok(()), "{good}");
        }
        for bad in ["a", "a/b", "/~", "/~2", "/a~b"] {
            assert!(check_pointer(bad).is_err(), "{bad:?}");
        }
        let pointer = JsonPointer("/a~1b/~01".to_owned());
        assert_eq!(pointer.steps().collect::<Vec<_>>(), ["a/b", "~1"]);
    }

    #[test]
    fn urls() {
        for good in [
            "http://x",
            "https://example.com:8443/a?b=c",
            "http://[::1]:1/",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "x",
            "example.com/a",
            "ftp://x/",
            "http://",
            "http:///a",
            "//x/y",
            "/x",
        ] {
            assert!(check_url(bad).is_err(), "{bad:?}");
        }
        let url = HttpUrl("https://user:pass@example.com:1/secret?token=x".to_owned());
        assert_eq!(url.origin(), "https://example.com:1");
        assert!(!format!("{url:?}").contains("secret"));
        assert!(!format!("{url:?}").contains("pass"));
    }
}
