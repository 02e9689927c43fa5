//! The wiring as an image has it: which files go in, and what of it depends on where the container runs.
//!
//! It is read with the variables of an image, not with those of whoever builds it: what is baked in is the same everywhere.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Component, Path};

use statefun_core::module::codes::MISSING_VARIABLE;
use statefun_core::module::model::ListenAddress;
use statefun_core::module::{Application, Environment, Findings, Source, Spec};
use statefun_core::settings::{SETTINGS_FILE, Settings};

use super::{APP, DATA, LISTEN_HOST, OPERATIONS_PORT};
use crate::project::Project;
use crate::status::Failure;

/// The address that images listen on.
pub(crate) const EVERYWHERE: &str = "0.0.0.0";
/// What an image's checkpoints may be given only at its start.
const CHECKPOINT_URL: &str = "STATEFUN_CHECKPOINT_URL";

/// module.yaml, modules/* and statefun.yaml.
#[derive(Debug)]
pub(crate) struct Wiring {
    /// Where each file lies in the image, and its content as it is.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// What the files say.
    pub(crate) application: Application,
    /// What is wrong with them by themselves; not that variables are unset.
    pub(crate) findings: Findings,
    /// Variables that the container must be given.
    pub(crate) variables: BTreeSet<String>,
}

/// What the wiring means for a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Ports that ingresses listen on.
    pub(crate) ports: BTreeSet<u16>,
    /// Whether it reads standard input.
    pub(crate) reads_input: bool,
    /// What does not work in a container as it is.
    pub(crate) warnings: Vec<String>,
    /// What whoever starts it must bring along.
    pub(crate) notes: Vec<String>,
}

impl Wiring {
    /// Reads the files of a project.
    pub(crate) fn read(project: &Project) -> Result<Self, Failure> {
        let unreadable = |path: &Path, error: std::io::Error| {
            Failure::usage(format_args!("cannot read {}: {error}", path.display()))
        };
        let mut files = Vec::new();
        let mut sources = Vec::new();
        for (index, path) in project.modules.iter().enumerate() {
            let bytes = std::fs::read(path).map_err(|error| unreadable(path, error))?;
            // What is no text is a finding, which is for the loader to make.
            match String::from_utf8(bytes.clone()) {
                Ok(text) => sources.push(Source::text(path.display().to_string(), text)),
                Err(_) => sources.push(Source::file(path)),
            }
            files.push((place(project, index, path), bytes));
        }
        let (application, found) =
            Application::load(sources, &Environment::of([(LISTEN_HOST, EVERYWHERE)]));
        let findings = Findings::new(
            found
                .iter()
                .filter(|finding| finding.code != MISSING_VARIABLE)
                .cloned()
                .collect(),
        );
        let mut variables: BTreeSet<String> = application
            .variables()
            .iter()
            .filter(|variable| variable.default.is_none() && variable.name != LISTEN_HOST)
            .map(|variable| variable.name.clone())
            .collect();
        let settings = project.root.join(SETTINGS_FILE);
        if settings.is_file() {
            variables.extend(check_settings(&settings)?);
            let bytes = std::fs::read(&settings).map_err(|error| unreadable(&settings, error))?;
            files.push((format!("{APP}/{SETTINGS_FILE}"), bytes));
        }
        Ok(Self {
            files,
            application,
            findings,
            variables,
        })
    }

    /// What the wiring means for a container.
    pub(crate) fn surroundings(&self) -> Surroundings {
        let mut found = Surroundings::default();
        for spec in self.application.specs() {
            let id = spec.id().unwrap_or_default();
            match spec {
                Spec::HttpIngress(ingress) => {
                    found.listens(id, &ingress.address);
                    if let Some(tls) = &ingress.tls {
                        found.reads(id, &tls.certificate);
                        found.reads(id, &tls.key);
                    }
                }
                Spec::HttpEgress(egress) => {
                    if let Some(trust) = &egress.tls {
                        found.reads(id, &trust.ca);
                    }
                    found.calls(id, &egress.url.origin());
                }
                Spec::FileIngress(ingress) => found.reads(id, &ingress.path),
                Spec::FileEgress(egress) => found.writes(id, &egress.path),
                Spec::StdioIngress(_) => found.reads_input = true,
                Spec::PlaygroundIngress(ingress) => found.playground(id, ingress.port),
                Spec::PlaygroundEgress(egress) => found.playground(id, egress.port),
                Spec::StdioEgress(_) | Spec::Configuration(_) => {}
            }
        }
        found
    }
}

impl Surroundings {
    fn listens(&mut self, id: &str, address: &ListenAddress) {
        let (host, port) = (address.host(), address.port());
        if port == 0 {
            self.warnings.push(format!(
                "ingress `{id}` listens on any free port, which nobody outside of the container finds: give it one"
            ));
            return;
        }
        if is_loopback(host) {
            self.warnings.push(format!(
                "ingress `{id}` listens on {host}, which is the container's own: write\n    address: \
                 ${{{LISTEN_HOST}:-127.0.0.1}}:{port}\n  An image sets {LISTEN_HOST}={EVERYWHERE}"
            ));
        }
        if port == OPERATIONS_PORT {
            self.warnings.push(format!(
                "ingress `{id}` listens on port {port}, where the operations endpoint of an image is: give it another one"
            ));
        }
        self.ports.insert(port);
    }

    /// The playground's ports have no address in module.yaml.
    fn playground(&mut self, id: &str, port: u16) {
        self.warnings.push(format!(
            "`{id}` is for trying things out: it listens on the container's own 127.0.0.1:{port} alone. Use \
             io.statefun.http.v1/ingress in images"
        ));
    }

    fn reads(&mut self, id: &str, path: &Path) {
        let place = Path::new(DATA).join(path);
        self.notes.push(format!(
            "`{id}` reads {}: bring it along, as in `-v \"$PWD/{}\":{}:ro`",
            place.display(),
            path.file_name().unwrap_or_default().to_string_lossy(),
            place.display(),
        ));
    }

    fn writes(&mut self, id: &str, path: &Path) {
        if is_outside(path) {
            self.warnings.push(format!(
                "`{id}` writes {}, which is not on the volume {DATA}: name it relative to that, or mount a volume there",
                path.display()
            ));
        }
    }

    fn calls(&mut self, id: &str, origin: &str) {
        let host = origin.split_once("://").map_or(origin, |(_, rest)| rest);
        let host = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => host,
        };
        if is_loopback(host.trim_matches(['[', ']'])) {
            self.warnings.push(format!(
                "egress `{id}` calls {origin}, which in a container is the container itself"
            ));
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether a path is outside of the volume, to which it is relative.
fn is_outside(path: &Path) -> bool {
    let mut depth = 0_i32;
    for component in Path::new(DATA).join(path).components() {
        match component {
            Component::ParentDir => depth -= 1,
            Component::Normal(name) if depth == 0 && name != DATA.trim_start_matches('/') => {
                return true;
            }
            Component::Normal(_) => depth += 1,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        if depth < 0 {
            return true;
        }
    }
    depth == 0
}

/// Where a module lies in the image, so that it is found in the order in which it was given.
fn place(project: &Project, index: usize, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if path == project.root.join("module.yaml") {
        return format!("{APP}/module.yaml");
    }
    if path.parent() == Some(&project.root.join("modules")) {
        return format!("{APP}/modules/{name}");
    }
    match index {
        0 => format!("{APP}/module.yaml"),
        _ => format!("{APP}/modules/{index:03}-{name}"),
    }
}

/// Checks statefun.yaml as it is, and returns the variables that it lacks.
fn check_settings(path: &Path) -> Result<Option<String>, Failure> {
    let Err(error) = Settings::load(path, |_| None) else {
        return Ok(None);
    };
    // The place of the checkpoints may be the deployment's to say.
    let given = |name: &str| (name == CHECKPOINT_URL).then(|| format!("{DATA}/checkpoints"));
    match Settings::load(path, given) {
        Ok(_) => Ok(Some(CHECKPOINT_URL.to_owned())),
        Err(_) => Err(Failure::input(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::project::Project;

    fn project(files: &[(&str, &str)], given: &[&str]) -> (tempfile::TempDir, Project) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_path_buf();
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let given: Vec<PathBuf> = given.iter().map(|name| root.join(name)).collect();
        let modules = crate::project::module_files(&root, &given).unwrap();
        let project = Project {
            root,
            package: None,
            modules,
        };
        (directory, project)
    }

    fn ingress(id: &str, more: &str) -> String {
        format!(
            "kind: io.statefun.http.v1/ingress\nspec:\n  id: a/{id}\n  valueType: a/b\n  targets: [a/c]\n  path: /{id}\n{more}\n---\n"
        )
    }

    #[test]
    fn what_listens_for_itself_alone_is_warned_of() {
        let yaml = ingress("open", "  address: ${STATEFUN_LISTEN_HOST:-127.0.0.1}:8081")
            + &ingress("closed", "  address: localhost:8082")
            + &ingress("silent", "")
            + &ingress("any", "  address: 0.0.0.0:0");
        let (_directory, project) = project(&[("module.yaml", &yaml)], &[]);
        let wiring = Wiring::read(&project).unwrap();
        assert!(!wiring.findings.has_errors(), "{:?}", wiring.findings);
        let found = wiring.surroundings();
        assert_eq!(found.ports, BTreeSet::from([8080, 8081, 8082]));
        let warned = |id: &str| {
            found
                .warnings
                .iter()
                .find(|text| text.contains(&format!("`a/{id}`")))
        };
        assert_eq!(warned("open"), None);
        let line = |id, port| {
            let line = format!("address: ${{STATEFUN_LISTEN_HOST:-127.0.0.1}}:{port}");
            assert!(
                warned(id).is_some_and(|text| text.contains(&line)),
                "{id}: {:?}",
                found.warnings
            );
        };
        line("closed", 8082);
        line("silent", 8080);
        assert!(warned("any").is_some_and(|text| text.contains("free port")));
    }

    #[test]
    fn variables_are_neither_demanded_nor_put_in() {
        let yaml = ingress(
            "x",
            "  address: ${HOST}:8080\n  auth: {bearer: \"${TOKEN}\"}\n  maxWait: ${WAIT:-3s}",
        );
        let settings = "durability: blob\n";
        let (_directory, project) =
            project(&[("module.yaml", &yaml), ("statefun.yaml", settings)], &[]);
        let wiring = Wiring::read(&project).unwrap();
        assert!(!wiring.findings.has_errors(), "{:?}", wiring.findings);
        let names: Vec<&str> = wiring.variables.iter().map(String::as_str).collect();
        assert_eq!(names, ["HOST", "STATEFUN_CHECKPOINT_URL", "TOKEN"]);
        assert_eq!(
            wiring.files[0],
            ("/app/module.yaml".to_owned(), yaml.into_bytes())
        );
        assert_eq!(wiring.files[1].0, "/app/statefun.yaml");
    }

    #[test]
    fn wrong_settings_are_refused() {
        let (_directory, project) = project(&[("statefun.yaml", "worker: 3\n")], &[]);
        let refused = Wiring::read(&project).unwrap_err();
        assert!(refused.message.contains("worker"), "{}", refused.message);
    }

    #[test]
    fn modules_keep_their_order() {
        let files = [
            ("module.yaml", ""),
            ("modules/b.yaml", ""),
            ("modules/a.yaml", ""),
            ("x/z.yaml", ""),
            ("x/y.yaml", ""),
        ];
        let places = |given: &[&str]| -> Vec<String> {
            let (_directory, project) = project(&files, given);
            let wiring = Wiring::read(&project).unwrap();
            wiring.files.into_iter().map(|(place, _)| place).collect()
        };
        assert_eq!(
            places(&[]),
            [
                "/app/module.yaml",
                "/app/modules/a.yaml",
                "/app/modules/b.yaml"
            ]
        );
        assert_eq!(
            places(&["x/z.yaml", "x/y.yaml"]),
            ["/app/module.yaml", "/app/modules/001-y.yaml"]
        );
    }

    #[test]
    fn files_are_where_the_volume_is_or_said() {
        for (path, outside) in [
            ("out.jsonl", false),
            ("a/../out.jsonl", false),
            ("/data/out.jsonl", false),
            ("../out.jsonl", true),
            ("/var/out.jsonl", true),
            ("/data/../out", true),
            ("/data/../data/out", false),
        ] {
            assert_eq!(is_outside(Path::new(path)), outside, "{path}");
        }
        let yaml = "kind: io.statefun.file.v1/ingress\nspec: {id: a/in, path: lines.jsonl, valueType: a/b, idFrom: {pointer: /x}, targets: [a/c]}\n---\n\
                    kind: io.statefun.file.v1/egress\nspec: {id: a/out, path: /var/out.jsonl}\n---\n\
                    kind: io.statefun.http.v1/egress\nspec: {id: a/hook, url: 'http://127.0.0.1:9/x'}\n";
        let (_directory, project) = project(&[("module.yaml", yaml)], &[]);
        let found = Wiring::read(&project).unwrap().surroundings();
        assert!(
            found.notes[0].contains("`a/in` reads /data/lines.jsonl"),
            "{:?}",
            found.notes
        );
        assert!(
            found.warnings[0].contains("/var/out.jsonl"),
            "{:?}",
            found.warnings
        );
        assert!(
            found.warnings[1].contains("`a/hook`"),
            "{:?}",
            found.warnings
        );
    }
}
