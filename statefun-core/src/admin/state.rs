//! Persisted state, in lines that are sent while it is read.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::api::{Query as Parameters, Refusal, Reply, not_there, refuse, wrong_method};
use super::live::{Live, OpenState};
use super::wire::{Problem, StateMark};
use crate::clock::Timestamp;
use crate::engine::priority::yield_to_workers;
use crate::inspect::{End, Event, InspectError, Measure, Query, StateView, rows, run};

/// Addresses that are listed when nothing is said.
const LIST_LIMIT: usize = 100;
/// Addresses that are listed at most.
const LIST_MOST: usize = 100_000;
/// The largest addresses that are listed when nothing is said.
const TOP_LIMIT: usize = 10;
/// Bytes of lines that are sent together.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that may wait for the client.
const PIECES: usize = 4;

/// The body of an answer.
#[derive(Debug)]
pub struct ReplyBody(Content);

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    /// As it comes.
    Pieces(mpsc::Receiver<Bytes>),
}

impl ReplyBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Content::Whole(Some(bytes)))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.0 {
            Content::Whole(bytes) => Poll::Ready(bytes.take()),
            Content::Pieces(pieces) => pieces.poll_recv(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Pieces(_) => SizeHint::default(),
        }
    }
}

/// What is asked for.
enum Asked {
    Query(Query),
    /// The rows themselves, of a function's addresses whose ids begin with a text, or all.
    Rows(Option<String>, String),
}

pub(super) async fn answer(
    live: &dyn Live,
    path: &str,
    method: &Method,
    parameters: &Parameters,
) -> Result<Reply, Refusal> {
    let asked = asked(path, parameters)?;
    if method != Method::GET {
        return Err(wrong_method("GET"));
    }
    let unavailable =
        |error: &dyn std::fmt::Display| refuse(StatusCode::SERVICE_UNAVAILABLE, error);
    let open = live.state().await.map_err(|error| unavailable(&error))?;
    let (pieces, body) = mpsc::channel(PIECES);
    let (tell, told) = oneshot::channel();
    // It reads from the disk, and waits for the client: on a thread of its own, that can wait itself.
    std::thread::Builder::new()
        .name("statefun-state".to_owned())
        .spawn(move || {
            yield_to_workers();
            read(open, &asked, tell, pieces);
        })
        .map_err(|error| unavailable(&error))?;
    match told.await {
        Ok(Ok(())) => {}
        Ok(Err(error @ InspectError::UnknownFunction { .. })) => {
            return Err(refuse(StatusCode::NOT_FOUND, error));
        }
        Ok(Err(error)) => return Err(unavailable(&error)),
        Err(_) => return Err(unavailable(&"the application is stopping")),
    }
    let mut reply = Response::new(ReplyBody(Content::Pieces(body)));
    reply.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    Ok(reply)
}

fn asked(path: &str, parameters: &Parameters) -> Result<Asked, Refusal> {
    let text = |name| parameters.get(name).unwrap_or_default().to_owned();
    let needed = |name| {
        parameters
            .get(name)
            .map(str::to_owned)
            .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, format_args!("`{name}` is missing")))
    };
    let function = || parameters.get("function").map(str::to_owned);
    let scope = || {
        parameters.only(&["function", "prefix"])?;
        if parameters.get("prefix").is_some() {
            needed("function")?;
        }
        Ok::<_, Refusal>((function(), text("prefix")))
    };
    Ok(Asked::Query(match path {
        "/v1/state" => {
            parameters.only(&[])?;
            Query::Functions
        }
        "/v1/state/addresses" => {
            parameters.only(&["function", "prefix", "limit"])?;
            Query::Addresses {
                function: needed("function")?,
                prefix: text("prefix"),
                limit: parameters.number("limit", LIST_LIMIT, LIST_MOST)?,
            }
        }
        "/v1/state/get" => {
            parameters.only(&["function", "id"])?;
            Query::Get {
                function: needed("function")?,
                id: needed("id")?,
            }
        }
        "/v1/state/export" => {
            let (function, prefix) = scope()?;
            Query::Export { function, prefix }
        }
        "/v1/state/top" => {
            parameters.only(&["function", "by", "limit"])?;
            let by = match parameters.get("by") {
                None | Some("bytes") => Measure::Bytes,
                Some("rows") => Measure::Rows,
                Some(other) => {
                    return Err(refuse(
                        StatusCode::BAD_REQUEST,
                        format_args!("`by` is `bytes` or `rows`, not `{other}`"),
                    ));
                }
            };
            Query::Top {
                function: function(),
                by,
                limit: parameters.number("limit", TOP_LIMIT, LIST_MOST)?,
            }
        }
        "/v1/state/rows" => {
            let (function, prefix) = scope()?;
            return Ok(Asked::Rows(function, prefix));
        }
        path => return Err(not_there(path)),
    }))
}

/// Lines that are sent together. Nobody takes them any more when the client has gone.
struct Lines {
    piece: Vec<u8>,
    pieces: mpsc::Sender<Bytes>,
}

impl Lines {
    fn push(&mut self, line: &impl Serialize) -> ControlFlow<()> {
        let begin = self.piece.len();
        if serde_json::to_writer(&mut self.piece, line).is_err() {
            // Never met: all of it has texts as keys. An answer without this line must not seem complete.
            self.piece.truncate(begin);
            return ControlFlow::Break(());
        }
        self.piece.push(b'\n');
        if self.piece.len() >= PIECE_BYTES {
            self.send()
        } else {
            ControlFlow::Continue(())
        }
    }

    fn send(&mut self) -> ControlFlow<()> {
        if self.piece.is_empty() {
            return ControlFlow::Continue(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        match self.pieces.blocking_send(piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn tell<T: Serialize>(&mut self, event: Event<T>) -> ControlFlow<()> {
        match event {
            Event::Item(item) => self.push(&item),
            Event::Progress(progress) => {
                self.push(&StateMark::Progress(progress))?;
                self.send()
            }
        }
    }
}

fn read(
    open: OpenState,
    asked: &Asked,
    tell: oneshot::Sender<Result<(), InspectError>>,
    pieces: mpsc::Sender<Bytes>,
) {
    let opened = open().map_err(InspectError::from).and_then(|opened| {
        let function = match asked {
            Asked::Query(query) => query.function(),
            Asked::Rows(function, _) => function.as_deref(),
        };
        opened.0.check(function)?;
        Ok(opened)
    });
    let (view, now) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // Whoever asked may have gone.
            let _ = tell.send(Err(error));
            return;
        }
    };
    if tell.send(Ok(())).is_err() {
        return;
    }
    let mut lines = Lines {
        piece: Vec::new(),
        pieces,
    };
    let last = match follow(&view, asked, now, &mut lines) {
        Ok(end) => StateMark::End(end),
        Err(InspectError::Stopped) => return,
        Err(error) => StateMark::Failed(Problem {
            error: error.to_string(),
        }),
    };
    let _ = lines.push(&last);
    let _ = lines.send();
}

fn follow(
    view: &StateView,
    asked: &Asked,
    now: Timestamp,
    lines: &mut Lines,
) -> Result<End, InspectError> {
    match asked {
        Asked::Query(query) => run(view, query, now, &mut |event| lines.tell(event)),
        Asked::Rows(function, prefix) => rows(view, function.as_deref(), prefix, &mut |event| {
            lines.tell(event)
        }),
    }
}
