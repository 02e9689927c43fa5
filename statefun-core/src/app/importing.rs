//! `APP import`: lines of JSON become the state of functions.

use std::io::{BufReader, Write};
use std::path::PathBuf;

use super::{Stop, not_run, told};
use crate::inspect::{ImportError, ImportOptions, Imported};
use crate::logging::is_watched;
use crate::runtime::{ImportRunError, Launch};

/// What is imported, and how.
#[derive(Debug, Default)]
pub(super) struct Import {
    /// None before it was met.
    pub(super) file: Option<PathBuf>,
    pub(super) options: ImportOptions,
}

impl Import {
    pub(super) fn follow(
        &self,
        launch: Launch,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Imported, Stop> {
        let file = self.file.as_deref().unwrap_or("-".as_ref());
        let watched = is_watched();
        let mut progress = |lines: u64| {
            if watched {
                let _ = write!(std::io::stderr(), "\r\u{1b}[K{lines} lines read");
            }
        };
        let imported = if file == std::path::Path::new("-") {
            let mut input = std::io::stdin().lock();
            launch.import(runtime, &mut input, self.options, &mut progress)
        } else {
            let input = std::fs::File::open(file)
                .map_err(|error| Stop::Input(format!("cannot open {}: {error}", file.display())))?;
            launch.import(
                runtime,
                &mut BufReader::new(input),
                self.options,
                &mut progress,
            )
        };
        if watched {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
        imported.map_err(|error| match &error {
            ImportRunError::Run(error) => not_run(error),
            ImportRunError::Import(ImportError::Findings { .. }) => Stop::Input(format!(
                "nothing was imported: {} is wrong\n{error}",
                file.display()
            )),
            ImportRunError::Import(_) | ImportRunError::Offline(_) => Stop::Failed(told(&error)),
        })
    }
}

/// What a person sees when the import is done.
pub(super) fn said(imported: &Imported, dry_run: bool, data_dir: &std::path::Path) -> String {
    let (did, into) = if dry_run {
        ("all lines are right: they would give", "would be")
    } else {
        ("imported:", "are")
    };
    let replaced = match imported.replaced {
        0 => String::new(),
        some => format!(", {some} of which had state before"),
    };
    format!(
        "{did} {} address{} with {} rows{replaced}; they {into} in {}",
        imported.addresses,
        if imported.addresses == 1 { "" } else { "es" },
        imported.rows,
        data_dir.display()
    )
}
