//! Where a message goes: from what the command line and module.yaml say to a request.

use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, HeaderName};
use statefun_core::admin::Status as LiveStatus;
use statefun_core::module::model::{HttpIngress, PathSegment, RequestPart, ValueType};
use statefun_core::module::suggest::nearest;
use statefun_core::module::{Application, Spec};

use crate::args::MessageArgs;
use crate::client::{block_on, percent_encode};
use crate::live::{Live, read};
use crate::project::{find_modules, load};
use crate::status::Failure;
use crate::url::Url;

/// How a URL of an ingress looks.
const EXAMPLE: &str = "http://127.0.0.1:8080/greets/bob";

/// Where a message goes.
#[derive(Debug)]
pub(super) struct Target {
    /// What to call it.
    pub(super) name: String,
    /// `host:port`.
    pub(super) authority: String,
    pub(super) is_https: bool,
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) longest_wait: Duration,
}

impl Target {
    pub(super) fn find(args: &MessageArgs) -> Result<Self, Failure> {
        if args.to.contains("://") {
            return Self::of_url(args);
        }
        let (application, findings) = load(&find_modules(&args.modules)?);
        let spec = match ingress(&application, &args.to) {
            Err(failure) if findings.has_errors() => {
                return Err(failure.help("module.yaml has errors: `statefun validate` shows them"));
            }
            found => found?,
        };
        Self::of_ingress(args, spec)
    }

    fn of_url(args: &MessageArgs) -> Result<Self, Failure> {
        if args.id.is_some() || args.typename.is_some() || args.url.is_some() {
            return Err(Failure::usage(
                "a whole URL leaves nothing for `--id`, `--type` and `--url` to say",
            )
            .help("name the ingress instead, or write all into the URL"));
        }
        let Url {
            authority,
            is_https,
            path,
        } = Url::parse(&args.to, EXAMPLE)?;
        Ok(Self {
            name: args.to.clone(),
            authority,
            is_https,
            path,
            headers: Vec::new(),
            longest_wait: Duration::from_hours(1),
        })
    }

    fn of_ingress(args: &MessageArgs, spec: &HttpIngress) -> Result<Self, Failure> {
        let name = spec.id.to_string();
        let Url {
            authority,
            is_https,
            path: prefix,
        } = match &args.url {
            Some(url) => Url::parse(url, EXAMPLE)?,
            None => Url {
                authority: authority(spec)?,
                is_https: spec.tls.is_some(),
                path: String::new(),
            },
        };
        let mut headers = Vec::new();
        let typename = typename(args, spec)?;
        let mut path = prefix.trim_end_matches('/').to_owned();
        for segment in spec.path_template().segments() {
            path.push('/');
            match segment {
                PathSegment::Literal(text) => path.push_str(&text),
                PathSegment::Id => path.push_str(&percent_encode(needed_id(args, &name)?)),
                PathSegment::Type => path.push_str(&percent_encode(&typename)),
            }
        }
        if path.is_empty() {
            path.push('/');
        }
        match spec.id_source() {
            Some(RequestPart::Header(header)) => {
                headers.push((
                    header_name(header.as_str())?,
                    needed_id(args, &name)?.to_owned(),
                ));
            }
            Some(RequestPart::Pointer(pointer)) if args.id.is_some() => {
                return Err(Failure::usage(format_args!(
                    "`{name}` reads the id from the message, at `{pointer}`"
                ))
                .help("leave out `--id`"));
            }
            None if args.id.is_some() => {
                return Err(Failure::usage(format_args!(
                    "`{name}` takes no id: its routers decide"
                ))
                .help("leave out `--id`"));
            }
            _ => {}
        }
        if let Some(RequestPart::Header(header)) = spec.type_source() {
            headers.push((header_name(header.as_str())?, typename));
        }
        if let Some(auth) = &spec.auth {
            headers.push((AUTHORIZATION, format!("Bearer {}", auth.bearer.reveal())));
        }
        Ok(Self {
            name,
            authority,
            is_https,
            path,
            headers,
            longest_wait: spec.max_wait,
        })
    }
}

fn needed_id<'a>(args: &'a MessageArgs, ingress: &str) -> Result<&'a str, Failure> {
    match args.id.as_deref() {
        Some("") => Err(Failure::usage("`--id` is empty")),
        Some(id) => Ok(id),
        None => Err(Failure::usage(format_args!(
            "`{ingress}` needs to know which instance the message is for"
        ))
        .help("add `--id ID`")),
    }
}

/// The type of the message: the only one, or the one that was chosen.
fn typename(args: &MessageArgs, spec: &HttpIngress) -> Result<String, Failure> {
    let known: Vec<&str> = spec.value_types().iter().map(ValueType::as_str).collect();
    let listed = known.join("`, `");
    match (&args.typename, known.as_slice()) {
        (None, [one]) => Ok((*one).to_owned()),
        (None, _)
            if spec
                .type_source()
                .is_none_or(|from| matches!(from, RequestPart::Pointer(_))) =>
        {
            Ok(String::new())
        }
        (None, _) => Err(
            Failure::usage(format_args!("`{}` takes several types", spec.id))
                .help(format_args!("choose one with `--type`: `{listed}`")),
        ),
        (Some(wanted), known) => {
            let same = |one: &&&str| **one == wanted || one.rsplit('/').next() == Some(wanted);
            match known.iter().find(same) {
                Some(found) => Ok((*found).to_owned()),
                None => Err(
                    Failure::usage(format_args!("`{}` does not take `{wanted}`", spec.id))
                        .help(format_args!("it takes `{listed}`")),
                ),
            }
        }
    }
}

/// The HTTP ingress of that id, or of that name if there is one only.
fn ingress<'a>(application: &'a Application, wanted: &str) -> Result<&'a HttpIngress, Failure> {
    let all: Vec<&HttpIngress> = application
        .specs()
        .filter_map(|spec| match spec {
            Spec::HttpIngress(spec) => Some(spec),
            _ => None,
        })
        .collect();
    if let Some(exact) = all.iter().find(|spec| spec.id.as_str() == wanted) {
        return Ok(exact);
    }
    let mut short = all.iter().filter(|spec| spec.id.name() == wanted);
    if let Some(found) = short.next() {
        return match short.next() {
            None => Ok(found),
            Some(other) => Err(Failure::usage(format_args!(
                "`{wanted}` may be `{}` or `{}`",
                found.id, other.id
            ))
            .help("write the whole id")),
        };
    }
    if let Some(other) = application.specs().find(|spec| spec.id() == Some(wanted)) {
        let kind = application
            .components()
            .iter()
            .find(|component| component.spec.as_ref() == Some(other));
        let kind = kind.map_or("", |component| component.kind.name);
        return Err(Failure::usage(format_args!(
            "`{wanted}` is no HTTP ingress: its kind is {kind}"
        )));
    }
    let ids = all
        .iter()
        .map(|spec| spec.id.as_str())
        .chain(all.iter().map(|spec| spec.id.name()));
    let help = match nearest(wanted, ids) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if all.is_empty() && application.sources().iter().next().is_none() => {
            "there is no module.yaml here or above: name one with `--module`, or give a whole URL"
                .to_owned()
        }
        None if all.is_empty() => "the application has none".to_owned(),
        None => {
            let ids: Vec<&str> = all.iter().map(|spec| spec.id.as_str()).collect();
            format!("the application has `{}`", ids.join("`, `"))
        }
    };
    Err(Failure::usage(format_args!("there is no HTTP ingress `{wanted}`")).help(help))
}

/// Where the ingress listens. Of a port that the system chose, only the running application knows.
fn authority(spec: &HttpIngress) -> Result<String, Failure> {
    if spec.address.port() == 0 {
        let live = Live::of_directory(None)?;
        let answer = block_on(async { live.ask(Method::GET, "/v1/status").await })??;
        let status: LiveStatus = read(&answer)?;
        let place = status
            .listening
            .into_iter()
            .find(|place| place.component == spec.id.as_str());
        return place.map(|place| place.address).ok_or_else(|| {
            Failure::usage(format_args!(
                "the running application has no ingress `{}`",
                spec.id
            ))
            .help("was module.yaml changed since it was started?")
        });
    }
    let host = match spec.address.host() {
        // Every address: of these, the own machine's is sure to be one.
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let port = spec.address.port();
    Ok(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

fn header_name(name: &str) -> Result<HeaderName, Failure> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Failure::input(format_args!("`{name}` is no header's name")))
}

#[cfg(test)]
mod tests {
    use statefun_core::module::{Environment, Source};

    use super::*;

    fn arguments(to: &str) -> MessageArgs {
        MessageArgs {
            to: to.to_owned(),
            message: String::new(),
            id: None,
            typename: None,
            idempotency_key: None,
            url: None,
            cacert: None,
            modules: Vec::new(),
        }
    }

    fn application(documents: &[&str]) -> Application {
        let text: Vec<String> = documents
            .iter()
            .map(|spec| format!("kind: io.statefun.http.v1/ingress\nspec: {spec}\n"))
            .collect();
        let source = Source::text("module.yaml", text.join("---\n"));
        let (application, findings) = Application::load([source], &Environment::process());
        assert!(!findings.has_errors(), "{findings:?}");
        application
    }

    fn target(document: &str, change: impl FnOnce(&mut MessageArgs)) -> Result<Target, String> {
        let application = application(&[document]);
        let mut args = arguments("a/in");
        change(&mut args);
        let spec = ingress(&application, &args.to).map_err(|failure| failure.message)?;
        Target::of_ingress(&args, spec).map_err(|failure| failure.message)
    }

    #[test]
    fn the_path_is_filled_in() {
        let path = |document: &str, id: Option<&str>, typename: Option<&str>| {
            target(document, |args| {
                args.id = id.map(str::to_owned);
                args.typename = typename.map(str::to_owned);
            })
            .map(|target| target.path)
        };
        let plain = "{id: a/in, valueType: a/V}";
        assert_eq!(path(plain, Some("x y/z"), None).unwrap(), "/in/x%20y%2Fz");
        assert!(
            path(plain, None, None)
                .unwrap_err()
                .contains("which instance")
        );
        assert!(path(plain, Some(""), None).unwrap_err().contains("empty"));
        let two = "{id: a/in, valueTypes: [a/V, a/W], path: '/x/{type}/{id}'}";
        assert_eq!(path(two, Some("1"), Some("a/W")).unwrap(), "/x/a%2FW/1");
        assert_eq!(path(two, Some("1"), Some("V")).unwrap(), "/x/a%2FV/1");
        assert!(
            path(two, Some("1"), None)
                .unwrap_err()
                .contains("several types")
        );
        assert!(
            path(two, Some("1"), Some("X"))
                .unwrap_err()
                .contains("does not take `X`")
        );
        let root = "{id: a/in, valueType: a/V, path: /}";
        assert_eq!(path(root, None, None).unwrap(), "/");
        assert!(
            path(root, Some("1"), None)
                .unwrap_err()
                .contains("takes no id")
        );
        let pointer = "{id: a/in, valueType: a/V, path: /x, idFrom: {pointer: /id}}";
        assert_eq!(path(pointer, None, None).unwrap(), "/x");
        assert!(
            path(pointer, Some("1"), None)
                .unwrap_err()
                .contains("at `/id`")
        );
    }

    #[test]
    fn headers_carry_what_the_ingress_reads_there() {
        let document = "{id: a/in, valueTypes: [a/V, a/W], path: /x, idFrom: {header: X-Id}, typeFrom: {header: X-Type},
            auth: {bearer: hush}}";
        let headers = target(document, |args| {
            args.id = Some("7".to_owned());
            args.typename = Some("a/W".to_owned());
        });
        let headers: Vec<String> = headers
            .unwrap()
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        assert_eq!(
            headers,
            ["x-id: 7", "x-type: a/W", "authorization: Bearer hush"]
        );
    }

    #[test]
    fn addresses_that_mean_every_address_mean_this_machine() {
        for (address, expected) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("'[::]:81'", "[::1]:81"),
            ("localhost:82", "localhost:82"),
        ] {
            let document = format!("{{id: a/in, valueType: a/V, path: /x, address: {address}}}");
            assert_eq!(target(&document, |_| {}).unwrap().authority, expected);
        }
    }

    #[test]
    fn another_url_takes_the_place_of_the_address() {
        let document = "{id: a/in, valueType: a/V, path: /x, tls: {certificate: c, key: k}}";
        let to = |url: &str| {
            let target = target(document, |args| args.url = Some(url.to_owned()))?;
            Ok::<_, String>((target.authority, target.is_https, target.path))
        };
        assert_eq!(
            to("http://h:1").unwrap(),
            ("h:1".to_owned(), false, "/x".to_owned())
        );
        assert_eq!(
            to("https://h/behind/").unwrap(),
            ("h:443".to_owned(), true, "/behind/x".to_owned())
        );
        let own = target(document, |_| {}).unwrap();
        assert_eq!(
            (own.is_https, Url::host_of(&own.authority)),
            (true, "127.0.0.1")
        );
    }

    #[test]
    fn an_ingress_is_found_by_id_or_name() {
        let application = application(&[
            "{id: a/in, valueType: a/V}",
            "{id: b/in, valueType: a/V, path: /b}",
            "{id: b/two, valueType: a/V}",
        ]);
        let found = |wanted: &str| {
            ingress(&application, wanted)
                .map(|spec| spec.id.to_string())
                .map_err(|failure| {
                    format!("{} ({})", failure.message, failure.help.unwrap_or_default())
                })
        };
        assert_eq!(found("a/in").unwrap(), "a/in");
        assert_eq!(found("two").unwrap(), "b/two");
        assert!(found("in").unwrap_err().contains("`a/in` or `b/in`"));
        assert!(found("a/im").unwrap_err().contains("did you mean `a/in`?"));
        assert!(
            found("nothing-like-it")
                .unwrap_err()
                .contains("`a/in`, `b/in`, `b/two`")
        );
    }
}
