//! `statefun run`: checks module.yaml, builds the application, starts it, and passes signals on.

mod process;
mod watch;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use statefun_core::module::render::{Format, render};

use super::validate::yaml_findings;
use crate::args::Run;
use crate::cargo::{BuildEnd, Package};
use crate::client::block_on;
use crate::project::Project;
use crate::status::{Failure, Outcome, Status};
use crate::terminal::Terminal;

pub(crate) use process::code_of;
use process::{Application, Signals};

pub(crate) fn run(args: &Run, terminal: &Terminal) -> Outcome {
    let project = Project::find(&args.project)?;
    let Some(package) = project.package.clone() else {
        return Err(Failure::usage("there is no Cargo.toml here or above").help(
            "`statefun new NAME` makes an application; `--manifest-path PATH` names one elsewhere",
        ));
    };
    let runner = Runner {
        arguments: arguments(args, &project)?,
        args,
        package,
        terminal,
        root: project.root,
    };
    if args.watch {
        return block_on(watch::run(&runner))?;
    }
    match runner.prepare()? {
        Some(executable) => block_on(runner.once(&executable))?,
        None => Ok(Status::WrongInput),
    }
}

/// All that it takes to start the application, again and again.
struct Runner<'a> {
    args: &'a Run,
    package: Package,
    root: PathBuf,
    arguments: Vec<OsString>,
    terminal: &'a Terminal,
}

impl Runner<'_> {
    /// Checks what can be checked without the code, and builds. None when something is wrong, which has been said.
    fn prepare(&self) -> Result<Option<PathBuf>, Failure> {
        // Files may come and go between two starts.
        let project = Project {
            root: self.root.clone(),
            package: None,
            modules: crate::project::module_files(&self.root, &self.args.project.modules)?,
        };
        let (wiring, loaded) = project.load();
        let findings = yaml_findings(&wiring, &loaded);
        if findings.has_errors() {
            // The application itself shows mere warnings, with all that its code says.
            let reports = Format::Human(self.terminal.note_options());
            self.terminal
                .note_text(&render(&findings, wiring.sources(), reports));
            return Ok(None);
        }
        Ok(match self.package.build(self.args.release)? {
            BuildEnd::Built(built) => Some(built.executable),
            BuildEnd::Failed => None,
        })
    }

    fn start(&self, executable: &Path) -> Result<Application, Failure> {
        Application::start(
            executable,
            &self.arguments,
            crate::project::directory(&self.root),
        )
    }

    async fn once(&self, executable: &Path) -> Outcome {
        let mut signals = Signals::listen()?;
        let mut application = self.start(executable)?;
        loop {
            tokio::select! {
                ended = application.ended() => {
                    let status = ended?;
                    if let Some(signal) = status.signal() {
                        self.terminal.note(format_args!(
                            "{} signal {signal} ended the application; its next start goes on where it was",
                            self.terminal.strong("statefun:")
                        ));
                    }
                    return Ok(Status::Application(code_of(status)));
                }
                signal = signals.next() => application.pass_on(signal),
            }
        }
    }
}

/// The application's arguments. It runs in its own directory, so paths are made absolute where that is another one.
fn arguments(args: &Run, project: &Project) -> Result<Vec<OsString>, Failure> {
    let elsewhere = !project.root.as_os_str().is_empty();
    let path = |path: &Path| {
        if elsewhere {
            std::path::absolute(path)
                .map(PathBuf::into_os_string)
                .map_err(|error| {
                    Failure::usage(format_args!("cannot resolve {}: {error}", path.display()))
                })
        } else {
            Ok(path.as_os_str().to_owned())
        }
    };
    let mut all: Vec<OsString> = vec!["run".into()];
    if let Some(data_dir) = &args.data_dir {
        all.extend(["--data-dir".into(), path(data_dir)?]);
    }
    if let Some(workers) = args.workers {
        all.extend(["--workers".into(), workers.to_string().into()]);
    }
    if let Some(restore) = &args.restore {
        all.extend(["--restore".into(), restore.into()]);
    }
    if args.replace {
        all.push("--replace".into());
    }
    for module in &args.project.modules {
        all.extend(["--module".into(), path(module)?]);
    }
    all.extend(args.arguments.iter().cloned());
    Ok(all)
}
