//! Finding an application: its directory, its package, its module.yaml files.

use std::path::{Path, PathBuf};

use statefun_core::module::{Application, Environment, Findings, Source};
use statefun_core::settings::{SETTINGS_FILE, Settings};

use crate::args::ProjectArgs;
use crate::cargo::Package;
use crate::status::Failure;

const MANIFEST: &str = "Cargo.toml";
const MODULE: &str = "module.yaml";

/// An application on disk.
#[derive(Debug)]
pub(crate) struct Project {
    /// Its directory, relative to the current one where that is possible. Files that module.yaml names are relative to it.
    pub(crate) root: PathBuf,
    /// The crate, if there is one.
    pub(crate) package: Option<Package>,
    /// Its module.yaml files.
    pub(crate) modules: Vec<PathBuf>,
}

impl Project {
    /// Finds the application that the arguments mean.
    pub(crate) fn find(args: &ProjectArgs) -> Result<Self, Failure> {
        let root = match &args.manifest_path {
            Some(path) => root_of(path)?,
            None => nearest_root().unwrap_or_default(),
        };
        let manifest = root.join(MANIFEST);
        let package = if manifest.is_file() {
            Some(Package::read(&manifest, args.bin.as_deref())?)
        } else {
            None
        };
        let modules = module_files(&root, &args.modules)?;
        Ok(Self {
            root,
            package,
            modules,
        })
    }

    /// Reads its module.yaml files.
    pub(crate) fn load(&self) -> (Application, Findings) {
        load(&self.modules)
    }

    /// Its directory, for the working directory of a process.
    pub(crate) fn directory(&self) -> &Path {
        directory(&self.root)
    }
}

/// Finds only the module.yaml files.
pub(crate) fn find_modules(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    module_files(&nearest_root().unwrap_or_default(), given)
}

/// The directory that holds `.statefun`, `module.yaml` or `Cargo.toml`, here or above.
pub(crate) fn nearest_root() -> Option<PathBuf> {
    let current = std::env::current_dir().ok()?;
    let mut root = PathBuf::new();
    for directory in current.ancestors() {
        if directory.join(MODULE).is_file() || directory.join(MANIFEST).is_file() {
            return Some(root);
        }
        root.push("..");
    }
    None
}

/// What the statefun.yaml of a directory and the environment say.
pub(crate) fn settings(root: &Path) -> Result<Settings, Failure> {
    let file = root.join(SETTINGS_FILE);
    Settings::load(&file, |name| std::env::var(name).ok()).map_err(Failure::input)
}

/// An empty path is no directory to the system.
pub(crate) fn directory(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

pub(crate) fn load(modules: &[PathBuf]) -> (Application, Findings) {
    Application::load(modules.iter().map(Source::file), &Environment::process())
}

fn root_of(path: &Path) -> Result<PathBuf, Failure> {
    let manifest = if path.is_dir() {
        path.join(MANIFEST)
    } else {
        path.to_path_buf()
    };
    match manifest.parent() {
        Some(root) if manifest.is_file() && manifest.ends_with(MANIFEST) => Ok(root.to_path_buf()),
        _ => Err(
            Failure::usage(format_args!("{} is no Cargo.toml", path.display()))
                .help("give `--manifest-path` the Cargo.toml of the application"),
        ),
    }
}

pub(crate) fn module_files(root: &Path, given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let mut files = Vec::new();
    let module = root.join(MODULE);
    if module.is_file() {
        files.push(module);
    }
    let more = root.join("modules");
    if more.is_dir() {
        let unreadable =
            |error| Failure::usage(format_args!("cannot list {}: {error}", more.display()));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&more).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
            {
                found.push(path);
            }
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}
