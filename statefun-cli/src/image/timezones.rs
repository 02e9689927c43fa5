//! The time zones of the system, for programs that read them there.

use std::fs;
use std::path::Path;

use clap::ValueEnum;

use super::crates::Crates;
use super::tree::Tree;
use crate::status::Failure;

/// Whether an image gets time zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum TimeZones {
    /// When a crate of the application reads them.
    #[default]
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

const PLACE: &str = "/usr/share/zoneinfo";

/// What there is besides the zones: the same again under other names, with leap seconds, or of this machine alone.
const LEFT_OUT: [&str; 4] = ["posix", "right", "localtime", "posixrules"];

/// Adds them, if they are wanted. Returns whether, and why.
pub(crate) fn add(
    tree: &mut Tree,
    wanted: TimeZones,
    crates: &Crates,
) -> Result<Option<String>, Failure> {
    let reader = crates.reader_of_time_zones();
    let why = match (wanted, reader) {
        (TimeZones::No, _) | (TimeZones::Auto, None) => return Ok(None),
        (TimeZones::Yes, _) => "as wanted".to_owned(),
        (TimeZones::Auto, Some(reader)) => format!("`{reader}` reads them"),
    };
    if !Path::new(PLACE).join("UTC").is_file() {
        return Err(Failure::usage(format_args!(
            "the image is to have time zones ({why}), and {PLACE} has none"
        ))
        .help(
            "`apt-get install tzdata`, or `--timezones no` where the application can do without",
        ));
    }
    directory(tree, Path::new(PLACE), PLACE)
        .map_err(|(path, error)| Failure::usage(format_args!("cannot read {path}: {error}")))?;
    Ok(Some(why))
}

fn directory(tree: &mut Tree, from: &Path, to: &str) -> Result<(), (String, std::io::Error)> {
    let failed = |error| (from.display().to_string(), error);
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if to == PLACE && LEFT_OUT.contains(&&*name) {
            continue;
        }
        let path = entry.path();
        let place = format!("{to}/{name}");
        // Links are zones with a second name.
        if path.is_dir() {
            directory(tree, &path, &place)?;
        } else {
            let content = fs::read(&path).map_err(|error| (path.display().to_string(), error))?;
            tree.file(&place, content);
        }
    }
    Ok(())
}
