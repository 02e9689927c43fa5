//! What is said of an image, as labels of its configuration and annotations of its manifest.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use oci_spec::image::{
    ANNOTATION_CREATED, ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REVISION,
    ANNOTATION_SOURCE, ANNOTATION_TITLE, ANNOTATION_VERSION,
};
use statefun_core::module::description::Description;

use crate::cargo::Package;
use crate::status::Failure;

const CORE_VERSION: &str = "io.statefun.core.version";
const FUNCTIONS: &str = "io.statefun.functions";
/// Seconds since 1970 that a build is to state as its time: <https://reproducible-builds.org/specs/source-date-epoch/>.
pub(super) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Labels, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(BTreeMap<String, String>);

impl Labels {
    /// What Cargo.toml, the code and git say.
    pub(crate) fn of(
        package: &Package,
        described: &Description,
        revision: Option<&Revision>,
        created: Option<&str>,
    ) -> Self {
        let about = &package.about;
        let functions: Vec<&str> = described
            .functions
            .iter()
            .map(|function| function.typename.as_str())
            .collect();
        let mut labels = Self::default();
        labels.set(ANNOTATION_TITLE, Some(&package.name));
        labels.set(ANNOTATION_VERSION, Some(&about.version));
        labels.set(ANNOTATION_DESCRIPTION, about.description.as_deref());
        labels.set(ANNOTATION_LICENSES, about.license.as_deref());
        labels.set(ANNOTATION_SOURCE, about.repository.as_deref());
        labels.set(
            ANNOTATION_REVISION,
            revision.map(|revision| revision.name.as_str()),
        );
        labels.set(ANNOTATION_CREATED, created);
        labels.set(CORE_VERSION, Some(&described.core_version));
        labels.set(FUNCTIONS, Some(&functions.join(",")));
        labels
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.0.insert(name.to_owned(), value.to_owned());
        }
    }

    pub(crate) fn to_map(&self) -> HashMap<String, String> {
        self.0.clone().into_iter().collect()
    }
}

/// What git knows of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The commit, with `-dirty` behind it when files are not as it has them.
    pub(crate) name: String,
    /// When it was made, in seconds since 1970.
    seconds: u64,
}

impl Revision {
    /// The commit of a directory, if it is in a repository that has one.
    pub(crate) fn of(directory: &Path) -> Option<Self> {
        let said = git(directory, &["log", "-1", "--format=%H %ct"])?;
        let (commit, seconds) = said.trim().split_once(' ')?;
        // Files that git does not know may be what an earlier build wrote.
        let changed = git(
            directory,
            &["status", "--porcelain", "--untracked-files=no"],
        )?;
        let dirty = if changed.trim().is_empty() {
            ""
        } else {
            "-dirty"
        };
        Some(Self {
            name: format!("{commit}{dirty}"),
            seconds: seconds.parse().ok()?,
        })
    }
}

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

/// The time that an image states, as RFC 3339: `SOURCE_DATE_EPOCH`, or that of the commit. The time of the build would make
/// each build another image.
pub(crate) fn created(revision: Option<&Revision>) -> Result<Option<String>, Failure> {
    let given = std::env::var(SOURCE_DATE_EPOCH).ok();
    let seconds = match given.as_deref().filter(|given| !given.is_empty()) {
        Some(text) => Some(text.parse().map_err(|_| not_a_time(text))?),
        None => revision.map(|revision| revision.seconds),
    };
    match seconds {
        None => Ok(None),
        Some(seconds) => SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .filter(|_| seconds <= LATEST)
            .map(|time| Some(humantime::format_rfc3339_seconds(time).to_string()))
            .ok_or_else(|| not_a_time(&seconds.to_string())),
    }
}

/// The last second of the year 9999, which is as far as RFC 3339 goes.
const LATEST: u64 = 253_402_300_799;

fn not_a_time(text: &str) -> Failure {
    Failure::usage(format_args!("{SOURCE_DATE_EPOCH}={text} is no time"))
        .help("give it seconds since 1970, as in `SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)`")
}
