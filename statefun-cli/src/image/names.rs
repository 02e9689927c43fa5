//! What an image may be called.

use crate::status::Failure;

/// Longest tag.
const MAX_TAG: usize = 128;

/// Checks a name: lower-case parts, separated by `/`.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let fine = name.split('/').all(|part| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let outside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.chars().all(inside)
            && part.starts_with(outside)
            && part.ends_with(outside)
            && !part.contains("..")
            && !part.contains("._")
            && !part.contains("_.")
    });
    if fine {
        return Ok(());
    }
    Err(Failure::usage(format_args!("`{name}` is no name of an image")).help(
        "it has lower-case letters and digits, with single `.`, `_` or `-` inside, as in `--name team/my-app`",
    ))
}

/// Checks a tag.
pub(crate) fn check_tag(tag: &str) -> Result<(), Failure> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if tag.len() <= MAX_TAG && tag.starts_with(first) && tag.chars().all(inside) {
        return Ok(());
    }
    Err(
        Failure::usage(format_args!("`{tag}` is no tag of an image")).help(format_args!(
            "it has at most {MAX_TAG} letters, digits, `_`, `.` and `-`, as in `--tag 1.2.0`"
        )),
    )
}

/// The name for a package: package names may have capitals and `_` where names of images may not.
pub(crate) fn name_of_package(package: &str) -> String {
    let lower = package.to_ascii_lowercase();
    lower.trim_matches(['_', '-']).to_owned()
}

/// The tag for a version, whose build metadata stands behind a `+`.
pub(crate) fn tag_of_version(version: &str) -> String {
    version.replace('+', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags() {
        for good in ["a", "my-app", "a__b", "team/my.app_2", "a--b"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a/", "/a", "-a", "a..b", "a:b", "a@b", "ä", "a b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        for good in ["latest", "1.0.0-rc.1", "_x"] {
            assert!(check_tag(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a+b", "a b", &"x".repeat(129)] {
            assert!(check_tag(bad).is_err(), "{bad}");
        }
        assert!(check_name(&name_of_package("My_App-")).is_ok());
        assert!(check_tag(&tag_of_version("1.0.0+build.5")).is_ok());
    }
}
