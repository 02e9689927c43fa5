//! Where an application finds its wiring and settings, and which part of a deployment it plays.

use std::path::{Path, PathBuf};

use super::Stop;

/// The directory with module.yaml, modules/ and statefun.yaml. An image has them apart from the working directory, which is
/// where its data lies.
const HOME: &str = "STATEFUN_HOME";
/// Which part of a deployment this process plays.
const ROLE: &str = "ROLE";
/// The only role there is.
const STANDALONE: &str = "standalone";

/// The directory with module.yaml, modules/ and statefun.yaml; an empty path is the working directory.
pub(super) fn home() -> PathBuf {
    std::env::var_os(HOME).map_or_else(PathBuf::new, PathBuf::from)
}

/// Refuses a role that this version cannot play.
pub(super) fn check_role() -> Result<(), Stop> {
    match std::env::var_os(ROLE) {
        None => Ok(()),
        Some(role) => known_role(&role.to_string_lossy()).map_err(Stop::Input),
    }
}

fn known_role(role: &str) -> Result<(), String> {
    match role {
        "" | STANDALONE => Ok(()),
        other => Err(format!(
            "{ROLE}={other}: this version knows one role, `{STANDALONE}`: a process that does everything, which is what it does \
             without {ROLE}, too. There are no clusters of several processes yet.\n  Set {ROLE}={STANDALONE}, or leave it out"
        )),
    }
}

/// `module.yaml` and all of `modules/*.yaml`, in the order of their names.
pub(super) fn default_modules(home: &Path) -> Vec<PathBuf> {
    let mut files = vec![home.join("module.yaml")];
    let mut more: Vec<PathBuf> = std::fs::read_dir(home.join("modules"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
        })
        .collect();
    more.sort();
    files.extend(more);
    files.retain(|file| file.exists());
    files
}

/// What to do where there is no module.yaml.
pub(super) fn no_modules(home: &Path) -> String {
    if home.as_os_str().is_empty() {
        return format!(
            "There is no module.yaml here: start the application where it lies, name its directory with {HOME}, or itself with \
             `--module`"
        );
    }
    format!(
        "There is no module.yaml in {} ({HOME}): correct {HOME}, or name the file with `--module`",
        home.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_role_is_known() {
        for role in ["", "standalone"] {
            assert_eq!(known_role(role), Ok(()));
        }
        for role in ["master", "worker", "Standalone", "standalone "] {
            let refused = known_role(role).unwrap_err();
            assert!(refused.contains(&format!("ROLE={role}")), "{refused}");
            assert!(refused.contains("`standalone`"), "{refused}");
            assert!(refused.contains("no clusters"), "{refused}");
        }
    }

    #[test]
    fn modules_are_those_of_the_home_in_order() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        assert!(default_modules(home).is_empty());
        std::fs::create_dir(home.join("modules")).unwrap();
        for file in [
            "module.yaml",
            "modules/b.yml",
            "modules/a.yaml",
            "modules/notes.txt",
        ] {
            std::fs::write(home.join(file), "").unwrap();
        }
        let expected =
            ["module.yaml", "modules/a.yaml", "modules/b.yml"].map(|file| home.join(file));
        assert_eq!(default_modules(home), expected);
    }
}
