//! `--push`: the image to a registry.

use std::path::Path;

use crate::cargo::Package;
use crate::image::package::Image;
use crate::image::reference::Reference;
use crate::status::Failure;
use crate::terminal::Terminal;

/// Where it is pushed to, if it is.
pub(super) fn target(push: Option<&Reference>, tag: &str) -> Result<Option<Reference>, Failure> {
    let Some(reference) = push.cloned() else {
        return Ok(None);
    };
    if !cfg!(feature = "push") {
        return Err(absent(&reference));
    }
    let tagged = reference.or_tag(tag);
    tagged
        .map(Some)
        .map_err(|error| Failure::usage(&error).help(error.help()))
}

/// What is said by a build without the feature.
fn absent(reference: &Reference) -> Failure {
    Failure::usage(format_args!(
        "this build of `statefun` does not push images, and so not to {reference}"
    ))
    .help("build it with the feature `push`, as in `cargo install --path statefun-cli --features push`")
}

/// Whether the registry is there and lets one in.
#[cfg(feature = "push")]
pub(super) fn reach(target: &Reference, terminal: &Terminal) -> Result<(), Failure> {
    let show = |progress: crate::image::registry::Progress<'_>| show(&progress, terminal);
    crate::client::block_on(crate::image::registry::reach(target, &show))??;
    Ok(())
}

#[cfg(not(feature = "push"))]
pub(super) fn reach(target: &Reference, _terminal: &Terminal) -> Result<(), Failure> {
    Err(absent(target))
}

/// Pushes it, from the layout that it was written to, or from one that is made for it. The name by which it can be had for ever.
#[cfg(feature = "push")]
pub(super) fn push(
    image: &Image,
    target: &Reference,
    layout: Option<&Path>,
    package: &Package,
    terminal: &Terminal,
) -> Result<String, Failure> {
    use crate::client::block_on;
    use crate::image::{layout, registry};

    let digest = image.manifest.digest.to_string();
    terminal.note(format_args!("{} {target}", terminal.strong("pushing to")));
    let made;
    let layout = if let Some(layout) = layout {
        layout
    } else {
        made = Temporary::below(&package.target_directory);
        layout::write(image, &made.0)?;
        &made.0
    };
    let pushed = block_on(registry::push(layout, &digest, target, &|progress| {
        show(&progress, terminal);
    }))?;
    terminal.progress("");
    let pushed = pushed?;
    let told = |what: &str, amount: registry::Amount| {
        format!("{} {what} ({})", amount.blobs, super::size(amount.bytes))
    };
    terminal.note(format_args!(
        "  {}, {}",
        told("blobs uploaded", pushed.uploaded),
        told("there already", pushed.present)
    ));
    Ok(format!(
        "{}/{}@{}",
        target.registry(),
        target.name(),
        pushed.digest
    ))
}

#[cfg(not(feature = "push"))]
pub(super) fn push(
    _image: &Image,
    target: &Reference,
    _layout: Option<&Path>,
    _package: &Package,
    _terminal: &Terminal,
) -> Result<String, Failure> {
    Err(absent(target))
}

#[cfg(feature = "push")]
fn show(progress: &crate::image::registry::Progress<'_>, terminal: &Terminal) {
    use super::size;
    use crate::image::registry::Progress;

    let short = |digest: &str| {
        digest
            .chars()
            .skip("sha256:".len())
            .take(12)
            .collect::<String>()
    };
    match progress {
        Progress::Checking => terminal.progress("  reading the image"),
        Progress::Uploading {
            digest,
            sent,
            bytes,
        } => {
            terminal.progress(&format!(
                "  {:12} {} of {}",
                short(digest),
                size(*sent),
                size(*bytes)
            ));
        }
        Progress::Present { digest, bytes } => {
            terminal.progress("");
            terminal.note(format_args!(
                "  {:12} {:>9}  there already",
                short(digest),
                size(*bytes)
            ));
        }
        Progress::Uploaded { digest, bytes } => {
            terminal.progress("");
            terminal.note(format_args!(
                "  {:12} {:>9}  uploaded",
                short(digest),
                size(*bytes)
            ));
        }
        Progress::Retrying { problem, delay } => {
            terminal.progress("");
            let delay = humantime::format_duration(*delay);
            terminal.warning(format_args!("{problem}; trying again in {delay}"));
        }
    }
}

/// A layout that is removed with this value.
#[cfg(feature = "push")]
struct Temporary(std::path::PathBuf);

#[cfg(feature = "push")]
impl Temporary {
    fn below(target_directory: &Path) -> Self {
        let name = format!("push-{}", std::process::id());
        Self(target_directory.join("image").join(name))
    }
}

#[cfg(feature = "push")]
impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is in nobody's way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_that_of_the_image_where_none_is_named() {
        let target = |text: &str| {
            let reference: Reference = text.parse().unwrap();
            target(Some(&reference), "0.1.0")
                .unwrap()
                .map(|target| target.to_string())
        };
        assert_eq!(
            target("ghcr.io/me/hello").unwrap(),
            "ghcr.io/me/hello:0.1.0"
        );
        assert_eq!(
            target("ghcr.io/me/hello:latest").unwrap(),
            "ghcr.io/me/hello:latest"
        );
        assert!(super::target(None, "0.1.0").unwrap().is_none());
    }

    #[test]
    fn a_build_that_does_not_push_says_how_to_get_one_that_does() {
        let failure = absent(&"ghcr.io/me/hello:1".parse().unwrap());
        assert!(failure.message.contains("ghcr.io/me/hello:1"));
        let help = failure.help.unwrap();
        assert!(
            help.contains("cargo install --path statefun-cli --features push"),
            "{help}"
        );
        // The line is right: there is such a feature.
        assert!(include_str!("../../../Cargo.toml").contains("\npush = ["));
    }
}
