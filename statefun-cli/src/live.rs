//! A running application, and what it is asked: over the socket of its data directory, or at its operations endpoint.

mod endpoint;

use std::fmt;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use statefun_core::admin::{StateMark, socket_path};
use statefun_core::inspect::{End, Progress};

use crate::args::LiveArgs;
use crate::client::{Answer, ClientError, Way, ask, ask_lines};
use crate::project::{nearest_root, settings};
use crate::status::Failure;
use endpoint::Endpoint;

/// Longest time for an answer: orders are answered when they are durable.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest time until the next line of an answer: the application may have to apply much before it reads its state.
const LINE_PATIENCE: Duration = Duration::from_secs(90);

/// What is made of the lines of an answer.
pub(crate) trait Reader {
    /// A line of data.
    fn line(&mut self, line: &[u8]) -> Result<(), Failure>;

    /// How far it is.
    fn progress(&mut self, progress: Progress);
}

/// A running application.
#[derive(Debug, Clone)]
pub(crate) struct Live(Place);

#[derive(Debug, Clone)]
enum Place {
    /// The one on a data directory of this machine.
    Directory(PathBuf),
    /// The one with an operations endpoint.
    Endpoint(Arc<Endpoint>),
}

impl Live {
    /// The one that the arguments mean, or else settings and environment.
    pub(crate) fn find(args: &LiveArgs) -> Result<Self, Failure> {
        // The parser does not see it when one stands in front of the subcommand and one behind it.
        if args.url.is_some() && args.data_dir.is_some() {
            return Err(Failure::usage(
                "`--url` and `--data-dir` name two applications: leave one of them out",
            ));
        }
        match args.url() {
            Some(url) => {
                let endpoint = Endpoint::find(&url, args)?;
                Ok(Self(Place::Endpoint(Arc::new(endpoint))))
            }
            None => Self::of_directory(args.data_dir.as_deref()),
        }
    }

    /// The one on a data directory: the given one, or the one that settings and environment name.
    pub(crate) fn of_directory(data_dir: Option<&Path>) -> Result<Self, Failure> {
        let data_dir = if let Some(given) = data_dir {
            given.to_path_buf()
        } else {
            let root = nearest_root().unwrap_or_default();
            root.join(settings(&root)?.data_dir)
        };
        Ok(Self(Place::Directory(data_dir)))
    }

    /// Asks it.
    pub(crate) async fn ask(&self, method: Method, uri: &str) -> Result<Answer, Failure> {
        self.ask_within(method, uri, PATIENCE).await
    }

    /// Asks it, and waits so long for the answer.
    pub(crate) async fn ask_within(
        &self,
        method: Method,
        uri: &str,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, uri)?;
        let answer = match &self.0 {
            Place::Directory(data_dir) => {
                ask(&Way::Socket(&socket_path(data_dir)), request, patience).await
            }
            Place::Endpoint(endpoint) => ask(&endpoint.way(), request, patience).await,
        };
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(self.refused(&answer))
        }
    }

    /// Its data directory, where it is known.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        match &self.0 {
            Place::Directory(data_dir) => Some(data_dir),
            Place::Endpoint(_) => None,
        }
    }

    /// Asks it for an answer in lines, and reads them as they come. None when no application runs on the data directory.
    pub(crate) async fn lines(
        &self,
        uri: &str,
        reader: &mut dyn Reader,
    ) -> Result<Option<End>, Failure> {
        let request = self.request(Method::GET, uri)?;
        let mut outcome: Option<Result<End, Failure>> = None;
        let mut each = |line: &[u8]| {
            match StateMark::read(line) {
                Some(StateMark::Progress(progress)) => reader.progress(progress),
                Some(StateMark::End(end)) => outcome = Some(Ok(end)),
                Some(StateMark::Failed(problem)) => {
                    outcome = Some(Err(Failure::usage(format_args!(
                        "the application could not read its state to the end: {}",
                        problem.error
                    ))));
                }
                None => {
                    if let Err(failure) = reader.line(line) {
                        outcome = Some(Err(failure));
                    }
                }
            }
            match outcome {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        };
        let asked = match &self.0 {
            Place::Directory(data_dir) => {
                let socket = socket_path(data_dir);
                ask_lines(&Way::Socket(&socket), request, LINE_PATIENCE, &mut each).await
            }
            Place::Endpoint(endpoint) => {
                ask_lines(&endpoint.way(), request, LINE_PATIENCE, &mut each).await
            }
        };
        match (outcome, asked) {
            (Some(outcome), _) => outcome.map(Some),
            (None, Ok(Some(answer))) => Err(self.refused(&answer)),
            (None, Ok(None)) => Err(Failure::usage(
                "the answer is cut off: the application has stopped meanwhile",
            )),
            (None, Err(error)) if is_absent(&error) && self.data_dir().is_some() => Ok(None),
            (None, Err(error)) => Err(self.unreachable(&error)),
        }
    }

    fn request(&self, method: Method, uri: &str) -> Result<Request<Full<Bytes>>, Failure> {
        let builder = Request::builder().method(method);
        let builder = match &self.0 {
            Place::Directory(_) => builder.uri(uri).header(HOST, "localhost"),
            Place::Endpoint(endpoint) => endpoint.address(builder, uri),
        };
        builder
            .body(Full::new(Bytes::new()))
            .map_err(|error| Failure::usage(format_args!("cannot ask for {uri}: {error}")))
    }

    fn refused(&self, answer: &Answer) -> Failure {
        if let Place::Endpoint(endpoint) = &self.0
            && let Some(failure) = endpoint.refused(answer)
        {
            return failure;
        }
        let problem = answer.problem();
        if answer.status.is_client_error() {
            Failure::input(problem)
        } else {
            Failure::usage(problem)
        }
    }

    fn unreachable(&self, error: &ClientError) -> Failure {
        let data_dir = match &self.0 {
            Place::Directory(data_dir) => data_dir.display(),
            Place::Endpoint(endpoint) => return endpoint.unreachable(error),
        };
        match error {
            error if is_absent(error) => Failure::usage(format_args!(
                "no application runs on the data directory {data_dir}"
            ))
            .help("start it with `statefun run`, name its directory with `--data-dir`, or its operations endpoint with `--url`"),
            ClientError::Connect(io) if io.kind() == ErrorKind::PermissionDenied => Failure::usage(
                format_args!("you may not command the application on {data_dir}: {io}"),
            )
            .help("only the user who runs it may"),
            error => Failure::usage(format_args!(
                "the application on {data_dir} does not answer: {error}"
            )),
        }
    }
}

/// As people name it.
impl Live {
    /// Where it is.
    pub(crate) fn place(&self) -> String {
        match &self.0 {
            Place::Directory(data_dir) => data_dir.display().to_string(),
            Place::Endpoint(endpoint) => endpoint.to_string(),
        }
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Directory(data_dir) => {
                write!(f, "the application that runs on {}", data_dir.display())
            }
            Place::Endpoint(endpoint) => write!(f, "the application at {endpoint}"),
        }
    }
}

/// Whether nobody listens there.
fn is_absent(error: &ClientError) -> bool {
    let absent = [
        ErrorKind::NotFound,
        ErrorKind::ConnectionRefused,
        ErrorKind::NotADirectory,
    ];
    matches!(error, ClientError::Connect(io) if absent.contains(&io.kind()))
}

/// Reads what it answered.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        Failure::usage(format_args!(
            "the application's answer is not understood: {error}"
        ))
        .help("are `statefun` and the application's statefun-core of the same version?")
    })
}
