//! The release build for an image: its own target directory, no symbols, no paths of this machine.

use std::path::{Path, PathBuf};

use super::target::{Compiler, Libc, Target};
use crate::cargo::{BuildEnd, Diagnostic, Package, cargo};
use crate::status::Failure;
use crate::terminal::Terminal;

/// How a build for an image ended.
#[derive(Debug)]
pub(crate) enum End {
    /// There is a program.
    Built(PathBuf),
    /// The code has errors.
    WrongCode,
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
        let mut wrong_code = false;
        let mut said = |diagnostic: Diagnostic| {
            wrong_code |= diagnostic.level == "error" && !is_of_linker(&diagnostic.message);
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
        if let Some(compiler) = &self.target.c_compiler {
            command.env(format!("CC_{underscored}"), compiler);
        }
        Ok(match self.package.build_with(command, &mut said)? {
            BuildEnd::Built(built) => End::Built(built.executable),
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

/// What the linker's failure is called, in the words of rustc.
fn is_of_linker(message: &str) -> bool {
    message.starts_with("linking with")
        || message.starts_with("linker ")
        || message.starts_with("could not find native static library")
        || message.starts_with("aborting due to")
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
