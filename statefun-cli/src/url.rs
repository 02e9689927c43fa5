//! URLs that a command is given.

use http::Uri;

use crate::status::Failure;

/// The parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// `host:port`.
    pub(crate) authority: String,
    pub(crate) is_https: bool,
    /// With the query.
    pub(crate) path: String,
}

impl Url {
    /// Reads one. `example` is how it should look.
    pub(crate) fn parse(url: &str, example: &str) -> Result<Self, Failure> {
        let bad = |problem: &str| {
            Failure::usage(format_args!("`{url}` cannot be used: {problem}"))
                .help(format_args!("write it in full, as in `{example}`"))
        };
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("it begins neither with `http://` nor with `https://`")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(
                Failure::usage("a URL with a user name in it cannot be used")
                    .help(format_args!("write it as in `{example}`")),
            );
        }
        let authority = match authority.port_u16() {
            Some(_) => authority.to_string(),
            None => format!("{}:{}", authority.host(), if is_https { 443 } else { 80 }),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            authority,
            is_https,
            path: path.to_owned(),
        })
    }

    /// The host of an authority, which a certificate must be for.
    pub(crate) fn host_of(authority: &str) -> &str {
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let split = |url: &str| Url::parse(url, "http://h").map_err(|failure| failure.message);
        for (url, authority, is_https, path) in [
            ("http://h:8/a?b", "h:8", false, "/a?b"),
            ("http://[::1]", "[::1]:80", false, "/"),
            ("https://h/a", "h:443", true, "/a"),
            ("https://[::1]:8443", "[::1]:8443", true, "/"),
        ] {
            let expected = Url {
                authority: authority.to_owned(),
                is_https,
                path: path.to_owned(),
            };
            assert_eq!(split(url).unwrap(), expected);
        }
        for (url, problem) in [
            ("ftp://h", "https://"),
            ("http://u:hush@h", "user name"),
            ("http://", "cannot be used"),
            ("http://a b", "cannot be used"),
        ] {
            let said = split(url).unwrap_err();
            assert!(said.contains(problem), "{url}");
            assert!(!said.contains("hush"), "{said}");
        }
        assert_eq!(Url::host_of("[::1]:80"), "::1");
        assert_eq!(Url::host_of("h:80"), "h");
    }
}
