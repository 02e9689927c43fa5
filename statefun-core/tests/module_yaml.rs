//! The corpus of module.yaml files: each wrong one has exactly one mistake and gives exactly one finding, each good one gives
//! none. A case is a file, or a folder of the modules of one application; its name says what is wrong.
//!
//! Lines that begin with `#!` describe the application that the wiring is checked against; see [`Surroundings`].

use std::fs;
use std::path::{Path, PathBuf};

use statefun_core::module::description::{
    DESCRIPTION_VERSION, Description, EgressUse, Expiration, FunctionDescription,
    MessageDescription, MessageFormat, RouterDescription, StateDescription, StateKind,
};
use statefun_core::module::render::{Format, HumanOptions, render};
use statefun_core::module::{Application, BuildFeatures, Environment, Findings, Source, check};
use statefun_core::shape::Shape;

mod module_yaml {
    pub(crate) mod cascades;
    pub(crate) mod details;
    pub(crate) mod mutations;
}

/// What a case is checked against.
struct Surroundings {
    description: Option<Description>,
    environment: Environment,
    features: BuildFeatures,
}

impl Surroundings {
    /// Reads the `#!` lines of a case. Without any that describes the application, it has one function, `example/greeter`,
    /// which accepts `example/GreetRequest`.
    fn of(text: &str) -> Self {
        let mut description = Description {
            version: DESCRIPTION_VERSION,
            core_version: "0.1.0".to_owned(),
            ..Description::default()
        };
        let (mut environment, mut features, mut formats) = (Vec::new(), Vec::new(), Vec::new());
        let (mut described, mut absent) = (false, false);
        let lines = || {
            text.lines()
                .filter_map(|line| line.trim_start_matches('\u{feff}').strip_prefix("#! "))
        };
        for line in lines() {
            if let Some(rest) = line.strip_prefix("message ") {
                let (name, format) = rest.split_once(' ').expect("message NAME FORMAT");
                let format = match format.trim() {
                    "msgpack" => MessageFormat::Msgpack,
                    "protobuf" => MessageFormat::Protobuf,
                    other => panic!("unknown format {other}"),
                };
                formats.push((name.to_owned(), format));
            }
        }
        let format_of = |name: &str| {
            formats
                .iter()
                .find(|(known, _)| known == name)
                .map_or(MessageFormat::Json, |(_, format)| *format)
        };
        for line in lines() {
            let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = rest.trim_end();
            match what {
                "message" => {}
                "env" => {
                    let (name, value) = rest.split_once('=').expect("env NAME=VALUE");
                    environment.push((name.to_owned(), value.to_owned()));
                }
                "feature" => features.push(rest.to_owned()),
                "no-description" => absent = true,
                "version" => {
                    description.version = rest.parse().expect("version NUMBER");
                    "9.9.9".clone_into(&mut description.core_version);
                }
                "ingress" => description.ingresses.push(rest.to_owned()),
                "egress" => description.egresses.push(rest.to_owned()),
                "function" => {
                    described = true;
                    description.functions.push(function(rest, &format_of));
                }
                "router" => {
                    described = true;
                    description.routers.push(router(rest));
                }
                other => panic!("unknown directive {other}"),
            }
        }
        if !described {
            let line = "example/greeter accepts=example/GreetRequest";
            description.functions.push(function(line, &format_of));
        }
        for typename in description
            .functions
            .iter()
            .flat_map(|function| &function.accepts)
        {
            description.messages.push(MessageDescription {
                typename: typename.clone(),
                format: format_of(typename),
                shape: Shape::Unit,
            });
        }
        Self {
            description: (!absent).then_some(description),
            environment: Environment::of(environment),
            features: BuildFeatures::of(features),
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn function(line: &str, format_of: &impl Fn(&str) -> MessageFormat) -> FunctionDescription {
    let mut parts = line.split_whitespace();
    let mut function = FunctionDescription {
        typename: parts.next().expect("function TYPE").to_owned(),
        accepts: Vec::new(),
        sends: Vec::new(),
        egress: Vec::new(),
        states: Vec::new(),
        dynamic_sends: false,
    };
    for part in parts {
        match part.split_once('=') {
            None if part == "dynamic" => function.dynamic_sends = true,
            Some(("accepts", list)) => function.accepts = words(list),
            Some(("sends", list)) => function.sends = words(list),
            Some(("egress", list)) => {
                for used in words(list) {
                    let (id, message) = used.split_once(':').expect("egress=ID:TYPE");
                    function.egress.push(EgressUse {
                        id: id.to_owned(),
                        message: message.to_owned(),
                        format: format_of(message),
                    });
                }
            }
            Some(("states", list)) => {
                function.states = words(list)
                    .into_iter()
                    .map(|name| StateDescription {
                        name,
                        kind: StateKind::Value,
                        version: 1,
                        shape: Shape::Unit,
                        key_shape: None,
                        expiration: Expiration::None,
                    })
                    .collect();
            }
            _ => panic!("unknown part {part}"),
        }
    }
    function
}

fn router(line: &str) -> RouterDescription {
    let mut parts = line.split_whitespace();
    let mut router = RouterDescription {
        name: parts.next().expect("router NAME").to_owned(),
        ingress: None,
        message: String::new(),
        to: Vec::new(),
    };
    for part in parts {
        match part.split_once('=').expect("KEY=VALUE") {
            ("reads", name) => name.clone_into(&mut router.message),
            ("ingress", id) => router.ingress = Some(id.to_owned()),
            ("to", list) => router.to = words(list),
            _ => panic!("unknown part {part}"),
        }
    }
    router
}

/// A case: a name, and the modules of one application.
struct Case {
    name: String,
    modules: Vec<(String, String)>,
}

impl Case {
    fn all(folder: &str) -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/module_yaml")
            .join(folder);
        let mut cases: Vec<Self> = sorted(&root)
            .into_iter()
            .map(|path| {
                let files = if path.is_dir() {
                    sorted(&path)
                } else {
                    vec![path.clone()]
                };
                let modules = files
                    .iter()
                    .map(|file| {
                        let name = file
                            .file_name()
                            .expect("a name")
                            .to_string_lossy()
                            .into_owned();
                        (name, fs::read_to_string(file).expect("a readable case"))
                    })
                    .collect();
                let name = path
                    .file_stem()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                Self { name, modules }
            })
            .collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    fn surroundings(&self) -> Surroundings {
        let all: Vec<&str> = self.modules.iter().map(|(_, text)| text.as_str()).collect();
        Surroundings::of(&all.join("\n"))
    }

    fn run(&self) -> (Application, Findings) {
        run(&self.modules, &self.surroundings())
    }
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn run(modules: &[(String, String)], surroundings: &Surroundings) -> (Application, Findings) {
    let sources = modules
        .iter()
        .map(|(name, text)| Source::text(name.clone(), text.clone()));
    let (application, findings) = Application::load(sources, &surroundings.environment);
    let checked = check(
        &application,
        surroundings.description.as_ref(),
        &surroundings.features,
    );
    (application, findings.and(checked))
}

#[test]
fn each_wrong_file_gives_one_finding() {
    let cases = Case::all("wrong");
    assert!(
        cases.len() >= 45,
        "the corpus has shrunk to {}",
        cases.len()
    );
    let mut failures = Vec::new();
    for case in &cases {
        let (application, findings) = case.run();
        let text = render(
            &findings,
            application.sources(),
            Format::Human(HumanOptions::plain()),
        );
        if findings.len() != 1 {
            failures.push(format!(
                "{} gives {} findings:\n{text}",
                case.name,
                findings.len()
            ));
            continue;
        }
        for (variable, secret) in [("environment", "hidden-value"), ("file", "hunter")] {
            for format in [
                Format::Human(HumanOptions::plain()),
                Format::Json,
                Format::Github,
            ] {
                let rendered = render(&findings, application.sources(), format);
                assert!(
                    !rendered.contains(secret),
                    "{}: a secret of the {variable} is shown:\n{rendered}",
                    case.name
                );
            }
        }
        let finding = findings.iter().next().expect("one finding");
        if finding.help.is_none() {
            failures.push(format!("{} has no help:\n{text}", case.name));
        }
        if let Some(label) = &finding.primary {
            let file = application
                .sources()
                .get(label.span.file)
                .expect("the file of the finding");
            let slice = file.text().get(label.span.start..label.span.end);
            let slice = slice
                .unwrap_or_else(|| panic!("{}: span {:?} cuts a character", case.name, label.span));
            assert!(
                !slice.trim().is_empty(),
                "{}: span {:?} shows nothing",
                case.name,
                label.span
            );
        }
        insta::with_settings!({
            snapshot_path => "module_yaml/snapshots",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(case.name.as_str(), text);
        });
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn good_files_give_no_finding() {
    let cases = Case::all("good");
    assert!(
        cases.len() >= 20,
        "the corpus has shrunk to {}",
        cases.len()
    );
    let mut failures = Vec::new();
    for case in &cases {
        let (application, findings) = case.run();
        if !findings.is_empty() {
            let text = render(
                &findings,
                application.sources(),
                Format::Human(HumanOptions::plain()),
            );
            failures.push(format!("{}:\n{text}", case.name));
        }
        for component in application.components() {
            assert!(
                component.spec.is_some(),
                "{}: {} has no spec",
                case.name,
                component.kind.name
            );
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
