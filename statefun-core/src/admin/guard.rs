//! Who may ask what at the operations endpoint.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::api::{Reply, json};
use super::wire::Problem;
use crate::io::http::is_authorised;
use crate::module::model::Secret;

/// The rule of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guard {
    /// Who has the token may do everything.
    Token(Secret),
    /// Only this machine reaches it, so everybody may do everything; but for web pages, which reach it by a browser here.
    ThisMachine,
    /// Others reach it, and nobody proves who it is: only what tells nothing of the data, and changes nothing.
    Everybody,
}

/// What is asked for, as far as the rule tells requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whether it is live, or ready: probes have no token.
    Health,
    /// Numbers, and what there is.
    Numbers,
    /// Commands, and what functions have stored.
    Commands,
}

impl Guard {
    /// The rule of an endpoint at an address.
    pub(super) fn of(address: SocketAddr, token: Option<&Secret>) -> Self {
        match token {
            Some(token) => Self::Token(token.clone()),
            None if address.ip().to_canonical().is_loopback() => Self::ThisMachine,
            None => Self::Everybody,
        }
    }

    /// The answer to who may not ask that.
    pub(super) fn refuse(&self, wanted: Wanted, headers: &HeaderMap) -> Option<Reply> {
        match (self, wanted) {
            (_, Wanted::Health) | (Self::ThisMachine | Self::Everybody, Wanted::Numbers) => None,
            (Self::Token(token), _) => {
                (!is_authorised(headers, token.reveal())).then(unauthorised)
            }
            (Self::ThisMachine, Wanted::Commands) => {
                of_a_page(headers).map(|sign| forbidden(&format!(
                    "{sign}, so it may come from a web page: set `operations.token`, or STATEFUN_OPERATIONS_TOKEN, and show it with the \
                     request"
                )))
            }
            (Self::Everybody, Wanted::Commands) => Some(forbidden(
                "commands and state are not offered here, since other machines reach this address and no token is set: set \
                 `operations.token`, or STATEFUN_OPERATIONS_TOKEN, for the application",
            )),
        }
    }
}

/// What shows that a browser may have made the request for a page: pages can send requests to this machine, also under a name of
/// their own that means it, but they cannot leave these headers out or choose them.
fn of_a_page(headers: &HeaderMap) -> Option<String> {
    if headers.contains_key(ORIGIN) {
        return Some("the request has an `Origin` header".to_owned());
    }
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "none") {
        return Some("the request has a `Sec-Fetch-Site` header".to_owned());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return Some("the request has not one `Host` header".to_owned()),
    };
    (!is_this_machine(host)).then(|| "the `Host` of the request is not this machine".to_owned())
}

/// Whether a host, with or without a port, is a name or address that only ever means this machine.
fn is_this_machine(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => (
                host,
                port.strip_prefix(':').or(port.is_empty().then_some("")),
            ),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    port.is_some_and(is_port)
        && (host.eq_ignore_ascii_case("localhost")
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback()))
}

fn unauthorised() -> Reply {
    let mut reply = problem(
        StatusCode::UNAUTHORIZED,
        "this needs the header `Authorization: Bearer TOKEN`, with the token of `operations.token` or STATEFUN_OPERATIONS_TOKEN",
    );
    reply
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    reply
}

fn forbidden(error: &str) -> Reply {
    problem(StatusCode::FORBIDDEN, error)
}

fn problem(status: StatusCode, error: &str) -> Reply {
    json(
        status,
        &Problem {
            error: error.to_owned(),
        },
    )
}
