//! Where checkpoints lie: a URL of a bucket in a cloud, or a directory.
//!
//! | URL | what it is | feature |
//! |---|---|---|
//! | `s3://bucket/prefix` | Amazon S3, or what speaks its protocol | `s3` |
//! | `gs://bucket/prefix` | Google Cloud Storage | `gcs` |
//! | `az://container/prefix`, `abfss://container@account.dfs.core.windows.net/prefix` | Azure Blob Storage | `azure` |
//! | `file:///path`, or a path | a directory | |
//!
//! No URL holds secrets: those come from the environment.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where checkpoints lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    url: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Directory(PathBuf),
    Cloud(CloudPlace),
}

/// A part of an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CloudPlace {
    pub(super) cloud: Cloud,
    pub(super) bucket: String,
    /// Without a `/` at either end.
    pub(super) prefix: String,
    /// Azure's, when the URL names it.
    pub(super) account: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cloud {
    S3,
    Gcs,
    Azure,
}

/// A text that is no URL for checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{url}` {problem}")]
pub struct LocationError {
    /// The text, without what may be a secret.
    pub url: String,
    /// What is wrong, and how to mend it.
    pub problem: String,
}

const SCHEMES: [(&str, Cloud); 7] = [
    ("s3", Cloud::S3),
    ("s3a", Cloud::S3),
    ("gs", Cloud::Gcs),
    ("gcs", Cloud::Gcs),
    ("az", Cloud::Azure),
    ("abfs", Cloud::Azure),
    ("abfss", Cloud::Azure),
];

impl Location {
    /// Reads a URL or a path. Whether it exists is not looked up.
    ///
    /// ```
    /// # use statefun_core::checkpoint::location::Location;
    /// assert_eq!(Location::parse("s3://shop/checkpoints/")?.url(), "s3://shop/checkpoints");
    /// assert!(Location::parse("s3://key:secret@shop/checkpoints").is_err());
    /// # Ok::<(), statefun_core::checkpoint::location::LocationError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let text = text.trim();
        let wrong = |problem: String| LocationError {
            url: without_secrets(text),
            problem,
        };
        if let Some((scheme, rest)) = text.split_once("://") {
            if scheme == "file" {
                return Self::file_url(text, rest).map_err(wrong);
            }
            let known = SCHEMES.iter().find(|(known, _)| *known == scheme);
            let Some((_, cloud)) = known else {
                return Err(wrong(format!(
                    "begins with `{scheme}://`, which names no store: it can be s3://, gs://, az://, abfss://, file:// \
                     or the path of a directory"
                )));
            };
            let place = CloudPlace::parse(*cloud, rest).map_err(wrong)?;
            let mut url = format!("{scheme}://{}", place.bucket);
            if let Some((_, host)) = authority(rest).split_once('@') {
                url = format!("{url}@{host}");
            }
            if !place.prefix.is_empty() {
                url = format!("{url}/{}", place.prefix);
            }
            return Ok(Self {
                url,
                place: Place::Cloud(place),
            });
        }
        Self::path(text).map_err(wrong)
    }

    /// As it is shown in messages: without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(path) => Some(path),
            Place::Cloud(_) => None,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn file_url(text: &str, rest: &str) -> Result<Self, String> {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err(
                "needs the whole path of a directory, with three slashes: file:///path".to_owned(),
            );
        }
        let path = percent_decoded(path)
            .ok_or("has a `%` that no two hexadecimal digits follow, or is not UTF-8")?;
        Ok(Self {
            url: text.to_owned(),
            place: Place::Directory(PathBuf::from(path)),
        })
    }

    fn path(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(
                "is empty: give a URL such as s3://bucket/prefix, or a directory".to_owned(),
            );
        }
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        if let Some(scheme) = scheme
            && (scheme == "file" || SCHEMES.iter().any(|(known, _)| *known == scheme))
        {
            return Err(format!("is no URL: after `{scheme}:` come two slashes"));
        }
        if text == "~" || text.starts_with("~/") {
            return Err(
                "begins with `~`, which only a shell knows: give the whole path".to_owned(),
            );
        }
        Ok(Self {
            url: text.to_owned(),
            place: Place::Directory(PathBuf::from(text)),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl CloudPlace {
    fn parse(cloud: Cloud, rest: &str) -> Result<Self, String> {
        if rest.contains(['?', '#']) {
            return Err(
                "has a part after `?` or `#`: settings stand under `checkpoint` in statefun.yaml, credentials in the \
                 environment"
                    .to_owned(),
            );
        }
        let authority = authority(rest);
        let path = rest[authority.len()..].trim_matches('/');
        let (bucket, account) = match authority.split_once('@') {
            None => (authority, None),
            Some((container, host)) if cloud == Cloud::Azure && !container.contains(':') => {
                (container, Some(account(host)?))
            }
            Some(_) => {
                return Err(format!(
                    "has something before `@`: credentials do not belong into a URL, they come from the environment ({})",
                    cloud.credentials()
                ));
            }
        };
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if bucket.is_empty() {
            return Err(format!("names no {}", cloud.bucket()));
        }
        if !bucket.chars().all(known) {
            return Err(format!(
                "names a {} `{bucket}`, which cannot be",
                cloud.bucket()
            ));
        }
        for part in path.split('/').filter(|_| !path.is_empty()) {
            let known =
                |c: char| known(c) || matches!(c, '=' | '+' | '@' | ',' | ':' | '!' | '(' | ')');
            if matches!(part, "" | "." | "..") || !part.chars().all(known) {
                return Err(format!(
                    "has a part `{part}` in its path, which not every store takes: use letters, digits and -_.=+@,:!()"
                ));
            }
        }
        Ok(Self {
            cloud,
            bucket: bucket.to_owned(),
            prefix: path.to_owned(),
            account,
        })
    }
}

impl Cloud {
    /// The feature that it needs.
    #[cfg(any(test, not(all(feature = "s3", feature = "gcs", feature = "azure"))))]
    pub(super) fn feature(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }

    /// What is called a bucket elsewhere.
    fn bucket(self) -> &'static str {
        match self {
            Self::S3 | Self::Gcs => "bucket",
            Self::Azure => "container",
        }
    }

    /// Where its users put credentials.
    pub(super) fn credentials(self) -> &'static str {
        match self {
            Self::S3 => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the instance",
            Self::Gcs => "GOOGLE_APPLICATION_CREDENTIALS, or the account of the instance",
            Self::Azure => {
                "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the \
                 identity of the instance"
            }
        }
    }
}

/// What stands before the path.
fn authority(rest: &str) -> &str {
    rest.split_once('/')
        .map_or(rest, |(authority, _)| authority)
}

/// The account in the name of its host.
fn account(host: &str) -> Result<String, String> {
    let known = [".dfs.core.windows.net", ".blob.core.windows.net"];
    let account = known.iter().find_map(|end| host.strip_suffix(end));
    match account {
        Some(account) if !account.is_empty() && !account.contains('.') => Ok(account.to_owned()),
        _ => Err(format!(
            "has `{host}` after `@`: write container@account.dfs.core.windows.net; other hosts stand under \
             `checkpoint.azure.endpoint`"
        )),
    }
}

/// The text without what stands before `@`, after `?` and after `#`.
fn without_secrets(text: &str) -> String {
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    match shown.split_once("://") {
        Some((scheme, rest)) if !text.starts_with("file:") => {
            let authority = authority(rest);
            match authority.rsplit_once('@') {
                Some((_, host)) => {
                    format!("{scheme}://…@{host}{}", &rest[authority.len()..])
                }
                None => shown.to_owned(),
            }
        }
        _ => text.to_owned(),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(text: &str) -> (Cloud, String, String, Option<String>) {
        match Location::parse(text).unwrap().place {
            Place::Cloud(place) => (place.cloud, place.bucket, place.prefix, place.account),
            Place::Directory(path) => panic!("a directory: {}", path.display()),
        }
    }

    #[test]
    fn urls_of_clouds_are_read() {
        let expected = |cloud, bucket: &str, prefix: &str, account: Option<&str>| {
            (
                cloud,
                bucket.to_owned(),
                prefix.to_owned(),
                account.map(str::to_owned),
            )
        };
        for (text, is) in [
            ("s3://shop", expected(Cloud::S3, "shop", "", None)),
            ("s3://shop/", expected(Cloud::S3, "shop", "", None)),
            ("s3a://shop/a/b/", expected(Cloud::S3, "shop", "a/b", None)),
            (
                "gs://shop.eu/a=1",
                expected(Cloud::Gcs, "shop.eu", "a=1", None),
            ),
            ("az://shop/a", expected(Cloud::Azure, "shop", "a", None)),
            (
                "abfss://shop@acme.dfs.core.windows.net/a",
                expected(Cloud::Azure, "shop", "a", Some("acme")),
            ),
        ] {
            assert_eq!(cloud(text), is, "{text}");
        }
    }

    #[test]
    fn directories_are_read() {
        for (text, path) in [
            ("file:///var/lib/a%20b", "/var/lib/a b"),
            ("file://localhost/var/lib", "/var/lib"),
            ("/var/lib", "/var/lib"),
            ("checkpoints", "checkpoints"),
            ("C:odd", "C:odd"),
        ] {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.directory(), Some(Path::new(path)), "{text}");
            assert_eq!(location.url(), text);
        }
    }

    #[test]
    fn a_url_is_shown_in_one_form() {
        for (text, url) in [
            ("s3://shop//a/", "s3://shop/a"),
            (" gs://shop ", "gs://shop"),
            (
                "abfss://shop@acme.dfs.core.windows.net/",
                "abfss://shop@acme.dfs.core.windows.net",
            ),
        ] {
            assert_eq!(Location::parse(text).unwrap().url(), url);
        }
    }

    #[test]
    fn what_is_no_location_is_told_without_secrets() {
        for (text, expected) in [
            ("", "is empty"),
            ("s3://", "names no bucket"),
            ("az:///a", "names no container"),
            ("s3:/shop/a", "two slashes"),
            ("http://shop/a", "begins with `http://`"),
            ("file://a/b", "file:///path"),
            ("file:///a%2", "hexadecimal"),
            ("~/checkpoints", "only a shell"),
            ("s3://key:topsecret@shop/a", "AWS_ACCESS_KEY_ID"),
            ("s3://shop/a?key=topsecret", "after `?`"),
            ("az://c:topsecret@acme.dfs.core.windows.net", "AZURE_"),
            ("az://c@acme.example.com", "checkpoint.azure.endpoint"),
            ("s3://shop/a/../b", "`..`"),
            ("s3://shop/a//b", "``"),
            ("s3://sh op/a", "`sh op`"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("topsecret"), "{error}");
        }
    }
}
