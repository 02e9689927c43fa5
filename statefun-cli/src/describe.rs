//! Asking an application what it consists of, and remembering the answer.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use statefun_core::module::description::{DESCRIPTION_VERSION, Description};

use crate::cargo::{BuildEnd, Package};
use crate::image::LISTEN_HOST;
use crate::image::wiring::EVERYWHERE;
use crate::project::Project;
use crate::status::Failure;
use crate::terminal::Terminal;

/// Longest time that an application may take to describe itself. It only prints what was compiled in.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every layout of a description has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    version: Option<u32>,
    core_version: String,
}

/// What is known of an application's code.
#[derive(Debug)]
pub(crate) enum Code {
    /// What it says of itself.
    Described(Box<Description>),
    /// It could not be built; cargo has said why.
    BuildFailed,
    /// There is no crate.
    Absent,
}

impl Code {
    /// Builds the application and asks it, or takes its last answer.
    pub(crate) fn ask(
        project: &Project,
        no_build: bool,
        terminal: &Terminal,
    ) -> Result<Self, Failure> {
        let Some(package) = &project.package else {
            return Ok(Self::Absent);
        };
        if no_build {
            return remembered(project, package, terminal)
                .map(|found| Self::Described(Box::new(found)));
        }
        match package.build(false)? {
            BuildEnd::Failed => Ok(Self::BuildFailed),
            BuildEnd::Built(built) => {
                let (text, description) = ask(&built.executable, project.directory(), &[])?;
                remember(package, &text, terminal);
                Ok(Self::Described(Box::new(description)))
            }
        }
    }
}

/// Asks the program of an image, with the environment that an image has.
pub(crate) fn of_image(executable: &Path, directory: &Path) -> Result<Description, Failure> {
    ask(executable, directory, &[(LISTEN_HOST, EVERYWHERE)]).map(|(_, description)| description)
}

fn ask(
    executable: &Path,
    directory: &Path,
    environment: &[(&str, &str)],
) -> Result<(String, Description), Failure> {
    let text = describe(executable, directory, environment)?;
    let description = read(&text).map_err(|problem| unreadable(executable, &text, &problem))?;
    Ok((text, description))
}

/// Where the last answer of a package is kept.
fn memory(package: &Package) -> PathBuf {
    package
        .target_directory
        .join("statefun")
        .join(&package.name)
        .join("description.json")
}

fn remember(package: &Package, text: &str, terminal: &Terminal) {
    let path = memory(package);
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| {
            let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, &path)
        });
    if let Err(error) = written {
        terminal.warning(format_args!(
            "cannot keep the answer for `--no-build` in {}: {error}",
            path.display()
        ));
    }
}

fn remembered(
    project: &Project,
    package: &Package,
    terminal: &Terminal,
) -> Result<Description, Failure> {
    let path = memory(package);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::usage(format_args!(
            "there is no earlier answer of the application: {}: {error}",
            path.display()
        ))
        .help("run it once without `--no-build`")
    })?;
    let description = read(&text).map_err(|problem| {
        Failure::usage(format_args!("{} is damaged: {problem}", path.display()))
            .help("run it once without `--no-build`")
    })?;
    let answered = modified(&path);
    if newest_source(&project.root).is_some_and(|(_, changed)| Some(changed) > answered) {
        terminal.warning("the code has changed since the application was last asked; without `--no-build` it is asked again");
    }
    Ok(description)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}

/// The source file that changed last, and when.
pub(crate) fn newest_source(root: &Path) -> Option<(PathBuf, SystemTime)> {
    let mut newest = None;
    let mut directories = vec![root.join("src")];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // Links are not followed: they may lead in circles.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
            } else if let Some(changed) = modified(&path)
                && newest.as_ref().is_none_or(|(_, known)| changed > *known)
            {
                newest = Some((path, changed));
            }
        }
    }
    newest
}

/// Reads a description. One in another layout comes back with nothing but its versions, which the checks report.
fn read(text: &str) -> Result<Description, String> {
    let head: Head = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match head.version {
        Some(DESCRIPTION_VERSION) => serde_json::from_str(text).map_err(|error| error.to_string()),
        Some(version) => Ok(Description {
            version,
            core_version: head.core_version,
            ..Description::default()
        }),
        None => Err("it has no `version`".to_owned()),
    }
}

fn describe(
    executable: &Path,
    directory: &Path,
    environment: &[(&str, &str)],
) -> Result<String, Failure> {
    let failed = |problem: std::fmt::Arguments<'_>| {
        Failure::usage(format_args!(
            "{} could not be asked what it consists of: {problem}",
            executable.display()
        ))
        .help("its main function must be `fn main() -> statefun::Exit { statefun::main() }`")
    };
    let mut child = Command::new(executable)
        .arg("describe")
        .current_dir(directory)
        // It is the project's wiring that is meant.
        .env_remove("STATEFUN_HOME")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format_args!("{error}")))?;
    let answer = read_to_end(&mut child);
    let Ok(answer) = answer.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        let _ = child.wait();
        let seconds = PATIENCE.as_secs();
        return Err(failed(format_args!("it did not answer within {seconds} s")));
    };
    let status = child
        .wait()
        .map_err(|error| failed(format_args!("{error}")))?;
    let answer = answer.map_err(|error| failed(format_args!("{error}")))?;
    if status.success() {
        Ok(answer)
    } else {
        Err(failed(format_args!("`describe` ended with {status}")))
    }
}

/// Reads on a thread of its own, so that one can give up waiting.
fn read_to_end(child: &mut Child) -> mpsc::Receiver<std::io::Result<String>> {
    let (tell, told) = mpsc::sync_channel(1);
    let stdout = child.stdout.take();
    let reader = std::thread::Builder::new()
        .name("describe".to_owned())
        .spawn({
            let tell = tell.clone();
            move || {
                let mut text = String::new();
                let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut text));
                // Who gave up waiting needs no answer.
                let _ = tell.send(read.map(|_| text));
            }
        });
    if let Err(error) = reader {
        let _ = tell.send(Err(error));
    }
    told
}

fn unreadable(executable: &Path, text: &str, problem: &str) -> Failure {
    let beginning: String = text
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(60)
        .collect();
    let message = match beginning.trim() {
        "" => format!(
            "{} printed nothing when asked to `describe` itself",
            executable.display()
        ),
        beginning => format!(
            "{} does not describe itself: it printed `{beginning}` ({problem})",
            executable.display()
        ),
    };
    Failure::usage(message).help(
        "its main function must be `fn main() -> statefun::Exit { statefun::main() }`, and print nothing before that",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_of_this_layout_is_read_whole() {
        let mine = Description {
            version: DESCRIPTION_VERSION,
            egresses: vec!["a/b".to_owned()],
            ..Description::default()
        };
        let text = serde_json::to_string(&mine).unwrap();
        assert_eq!(read(&text), Ok(mine));
    }

    #[test]
    fn of_another_layout_only_the_versions_are_read() {
        let text = r#"{"version": 99, "core_version": "7.0.0", "functions": {"no": "list"}}"#;
        let theirs = Description {
            version: 99,
            core_version: "7.0.0".to_owned(),
            ..Description::default()
        };
        assert_eq!(read(text), Ok(theirs));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "hello",
            "[]",
            "{}",
            r#"{"version": "1"}"#,
            r#"{"version": 1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
