//! Being let in by a registry: what it asks for, and how it is answered.

use std::time::Duration;

use http_auth::ChallengeParser;
use oci_client::secrets::RegistryAuth;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use reqwest::redirect::{Action, Attempt, Policy};
use serde::Deserialize;

use super::credentials::{Credentials, Found};
use super::error::PushError;
use super::failure::{Cause, Failed};
use crate::image::reference::{Reference, is_loopback};

/// Longest time to get a connection.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// Longest time for an answer to a small request.
const ANSWER: Duration = Duration::from_secs(30);
/// By what registries know the client; also the `client_id` of the exchange for a token.
pub(super) const USER_AGENT: &str = concat!("statefun/", env!("CARGO_PKG_VERSION"));

/// How a registry is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Door {
    /// Without TLS, which is so on this machine only.
    pub(super) is_plain: bool,
    /// Where one knocks.
    url: String,
    challenge: Challenge,
}

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Challenge {
    /// Nothing.
    Open,
    /// A password with each request.
    Basic,
    /// A token, which someone else issues.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// Why nobody was let in: final, or for the caller to decide.
pub(super) enum Stopped {
    Final(PushError),
    Failed(Failed),
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// The client of what comes before the push itself.
pub(super) fn client(reference: &Reference) -> Result<reqwest::Client, PushError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails when another thread was quicker, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .redirect(Policy::custom(follow));
    let builder = if reference.is_loopback() {
        // A proxy would carry it away from this machine, unencrypted.
        builder.no_proxy()
    } else {
        builder
    };
    builder
        .build()
        .map_err(|error| PushError::Client(Failed::from(error).problem))
}

/// Nothing that was encrypted is sent on in the clear.
fn follow(attempt: Attempt<'_>) -> Action {
    let is_left = attempt
        .previous()
        .last()
        .is_some_and(|last| last.scheme() == "https");
    if is_left && attempt.url().scheme() != "https" {
        return attempt.stop();
    }
    Policy::default().redirect(attempt)
}

/// Knocks at the registry: finds out what it is, and what it asks for.
pub(super) async fn knock(
    client: &reqwest::Client,
    reference: &Reference,
    host: &str,
) -> Result<Door, Stopped> {
    if !reference.is_loopback() {
        return knock_at(client, reference, host, false).await;
    }
    let plain = knock_at(client, reference, host, true).await;
    match plain {
        // Perhaps it speaks TLS even here.
        Err(
            Stopped::Failed(_)
            | Stopped::Final(PushError::NotARegistry { .. } | PushError::Unreachable { .. }),
        ) => match knock_at(client, reference, host, false).await {
            Ok(door) => Ok(door),
            // Something that begins with TLS and then fails is better told than that plain HTTP did not do.
            Err(Stopped::Final(PushError::Tls { registry, problem }))
                if !problem.contains("InvalidContentType") =>
            {
                Err(Stopped::Final(PushError::Tls { registry, problem }))
            }
            Err(_) => plain,
        },
        plain => plain,
    }
}

async fn knock_at(
    client: &reqwest::Client,
    reference: &Reference,
    host: &str,
    is_plain: bool,
) -> Result<Door, Stopped> {
    let scheme = if is_plain { "http" } else { "https" };
    let url = format!("{scheme}://{host}/v2/");
    let answer = client.get(&url).send().await;
    let answer = answer.map_err(|error| at_first(reference, error.into()))?;
    let not_a_registry = |problem: String| {
        Stopped::Final(PushError::NotARegistry {
            url: url.clone(),
            problem,
        })
    };
    let status = answer.status().as_u16();
    let is_page = answer
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
    let challenge = match status {
        200 if is_page => return Err(not_a_registry("a page for people is there".to_owned())),
        200 => Challenge::Open,
        401 => {
            let asked = answer.headers().get_all(WWW_AUTHENTICATE);
            let asked = asked.iter().filter_map(|value| value.to_str().ok());
            challenge(asked).ok_or_else(|| {
                not_a_registry(
                    "it wants credentials in none of the ways that registries have".to_owned(),
                )
            })?
        }
        _ => {
            let failed = Failed::answer(status, &answer.text().await.unwrap_or_default());
            return Err(match failed.cause {
                Cause::Transient => Stopped::Failed(failed),
                _ => not_a_registry(failed.problem),
            });
        }
    };
    Ok(Door {
        is_plain,
        url,
        challenge,
    })
}

/// At the first request it is not tried again for long whether a name is right.
fn at_first(reference: &Reference, failed: Failed) -> Stopped {
    let registry = reference.registry().to_owned();
    let problem = failed.problem.clone();
    match failed.cause {
        Cause::Unreachable => Stopped::Final(PushError::Unreachable { registry, problem }),
        Cause::Tls => Stopped::Final(PushError::Tls { registry, problem }),
        _ => Stopped::Failed(failed),
    }
}

/// A token before a password, if there is a choice.
fn challenge<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for asked in ChallengeParser::new(header).map_while(Result::ok) {
            let param = |name: &str| {
                let mut params = asked.params.iter();
                params
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_unescaped())
            };
            if asked.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = param("realm")
            {
                let service = param("service");
                return Some(Challenge::Bearer { realm, service });
            }
            if asked.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

impl Door {
    /// Whether a token, and not a password, is what each request shows.
    pub(super) fn wants_token(&self) -> bool {
        matches!(self.challenge, Challenge::Bearer { .. })
    }

    /// What each request is to show.
    pub(super) async fn open(
        &self,
        client: &reqwest::Client,
        reference: &Reference,
        found: &Found,
    ) -> Result<RegistryAuth, Stopped> {
        let registry = || reference.registry().to_owned();
        match &self.challenge {
            Challenge::Open => Ok(RegistryAuth::Anonymous),
            Challenge::Basic => match &found.credentials {
                Some(Credentials::Password { user, password }) => {
                    let shown = client.get(&self.url).basic_auth(user, Some(password));
                    let answer = shown.send().await.map_err(Failed::from)?;
                    let status = answer.status().as_u16();
                    if status != 200 {
                        let said = answer.text().await.unwrap_or_default();
                        return Err(Failed::answer(status, &said).into());
                    }
                    Ok(RegistryAuth::Basic(user.clone(), password.clone()))
                }
                Some(Credentials::IdentityToken(_)) => {
                    Err(Stopped::Final(PushError::WrongCredentials {
                        registry: registry(),
                        from: found.told(),
                        problem: "they are an identity token, and it wants a password".to_owned(),
                    }))
                }
                None => Err(Stopped::Final(PushError::NoCredentials {
                    registry: registry(),
                    files: found.files.clone(),
                })),
            },
            Challenge::Bearer { realm, service } => {
                let token = token(client, reference, found, realm, service.as_deref()).await?;
                Ok(RegistryAuth::Bearer(token))
            }
        }
    }
}

/// Asks for a token with which one may push to this name.
async fn token(
    client: &reqwest::Client,
    reference: &Reference,
    found: &Found,
    realm: &str,
    service: Option<&str>,
) -> Result<String, Stopped> {
    let registry = || reference.registry().to_owned();
    let refused = |problem: &str| {
        let action = format!("to tell where tokens come from (`{realm}`)");
        let problem = problem.to_owned();
        Stopped::Final(PushError::Refused {
            registry: registry(),
            action,
            problem,
        })
    };
    let url = Url::parse(realm).map_err(|error| refused(&error.to_string()))?;
    let is_own = reference.is_loopback() && url.host_str().is_some_and(is_loopback);
    if url.scheme() != "https" && !is_own {
        return Err(Stopped::Final(PushError::InsecureRealm {
            registry: registry(),
            realm: realm.to_owned(),
        }));
    }
    let scope = format!("repository:{}:pull,push", reference.name());
    let mut parameters = vec![("scope", scope.as_str())];
    parameters.extend(service.map(|service| ("service", service)));
    let request = match &found.credentials {
        Some(Credentials::IdentityToken(secret)) => {
            parameters.extend([
                ("grant_type", "refresh_token"),
                ("client_id", "statefun"),
                ("refresh_token", secret),
            ]);
            client
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form(&parameters))
        }
        other => {
            let mut url = url;
            url.query_pairs_mut().extend_pairs(&parameters);
            let request = client.get(url);
            match other {
                Some(Credentials::Password { user, password }) => {
                    request.basic_auth(user, Some(password))
                }
                _ => request,
            }
        }
    };
    let answer = request.send().await.map_err(Failed::from)?;
    let status = answer.status().as_u16();
    let body = answer.text().await.map_err(Failed::from)?;
    if status != 200 {
        return Err(Failed::answer(status, &body).into());
    }
    let token: Token =
        serde_json::from_str(&body).map_err(|_| refused("what comes back has no token in it"))?;
    let token = token
        .token
        .or(token.access_token)
        .filter(|token| !token.is_empty());
    token.ok_or_else(|| refused("what comes back has no token in it"))
}

/// As forms are sent.
fn form(parameters: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("form:", parameters);
    url.ok()
        .and_then(|url| url.query().map(str::to_owned))
        .unwrap_or_default()
}

impl Found {
    /// Where the credentials come from.
    pub(super) fn told(&self) -> String {
        self.from.clone().unwrap_or_else(|| "nobody".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (headers, expected) in [
            (vec![r#"Basic realm="x""#], Some(Challenge::Basic)),
            (
                vec![r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#],
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                vec![r#"bearer Realm="https://a/t""#],
                bearer("https://a/t", None),
            ),
            (
                vec![
                    r#"Basic realm="x""#,
                    r#"Bearer realm="https://a/t",scope="a,b",error="e""#,
                ],
                bearer("https://a/t", None),
            ),
            (
                vec![r#"Basic realm="x", Bearer realm="https://a/t""#],
                bearer("https://a/t", None),
            ),
            (vec!["Bearer service=\"s\""], None),
            (vec!["Negotiate"], None),
            (vec!["", "\"", "Bearer realm=\"x"], None),
            (vec![], None),
        ] {
            assert_eq!(challenge(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(
            form(&[("a", "x y&z=ä"), ("b", "+")]),
            "a=x+y%26z%3D%C3%A4&b=%2B"
        );
    }
}
