//! What cargo is asked: which package this is, and to build it. Its own progress and errors go to standard error as they come.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::status::Failure;

/// The package of an application.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// What else its Cargo.toml says.
    pub(crate) about: About,
    /// Its Cargo.toml.
    manifest: PathBuf,
    /// Where Cargo.lock lies, and what paths of sources are relative to.
    pub(crate) workspace_root: PathBuf,
    /// Where cargo builds to.
    pub(crate) target_directory: PathBuf,
    /// The program that is the application.
    pub(crate) bin: String,
}

/// What a Cargo.toml says of its package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct About {
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    /// `[package.metadata]`.
    #[serde(default)]
    pub(crate) metadata: serde_json::Value,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A dependency as a Cargo.toml has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Dependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
}

impl About {
    /// The name that the package has for a crate which it depends on.
    pub(crate) fn name_of(&self, dependency: &str) -> Option<&str> {
        self.dependencies
            .iter()
            .find(|found| found.name == dependency && found.kind.is_none())
            .map(|found| found.rename.as_deref().unwrap_or(&found.name))
    }
}

/// A built program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    /// Its path.
    pub(crate) executable: PathBuf,
    /// Whether nothing had changed since it was built before.
    pub(crate) fresh: bool,
}

/// How a build ended.
#[derive(Debug)]
pub(crate) enum BuildEnd {
    /// There is a program.
    Built(Built),
    /// The code has errors, which cargo has printed.
    Failed,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    default_run: Option<String>,
    targets: Vec<Target>,
    #[serde(flatten)]
    about: About,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Target {
    fn is_program(&self) -> bool {
        self.kind.iter().any(|kind| kind == "bin")
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        target: Target,
        executable: Option<PathBuf>,
        fresh: bool,
    },
    #[serde(rename = "compiler-message")]
    Said {
        package_id: String,
        message: Diagnostic,
    },
    #[serde(other)]
    Other,
}

/// What the compiler says.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Diagnostic {
    /// As it is meant to be read.
    pub(crate) rendered: Option<String>,
    /// The first line.
    pub(crate) message: String,
    /// `error`, `warning`, …
    pub(crate) level: String,
}

/// A call of cargo.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

pub(crate) fn not_started(error: std::io::Error) -> Failure {
    Failure::usage(format_args!("cannot start cargo: {error}"))
        .help("install Rust from https://rustup.rs, or put cargo on the PATH")
}

impl Package {
    /// Asks cargo about a package; `bin` chooses one of several programs.
    pub(crate) fn read(manifest: &Path, bin: Option<&str>) -> Result<Self, Failure> {
        let output = cargo()
            .args([
                "metadata",
                "--no-deps",
                "--format-version",
                "1",
                "--manifest-path",
            ])
            .arg(manifest)
            .stdin(Stdio::null())
            .output()
            .map_err(not_started)?;
        if !output.status.success() {
            let problem = String::from_utf8_lossy(&output.stderr);
            let problem = problem.trim().trim_start_matches("error: ").to_owned();
            return Err(Failure::input(format_args!(
                "cargo cannot read {}: {problem}",
                manifest.display()
            )));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|error| {
            Failure::usage(format_args!(
                "`cargo metadata` answered something unknown: {error}"
            ))
        })?;
        let canonical = manifest.canonicalize().ok();
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.manifest_path.canonicalize().ok() == canonical);
        let package = package.ok_or_else(|| {
            Failure::usage(format_args!("{} is a workspace without a package", manifest.display()))
                .help("go into the application's directory, or name its Cargo.toml with `--manifest-path`")
        })?;
        let bin = program(&package, bin)?;
        Ok(Self {
            name: package.name,
            about: package.about,
            manifest: manifest.to_path_buf(),
            workspace_root: metadata.workspace_root,
            target_directory: metadata.target_directory,
            bin,
        })
    }

    /// Builds the program.
    pub(crate) fn build(&self, release: bool) -> Result<BuildEnd, Failure> {
        let mut command = cargo();
        command.args(["build", "--message-format", "json-render-diagnostics"]);
        if release {
            command.arg("--release");
        }
        self.build_with(command, &mut |_, _| {})
    }

    /// Builds the program with a command that lacks only what to build; what the compiler says in JSON goes to
    /// `said`, with the crate that it is about.
    pub(crate) fn build_with(
        &self,
        mut command: Command,
        said: &mut dyn FnMut(&str, Diagnostic),
    ) -> Result<BuildEnd, Failure> {
        command
            .args(["--bin", &self.bin])
            .arg("--manifest-path")
            .arg(&self.manifest)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(not_started)?;
        let mut built = None;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                let line = line.map_err(|error| {
                    Failure::usage(format_args!("cannot read what cargo says: {error}"))
                })?;
                // What is no message comes from build scripts' tools, and concerns nobody here.
                let Ok(message) = serde_json::from_str(&line) else {
                    continue;
                };
                match message {
                    Message::CompilerArtifact {
                        target,
                        executable: Some(executable),
                        fresh,
                    } if target.is_program() && target.name == self.bin => {
                        built = Some(Built { executable, fresh });
                    }
                    Message::Said {
                        package_id,
                        message,
                    } => said(&package_id, message),
                    Message::CompilerArtifact { .. } | Message::Other => {}
                }
            }
        }
        let status = child
            .wait()
            .map_err(|error| Failure::usage(format_args!("cannot wait for cargo: {error}")))?;
        match (status.success(), built) {
            (true, Some(built)) => Ok(BuildEnd::Built(built)),
            (true, None) => Err(Failure::usage(format_args!(
                "cargo built no program `{}`",
                self.bin
            ))),
            (false, _) => Ok(BuildEnd::Failed),
        }
    }

    /// What cargo calls it, in a workspace with several.
    pub(crate) fn id(&self) -> String {
        format!("{}@{}", self.name, self.about.version)
    }

    #[cfg(test)]
    pub(crate) fn made_up(about: About) -> Self {
        Self {
            name: "shop".to_owned(),
            about,
            manifest: PathBuf::new(),
            workspace_root: PathBuf::new(),
            target_directory: PathBuf::new(),
            bin: "shop".to_owned(),
        }
    }

    /// What a rebuild depends on, beside its sources: the manifest.
    pub(crate) fn manifest(&self) -> &Path {
        &self.manifest
    }
}

/// The program that is the application.
fn program(package: &MetadataPackage, wanted: Option<&str>) -> Result<String, Failure> {
    let programs: Vec<&str> = package
        .targets
        .iter()
        .filter(|target| target.is_program())
        .map(|target| target.name.as_str())
        .collect();
    let listed = programs.join("`, `");
    if let Some(wanted) = wanted {
        return match programs.contains(&wanted) {
            true => Ok(wanted.to_owned()),
            false if programs.is_empty() => Err(no_program(package)),
            false => Err(Failure::usage(format_args!(
                "package `{}` has no program `{wanted}`",
                package.name
            ))
            .help(format_args!("it has `{listed}`"))),
        };
    }
    match (programs.as_slice(), &package.default_run) {
        ([], _) => Err(no_program(package)),
        ([one], _) => Ok((*one).to_owned()),
        (_, Some(default)) => Ok(default.clone()),
        (_, None) => Err(Failure::usage(format_args!(
            "package `{}` has several programs: `{listed}`",
            package.name
        ))
        .help("choose one with `--bin NAME`, or set `default-run` in Cargo.toml")),
    }
}

fn no_program(package: &MetadataPackage) -> Failure {
    Failure::usage(format_args!("package `{}` is a library only", package.name)).help(
        "an application is a program: give it a src/main.rs with `fn main() -> statefun::Exit { statefun::main() }`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(programs: &[&str], default_run: Option<&str>) -> MetadataPackage {
        let target = |name: &&str| Target {
            name: (*name).to_owned(),
            kind: vec!["bin".to_owned()],
        };
        let mut targets: Vec<Target> = programs.iter().map(target).collect();
        targets.push(Target {
            name: "lib".to_owned(),
            kind: vec!["lib".to_owned()],
        });
        MetadataPackage {
            name: "shop".to_owned(),
            manifest_path: PathBuf::new(),
            default_run: default_run.map(str::to_owned),
            targets,
            about: About::default(),
        }
    }

    #[test]
    fn the_only_program_or_the_chosen_one_is_the_application() {
        let chosen = |programs: &[&str], default_run, wanted| {
            program(&package(programs, default_run), wanted).map_err(|failure| failure.message)
        };
        assert_eq!(chosen(&["a"], None, None), Ok("a".to_owned()));
        assert_eq!(chosen(&["a", "b"], Some("b"), None), Ok("b".to_owned()));
        assert_eq!(
            chosen(&["a", "b"], Some("b"), Some("a")),
            Ok("a".to_owned())
        );
        for (programs, wanted, problem) in [
            (&["a", "b"][..], None, "several programs: `a`, `b`"),
            (&["a"], Some("c"), "no program `c`"),
            (&[], None, "a library only"),
            (&[], Some("lib"), "a library only"),
        ] {
            let failed = chosen(programs, None, wanted).unwrap_err();
            assert!(failed.contains(problem), "{failed}");
        }
    }

    #[test]
    fn a_dependency_has_the_name_that_the_package_gives_it() {
        let about: About = serde_json::from_str(
            r#"{"version": "1.0.0", "dependencies": [
                {"name": "statefun-core", "rename": "dev", "kind": "dev"},
                {"name": "statefun-core", "rename": "statefun", "kind": null},
                {"name": "serde", "rename": null, "kind": null}]}"#,
        )
        .unwrap();
        assert_eq!(about.name_of("statefun-core"), Some("statefun"));
        assert_eq!(about.name_of("serde"), Some("serde"));
        assert_eq!(about.name_of("tokio"), None);
    }

    #[test]
    fn messages_of_later_cargos_are_passed_over() {
        for line in [
            r#"{"reason":"build-finished","success":true}"#,
            r#"{"reason":"something-new","of":{"any":["shape"]}}"#,
        ] {
            assert!(
                matches!(serde_json::from_str(line), Ok(Message::Other)),
                "{line}"
            );
        }
        let line = r#"{"reason":"compiler-artifact","package_id":"x","target":{"kind":["bin"],"name":"a","new":1},
            "executable":"/t/a","fresh":true}"#;
        assert!(matches!(
            serde_json::from_str(line),
            Ok(Message::CompilerArtifact { fresh: true, .. })
        ));
    }
}
