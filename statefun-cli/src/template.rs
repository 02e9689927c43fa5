//! The templates of new applications: the files of `templates/`, embedded. Those whose name ends with `.j2` have
//! placeholders and lose that ending; all others are copied as they are. `templates/shared` is part of each of them.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};

use crate::image::names::name_of_package;

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/templates");

/// The folder whose files every application gets.
const SHARED: &str = "shared";

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

/// What files have in place of their placeholders, beside what is given: what follows from that.
struct Derived<'v> {
    values: &'v Values,
    /// `{{ image }}`: the name of its image, which has no capitals, and letters or digits at its ends.
    image: String,
    /// `{{ has_http }}`: whether it takes requests.
    has_http: bool,
}

impl<'v> Derived<'v> {
    fn new(values: &'v Values, template: &Dir<'_>) -> Self {
        let wiring = template.get_file(template.path().join("module.yaml"));
        let wiring = wiring.and_then(include_dir::File::contents_utf8);
        Self {
            values,
            image: name_of_package(&values.name),
            has_http: wiring.is_some_and(|wiring| wiring.contains("io.statefun.http.v1/ingress")),
        }
    }
}

/// The files of a template, by their path in the new application.
pub(crate) fn render(template: &str, values: &Values) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let folder = |name: &str| {
        TEMPLATES
            .get_dir(name)
            .ok_or_else(|| format!("there is no template `{name}`"))
    };
    let environment = environment()?;
    let derived = Derived::new(values, folder(template)?);
    let mut files = Vec::new();
    for root in [folder(template)?, folder(SHARED)?] {
        let mut folders = vec![root];
        while let Some(next) = folders.pop() {
            folders.extend(next.dirs());
            for file in next.files() {
                let path = file.path().strip_prefix(root.path()).unwrap_or(file.path());
                files.push(one(&environment, path, file.contents(), &derived)?);
            }
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
    derived: &Derived<'_>,
) -> Result<(PathBuf, Vec<u8>), String> {
    if path.extension().is_none_or(|extension| extension != "j2") {
        return Ok((path.to_path_buf(), contents.to_vec()));
    }
    let failed = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let text = std::str::from_utf8(contents).map_err(|error| failed(&error))?;
    let Derived {
        values,
        image,
        has_http,
    } = derived;
    let Values {
        name,
        statefun,
        own_workspace,
    } = values;
    let context = context! { name, statefun, own_workspace, image, has_http };
    let rendered = environment
        .render_str(text, context)
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
            .filter(|folder| folder != SHARED)
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
                "deploy/compose.yaml",
                "deploy/prometheus.yml",
                "deploy/grafana/statefun.json",
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
                // The names of series in a dashboard are written alike, and are Grafana's to fill in.
                let is_grafanas = path
                    .extension()
                    .is_some_and(|extension| extension == "json");
                assert!(
                    is_grafanas || !text.contains("{{") && !text.contains("{%"),
                    "{template}/{}",
                    path.display()
                );
                assert!(
                    text.ends_with('\n') && !text.ends_with("\n\n"),
                    "{template}/{}",
                    path.display()
                );
                let is_named = ["Cargo.toml", "README.md", "compose.yaml"]
                    .iter()
                    .any(|name| path.ends_with(name));
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
        let values = values("x");
        let derived = Derived::new(&values, TEMPLATES.get_dir("greeter").unwrap());
        let rendered = |text: &str| {
            one(
                &environment,
                Path::new("a.txt.j2"),
                text.as_bytes(),
                &derived,
            )
        };
        assert_eq!(
            rendered("-{{ name }}-"),
            Ok((PathBuf::from("a.txt"), b"-x-".to_vec()))
        );
        assert!(rendered("{{ nam }}").is_err());
        assert!(rendered("{{ name").is_err());
        let copied = one(&environment, Path::new("a.txt"), b"{{ nam }}", &derived);
        assert_eq!(copied, Ok((PathBuf::from("a.txt"), b"{{ nam }}".to_vec())));
    }

    #[test]
    fn what_follows_from_the_name_and_the_wiring() {
        let compose = |template: &str, name: &str| {
            let files = render(template, &values(name)).unwrap();
            let (_, contents) = files
                .into_iter()
                .find(|(path, _)| path.ends_with("compose.yaml"))
                .unwrap();
            String::from_utf8(contents).unwrap()
        };
        let greeter = compose("greeter", "My_Shop-");
        assert!(greeter.contains("image: my_shop:"), "{greeter}");
        assert!(greeter.contains("127.0.0.1:8080:8080"), "{greeter}");
        assert!(!greeter.contains("stdin_open"), "{greeter}");
        let minimal = compose("minimal", "lines");
        assert!(!minimal.contains("8080"), "{minimal}");
        assert!(minimal.contains("stdin_open"), "{minimal}");
    }

    #[test]
    fn a_template_that_is_not_there_is_an_error() {
        assert!(render("nothing", &values("x")).is_err());
    }
}
