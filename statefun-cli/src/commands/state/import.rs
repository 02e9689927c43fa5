//! `statefun state import`: the application's binary does it, since it knows the types of its states.

use std::path::Path;

use super::application::Call;
use crate::args::ProjectArgs;
use crate::status::{Failure, Outcome, Status};

/// What is imported, and how.
pub(super) struct Options<'a> {
    pub(super) file: &'a Path,
    pub(super) data_dir: Option<&'a Path>,
    pub(super) replace: bool,
    pub(super) dry_run: bool,
    pub(super) release: bool,
}

pub(super) fn run(options: &Options<'_>, project: &ProjectArgs) -> Outcome {
    if options.file != Path::new("-") && !options.file.is_file() {
        return Err(Failure::input(format_args!(
            "there is no file {}",
            options.file.display()
        )));
    }
    let Some(mut call) = Call::build("import", project, options.release)? else {
        return Ok(Status::WrongInput);
    };
    if options.file == Path::new("-") {
        call.arg("-");
    } else {
        call.path(options.file)?;
    }
    if let Some(data_dir) = options.data_dir {
        call.arg("--data-dir");
        call.path(data_dir)?;
    }
    for (flag, given) in [
        ("--replace", options.replace),
        ("--dry-run", options.dry_run),
    ] {
        if given {
            call.arg(flag);
        }
    }
    call.run()
}
