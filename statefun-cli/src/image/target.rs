//! What the binary is built for: this machine's processor, and musl or glibc.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use oci_spec::image::Arch;

use crate::status::Failure;

/// Which C library the binary is linked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LibcChoice {
    /// musl where that can be built here, else glibc.
    #[default]
    Auto,
    /// musl: one static binary.
    Musl,
    /// glibc, and in the image exactly the libraries that the binary needs.
    Glibc,
}

/// A C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Libc {
    Musl,
    Glibc,
}

/// The compiler of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    /// What it builds for by itself.
    host: String,
    /// The commit that its standard library was built from.
    pub(crate) commit: String,
    /// Where it is installed.
    pub(crate) sysroot: PathBuf,
    directory: PathBuf,
}

/// What is built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) triple: String,
    pub(crate) libc: Libc,
    /// The C compiler, where it is not the usual one.
    pub(crate) c_compiler: Option<String>,
    pub(crate) arch: Arch,
}

/// Why there can be no static binary, and how to mend that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub(crate) problem: String,
    pub(crate) mend: String,
}

impl Compiler {
    /// Asks rustc; in the application's directory, since that may choose a toolchain.
    pub(crate) fn ask(directory: &Path) -> Result<Self, Failure> {
        let asked = |arguments: &[&str]| rustc(directory, arguments);
        let version = asked(&["-vV"])?;
        let said = |name: &str| {
            let line = version.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        Ok(Self {
            host: said("host:"),
            commit: said("commit-hash:"),
            sysroot: asked(&["--print", "sysroot"])?.trim().into(),
            directory: directory.to_path_buf(),
        })
    }

    /// The target with a C library.
    pub(crate) fn target(&self, libc: Libc) -> Result<Target, Failure> {
        let (processor, arch) = match self.host.split('-').next() {
            Some("x86_64") => ("x86_64", Arch::Amd64),
            Some("aarch64") => ("aarch64", Arch::ARM64),
            _ => return Err(self.cannot("only for x86_64 and aarch64")),
        };
        if !self.host.contains("-linux-") {
            return Err(self.cannot("only on Linux"));
        }
        let (name, musl_host) = match libc {
            Libc::Musl => ("musl", self.host.ends_with("-musl")),
            Libc::Glibc => ("gnu", false),
        };
        let triple = format!("{processor}-unknown-linux-{name}");
        // Where everything is musl, the usual compiler is the right one.
        let c_compiler = (libc == Libc::Musl && !musl_host)
            .then(|| musl_compiler(&triple, processor))
            .flatten();
        Ok(Target {
            triple,
            libc,
            c_compiler,
            arch,
        })
    }

    fn cannot(&self, where_else: &str) -> Failure {
        Failure::usage(format_args!(
            "images are built {where_else}, and this compiler builds for {}",
            self.host
        ))
        .help("build in a Linux machine or container of the processor that the image is for")
    }

    /// What is lacking to build for musl.
    pub(crate) fn lacks(&self, target: &Target) -> Option<Lacking> {
        let triple = &target.triple;
        let libraries = rustc(
            &self.directory,
            &["--print", "target-libdir", "--target", triple],
        );
        if !libraries.is_ok_and(|path| Path::new(path.trim()).is_dir()) {
            return Some(Lacking {
                problem: format!("Rust's standard library for {triple} is not installed"),
                mend: format!("rustup target add {triple}"),
            });
        }
        if target.libc == Libc::Musl && target.c_compiler.is_none() && self.host != *triple {
            return Some(Lacking {
                problem: "there is no C compiler for musl (`musl-gcc`), which some crates need"
                    .to_owned(),
                mend: "apt-get install musl-tools".to_owned(),
            });
        }
        None
    }
}

fn rustc(directory: &Path, arguments: &[&str]) -> Result<String, Failure> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::usage(format_args!("cannot start rustc: {error}"))
                .help("install Rust from https://rustup.rs, or put rustc on the PATH")
        })?;
    if !output.status.success() {
        return Err(Failure::usage(format_args!(
            "`rustc {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The C compiler that the environment names for the target, or one that is installed.
fn musl_compiler(triple: &str, processor: &str) -> Option<String> {
    let underscored = triple.replace('-', "_");
    let named = [
        format!("CC_{triple}"),
        format!("CC_{underscored}"),
        "TARGET_CC".to_owned(),
    ];
    if let Some(named) = named.iter().find_map(|name| std::env::var(name).ok()) {
        return Some(named);
    }
    ["musl-gcc".to_owned(), format!("{processor}-linux-musl-gcc")]
        .into_iter()
        .find(|name| is_installed(name))
}

/// Whether a program is on the PATH.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
