//! Why an image was not pushed: what happened, where, and how to mend it.

use std::path::PathBuf;

use thiserror::Error;

use super::credentials::CredentialsError;
use super::source::LayoutError;
use crate::status::Failure;

/// Why an image was not pushed.
#[derive(Debug, Error)]
pub(crate) enum PushError {
    /// What is to be pushed is not there as it should be. Nothing was sent.
    #[error("nothing was pushed: {0}")]
    Layout(#[from] LayoutError),
    /// Credentials are somewhere, but cannot be had.
    #[error("cannot log in to {registry}: {source}")]
    Credentials {
        registry: String,
        source: CredentialsError,
    },
    /// There is no client, which has to do with the system's authorities.
    #[error("cannot use HTTPS: {0}")]
    Client(String),
    /// Nobody answers.
    #[error("cannot reach {registry}: {problem}")]
    Unreachable { registry: String, problem: String },
    /// The other side does not prove that it is the registry, or does not speak TLS.
    #[error("no encrypted connection to {registry}: {problem}")]
    Tls { registry: String, problem: String },
    /// Someone else answers.
    #[error("{url} is not that of a registry: {problem}")]
    NotARegistry { url: String, problem: String },
    /// A registry would have credentials sent where they can be read.
    #[error("{registry} asks for a token from {realm}, which is not encrypted")]
    InsecureRealm { registry: String, realm: String },
    /// Credentials are needed, and there are none.
    #[error(
        "{registry} wants to know who is pushing, and there are no credentials for it in {}",
        listed(files)
    )]
    NoCredentials {
        registry: String,
        files: Vec<PathBuf>,
    },
    /// Credentials are not accepted.
    #[error("{registry} does not accept the credentials of {from}: {problem}")]
    WrongCredentials {
        registry: String,
        from: String,
        problem: String,
    },
    /// The credentials are those of someone who may not push there.
    #[error("{registry} does not let {who} push to `{name}`: {problem}")]
    Forbidden {
        registry: String,
        name: String,
        who: String,
        problem: String,
    },
    /// There is no such place in the registry.
    #[error("{registry} has no place for `{name}`: {problem}")]
    NotFound {
        registry: String,
        name: String,
        problem: String,
    },
    /// The registry refuses something else.
    #[error("{registry} refuses {action}: {problem}")]
    Refused {
        registry: String,
        action: String,
        problem: String,
    },
    /// It failed again and again.
    #[error("{action} failed {attempts} times: {problem}")]
    GaveUp {
        registry: String,
        action: String,
        attempts: u32,
        problem: String,
    },
}

impl PushError {
    /// How to mend it.
    fn help(&self) -> Option<String> {
        let log_in =
            |registry: &str| format!("`docker login {registry}` or `podman login {registry}`");
        Some(match self {
            Self::Layout(LayoutError::Unreadable { .. }) => return None,
            Self::Layout(_) => "build the image anew".to_owned(),
            Self::Credentials { registry, source } => source.help(registry),
            Self::Client(_) => {
                "install the package `ca-certificates`, or name a file of certificates in SSL_CERT_FILE".to_owned()
            }
            Self::Unreachable { .. } => "is the registry's name right, and does it run?".to_owned(),
            Self::Tls { problem, .. } if is_plain(problem) => {
                "plain HTTP, which anyone on the way can read and change, is spoken only with registries on this machine: \
                 put one that has no certificate behind one that does, or forward a local port to it (`ssh -L`)"
                    .to_owned()
            }
            Self::Tls { .. } => {
                "if its certificate is of an authority of your own, name a file with that authority's certificate in SSL_CERT_FILE"
                    .to_owned()
            }
            Self::NotARegistry { .. } => {
                "is the registry's name right, and the port? It is what stands before the first `/`".to_owned()
            }
            Self::InsecureRealm { .. } => "nothing was sent there; tell those who run the registry".to_owned(),
            Self::NoCredentials { registry, .. } => format!("log in with {}", log_in(registry)),
            Self::WrongCredentials { registry, .. } => format!("log in anew with {}", log_in(registry)),
            Self::Forbidden { registry, .. } => format!(
                "is the name right, and who may push to it? With {} you become someone else",
                log_in(registry)
            ),
            Self::NotFound { name, .. } => {
                format!("is the name right? Some registries want `{name}` to be created first")
            }
            Self::Refused { .. } => return None,
            Self::GaveUp { .. } => "try again: what the registry has already is not sent again".to_owned(),
        })
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        let failure = Failure::usage(&error);
        match error.help() {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

/// Whether what answered to a greeting of TLS was something else, of which plain HTTP is the likeliest.
fn is_plain(problem: &str) -> bool {
    problem.contains("InvalidContentType")
}

fn listed(files: &[PathBuf]) -> String {
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    match files.split_last() {
        None => "any file, as HOME is not set".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}
