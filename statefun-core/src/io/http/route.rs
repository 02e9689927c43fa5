//! Paths: templates, percent-encoding, and which route a request is for.

use std::fmt;

use thiserror::Error;

/// A segment of a route's path. Routes are sorted by their segments, so that the most exact one comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::io) enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any text that is not empty; the name is for showing it.
    Any(&'static str),
    /// All that follows, slashes included, or nothing; the last segment only.
    Rest(&'static str),
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => f.write_str(text),
            Self::Any(name) | Self::Rest(name) => write!(f, "{{{name}}}"),
        }
    }
}

/// A path as it is written in module.yaml.
pub(in crate::io) fn show(segments: &[Segment]) -> String {
    if segments.is_empty() {
        return "/".to_owned();
    }
    segments
        .iter()
        .fold(String::new(), |path, segment| format!("{path}/{segment}"))
}

/// Whether two routes match the same requests.
pub(super) fn alike(one: &[Segment], other: &[Segment]) -> bool {
    let kind = |segment: &Segment| match segment {
        Segment::Literal(text) => (0, text.clone()),
        Segment::Any(_) => (1, String::new()),
        Segment::Rest(_) => (2, String::new()),
    };
    one.iter().map(kind).eq(other.iter().map(kind))
}

/// A path that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PathError {
    /// A `%` without two hexadecimal digits.
    #[error("a `%` is not followed by two hexadecimal digits: write `%25` for `%` itself")]
    Escape,
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    Utf8,
}

/// Undoes percent-encoding.
pub(crate) fn percent_decode(text: &str) -> Result<String, PathError> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
            digit.ok_or(PathError::Escape)
        };
        let (high, low) = (digit()?, digit()?);
        out.push((high << 4 | low) as u8);
    }
    String::from_utf8(out).map_err(|_| PathError::Utf8)
}

/// Percent-encodes everything but what a path segment may hold anywhere.
pub(super) fn percent_encode(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |out, byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                out + char::from(byte).encode_utf8(&mut [0; 4])
            } else {
                out + &format!("%{byte:02X}")
            }
        })
}

/// The decoded segments of a request's path; none when it is no absolute path. The path `/` has no segments.
pub(super) fn split(path: &str) -> Result<Option<Vec<String>>, PathError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Ok(None);
    };
    if rest.is_empty() {
        return Ok(Some(Vec::new()));
    }
    rest.split('/')
        .map(percent_decode)
        .collect::<Result<_, _>>()
        .map(Some)
}

/// What stands in place of the placeholders, in order; none when the path is another one.
pub(super) fn capture(route: &[Segment], path: &[String]) -> Option<Vec<String>> {
    let mut captures = Vec::new();
    let mut rest = path;
    for segment in route {
        if matches!(segment, Segment::Rest(_)) {
            captures.push(rest.join("/"));
            return Some(captures);
        }
        let (first, others) = rest.split_first()?;
        match segment {
            Segment::Literal(text) if text == first => {}
            Segment::Literal(_) => return None,
            Segment::Any(_) if first.is_empty() => return None,
            Segment::Any(_) | Segment::Rest(_) => captures.push(first.clone()),
        }
        rest = others;
    }
    rest.is_empty().then_some(captures)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn paths_are_split_and_decoded() {
        assert_eq!(split("/"), Ok(Some(vec![])));
        assert_eq!(split("*"), Ok(None));
        assert_eq!(split(""), Ok(None));
        assert_eq!(
            split("/a//b/"),
            Ok(Some(["a", "", "b", ""].map(str::to_owned).into()))
        );
        assert_eq!(
            split("/a%2Fb/%C3%A4"),
            Ok(Some(["a/b", "ä"].map(str::to_owned).into()))
        );
        for bad in ["/%", "/%2", "/%zz", "/%+1", "/a%2"] {
            assert_eq!(split(bad), Err(PathError::Escape), "{bad}");
        }
        assert_eq!(split("/%ff"), Err(PathError::Utf8));
    }

    #[test]
    fn the_most_exact_route_comes_first() {
        let mut routes = [
            vec![Segment::Rest("topic")],
            vec![literal("a"), Segment::Any("id")],
            vec![Segment::Any("type"), literal("b")],
            vec![literal("a"), literal("b")],
        ];
        routes.sort();
        let path = ["a", "b"].map(str::to_owned);
        let shown: Vec<String> = routes.iter().map(|route| show(route)).collect();
        assert_eq!(shown, ["/a/b", "/a/{id}", "/{type}/b", "/{topic}"]);
        let captured: Vec<_> = routes.iter().map(|route| capture(route, &path)).collect();
        let some = |text: &str| Some(vec![text.to_owned()]);
        assert_eq!(captured, [Some(vec![]), some("b"), some("a"), some("a/b")]);
    }

    #[test]
    fn a_placeholder_is_never_empty_and_the_length_counts() {
        let route = [literal("a"), Segment::Any("id")];
        for other in [&["a"][..], &["a", ""], &["a", "b", ""], &["b", "b"], &[]] {
            let path: Vec<String> = other.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(capture(&route, &path), None, "{other:?}");
        }
        assert_eq!(capture(&[], &[]), Some(vec![]));
    }

    #[test]
    fn placeholders_of_any_name_are_alike() {
        assert!(alike(
            &[literal("a"), Segment::Any("id")],
            &[literal("a"), Segment::Any("type")]
        ));
        assert!(!alike(
            &[literal("a"), Segment::Any("id")],
            &[literal("a"), literal("id")]
        ));
        assert!(!alike(&[literal("a")], &[literal("a"), literal("b")]));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in "\\PC{0,20}") {
            let encoded = percent_encode(&text);
            prop_assert!(encoded.is_ascii() && !encoded.contains('/'));
            prop_assert_eq!(percent_decode(&encoded), Ok(text));
        }

        #[test]
        fn no_path_panics(text in "[/%a-f0-9\\PC]{0,40}") {
            let _ = split(&text);
        }
    }
}
