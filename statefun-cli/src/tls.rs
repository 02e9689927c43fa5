//! Whom a command trusts to be the host of an https:// URL.

use std::path::Path;

use statefun_core::io::http::tls::{ClientTls, Names, Trust};

use crate::status::Failure;
use crate::url::Url;

/// What the command line calls them.
const NAMES: Names = Names {
    url: "the URL",
    ca: "--cacert",
};

/// The authorities of `--cacert`, or else those of the system, for the host of an authority. `name` is what problems speak of.
pub(crate) fn trust(
    cacert: Option<&Path>,
    authority: &str,
    name: &str,
) -> Result<ClientTls, Failure> {
    if !cfg!(feature = "tls") {
        return Err(absent(authority));
    }
    let trust = cacert.map_or(Trust::System, Trust::Only);
    let problem = |problem| Failure::usage(format_args!("{name}: {problem}"));
    ClientTls::load(Url::host_of(authority), trust, NAMES).map_err(problem)
}

/// What is said by a build without the feature.
fn absent(authority: &str) -> Failure {
    Failure::usage(format_args!(
        "https://{authority} needs HTTPS, which this build of `statefun` does not have"
    ))
    .help(
        "build it with the feature `tls`, as in `cargo install --path statefun-cli --features tls`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_https_says_how_to_get_it() {
        let failure = absent("example.com:443");
        assert!(failure.message.contains("https://example.com:443"));
        let help = failure.help.unwrap();
        assert!(
            help.contains("cargo install --path statefun-cli --features tls"),
            "{help}"
        );
        // The line is right: there is such a feature, which is that of the core.
        let manifest = include_str!("../Cargo.toml");
        assert!(manifest.contains("\ntls = [\"statefun-core/tls\"]\n"));
    }
}
