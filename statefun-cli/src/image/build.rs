//! The release build for an image: its own target directory, no symbols, no paths of this machine.

use std::path::{Path, PathBuf};

use super::labels::SOURCE_DATE_EPOCH;
use super::target::{Compiler, Libc, Target};
use crate::cargo::{BuildEnd, Diagnostic, Package, cargo};
use crate::status::Failure;
use crate::terminal::Terminal;

/// How a build for an image ended.
#[derive(Debug)]
pub(crate) enum End {
    /// There is a program.
    Built(PathBuf),
    /// The code of the application has errors.
    WrongCode,
    /// The application has an allocator of its own, so that it cannot have ours.
    OwnAllocator,
    /// Something else failed: the linker, the C compiler, a build script. For another target it may not.
    Failed,
}

/// A build that is about to be done.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    pub(crate) package: &'a Package,
    pub(crate) compiler: &'a Compiler,
    pub(crate) target: &'a Target,
    /// Cargo features, as `statefun/allocator`.
    pub(crate) features: &'a [String],
    /// Directories of crates outside of the workspace.
    pub(crate) elsewhere: &'a [PathBuf],
}

impl Build<'_> {
    /// Builds. Cargo's own output goes to standard error as it comes.
    pub(crate) fn run(&self, terminal: &Terminal) -> Result<End, Failure> {
        let (mut wrong_code, mut own_allocator) = (false, false);
        let mut said = |package: &str, diagnostic: Diagnostic| {
            if diagnostic.level == "error" && is_of_allocators(&diagnostic.message) {
                own_allocator = true;
                return;
            }
            wrong_code |= is_of_code(package, &diagnostic);
            if let Some(rendered) = &diagnostic.rendered {
                // In place of cargo's progress, which it draws again.
                terminal.progress("");
                terminal.note_text(rendered);
            }
        };
        let format = if terminal.is_coloured() {
            "json-diagnostic-rendered-ansi"
        } else {
            "json"
        };
        let mut command = cargo();
        command
            .args(["build", "--release", "--message-format", format])
            .args(["--target", &self.target.triple])
            .args(["--package", &self.package.id()])
            .arg("--target-dir")
            .arg(self.package.target_directory.join("image"))
            // What is compiled in is the program alone. The rest of the profile is the application's.
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        if !self.features.is_empty() {
            command.args(["--features", &self.features.join(",")]);
        }
        let remaps = self.remaps();
        let flags: Vec<String> = remaps
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={from}={to}"))
            .collect();
        if let Some((variable, theirs)) = flags_of_environment() {
            // Cargo reads flags from one place only: ours go where theirs are.
            let mut all = theirs;
            all.extend(flags);
            command.env_remove(variable);
            command.env("CARGO_ENCODED_RUSTFLAGS", all.join("\u{1f}"));
        } else {
            let list = toml::Value::from(flags);
            command.arg("--config");
            command.arg(format!("target.{}.rustflags={list}", self.target.triple));
        }
        let underscored = self.target.triple.replace('-', "_");
        for language in ["CFLAGS", "CXXFLAGS"] {
            let variable = format!("{language}_{underscored}");
            let mut words: Vec<String> = [&variable, language]
                .iter()
                .find_map(|name| std::env::var(name).ok())
                .into_iter()
                .collect();
            words.extend(
                remaps
                    .iter()
                    .filter(|(from, _)| !from.contains(char::is_whitespace))
                    .map(|(from, to)| format!("-ffile-prefix-map={from}={to}")),
            );
            command.env(variable, words.join(" "));
        }
        if std::env::var_os(SOURCE_DATE_EPOCH).is_none() {
            // C code may have the time in it at which it was compiled, as mimalloc has; compilers take it from here.
            command.env(SOURCE_DATE_EPOCH, "0");
        }
        if let Some(compiler) = &self.target.c_compiler {
            command.env(format!("CC_{underscored}"), compiler);
        }
        Ok(match self.package.build_with(command, &mut said)? {
            BuildEnd::Built(built) => End::Built(built.executable),
            BuildEnd::Failed if own_allocator && !self.features.is_empty() => End::OwnAllocator,
            BuildEnd::Failed if wrong_code => End::WrongCode,
            BuildEnd::Failed => End::Failed,
        })
    }

    /// Directories of this machine, and what stands for them in the binary. The last one that fits counts.
    fn remaps(&self) -> Vec<(String, String)> {
        let mut remaps = Vec::new();
        let mut add = |from: &Path, to: String| {
            if let Some(from) = from.to_str().filter(|from| !from.contains('=')) {
                remaps.push((from.to_owned(), to));
            }
        };
        if let Some(home) = cargo_home() {
            add(&home, "/cargo".to_owned());
        }
        let standard_library = self.compiler.sysroot.join("lib/rustlib/src/rust");
        add(
            &standard_library,
            format!("/rustc/{}", self.compiler.commit),
        );
        add(&self.package.workspace_root, "/src".to_owned());
        for directory in self.elsewhere {
            let name = directory.file_name().unwrap_or_default().to_string_lossy();
            add(directory, format!("/elsewhere/{name}"));
        }
        add(&self.package.target_directory, "/target".to_owned());
        remaps
    }
}

/// Whether it is a mistake in the code of the application. What is wrong with the crates of others, or with linking, may be fine
/// for another target.
fn is_of_code(package: &str, diagnostic: &Diagnostic) -> bool {
    let message = &diagnostic.message;
    let of_linker = [
        "linking with",
        "linker ",
        "could not find native",
        "aborting due to",
    ]
    .iter()
    .any(|beginning| message.starts_with(beginning));
    diagnostic.level == "error" && package.starts_with("path+") && !of_linker
}

/// Whether two crates set an allocator.
fn is_of_allocators(message: &str) -> bool {
    message.contains("conflicts with global allocator")
}

/// The flags for rustc that the environment has, and where.
fn flags_of_environment() -> Option<(&'static str, Vec<String>)> {
    let separated = |name: &'static str, separator: char| {
        let text = std::env::var(name).ok()?;
        let words = text.split(separator).filter(|word| !word.is_empty());
        Some((name, words.map(str::to_owned).collect()))
    };
    separated("CARGO_ENCODED_RUSTFLAGS", '\u{1f}').or_else(|| separated("RUSTFLAGS", ' '))
}

fn cargo_home() -> Option<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
}

/// The name under which statefun-core's allocator is turned on, where that is wanted: musl's own has one lock for all threads.
pub(crate) fn allocator(package: &Package, libc: Libc, wanted: bool) -> Option<String> {
    let allowed = package
        .about
        .metadata
        .pointer("/statefun/image/allocator")
        .and_then(serde_json::Value::as_bool)
        .unwrap_or(true);
    if libc != Libc::Musl || !wanted || !allowed {
        return None;
    }
    let core = package.about.name_of("statefun-core")?;
    Some(format!("{core}/allocator"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_the_code_are_told_from_those_of_the_target() {
        let of_code = |package: &str, level: &str, message: &str| {
            let diagnostic = Diagnostic {
                rendered: None,
                message: message.to_owned(),
                level: level.to_owned(),
            };
            is_of_code(package, &diagnostic)
        };
        let (own, other) = ("path+file:///shop#0.1.0", "registry+https://x#libx@1.0.0");
        assert!(of_code(own, "error", "cannot find value `x` in this scope"));
        assert!(!of_code(own, "warning", "unused variable"));
        assert!(!of_code(
            own,
            "error",
            "linking with `cc` failed: exit status: 1"
        ));
        assert!(!of_code(
            other,
            "error",
            "cannot find function `gnu_only` in crate `libc`"
        ));
    }

    #[test]
    fn the_allocator_is_for_musl_unless_the_application_says_no() {
        let package = |metadata: &str| {
            let about = format!(
                r#"{{"version": "1.0.0", "metadata": {metadata}, "dependencies":
                    [{{"name": "statefun-core", "rename": "statefun", "kind": null}}]}}"#
            );
            Package::made_up(serde_json::from_str(&about).unwrap())
        };
        let ours = Some("statefun/allocator".to_owned());
        assert_eq!(allocator(&package("null"), Libc::Musl, true), ours);
        assert_eq!(allocator(&package("null"), Libc::Musl, false), None);
        assert_eq!(allocator(&package("null"), Libc::Glibc, true), None);
        let no = r#"{"statefun": {"image": {"allocator": false}}}"#;
        assert_eq!(allocator(&package(no), Libc::Musl, true), None);
    }
}
