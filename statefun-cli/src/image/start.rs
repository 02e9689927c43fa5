//! The command that runs an image.

use std::collections::BTreeSet;
use std::path::Path;

use super::package::Image;
use super::reference::Reference;
use super::target::is_installed;
use super::wiring::Surroundings;
use super::{DATA, OPERATIONS_PORT};

/// Where an image was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A file of `docker save`.
    Archive(&'a Path),
    /// A directory of the OCI image layout.
    Layout(&'a Path),
    /// A registry.
    Registry(&'a Reference),
}

/// The program that runs containers here.
fn engine() -> &'static str {
    if !is_installed("podman") && is_installed("docker") {
        "docker"
    } else {
        "podman"
    }
}

/// The commands, a line each.
pub(crate) fn commands(
    image: &Image,
    place: &Place<'_>,
    surroundings: &Surroundings,
    variables: &BTreeSet<String>,
) -> Vec<String> {
    let engine = engine();
    let (load, name) = match place {
        Place::Archive(path) => (format!("{engine} load -i {}", quoted(path)), image.tagged()),
        Place::Registry(reference) => {
            // Docker knows by itself that what is on this machine may speak plain HTTP.
            let trust = if engine == "podman" && reference.is_loopback() {
                " --tls-verify=false"
            } else {
                ""
            };
            (
                format!("{engine} pull{trust} {reference}"),
                reference.to_string(),
            )
        }
        // Docker does not read directories.
        Place::Layout(path) if engine == "podman" => {
            let name = layout(path, image);
            return vec![run(engine, image, &name, surroundings, variables)];
        }
        Place::Layout(path) => (
            format!(
                "skopeo copy {} docker-daemon:{}",
                layout(path, image),
                image.tagged()
            ),
            image.tagged(),
        ),
    };
    vec![load, run(engine, image, &name, surroundings, variables)]
}

fn layout(path: &Path, image: &Image) -> String {
    format!("oci:{}:{}", quoted(path), image.tag)
}

fn run(
    engine: &str,
    image: &Image,
    name: &str,
    surroundings: &Surroundings,
    variables: &BTreeSet<String>,
) -> String {
    let volume = image.name.replace('/', "-");
    let mut words = vec![format!(
        "{engine} run --rm --read-only -v {volume}-data:{DATA}"
    )];
    if surroundings.reads_input {
        words.push("-i".to_owned());
    }
    words.extend(variables.iter().map(|name| format!("-e {name}=…")));
    words.extend(
        surroundings
            .ports
            .iter()
            .map(|port| format!("-p {port}:{port}")),
    );
    words.push(format!("-p 127.0.0.1:{OPERATIONS_PORT}:{OPERATIONS_PORT}"));
    words.push(name.to_owned());
    words.join(" ")
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@".contains(c);
    if text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::package::Blob;

    #[test]
    fn all_that_it_takes_is_in_the_command() {
        let image = Image {
            name: "team/hello".to_owned(),
            tag: "0.1.0".to_owned(),
            layers: Vec::new(),
            config: Blob::new(Vec::new()),
            manifest: Blob::new(Vec::new()),
        };
        let surroundings = Surroundings {
            ports: BTreeSet::from([8080]),
            reads_input: true,
            ..Surroundings::default()
        };
        let command = run(
            "podman",
            &image,
            "team/hello:0.1.0",
            &surroundings,
            &BTreeSet::from(["TOKEN".to_owned()]),
        );
        assert_eq!(
            command,
            "podman run --rm --read-only -v team-hello-data:/data -i -e TOKEN=… -p 8080:8080 -p 127.0.0.1:9464:9464 team/hello:0.1.0"
        );
        assert_eq!(quoted(Path::new("a b's")), r"'a b'\''s'");
    }
}
