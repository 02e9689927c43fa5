//! The application that runs on a data directory, and what it is asked over its socket.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use statefun_core::admin::{StateMark, socket_path};
use statefun_core::inspect::{End, Progress};
use statefun_core::settings::{SETTINGS_FILE, Settings};

use crate::client::{Answer, ClientError, lines_over_socket, over_socket};
use crate::project::nearest_root;
use crate::status::Failure;

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
#[derive(Debug)]
pub(crate) struct Live {
    data_dir: PathBuf,
}

impl Live {
    /// The one whose data directory is given, or is the one that settings and environment name.
    pub(crate) fn find(data_dir: Option<&Path>) -> Result<Self, Failure> {
        let data_dir = if let Some(given) = data_dir {
            given.to_path_buf()
        } else {
            let root = nearest_root().unwrap_or_default();
            let file = root.join(SETTINGS_FILE);
            let settings = Settings::load(&file, |name| std::env::var(name).ok());
            root.join(settings.map_err(Failure::input)?.data_dir)
        };
        Ok(Self { data_dir })
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
        let request = request(method, uri)?;
        let answer = over_socket(&socket_path(&self.data_dir), request, patience).await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(refused(&answer))
        }
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Asks it for an answer in lines, and reads them as they come. None when no application runs there.
    pub(crate) async fn lines(
        &self,
        uri: &str,
        reader: &mut dyn Reader,
    ) -> Result<Option<End>, Failure> {
        let request = request(Method::GET, uri)?;
        let mut outcome: Option<Result<End, Failure>> = None;
        let asked = lines_over_socket(
            &socket_path(&self.data_dir),
            request,
            LINE_PATIENCE,
            &mut |line| {
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
            },
        )
        .await;
        match (outcome, asked) {
            (Some(outcome), _) => outcome.map(Some),
            (None, Ok(Some(answer))) => Err(refused(&answer)),
            (None, Ok(None)) => Err(Failure::usage(
                "the answer is cut off: the application has stopped meanwhile",
            )),
            (None, Err(error)) if is_absent(&error) => Ok(None),
            (None, Err(error)) => Err(self.unreachable(&error)),
        }
    }

    fn unreachable(&self, error: &ClientError) -> Failure {
        let data_dir = self.data_dir.display();
        match error {
            error if is_absent(error) => Failure::usage(format_args!(
                "no application runs on the data directory {data_dir}"
            ))
            .help("start it with `statefun run`, or name its directory with `--data-dir`"),
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

fn request(method: Method, uri: &str) -> Result<Request<Full<Bytes>>, Failure> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(http::header::HOST, "localhost")
        .body(Full::new(Bytes::new()))
        .map_err(|error| Failure::usage(format_args!("cannot ask for {uri}: {error}")))
}

fn refused(answer: &Answer) -> Failure {
    let problem = answer.problem();
    if answer.status.is_client_error() {
        Failure::input(problem)
    } else {
        Failure::usage(problem)
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
