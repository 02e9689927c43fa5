//! `statefun state import`: the application's binary does it, since it knows the types of its states.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::ProjectArgs;
use crate::cargo::BuildEnd;
use crate::commands::run::code_of;
use crate::project::Project;
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
    let modules = project.modules.clone();
    let project = Project::find(project)?;
    let Some(package) = &project.package else {
        return Err(Failure::usage(
            "there is no Cargo.toml here or above: the application's code says what its states are",
        )
        .help(
            "go into the application's directory, or name its Cargo.toml with `--manifest-path`",
        ));
    };
    let BuildEnd::Built(built) = package.build(options.release)? else {
        return Ok(Status::WrongInput);
    };
    // The application runs in its own directory.
    let absolute = |path: &Path| -> Result<OsString, Failure> {
        std::path::absolute(path)
            .map(PathBuf::into_os_string)
            .map_err(|error| {
                Failure::usage(format_args!("cannot resolve {}: {error}", path.display()))
            })
    };
    // A relative program would be looked for in the new working directory.
    let mut command = Command::new(absolute(&built.executable)?);
    command.current_dir(project.directory()).arg("import");
    if options.file == Path::new("-") {
        command.arg("-");
    } else {
        command.arg(absolute(options.file)?);
    }
    if let Some(data_dir) = options.data_dir {
        command.arg("--data-dir").arg(absolute(data_dir)?);
    }
    for module in &modules {
        command.arg("--module").arg(absolute(module)?);
    }
    for (flag, given) in [
        ("--replace", options.replace),
        ("--dry-run", options.dry_run),
    ] {
        if given {
            command.arg(flag);
        }
    }
    // Ctrl-C goes to both.
    let status = command.status().map_err(|error| {
        Failure::usage(format_args!(
            "cannot start {}: {error}",
            built.executable.display()
        ))
    })?;
    Ok(Status::Application(code_of(status)))
}
