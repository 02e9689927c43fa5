//! Which files an image has, in which layer, and how it is started. What changes seldom is below: when code changes, only the
//! last layer is another one.

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::image::{
    Arch, ConfigBuilder, History, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder,
    Os, RootFsBuilder,
};

use super::labels::Labels;
use super::package::{Image, Layer};
use super::tree::Tree;
use super::wiring::EVERYWHERE;
use super::{APP, DATA, LISTEN_HOST, OPERATIONS_PORT, USER, certificates};
use crate::status::Failure;

/// The time of an image that says none.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// All that an image is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) tag: String,
    /// The program's name.
    pub(crate) bin: String,
    pub(crate) program: Vec<u8>,
    /// Libraries that it needs; empty for a static one.
    pub(crate) libraries: Tree,
    pub(crate) certificates: Option<Vec<u8>>,
    pub(crate) time_zones: Tree,
    /// module.yaml and what belongs to it: where it lies, and its content.
    pub(crate) wiring: Vec<(String, Vec<u8>)>,
    pub(crate) sbom: Vec<u8>,
    pub(crate) ports: BTreeSet<u16>,
    pub(crate) labels: Labels,
    pub(crate) created: Option<String>,
    pub(crate) arch: Arch,
}

/// Puts the image together.
pub(crate) fn image(parts: Parts) -> Result<Image, Failure> {
    let mut layers = vec![Layer::new("users, certificates", &base(&parts))?];
    if !parts.libraries.is_empty() {
        layers.push(Layer::new("libraries", &parts.libraries)?);
    }
    let mut wiring = Tree::default();
    for (place, content) in &parts.wiring {
        wiring.file(place, content.as_slice());
    }
    if !wiring.is_empty() {
        layers.push(Layer::new("wiring", &wiring)?);
    }
    let mut program = Tree::default();
    program.program(&format!("{APP}/{}", parts.bin), parts.program.clone());
    program.file(&format!("{APP}/sbom.cdx.json"), parts.sbom.as_slice());
    layers.push(Layer::new("program, SBOM", &program)?);
    let configuration = configuration(&parts, &layers)?;
    Image::new(parts.name, parts.tag, layers, &configuration, &parts.labels)
}

/// What is the same for all applications.
fn base(parts: &Parts) -> Tree {
    let mut tree = parts.time_zones.clone();
    tree.file(
        "/etc/passwd",
        format!(
            "root:x:0:0:root:/root:/sbin/nologin\nstatefun:x:{USER}:{USER}:statefun:{DATA}:/sbin/nologin\n"
        ),
    );
    tree.file("/etc/group", format!("root:x:0:\nstatefun:x:{USER}:\n"));
    // Without it glibc asks DNS before it looks into /etc/hosts.
    tree.file("/etc/nsswitch.conf", "hosts: files dns\n");
    if let Some(certificates) = &parts.certificates {
        tree.file(certificates::PLACE, certificates.as_slice());
    }
    // A volume that is new gets the owner of what it covers.
    tree.directory(DATA, 0o755, USER);
    tree.directory("/tmp", 0o1777, 0);
    tree
}

fn configuration(parts: &Parts, layers: &[Layer]) -> Result<ImageConfiguration, Failure> {
    let failed = |error| Failure::usage(format_args!("the image cannot be described: {error}"));
    let ports = parts.ports.iter().chain([&OPERATIONS_PORT]);
    let ports: BTreeSet<String> = ports.map(|port| format!("{port}/tcp")).collect();
    let environment = [
        format!("PATH={APP}"),
        format!("STATEFUN_HOME={APP}"),
        format!("{LISTEN_HOST}={EVERYWHERE}"),
        format!("STATEFUN_OPERATIONS_LISTEN={EVERYWHERE}:{OPERATIONS_PORT}"),
    ];
    let config = ConfigBuilder::default()
        .user(format!("{USER}:{USER}"))
        .exposed_ports(ports.into_iter().collect::<Vec<_>>())
        .env(environment.to_vec())
        .entrypoint(vec![format!("{APP}/{}", parts.bin)])
        .volumes(vec![DATA.to_owned()])
        .working_dir(DATA)
        .labels(parts.labels.to_map())
        .stop_signal("SIGTERM")
        .build()
        .map_err(failed)?;
    let created = parts.created.as_deref().unwrap_or(NO_TIME);
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    let history: Result<Vec<History>, _> = layers
        .iter()
        .map(|layer| {
            HistoryBuilder::default()
                .created(created)
                .created_by("statefun build-image")
                .comment(layer.what)
                .build()
        })
        .collect();
    let roots = RootFsBuilder::default().diff_ids(diff_ids).build();
    ImageConfigurationBuilder::default()
        .created(created)
        .architecture(parts.arch.clone())
        .os(Os::Linux)
        .config(config)
        .rootfs(roots.map_err(failed)?)
        .history(history.map_err(failed)?)
        .build()
        .map_err(failed)
}

/// Reads the program.
pub(crate) fn program(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::usage(format_args!("cannot read {}: {error}", path.display())))
}
