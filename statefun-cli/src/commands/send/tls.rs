//! Whom `statefun send` and `statefun call` trust to be the host of an https:// URL.

use statefun_core::io::http::tls::{ClientTls, Names, Trust};

use super::target::Target;
use crate::args::MessageArgs;
use crate::status::Failure;

/// What the command line calls them.
const NAMES: Names = Names {
    url: "the URL",
    ca: "--cacert",
};

/// The authorities of `--cacert`, or else those of the system.
pub(super) fn trust(args: &MessageArgs, target: &Target) -> Result<ClientTls, Failure> {
    if !cfg!(feature = "tls") {
        return Err(absent(&target.authority));
    }
    let trust = args.cacert.as_deref().map_or(Trust::System, Trust::Only);
    let problem = |problem| Failure::usage(format_args!("{}: {problem}", target.name));
    ClientTls::load(target.host(), trust, NAMES).map_err(problem)
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
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains("\ntls = [\"statefun-core/tls\"]\n"));
    }
}
