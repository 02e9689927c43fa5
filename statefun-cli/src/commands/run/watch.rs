//! `--watch`: rebuilds and restarts when files change. State stays, since it lies in the data directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use statefun_core::settings::SETTINGS_FILE;

use super::Runner;
use super::process::{Application, Signals, code_of};
use crate::status::{Failure, Outcome, Status};

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Editors and tools write several files; when nothing has changed for so long, they are done.
const SETTLE: Duration = Duration::from_millis(150);

/// When each file was written, and its length.
type Files = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// What a start depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Snapshot {
    /// What the program is built from.
    code: Files,
    /// What it reads when it starts.
    configuration: Files,
}

impl Snapshot {
    fn take(runner: &Runner<'_>) -> Self {
        let root = &runner.root;
        let mut code = Files::new();
        walk(&root.join("src"), &mut code);
        add(&root.join("build.rs"), &mut code);
        add(runner.package.manifest(), &mut code);
        let mut configuration = Files::new();
        add(&root.join(SETTINGS_FILE), &mut configuration);
        // A folder that cannot be read is reported when the modules are.
        for module in
            crate::project::module_files(root, &runner.args.project.modules).unwrap_or_default()
        {
            add(&module, &mut configuration);
        }
        Self {
            code,
            configuration,
        }
    }
}

fn add(path: &Path, files: &mut Files) {
    if let Ok(metadata) = std::fs::metadata(path) {
        files.insert(
            path.to_path_buf(),
            (metadata.modified().ok(), metadata.len()),
        );
    }
}

fn walk(folder: &Path, files: &mut Files) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        // Links to folders are not followed: they may lead in circles.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            _ => add(&entry.path(), files),
        }
    }
}

/// The application that runs, and what it was started with.
struct Running {
    application: Application,
    program: Option<(Option<SystemTime>, u64)>,
    configuration: Files,
}

fn stamp(executable: &Path) -> Option<(Option<SystemTime>, u64)> {
    std::fs::metadata(executable)
        .ok()
        .map(|metadata| (metadata.modified().ok(), metadata.len()))
}

fn start(runner: &Runner<'_>, executable: &Path, snapshot: &Snapshot) -> Result<Running, Failure> {
    let program = stamp(executable);
    let application = runner.start(executable)?;
    Ok(Running {
        application,
        program,
        configuration: snapshot.configuration.clone(),
    })
}

async fn ended(running: &mut Option<Running>) -> Result<std::process::ExitStatus, Failure> {
    match running {
        Some(running) => running.application.ended().await,
        None => std::future::pending().await,
    }
}

/// Runs until a signal comes.
pub(super) async fn run(runner: &Runner<'_>) -> Outcome {
    let say = |text: &str| {
        runner.terminal.note(format_args!(
            "{} {text}",
            runner.terminal.strong("statefun:")
        ));
    };
    // Before the build, so that what is written while it runs leads to another one.
    let mut seen = Snapshot::take(runner);
    let first = runner.prepare()?;
    let mut signals = Signals::listen()?;
    let mut running = if let Some(executable) = first {
        Some(start(runner, &executable, &seen)?)
    } else {
        say("waiting for a change");
        None
    };
    loop {
        tokio::select! {
            status = ended(&mut running) => {
                say(&format!("the application ended with code {}; waiting for a change", code_of(status?)));
                running = None;
            }
            signal = signals.next() => {
                let Some(mut running) = running else { return Ok(Status::Fine) };
                running.application.pass_on(signal);
                return Ok(Status::Application(code_of(running.application.ended().await?)));
            }
            () = tokio::time::sleep(LOOK) => {
                let now = settled(runner, &seen).await;
                if now != seen {
                    seen = now;
                    running = change(runner, running, &seen, &say).await?;
                }
            }
        }
    }
}

/// The files, as soon as nothing more is written.
async fn settled(runner: &Runner<'_>, seen: &Snapshot) -> Snapshot {
    let mut now = Snapshot::take(runner);
    while now != *seen {
        tokio::time::sleep(SETTLE).await;
        let later = Snapshot::take(runner);
        if later == now {
            break;
        }
        now = later;
    }
    now
}

/// Builds anew, and restarts when that makes a difference.
async fn change(
    runner: &Runner<'_>,
    running: Option<Running>,
    now: &Snapshot,
    say: &impl Fn(&str),
) -> Result<Option<Running>, Failure> {
    say("something changed");
    let Some(executable) = runner.prepare()? else {
        say(match running {
            Some(_) => "not restarted: what ran before goes on",
            None => "waiting for a change",
        });
        return Ok(running);
    };
    if let Some(old) = running {
        if old.program == stamp(&executable) && old.configuration == now.configuration {
            say("no difference: the application goes on");
            return Ok(Some(old));
        }
        say("restarting; state is kept");
        old.application.stop().await?;
    }
    start(runner, &executable, now).map(Some)
}
