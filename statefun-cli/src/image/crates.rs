//! The crates that are linked into the program, as cargo resolves them for the target, with what Cargo.lock knows of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;

use serde::Deserialize;

use super::target::Target;
use crate::cargo::{Package, cargo, not_started};
use crate::status::Failure;

/// One crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) origin: Origin,
    pub(crate) features: Vec<String>,
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    /// SHA-256 of the archive that the registry has.
    pub(crate) checksum: Option<String>,
    /// The indices of the crates that it uses.
    pub(crate) uses: BTreeSet<usize>,
}

/// Where a crate comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// crates.io.
    CratesIo,
    /// A directory.
    Path(PathBuf),
    /// A git repository, or another registry.
    Other(String),
}

/// All of them; the application itself is the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Crates(pub(crate) Vec<Crate>);

impl Crates {
    /// Asks cargo.
    pub(crate) fn of(
        package: &Package,
        target: &Target,
        features: &[String],
    ) -> Result<Self, Failure> {
        let mut command = cargo();
        command
            .args([
                "tree",
                "--edges",
                "normal,no-proc-macro",
                "--prefix",
                "depth",
            ])
            .args(["--format", "{p}\t{f}\t{l}\t{r}\t", "--charset", "ascii"])
            .args(["--color", "never", "--target", &target.triple])
            .args(["--package", &package.id()])
            .arg("--manifest-path")
            .arg(package.manifest())
            .stdin(Stdio::null());
        if !features.is_empty() {
            command.args(["--features", &features.join(",")]);
        }
        let output = command.output().map_err(not_started)?;
        if !output.status.success() {
            let problem = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::input(format_args!(
                "cargo cannot say what the application consists of: {}",
                problem.trim().trim_start_matches("error: ")
            )));
        }
        let mut crates = read(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            Failure::usage("`cargo tree` answered something unknown; update cargo, or this command")
        })?;
        let lock = package.workspace_root.join("Cargo.lock");
        let text = std::fs::read_to_string(&lock).unwrap_or_default();
        crates.take_checksums(&text).map_err(|error| {
            Failure::input(format_args!("cannot read {}: {error}", lock.display()))
        })?;
        Ok(crates)
    }

    /// Directories of crates that do not lie in the workspace.
    pub(crate) fn elsewhere(&self, package: &Package) -> Vec<PathBuf> {
        let paths = self.0.iter().filter_map(|found| match &found.origin {
            Origin::Path(path) if !path.starts_with(&package.workspace_root) => Some(path.clone()),
            _ => None,
        });
        paths.collect()
    }

    /// The first crate that reads the system's time zones.
    pub(crate) fn reader_of_time_zones(&self) -> Option<&str> {
        const READERS: [&str; 5] = ["iana-time-zone", "jiff", "tz-rs", "tzfile", "localzone"];
        self.0
            .iter()
            .find(|found| {
                let local = |feature: &String| feature == "local-offset";
                READERS.contains(&found.name.as_str())
                    || (found.name == "time" && found.features.iter().any(local))
            })
            .map(|found| found.name.as_str())
    }

    fn take_checksums(&mut self, lock: &str) -> Result<(), toml::de::Error> {
        #[derive(Deserialize)]
        struct Lock {
            #[serde(default)]
            package: Vec<Locked>,
        }
        #[derive(Deserialize)]
        struct Locked {
            name: String,
            version: String,
            checksum: Option<String>,
        }
        let lock: Lock = toml::from_str(lock)?;
        let known: BTreeMap<(String, String), String> = lock
            .package
            .into_iter()
            .filter_map(|locked| Some(((locked.name, locked.version), locked.checksum?)))
            .collect();
        for found in &mut self.0 {
            if !matches!(found.origin, Origin::Path(_)) {
                let key = (found.name.clone(), found.version.clone());
                found.checksum = known.get(&key).cloned();
            }
        }
        Ok(())
    }
}

/// Reads what `cargo tree` prints: a crate that was there before comes again without what is below it.
fn read(text: &str) -> Option<Crates> {
    let mut crates: Vec<Crate> = Vec::new();
    let mut known: BTreeMap<(String, String, Origin), usize> = BTreeMap::new();
    let mut above: Vec<usize> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let digits = line.find(|c: char| !c.is_ascii_digit())?;
        let depth: usize = line[..digits].parse().ok()?;
        let mut fields = line[digits..].split('\t');
        let (name, version, origin) = identity(fields.next()?)?;
        let key = (name.clone(), version.clone(), origin.clone());
        let text = |field: Option<&str>| field.filter(|text| !text.is_empty()).map(str::to_owned);
        let features = fields.next()?.split(',').filter(|name| !name.is_empty());
        let found = Crate {
            name,
            version,
            origin,
            features: features.map(str::to_owned).collect(),
            license: text(fields.next()),
            repository: text(fields.next()),
            checksum: None,
            uses: BTreeSet::new(),
        };
        let index = *known.entry(key).or_insert_with(|| {
            crates.push(found);
            crates.len() - 1
        });
        above.truncate(depth);
        if depth != above.len() {
            return None;
        }
        if let Some(user) = above.last() {
            crates.get_mut(*user)?.uses.insert(index);
        }
        above.push(index);
    }
    (!crates.is_empty()).then_some(Crates(crates))
}

/// `name v1.0.0`, with where it comes from behind it in brackets where that is not crates.io.
fn identity(text: &str) -> Option<(String, String, Origin)> {
    let (name, rest) = text.split_once(" v")?;
    let (version, origin) = match rest.split_once(" (") {
        None => (rest, Origin::CratesIo),
        Some((version, place)) => {
            let place = place.split(") (").next()?.trim_end_matches(')');
            let origin = if place.starts_with('/') {
                Origin::Path(place.into())
            } else {
                Origin::Other(place.to_owned())
            };
            (version, origin)
        }
    };
    Some((name.to_owned(), version.to_owned(), origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0shop v0.1.0 (/home/ada/shop)\t\tMIT\t\t
1jiff v0.2.1\tstd\tUnlicense OR MIT\thttps://example.com/jiff\t
2memchr v2.7.0\t\tMIT\t\t
1own v0.1.0 (https://example.com/own?rev=1#abcdef)\ta,b\t\t\t
2memchr v2.7.0\t\tMIT\t\t (*)
";

    #[test]
    fn a_tree_becomes_a_graph() {
        let crates = read(TREE).unwrap();
        let shown: Vec<_> = crates
            .0
            .iter()
            .map(|found| {
                (
                    found.name.as_str(),
                    found.uses.iter().copied().collect::<Vec<_>>(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("shop", vec![1, 3]),
                ("jiff", vec![2]),
                ("memchr", vec![]),
                ("own", vec![2])
            ]
        );
        assert_eq!(crates.0[0].origin, Origin::Path("/home/ada/shop".into()));
        assert_eq!(crates.0[1].license.as_deref(), Some("Unlicense OR MIT"));
        assert_eq!(
            crates.0[3].origin,
            Origin::Other("https://example.com/own?rev=1#abcdef".to_owned())
        );
        assert_eq!(crates.0[3].features, ["a", "b"]);
        assert_eq!(crates.reader_of_time_zones(), Some("jiff"));
    }

    #[test]
    fn what_is_no_tree_is_none() {
        for text in ["", "shop v0.1.0", "1a v1.0.0\t\t\t\t", "0a\t\t\t\t"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn checksums_are_those_of_the_lock_file() {
        let mut crates = read(TREE).unwrap();
        let lock =
            "version = 4\n[[package]]\nname = \"jiff\"\nversion = \"0.2.1\"\nchecksum = \"ab12\"\n";
        crates.take_checksums(lock).unwrap();
        assert_eq!(crates.0[1].checksum.as_deref(), Some("ab12"));
        assert_eq!(crates.0[2].checksum, None);
    }
}
