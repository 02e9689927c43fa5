//! The name of an image in a registry: `REGISTRY[:PORT]/NAME:TAG`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// Whose images are named without a registry.
const DOCKER_HUB: &str = "docker.io";
/// What Docker Hub's own documentation and older clients call it.
const DOCKER_HUB_INDEX: &str = "index.docker.io";
/// The longest name that registries take.
pub(super) const MAX_NAME_BYTES: usize = 255;
/// The longest tag that registries take.
pub(super) const MAX_TAG_BYTES: usize = 128;

/// Where an image is pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    registry: String,
    name: String,
    tag: Option<String>,
}

/// Why a text names no place to push to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ReferenceError {
    /// There is nothing.
    #[error("the name of the image is empty")]
    Empty,
    /// It begins with `http://`, `docker://` or the like.
    #[error("`{text}` begins with `{scheme}://`, but is to be the name of an image")]
    Scheme { text: String, scheme: String },
    /// It ends with a digest.
    #[error(
        "`{text}` ends with a digest, but an image is pushed to a tag: its digest follows from what is in it"
    )]
    Digest { text: String },
    /// The host or port is none.
    #[error("`{registry}`, of `{text}`, is no registry: {problem}")]
    Registry {
        text: String,
        registry: String,
        problem: &'static str,
    },
    /// Upper case.
    #[error("`{part}`, of `{text}`, has upper-case letters, which names of images do not have")]
    UpperCase { text: String, part: String },
    /// A part of the name has characters that it cannot have.
    #[error("`{part}`, of `{text}`, cannot be in the name of an image")]
    Name { text: String, part: String },
    /// The whole name is too long.
    #[error("the name in `{text}` is longer than {MAX_NAME_BYTES} bytes")]
    TooLong { text: String },
    /// What is behind the last colon is no tag.
    #[error("`{tag}`, of `{text}`, is no tag")]
    Tag { text: String, tag: String },
}

impl ReferenceError {
    /// How to mend it.
    pub(crate) fn help(&self) -> String {
        match self {
            Self::Empty | Self::Scheme { .. } => {
                "write `REGISTRY/NAME:TAG`, as in `ghcr.io/me/hello:0.1.0`; https is used everywhere but on this machine"
                    .to_owned()
            }
            Self::Digest { text } => {
                let name = text.split('@').next().unwrap_or_default();
                format!("write `{name}` alone, with a tag")
            }
            Self::Registry { .. } => {
                "write the host as in `ghcr.io`, `registry.example.com:5000`, `127.0.0.1:5000` or `[::1]:5000`"
                    .to_owned()
            }
            Self::UpperCase { text, part } => {
                format!("write `{}`", text.replacen(part.as_str(), &part.to_lowercase(), 1))
            }
            Self::Name { .. } => "its parts have the letters a to z, digits, and between them `.`, `_`, `__` or hyphens"
                .to_owned(),
            Self::TooLong { .. } => "choose a shorter name".to_owned(),
            Self::Tag { .. } => {
                "a tag has letters, digits, `_`, `.` and `-`, 128 at most, and begins with neither `.` nor `-`".to_owned()
            }
        }
    }
}

impl Reference {
    /// The tag; `latest` where none was named.
    pub(crate) fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// With this tag, where none was named.
    pub(crate) fn or_tag(self, tag: &str) -> Result<Self, ReferenceError> {
        if self.tag.is_some() {
            return Ok(self);
        }
        check_tag(&format!("{self}"), tag)?;
        Ok(Self {
            tag: Some(tag.to_owned()),
            ..self
        })
    }

    /// Whether the registry is on this machine, so that nothing leaves it unencrypted.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.registry.split_once(']') {
            Some((host, _)) => is_loopback(&format!("{host}]")),
            None => is_loopback(self.registry.split(':').next().unwrap_or_default()),
        }
    }
}

/// Whether a host, as it stands in URLs, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    host == "localhost"
        || bare
            .unwrap_or(host)
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// What only someone who pushes asks.
#[cfg(any(feature = "push", test))]
impl Reference {
    /// The registry's host, and port if it has one of its own.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The name within the registry.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is Docker Hub, which goes by several names.
    pub(crate) fn is_docker_hub(&self) -> bool {
        self.registry == DOCKER_HUB
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.name, self.tag())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let owned = || text.to_owned();
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ReferenceError::Scheme {
                text: owned(),
                scheme: scheme.to_owned(),
            });
        }
        if text.contains('@') {
            return Err(ReferenceError::Digest { text: owned() });
        }
        let (registry, rest) = match text.split_once('/') {
            Some((first, rest)) if is_host(first) => {
                check_host(text, first)?;
                (first, rest)
            }
            _ => (DOCKER_HUB, text),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        for part in name.split('/') {
            check_part(text, part)?;
        }
        if let Some(tag) = tag {
            check_tag(text, tag)?;
        }
        let registry = match registry {
            DOCKER_HUB_INDEX => DOCKER_HUB,
            other => other,
        };
        let name = match name {
            // Docker Hub's images without an owner.
            name if registry == DOCKER_HUB && !name.contains('/') => format!("library/{name}"),
            name => name.to_owned(),
        };
        if name.len() > MAX_NAME_BYTES {
            return Err(ReferenceError::TooLong { text: owned() });
        }
        Ok(Self {
            registry: registry.to_owned(),
            name,
            tag: tag.map(str::to_owned),
        })
    }
}

/// Whether the first part is a registry rather than an owner at Docker Hub: what docker, too, goes by.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':', '[']) || part.contains(char::is_uppercase)
}

fn check_host(text: &str, registry: &str) -> Result<(), ReferenceError> {
    let refused = |problem| {
        Err(ReferenceError::Registry {
            text: text.to_owned(),
            registry: registry.to_owned(),
            problem,
        })
    };
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return refused("a bracket is not closed");
        };
        if !host.parse().is_ok_and(|address: IpAddr| address.is_ipv6()) {
            return refused("in brackets there is no IPv6 address");
        }
        match port.strip_prefix(':') {
            None if port.is_empty() => (None, None),
            None => return refused("behind the bracket there is no port"),
            port => (None, port),
        }
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        }
    };
    let is_label = |label: &str| {
        let label = label.as_bytes();
        label
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && label.first().is_some_and(|byte| *byte != b'-')
            && label.last().is_some_and(|byte| *byte != b'-')
    };
    if host.is_some_and(|host| !host.split('.').all(is_label)) {
        return refused("its host is none");
    }
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if port.is_some_and(|port| !is_port(port)) {
        return refused("its port is none");
    }
    Ok(())
}

fn check_part(text: &str, part: &str) -> Result<(), ReferenceError> {
    if is_part(part) {
        return Ok(());
    }
    let (text, part) = (text.to_owned(), part.to_owned());
    Err(if part.contains(char::is_uppercase) {
        ReferenceError::UpperCase { text, part }
    } else {
        ReferenceError::Name { text, part }
    })
}

/// Whether it can stand between the `/` of a name: `[a-z0-9]+`, and between such pieces one of `.`, `_`, `__`, or hyphens.
pub(super) fn is_part(part: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_known = part.chars().all(|c| is_plain(c) || "._-".contains(c));
    let is_ended = part.starts_with(is_plain) && part.ends_with(is_plain);
    let mut separators = part.split(is_plain);
    let are_separators = separators.all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    });
    is_known && is_ended && are_separators
}

fn check_tag(text: &str, tag: &str) -> Result<(), ReferenceError> {
    if is_tag(tag) {
        return Ok(());
    }
    Err(ReferenceError::Tag {
        text: text.to_owned(),
        tag: tag.to_owned(),
    })
}

/// Whether it is a tag.
pub(super) fn is_tag(tag: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.starts_with(is_word)
        && tag.chars().all(|c| is_word(c) || c == '.' || c == '-')
        && tag.len() <= MAX_TAG_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Reference, ReferenceError> {
        text.parse()
    }

    #[test]
    fn registry_name_and_tag() {
        for (text, registry, name, tag) in [
            ("ghcr.io/me/hello:0.1.0", "ghcr.io", "me/hello", "0.1.0"),
            ("ghcr.io/me/hello", "ghcr.io", "me/hello", "latest"),
            (
                "registry.example.com:5000/a/b/c-d__e.f:X_1",
                "registry.example.com:5000",
                "a/b/c-d__e.f",
                "X_1",
            ),
            (
                "registry.example.com:5000/a",
                "registry.example.com:5000",
                "a",
                "latest",
            ),
            ("127.0.0.1:5000/hello:1", "127.0.0.1:5000", "hello", "1"),
            ("[::1]:5000/hello:1", "[::1]:5000", "hello", "1"),
            ("[::1]/hello", "[::1]", "hello", "latest"),
            ("localhost/hello:1", "localhost", "hello", "1"),
            (
                "Registry.example.com/hello:1",
                "Registry.example.com",
                "hello",
                "1",
            ),
            // Docker Hub's.
            ("hello:1", "docker.io", "library/hello", "1"),
            ("me/hello:1", "docker.io", "me/hello", "1"),
            ("docker.io/me/hello", "docker.io", "me/hello", "latest"),
            ("index.docker.io/hello:1", "docker.io", "library/hello", "1"),
        ] {
            let found = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (found.registry(), found.name(), found.tag()),
                (registry, name, tag),
                "{text}"
            );
            assert_eq!(
                read(&found.to_string()).unwrap().to_string(),
                found.to_string()
            );
        }
    }

    #[test]
    fn what_is_no_place_to_push_to_is_refused_with_the_reason() {
        let digest = "ghcr.io/me/hello@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let long = format!("ghcr.io/{}:1", "a".repeat(256));
        for (text, said, mended) in [
            ("", "is empty", "REGISTRY/NAME:TAG"),
            (
                "http://ghcr.io/me/hello",
                "begins with `http://`",
                "https is used everywhere",
            ),
            (
                "docker://ghcr.io/me/hello",
                "begins with `docker://`",
                "REGISTRY/NAME:TAG",
            ),
            (digest, "ends with a digest", "`ghcr.io/me/hello` alone"),
            (
                "ghcr.io/me/hello:1@sha256:00",
                "pushed to a tag",
                "`ghcr.io/me/hello:1` alone",
            ),
            (
                "ghcr.io/Me/hello:1",
                "`Me`, of `ghcr.io/Me/hello:1`, has upper-case",
                "write `ghcr.io/me/hello:1`",
            ),
            ("Hello:1", "upper-case", "write `hello:1`"),
            ("ghcr.io/me/he llo:1", "`he llo`", "letters a to z"),
            ("ghcr.io/me//hello:1", "``, of", "letters a to z"),
            ("ghcr.io/me/hello-:1", "`hello-`", "letters a to z"),
            ("ghcr.io/me/a..b:1", "`a..b`", "letters a to z"),
            ("ghcr.io/me/a._b:1", "`a._b`", "letters a to z"),
            ("ghcr.io/me/käse:1", "`käse`", "letters a to z"),
            ("ghcr.io/", "``, of", "letters a to z"),
            (&long, "longer than 255 bytes", "shorter"),
            ("ghcr.io/me/hello:", "``, of", "a tag has"),
            ("ghcr.io/me/hello:-1", "`-1`", "a tag has"),
            ("ghcr.io/me/hello:a+b", "`a+b`", "a tag has"),
            (
                "ghcr.io:/me/hello:1",
                "its port is none",
                "registry.example.com:5000",
            ),
            (
                "ghcr.io:70000/me/hello:1",
                "its port is none",
                "registry.example.com:5000",
            ),
            (
                "ghcr.io:+1/me/hello:1",
                "its port is none",
                "registry.example.com:5000",
            ),
            ("-a.io/hello:1", "its host is none", "as in `ghcr.io`"),
            ("a..io/hello:1", "its host is none", "as in `ghcr.io`"),
            ("[::1/hello:1", "not closed", "[::1]:5000"),
            ("[127.0.0.1]/hello:1", "no IPv6 address", "[::1]:5000"),
            ("[::1]x/hello:1", "no port", "[::1]:5000"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.to_string().contains(said), "{text}: {error}");
            assert!(error.help().contains(mended), "{text}: {}", error.help());
        }
    }

    #[test]
    fn a_tag_takes_the_place_of_none() {
        let tagged = |text: &str, tag: &str| {
            read(text)
                .unwrap()
                .or_tag(tag)
                .map(|found| found.to_string())
        };
        assert_eq!(tagged("ghcr.io/a", "1.0").unwrap(), "ghcr.io/a:1.0");
        assert_eq!(tagged("ghcr.io/a:2", "1.0").unwrap(), "ghcr.io/a:2");
        assert!(matches!(
            tagged("ghcr.io/a", "1.0+git"),
            Err(ReferenceError::Tag { .. })
        ));
    }

    #[test]
    fn only_what_is_on_this_machine_is_loopback() {
        for (text, is_loopback) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("127.9.9.9:5000/a", true),
            ("[::1]:5000/a", true),
            ("[::2]:5000/a", false),
            ("10.0.0.1:5000/a", false),
            ("localhost.example.com/a", false),
            ("127.0.0.1.example.com/a", false),
            ("a", false),
        ] {
            assert_eq!(read(text).unwrap().is_loopback(), is_loopback, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_read_reads_back(text in "[a-zA-Z0-9.:/@_\\[\\]-]{0,40}|\\PC{0,20}") {
            if let Ok(found) = read(&text) {
                prop_assert_eq!(read(&found.to_string()).unwrap().to_string(), found.to_string());
            } else if let Err(error) = read(&text) {
                prop_assert!(!error.help().is_empty());
            }
        }
    }
}
