//! From a request to its answer.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;

use super::live::Live;
use super::state::{self, ReplyBody};
use super::wire::{ParkedDone, ParkedList, ParkedShown, Problem};
use crate::checkpoint::CheckpointError;
use crate::engine::worker::{Command, CommandError, CommandResult};
use crate::id::Address;
use crate::io::http::percent_decode;
use crate::module::suggest::nearest;

/// What every request is answered with.
pub type Reply = Response<ReplyBody>;

/// Addresses that are listed when nothing is said.
const LIST_LIMIT: usize = 100;
/// Addresses that are listed at most, and looked through for those of one function.
const LIST_MOST: usize = 100_000;
/// Messages that are shown when nothing is said.
const SHOW_LIMIT: usize = 10;
/// Messages that are shown at most.
const SHOW_MOST: usize = 10_000;

/// Why a request is not followed.
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    /// The method that would do.
    allowed: Option<&'static str>,
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut reply = json(
            refusal.status,
            &Problem {
                error: refusal.error,
            },
        );
        if let Some(allowed) = refusal.allowed {
            reply
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
        }
        reply
    }
}

/// Answers a request. Its body is not looked at: everything stands in the path and the query.
pub async fn answer<B>(live: &dyn Live, request: &Request<B>) -> Reply {
    let uri = request.uri();
    let query = match Query::parse(uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, problem).into(),
    };
    let answered = match (uri.path(), request.method()) {
        ("/v1/status", &Method::GET) => query
            .only(&[])
            .map(|()| json(StatusCode::OK, &live.status())),
        ("/v1/metrics", &Method::GET) => query
            .only(&[])
            .map(|()| json(StatusCode::OK, &live.metrics())),
        ("/v1/parked", &Method::GET) => list(live, &query).await,
        ("/v1/parked/show", &Method::GET) => show(live, &query).await,
        ("/v1/parked/retry", &Method::POST) => order(live, &query, Command::Retry).await,
        ("/v1/parked/skip", &Method::POST) => order(live, &query, Command::Skip).await,
        ("/v1/parked/drop", &Method::POST) => order(live, &query, Command::Drop).await,
        (path, method) if path == "/v1/state" || path.starts_with("/v1/state/") => {
            state::answer(live, path, method, &query).await
        }
        ("/v1/checkpoint", &Method::POST) => checkpoint(live, &query).await,
        ("/v1/checkpoint", _) => Err(wrong_method("POST")),
        ("/v1/status" | "/v1/metrics" | "/v1/parked" | "/v1/parked/show", _) => {
            Err(wrong_method("GET"))
        }
        ("/v1/parked/retry" | "/v1/parked/skip" | "/v1/parked/drop", _) => {
            Err(wrong_method("POST"))
        }
        (path, _) => Err(not_there(path)),
    };
    answered.unwrap_or_else(Reply::from)
}

async fn list(live: &dyn Live, query: &Query) -> Result<Reply, Refusal> {
    query.only(&["limit", "function"])?;
    let limit = query.number("limit", LIST_LIMIT, LIST_MOST)?;
    let function = query.get("function");
    if let Some(function) = function {
        find(live, function, "")?;
    }
    // One more than is wanted tells whether there are more. Workers do not know of functions here.
    let asked = if function.is_some() {
        LIST_MOST
    } else {
        limit + 1
    };
    let mut addresses = Vec::new();
    let mut truncated = false;
    let results = live.command(Command::List { limit: asked }).await;
    if results.is_empty() {
        return Err(stopped());
    }
    for result in results {
        if let CommandResult::Waiting(found) = result.map_err(|error| refused(&error))? {
            truncated |= found.len() >= asked;
            addresses.extend(found);
        }
    }
    if let Some(function) = function {
        addresses.retain(|address| address.function == function);
    }
    addresses.sort_by(|one, other| (&one.function, &one.id).cmp(&(&other.function, &other.id)));
    truncated |= addresses.len() > limit;
    addresses.truncate(limit);
    Ok(json(
        StatusCode::OK,
        &ParkedList {
            addresses,
            truncated,
        },
    ))
}

async fn show(live: &dyn Live, query: &Query) -> Result<Reply, Refusal> {
    query.only(&["function", "id", "messages"])?;
    let messages = query.number("messages", SHOW_LIMIT, SHOW_MOST)?;
    let address = address(live, query)?;
    match one(live, Command::Show { address, messages }).await? {
        CommandResult::Shown(address, messages) => {
            Ok(json(StatusCode::OK, &ParkedShown { address, messages }))
        }
        _ => Err(mistaken()),
    }
}

async fn order(
    live: &dyn Live,
    query: &Query,
    command: fn(Address) -> Command,
) -> Result<Reply, Refusal> {
    query.only(&["function", "id"])?;
    let address = address(live, query)?;
    match one(live, command(address)).await? {
        CommandResult::Done { messages } => Ok(json(StatusCode::OK, &ParkedDone { messages })),
        _ => Err(mistaken()),
    }
}

async fn checkpoint(live: &dyn Live, query: &Query) -> Result<Reply, Refusal> {
    query.only(&["name"])?;
    match live
        .make_checkpoint(query.get("name").map(str::to_owned))
        .await
    {
        Some(Ok(entry)) => Ok(json(StatusCode::OK, &entry)),
        Some(Err(error @ (CheckpointError::NameTaken(_) | CheckpointError::Empty))) => {
            Err(refuse(StatusCode::CONFLICT, error))
        }
        Some(Err(error)) => Err(refuse(StatusCode::SERVICE_UNAVAILABLE, error)),
        None => Err(refuse(
            StatusCode::CONFLICT,
            "the application makes no checkpoints: give `checkpoint: {url: …}` in statefun.yaml, or STATEFUN_CHECKPOINT_URL, and start it again",
        )),
    }
}

/// The result of a command for one address.
async fn one(live: &dyn Live, command: Command) -> Result<CommandResult, Refusal> {
    let result = live.command(command).await.pop().ok_or_else(stopped)?;
    result.map_err(|error| refused(&error))
}

fn address(live: &dyn Live, query: &Query) -> Result<Address, Refusal> {
    let needed = |name| {
        query.get(name).ok_or_else(|| {
            refuse(
                StatusCode::BAD_REQUEST,
                format_args!("`{name}` is missing: give `?function=ns/name&id=…`"),
            )
        })
    };
    find(live, needed("function")?, needed("id")?)
}

fn find(live: &dyn Live, function: &str, id: &str) -> Result<Address, Refusal> {
    live.address(function, id).ok_or_else(|| {
        let functions = live.status().functions;
        let hint = match nearest(function, functions.iter().map(String::as_str)) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None if functions.is_empty() => "it has no functions".to_owned(),
            None => format!("it has `{}`", functions.join("`, `")),
        };
        refuse(
            StatusCode::NOT_FOUND,
            format_args!("the application has no function `{function}`: {hint}"),
        )
    })
}

fn refused(error: &CommandError) -> Refusal {
    match error {
        CommandError::NotWaiting(_) => refuse(StatusCode::NOT_FOUND, error),
    }
}

fn stopped() -> Refusal {
    refuse(
        StatusCode::SERVICE_UNAVAILABLE,
        "the application is stopping: whether the command took effect is not known",
    )
}

fn mistaken() -> Refusal {
    refuse(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the application answered something else than it was asked",
    )
}

pub(super) fn not_there(path: &str) -> Refusal {
    refuse(
        StatusCode::NOT_FOUND,
        format_args!(
            "there is no `{path}`: the command line and the application may be of different versions"
        ),
    )
}

pub(super) fn wrong_method(allowed: &'static str) -> Refusal {
    let refusal = refuse(
        StatusCode::METHOD_NOT_ALLOWED,
        format_args!("this is a {allowed} request"),
    );
    Refusal {
        allowed: Some(allowed),
        ..refusal
    }
}

pub(super) fn refuse(status: StatusCode, error: impl std::fmt::Display) -> Refusal {
    Refusal {
        status,
        error: error.to_string(),
        allowed: None,
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    // Structs of numbers, texts and lists always serialize.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut reply = Response::new(ReplyBody::whole(Bytes::from(body)));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// The names and values of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                percent_decode(&text.replace('+', " "))
                    .map_err(|error| format!("the query is malformed: {error}"))
            };
            let name = decode(name)?;
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(format!("`{name}` is given twice"));
            }
            pairs.push((name, decode(value)?));
        }
        Ok(Self(pairs))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A name that is not known may be meant to narrow down what is dropped.
    pub(super) fn only(&self, names: &[&str]) -> Result<(), Refusal> {
        match self
            .0
            .iter()
            .find(|(name, _)| !names.contains(&name.as_str()))
        {
            Some((name, _)) => Err(refuse(
                StatusCode::BAD_REQUEST,
                format_args!("`{name}` is not known here"),
            )),
            None => Ok(()),
        }
    }

    pub(super) fn number(&self, name: &str, default: usize, most: usize) -> Result<usize, Refusal> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(number) if number <= most => Ok(number),
                _ => Err(refuse(
                    StatusCode::BAD_REQUEST,
                    format_args!("`{name}` is not a number from 0 to {most}: `{text}`"),
                )),
            },
        }
    }
}
