//! The shared libraries that a program needs, found by the system's own loader.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::tree::Tree;
use crate::status::Failure;

/// What the loader says of a program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Needed {
    /// Names under which libraries are looked for, and where they are.
    libraries: Vec<(String, PathBuf)>,
    /// The loader itself: where the program says it is.
    loader: Option<PathBuf>,
}

/// Reads the libraries. Empty for a static program.
pub(crate) fn of(program: &Path) -> Result<Tree, Failure> {
    let failed = |problem: &str| {
        Failure::usage(format_args!(
            "cannot find out which libraries {} needs: {problem}",
            program.display()
        ))
    };
    let output = Command::new("ldd")
        .arg(program)
        .env_remove("LD_PRELOAD")
        .env_remove("LD_LIBRARY_PATH")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&format!("cannot start ldd: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // What older ones say of a static program.
        let of_static = format!("{said}{complaint}").contains("not a dynamic executable");
        return if of_static {
            Ok(Tree::default())
        } else {
            Err(failed(complaint.trim()))
        };
    }
    let needed = parse(&said).map_err(|problem| failed(&problem))?;
    collect(&needed).map_err(|problem| failed(&problem))
}

fn parse(said: &str) -> Result<Needed, String> {
    let mut needed = Needed::default();
    for line in said.lines().map(str::trim) {
        // The address at the end differs from run to run.
        let line = line.rsplit_once(" (0x").map_or(line, |(line, _)| line);
        match line.split_once(" => ") {
            Some((name, "not found")) => {
                return Err(format!(
                    "{name} is not found; install the package that has it"
                ));
            }
            Some((name, path)) if path.starts_with('/') => {
                needed.libraries.push((name.to_owned(), path.into()));
            }
            None if line.starts_with('/') => needed.loader = Some(line.into()),
            // The kernel's own, and what is said of a static program.
            _ => {}
        }
    }
    Ok(needed)
}

/// Puts all of them where the loader looks without being told: beside the C library.
fn collect(needed: &Needed) -> Result<Tree, String> {
    let mut tree = Tree::default();
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    if needed.libraries.is_empty() {
        return Ok(tree);
    }
    let home = needed
        .libraries
        .iter()
        .find(|(name, _)| name.starts_with("libc.so"))
        .and_then(|(_, path)| path.parent())
        .ok_or("it needs libraries, but no C library")?;
    for (name, path) in &needed.libraries {
        // A name may be a path: then it is looked for nowhere else.
        let place = if name.starts_with('/') {
            PathBuf::from(name)
        } else {
            home.join(name)
        };
        tree.program(&place.to_string_lossy(), read(path)?);
    }
    if let Some(loader) = &needed.loader {
        tree.program(&loader.to_string_lossy(), read(loader)?);
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_says_is_read() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd6b5f2000)
\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f3c5a1d0000)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f3c59e00000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f3c5a600000)
";
        let needed = parse(said).unwrap();
        assert_eq!(needed.loader, Some("/lib64/ld-linux-x86-64.so.2".into()));
        let names: Vec<&str> = needed
            .libraries
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["libgcc_s.so.1", "libc.so.6"]);
        assert_eq!(parse("\tstatically linked\n"), Ok(Needed::default()));
        assert!(
            parse("\tlibx.so.1 => not found\n")
                .unwrap_err()
                .contains("libx.so.1")
        );
    }

    #[test]
    fn a_program_of_this_machine_has_what_it_needs() {
        let own = std::env::current_exe().unwrap();
        let tree = of(&own).unwrap();
        // The tests themselves may have been built for musl.
        assert_eq!(tree.is_empty(), cfg!(target_env = "musl"));
    }
}
