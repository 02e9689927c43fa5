//! The arguments of `statefun build-image`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgGroup, Args};

use super::ProjectArgs;
use crate::image::reference::{Reference, ReferenceError};
use crate::image::target::LibcChoice;
use crate::image::timezones::TimeZones;

/// Makes a container image of the application, without a daemon or a Dockerfile.
///
/// Proves the wiring as `validate` does, builds a release binary, static where it links with musl, and puts it into an image
/// with its wiring, the certificates of authorities, and a list of the crates in it (SBOM). It runs as a user that is not root,
/// keeps its data in the volume /data, and listens on 0.0.0.0 where module.yaml says `${STATEFUN_LISTEN_HOST:-127.0.0.1}`.
/// Variables of module.yaml are read when the container starts. The same source gives the same digest, which is printed.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("place").required(true).multiple(true).args(["output", "push"])))]
#[command(after_help = "\
Examples:
  statefun build-image --output docker-archive:hello.tar   for `podman load`
  statefun build-image --output oci:image --tag latest
  statefun build-image --push ghcr.io/me/hello             your `docker login`
  statefun build-image --output oci:image --libc glibc --timezones yes
The last lines printed say how to run it.
Exit codes: 0 made, 1 the wiring or the code is wrong, 2 something needed failed.")]
pub(crate) struct BuildImage {
    #[command(flatten)]
    pub(crate) project: ProjectArgs,
    /// Where the image goes: `docker-archive:FILE` (for `podman load`, `docker load`) or `oci:DIR` (an OCI image layout); may be repeated.
    #[arg(long, short, value_name = "WHERE")]
    pub(crate) output: Vec<Output>,
    /// Push the image to a registry, too, as `REGISTRY/NAME:TAG` (without a tag: the image's). Layers that it has are not sent.
    #[arg(long, value_name = "REFERENCE", value_parser = reference)]
    pub(crate) push: Option<Reference>,
    /// What the image is called [default: the package's name].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Its tag [default: the package's version].
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,
    /// Which C library to link with: `auto` (musl if it can be built here), `musl` (static), `glibc` (with the libraries it needs).
    #[arg(long, value_enum, default_value_t, value_name = "LIBC")]
    #[arg(hide_possible_values = true)]
    pub(crate) libc: LibcChoice,
    /// Leave the allocator as it is. With musl it is otherwise mimalloc, since musl's own holds threads up. An application's own
    /// `#[global_allocator]` stays in any case. Cargo.toml may say so for good: `[package.metadata.statefun.image] allocator = false`.
    #[arg(long)]
    pub(crate) no_allocator: bool,
    /// Whether time zones are in the image: `auto` (when a crate reads them), `yes`, `no`.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    #[arg(hide_possible_values = true)]
    pub(crate) timezones: TimeZones,
    /// PEM file of the authorities to trust [default: those that this machine trusts].
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_certificates: Option<PathBuf>,
    /// Write the SBOM (CycloneDX, JSON) to this file, too. In the image it is /app/sbom.cdx.json.
    #[arg(long, value_name = "FILE")]
    pub(crate) sbom: Option<PathBuf>,
}

fn reference(text: &str) -> Result<Reference, String> {
    let told = |error: ReferenceError| format!("{error}; {}", error.help());
    text.parse().map_err(told)
}

/// Where an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// A file as `docker save` writes it.
    DockerArchive(PathBuf),
    /// A directory of the OCI image layout.
    Oci(PathBuf),
}

impl Output {
    /// The directory, if it is one of the OCI image layout.
    pub(crate) fn layout(&self) -> Option<&Path> {
        match self {
            Self::Oci(path) => Some(path),
            Self::DockerArchive(_) => None,
        }
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((_, "")) | None => Err(
                "write `docker-archive:FILE`, as in `docker-archive:hello.tar`, or `oci:DIR`, as in `oci:image`".to_owned(),
            ),
            Some(("docker-archive", path)) => Ok(Self::DockerArchive(path.into())),
            Some(("oci", path)) => Ok(Self::Oci(path.into())),
            Some((other, _)) => Err(format!(
                "`{other}` is none of the forms that there are: `docker-archive:FILE`, `oci:DIR`"
            )),
        }
    }
}
