//! The templates of new applications: the files of `templates/`, embedded. Those whose name ends with `.j2` have
//! placeholders and lose that ending; all others are copied as they are.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// What stands in place of the placeholders.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    /// `{{ name }}`: the crate.
    pub(crate) name: String,
    /// `{{ statefun }}`: where statefun-core comes from, as keys of an inline table of Cargo.toml.
    pub(crate) statefun: String,
    /// `{{ own_workspace }}`: whether the crate must say that it belongs to no workspace around it.
    pub(crate) own_workspace: bool,
}

/// The files of a template, by their path in the new application.
pub(crate) fn render(template: &str, values: &Values) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let folder = TEMPLATES
        .get_dir(template)
        .ok_or_else(|| format!("there is no template `{template}`"))?;
    let environment = environment()?;
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(next) = folders.pop() {
        folders.extend(next.dirs());
        for file in next.files() {
            let path = file
                .path()
                .strip_prefix(folder.path())
                .unwrap_or(file.path());
            files.push(one(&environment, path, file.contents(), values)?);
        }
    }
    files.sort();
    Ok(files)
}

/// A placeholder without a value is a mistake, and the last line keeps its end.
fn environment() -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|error| error.to_string())?);
    Ok(environment)
}

fn one(
    environment: &Environment<'_>,
    path: &Path,
    contents: &[u8],
    values: &Values,
) -> Result<(PathBuf, Vec<u8>), String> {
    if path.extension().is_none_or(|extension| extension != "j2") {
        return Ok((path.to_path_buf(), contents.to_vec()));
    }
    let failed = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let text = std::str::from_utf8(contents).map_err(|error| failed(&error))?;
    let Values {
        name,
        statefun,
        own_workspace,
    } = values;
    let rendered = environment
        .render_str(text, context! { name, statefun, own_workspace })
        .map_err(|error| failed(&error))?;
    Ok((path.with_extension(""), rendered.into_bytes()))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::args::TemplateName;

    fn values(name: &str) -> Values {
        Values {
            name: name.to_owned(),
            statefun: "version = \"1\"".to_owned(),
            own_workspace: false,
        }
    }

    fn templates() -> Vec<String> {
        let named = TemplateName::value_variants()
            .iter()
            .filter_map(clap::ValueEnum::to_possible_value);
        named.map(|value| value.get_name().to_owned()).collect()
    }

    #[test]
    fn every_folder_is_a_template_and_the_other_way_round() {
        let mut folders: Vec<String> = TEMPLATES
            .dirs()
            .map(|folder| folder.path().display().to_string())
            .collect();
        folders.sort();
        let mut named = templates();
        named.sort();
        assert_eq!(folders, named);
        assert_eq!(
            TEMPLATES.files().count(),
            0,
            "a file that belongs to no template"
        );
    }

    #[test]
    fn every_template_is_whole() {
        for template in templates() {
            let files = render(&template, &values("my-shop")).unwrap();
            let names: Vec<String> = files
                .iter()
                .map(|(path, _)| path.display().to_string())
                .collect();
            for needed in [
                ".gitignore",
                "Cargo.toml",
                "README.md",
                "module.yaml",
                "src/main.rs",
                "statefun.yaml",
            ] {
                assert!(
                    names.iter().any(|name| name == needed),
                    "{template} has no {needed}: {names:?}"
                );
            }
            assert!(
                names
                    .iter()
                    .any(|name| name.starts_with("tests/") || name == "src/tests.rs"),
                "{template}"
            );
            for (path, contents) in &files {
                let text = std::str::from_utf8(contents).unwrap();
                assert!(
                    !text.contains("{{") && !text.contains("{%"),
                    "{template}/{}",
                    path.display()
                );
                assert!(
                    text.ends_with('\n') && !text.ends_with("\n\n"),
                    "{template}/{}",
                    path.display()
                );
                let is_named = path.ends_with("Cargo.toml") || path.ends_with("README.md");
                assert_eq!(
                    text.contains("my-shop"),
                    is_named,
                    "{template}/{}",
                    path.display()
                );
            }
        }
    }

    #[test]
    fn a_placeholder_that_is_not_known_is_an_error() {
        let environment = environment().unwrap();
        let rendered = |text: &str| {
            one(
                &environment,
                Path::new("a.txt.j2"),
                text.as_bytes(),
                &values("x"),
            )
        };
        assert_eq!(
            rendered("-{{ name }}-"),
            Ok((PathBuf::from("a.txt"), b"-x-".to_vec()))
        );
        assert!(rendered("{{ nam }}").is_err());
        assert!(rendered("{{ name").is_err());
        let copied = one(&environment, Path::new("a.txt"), b"{{ nam }}", &values("x"));
        assert_eq!(copied, Ok((PathBuf::from("a.txt"), b"{{ nam }}".to_vec())));
    }

    #[test]
    fn a_template_that_is_not_there_is_an_error() {
        assert!(render("nothing", &values("x")).is_err());
    }
}
