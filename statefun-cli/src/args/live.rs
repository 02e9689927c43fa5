//! Which running application is asked.

use std::path::PathBuf;

use clap::Args;

/// The variable that names an operations endpoint.
pub(crate) const URL_VARIABLE: &str = "STATEFUN_OPERATIONS_URL";
/// The variable that has its token, for the application and for the command line.
pub(crate) const TOKEN_VARIABLE: &str = "STATEFUN_OPERATIONS_TOKEN";

/// A running application: the one on a data directory of this machine, or the one whose operations endpoint is at a URL.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LiveArgs {
    /// Where the application keeps its data [default: .statefun/data, or as statefun.yaml says].
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Ask the application whose operations endpoint this is, `http://HOST:PORT` or `https://…` [env: STATEFUN_OPERATIONS_URL].
    #[arg(long, value_name = "URL", global = true, conflicts_with = "data_dir")]
    pub(crate) url: Option<String>,
    /// File that holds the endpoint's token [default: the value of STATEFUN_OPERATIONS_TOKEN].
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file of the authorities to trust with https, instead of those that the system trusts.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) cacert: Option<PathBuf>,
}

impl LiveArgs {
    /// The URL: the argument, or the variable where no directory is given.
    pub(crate) fn url(&self) -> Option<String> {
        let variable = || std::env::var(URL_VARIABLE).ok();
        match (&self.url, &self.data_dir) {
            (Some(url), _) => Some(url.clone()),
            (None, Some(_)) => None,
            (None, None) => variable().filter(|url| !url.is_empty()),
        }
    }
}
