//! What only the application's own code can do: its binary is built and called.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::ProjectArgs;
use crate::cargo::BuildEnd;
use crate::commands::run::code_of;
use crate::project::Project;
use crate::status::{Failure, Outcome, Status};

/// A call of the application that is being put together.
pub(super) struct Call {
    command: Command,
    executable: PathBuf,
}

impl Call {
    /// Builds the application, and begins a call of it; none when the code is wrong, which has been said then.
    pub(super) fn build(
        subcommand: &str,
        project: &ProjectArgs,
        release: bool,
    ) -> Result<Option<Self>, Failure> {
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
        let BuildEnd::Built(built) = package.build(release)? else {
            return Ok(None);
        };
        // A relative program would be looked for in the new working directory.
        let mut command = Command::new(absolute(&built.executable)?);
        command.current_dir(project.directory()).arg(subcommand);
        let mut call = Self {
            command,
            executable: built.executable,
        };
        for module in &modules {
            call.command.arg("--module").arg(absolute(module)?);
        }
        Ok(Some(call))
    }

    /// Adds an argument.
    pub(super) fn arg(&mut self, argument: impl Into<OsString>) {
        self.command.arg(argument.into());
    }

    /// Adds a path. The application runs in its own directory.
    pub(super) fn path(&mut self, path: &Path) -> Result<(), Failure> {
        self.command.arg(absolute(path)?);
        Ok(())
    }

    /// Sets a variable.
    pub(super) fn variable(&mut self, name: &str, value: &str) {
        self.command.env(name, value);
    }

    /// Runs it to its end. Ctrl-C goes to both.
    pub(super) fn run(mut self) -> Outcome {
        let status = self.command.status().map_err(|error| {
            Failure::usage(format_args!(
                "cannot start {}: {error}",
                self.executable.display()
            ))
        })?;
        Ok(Status::Application(code_of(status)))
    }
}

fn absolute(path: &Path) -> Result<OsString, Failure> {
    std::path::absolute(path)
        .map(PathBuf::into_os_string)
        .map_err(|error| Failure::usage(format_args!("cannot resolve {}: {error}", path.display())))
}
