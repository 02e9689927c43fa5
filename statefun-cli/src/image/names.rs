//! What an image may be called.

use super::reference::{MAX_NAME_BYTES, MAX_TAG_BYTES, is_part, is_tag};
use crate::status::Failure;

/// Checks a name: lower-case parts, separated by `/`.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    if name.len() <= MAX_NAME_BYTES && name.split('/').all(is_part) {
        return Ok(());
    }
    Err(Failure::usage(format_args!("`{name}` is no name of an image")).help(
        "it has lower-case letters and digits, with single `.`, `_` or `-` inside, as in `--name team/my-app`",
    ))
}

/// Checks a tag.
pub(crate) fn check_tag(tag: &str) -> Result<(), Failure> {
    if is_tag(tag) {
        return Ok(());
    }
    Err(
        Failure::usage(format_args!("`{tag}` is no tag of an image")).help(format_args!(
            "it has at most {MAX_TAG_BYTES} letters, digits, `_`, `.` and `-`, as in `--tag 1.2.0`"
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
        for bad in [
            "", "A", "a/", "/a", "-a", "a..b", "a:b", "a@b", "ä", "a b", "a___b",
        ] {
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
