//! `statefun new`: a new application from a template.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum as _;

use crate::args::{New, TemplateName};
use crate::status::{Failure, Outcome, Status};
use crate::template::{Values, render};
use crate::terminal::Terminal;

pub(crate) fn run(args: &New, terminal: &Terminal) -> Outcome {
    let target = &args.path;
    let name = crate_name(target)?;
    refuse_occupied(target)?;
    let values = Values {
        statefun: dependency(args.path_to_statefun.as_deref())?,
        own_workspace: enclosing_workspace(target).is_some(),
        name,
    };
    let template = template_name(args.template);
    let files = render(&template, &values).map_err(|problem| {
        Failure::usage(format_args!(
            "the template `{template}` is damaged: {problem}"
        ))
    })?;
    for (path, contents) in &files {
        write(&target.join(path), contents)?;
    }
    let git = !args.no_git && init_git(target);
    terminal.note(next_steps(target, &values.name, &template, git, terminal));
    Ok(Status::Fine)
}

fn template_name(template: TemplateName) -> String {
    let value = template.to_possible_value();
    value
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

fn cannot(what: &str, path: &Path, error: &dyn fmt::Display) -> Failure {
    Failure::usage(format_args!("cannot {what} {}: {error}", path.display()))
}

fn write(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| cannot("make", parent, &error))?;
    }
    std::fs::write(path, contents).map_err(|error| cannot("write", path, &error))
}

/// The name of the crate: the last part of the path.
fn crate_name(target: &Path) -> Result<String, Failure> {
    let absolute =
        std::path::absolute(target).map_err(|error| cannot("resolve", target, &error))?;
    let name = match target.file_name() {
        Some(name) => Some(name.to_owned()),
        // Such as `.`: the directory's own name.
        None => absolute
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_owned())),
    };
    let name = name
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    match check_name(&name) {
        Ok(()) => Ok(name),
        Err(problem) => {
            let failure = Failure::input(format_args!(
                "`{name}` cannot be the name of a crate: {problem}"
            ));
            Err(match corrected(&name) {
                Some(better) => failure.help(format_args!(
                    "`statefun new {}` would do",
                    target.with_file_name(better).display()
                )),
                None => failure.help("choose a name of letters, digits, `-` and `_`"),
            })
        }
    }
}

/// Names that cargo or rustc refuse, or that hide a crate which applications use.
const TAKEN: &[&str] = &[
    "Self",
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "statefun",
    "statefun-core",
    "statefun_core",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

fn check_name(name: &str) -> Result<(), String> {
    let Some(first) = name.chars().next() else {
        return Err("it is empty".to_owned());
    };
    if let Some(bad) = name
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
    {
        return Err(match bad {
            ' ' => "it has a blank in it".to_owned(),
            bad if bad.is_control() => "it has a control character in it".to_owned(),
            bad => format!("it has `{bad}` in it"),
        });
    }
    if first.is_ascii_digit() {
        return Err("it begins with a digit".to_owned());
    }
    if first == '-' {
        return Err("it begins with `-`".to_owned());
    }
    if TAKEN.contains(&name) {
        return Err("Rust, cargo or the application itself use that name".to_owned());
    }
    if name.len() > 64 {
        return Err("it has more than 64 characters".to_owned());
    }
    Ok(())
}

/// A name much like it that would do.
fn corrected(name: &str) -> Option<String> {
    let mut better = String::new();
    for c in name.chars().take(60) {
        if c.is_ascii_alphanumeric() || c == '_' {
            better.push(c.to_ascii_lowercase());
        } else if !better.is_empty() && !better.ends_with('-') {
            better.push('-');
        }
    }
    let better = better
        .trim_matches('-')
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    let better = if TAKEN.contains(&better) {
        format!("my-{better}")
    } else {
        better.to_owned()
    };
    check_name(&better).is_ok().then_some(better)
}

fn refuse_occupied(target: &Path) -> Result<(), Failure> {
    match std::fs::read_dir(target) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Failure::input(format_args!(
                "{} exists and is not empty",
                target.display()
            ))
            .help("choose another name, or empty it first")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Err(Failure::input(
            format_args!("{} exists and is no directory", target.display()),
        )
        .help("choose another name")),
        Err(error) => Err(cannot("look into", target, &error)),
    }
}

/// Where statefun-core comes from: the checkout that is named, or the one that this command was built from; else the
/// version that this command has.
fn dependency(checkout: Option<&Path>) -> Result<String, Failure> {
    if let Some(given) = checkout {
        let found = core_of(given).ok_or_else(|| {
            Failure::usage(format_args!(
                "{} is no checkout of statefun: it has no statefun-core",
                given.display()
            ))
            .help("give `--path-to-statefun` the directory that has `statefun-core` in it")
        })?;
        return by_path(&found);
    }
    // Compiled in: absent on machines other than the one that built this command.
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(core_of);
    match built_from {
        Some(found) => by_path(&found),
        None => Ok(format!("version = \"{}\"", env!("CARGO_PKG_VERSION"))),
    }
}

/// The directory of statefun-core in a checkout, or that directory itself.
fn core_of(directory: &Path) -> Option<PathBuf> {
    let is_core = |path: &Path| {
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap_or_default();
        manifest
            .lines()
            .any(|line| line.replace(' ', "") == "name=\"statefun-core\"")
    };
    let inside = directory.join("statefun-core");
    [inside.as_path(), directory]
        .into_iter()
        .find(|path| is_core(path))?
        .canonicalize()
        .ok()
}

fn by_path(core: &Path) -> Result<String, Failure> {
    let path = core.to_str().ok_or_else(|| {
        Failure::usage(format_args!(
            "{} is not UTF-8, and Cargo.toml must be",
            core.display()
        ))
    })?;
    Ok(format!(
        "path = \"{}\"",
        path.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

/// The workspace above the new application, which cargo would take it for a part of.
fn enclosing_workspace(target: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(target).ok()?;
    absolute
        .ancestors()
        .skip(1)
        .map(|above| above.join("Cargo.toml"))
        .find(|manifest| {
            std::fs::read_to_string(manifest).is_ok_and(|text| {
                text.lines()
                    .any(|line| line.trim_start().starts_with("[workspace"))
            })
        })
}

/// Makes a git repository, unless there is no git, or the application is part of one.
fn init_git(target: &Path) -> bool {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(target)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    !git(&["rev-parse", "--is-inside-work-tree"]) && git(&["init", "--quiet"])
}

fn next_steps(target: &Path, name: &str, template: &str, git: bool, terminal: &Terminal) -> String {
    let shown = target.display();
    let go = match target.file_name() {
        Some(_) => format!("  cd {shown}\n"),
        None => String::new(),
    };
    let repository = if git { ", with a git repository" } else { "" };
    format!(
        "{} {name} from the template {template}{repository}. Next:\n\n\
         {go}  \
         statefun run --watch     builds and starts it; goes on as you save\n  \
         cargo test               tests its functions in memory\n  \
         statefun graph           shows how messages flow\n\n\
         README.md says what to try.",
        terminal.strong("Made"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_crates() {
        for good in ["shop", "my-shop2", "_x", "Shop"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = "x".repeat(65);
        for (bad, better) in [
            ("", None),
            ("my shop", Some("my-shop")),
            ("1shop", Some("shop")),
            ("-shop", Some("shop")),
            ("shöp", Some("sh-p")),
            ("a.b", Some("a-b")),
            ("Self", Some("my-self")),
            ("fn", Some("my-fn")),
            ("test", Some("my-test")),
            ("statefun", Some("my-statefun")),
            ("...", None),
            ("日本", None),
            ("99", None),
            (long.as_str(), Some(&long[..60])),
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
            assert_eq!(corrected(bad).as_deref(), better, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_suggested_would_do(name in "\\PC{0,80}") {
            if let Some(better) = corrected(&name) {
                proptest::prop_assert_eq!(check_name(&better), Ok(()));
            }
        }
    }

    #[test]
    fn the_taken_names_are_in_order() {
        assert!(TAKEN.is_sorted());
    }

    #[test]
    fn a_path_in_cargo_toml_is_escaped() {
        assert_eq!(
            by_path(Path::new("/a \"b\"\\c")).unwrap(),
            r#"path = "/a \"b\"\\c""#
        );
    }
}
