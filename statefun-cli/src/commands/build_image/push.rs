//! `--push`: the image to a registry.

use std::path::Path;

use crate::cargo::Package;
use crate::image::package::Image;
use crate::image::reference::Reference;
use crate::status::Failure;
use crate::terminal::Terminal;

/// Where it is pushed to, if it is: said before the build, as is that this build of `statefun` cannot.
pub(super) fn target(push: Option<&Reference>, tag: &str) -> Result<Option<Reference>, Failure> {
    let Some(reference) = push.cloned() else {
        return Ok(None);
    };
    if !cfg!(feature = "push") {
        return Err(Failure::usage("this build of `statefun` does not push images")
            .help("build it with the feature `push`, as in `cargo install --path statefun-cli --features push`"));
    }
    let tagged = reference.or_tag(tag);
    tagged
        .map(Some)
        .map_err(|error| Failure::usage(&error).help(error.help()))
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
    image: &Image,
    _target: &Reference,
    _layout: Option<&Path>,
    _package: &Package,
    _terminal: &Terminal,
) -> Result<String, Failure> {
    Ok(image.digest_reference())
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
