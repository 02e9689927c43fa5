//! How registries are asked to let someone in, and how they say no.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::fake::{Answer, Fake, Seen, answer};
use super::*;

/// `gardener:sesame`.
const BASIC: &str = "Basic Z2FyZGVuZXI6c2VzYW1l";
const DENIED: &str =
    r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;

fn layout() -> Layout {
    Layout::of(&[b"a layer"])
}

/// Wants a token, of which it says where it comes from.
fn wants_token(address: &str) -> Answer {
    let asked =
        format!(r#"Bearer realm="http://{address}/token",service="the registry",scope="ignored""#);
    answer(401, &[("WWW-Authenticate", &asked)], "")
}

/// A registry that wants `Bearer good`; for a token it asks `issue`.
fn with_tokens(issue: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Fake {
    Fake::start(move |address, seen| {
        if seen.line.contains("/token") {
            return Some(issue(seen));
        }
        (!seen.shows("Bearer good")).then(|| wants_token(address))
    })
}

fn name(fake: &Fake) -> String {
    format!("{}/some/hello:1", fake.address)
}

fn gardener(fake: &Fake) -> Pusher {
    Pusher::new().logged_in(&fake.address, "gardener", "sesame")
}

fn refused(pusher: &Pusher, fake: &Fake) -> String {
    shown(pusher.push(&layout(), &name(fake)).unwrap_err())
}

#[test]
fn a_registry_without_a_lock_is_shown_nothing() {
    let fake = Fake::start(|_, _| None);
    let pushed = gardener(&fake).push(&layout(), &name(&fake)).unwrap();
    assert_eq!(pushed.uploaded.blobs, 2);
    assert!(
        fake.seen("")
            .iter()
            .all(|seen| seen.authorization.is_none())
    );
    assert_eq!(fake.seen("PUT /v2/some/hello/manifests/1").len(), 1);
    // The manifest is the last of all.
    assert!(
        fake.seen("")
            .last()
            .unwrap()
            .is("PUT /v2/some/hello/manifests/1")
    );
}

#[test]
fn a_password_is_exchanged_for_a_token() {
    let fake = with_tokens(|seen| {
        assert!(seen.shows(BASIC));
        answer(200, &[], r#"{"token":"good","expires_in":300}"#)
    });
    let pushed = gardener(&fake).push(&layout(), &name(&fake)).unwrap();
    assert_eq!(pushed.uploaded.blobs, 2);
    let asked = fake.seen("GET /token");
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].line,
        "GET /token?scope=repository%3Asome%2Fhello%3Apull%2Cpush&service=the+registry"
    );
    // The password goes to who issues tokens, and to nobody else.
    assert!(
        fake.seen("")
            .iter()
            .all(|seen| seen.is("GET /token") || !seen.shows(BASIC))
    );
}

#[test]
fn an_identity_token_is_exchanged_for_a_token() {
    let fake = with_tokens(|seen| {
        assert!(seen.is("POST /token") && seen.authorization.is_none());
        let body = String::from_utf8(seen.body.to_vec()).unwrap();
        assert_eq!(
            body,
            "scope=repository%3Asome%2Fhello%3Apull%2Cpush&service=the+registry&grant_type=refresh_token&client_id=statefun\
             &refresh_token=secret%2F%2B%26"
        );
        answer(200, &[], r#"{"access_token":"good"}"#)
    });
    let config =
        serde_json::json!({"auths": {&fake.address: {"auth": "", "identitytoken": "secret/+&"}}});
    let pusher = Pusher::new().with_file(".docker/config.json", &config.to_string());
    assert_eq!(
        pusher.push(&layout(), &name(&fake)).unwrap().uploaded.blobs,
        2
    );
}

#[test]
fn nobody_in_particular_gets_a_token_too() {
    let fake = with_tokens(|seen| {
        assert!(seen.authorization.is_none());
        answer(200, &[], r#"{"token":"good"}"#)
    });
    assert_eq!(
        Pusher::new()
            .push(&layout(), &name(&fake))
            .unwrap()
            .uploaded
            .blobs,
        2
    );

    // With which one may read only.
    let fake = Fake::start(|address, seen| match seen {
        seen if seen.is("GET /token") => Some(answer(200, &[], r#"{"token":"good"}"#)),
        seen if seen.is("POST") || !seen.shows("Bearer good") => Some(wants_token(address)),
        _ => None,
    });
    let said = refused(&Pusher::new(), &fake);
    assert!(
        said.contains("wants to know who is pushing, and there are no credentials"),
        "{said}"
    );
    assert!(said.contains("podman login"), "{said}");
}

#[test]
fn a_token_that_has_run_out_is_replaced() {
    let issued = AtomicUsize::new(0);
    let used = AtomicUsize::new(0);
    let fake = Fake::start(move |address, seen| {
        if seen.is("GET /token") {
            let token = format!(
                r#"{{"token":"number {}"}}"#,
                issued.fetch_add(1, Ordering::Relaxed)
            );
            used.store(0, Ordering::Relaxed);
            return Some(answer(200, &[], &token));
        }
        let current = format!(
            "Bearer number {}",
            issued.load(Ordering::Relaxed).wrapping_sub(1)
        );
        // Each is good for four requests.
        let is_good = seen.shows(&current) && used.fetch_add(1, Ordering::Relaxed) < 4;
        (!is_good).then(|| wants_token(address))
    });
    let layout = Layout::of(&[b"a", b"b", b"c"]);
    let pushed = gardener(&fake).push(&layout, &name(&fake)).unwrap();
    assert_eq!(pushed.uploaded.blobs, 4);
    assert!(fake.seen("GET /token").len() > 2);
}

#[test]
fn whoever_issues_tokens_may_not_know_the_password() {
    let fake = with_tokens(|_| answer(401, &[], r#"{"details":"incorrect username or password"}"#));
    let said = refused(&gardener(&fake), &fake);
    assert!(
        said.contains("does not accept the credentials of "),
        "{said}"
    );
    assert!(
        said.contains(".docker/config.json") && said.contains("incorrect username or password"),
        "{said}"
    );
    assert!(said.contains("help: log in anew"), "{said}");
}

#[test]
fn someone_who_is_known_may_not_push_everywhere() {
    for status in [401, 403] {
        let fake = Fake::start(move |address, seen| match seen {
            seen if seen.is("GET /token") => Some(answer(200, &[], r#"{"token":"good"}"#)),
            seen if !seen.shows("Bearer good") => Some(wants_token(address)),
            seen if seen.is("POST") => Some(answer(status, &[], DENIED)),
            _ => None,
        });
        let said = refused(&gardener(&fake), &fake);
        assert!(
            said.contains("does not let who logs in with the credentials of "),
            "{said}"
        );
        assert!(
            said.contains("push to `some/hello`") && said.contains("DENIED: requested access"),
            "{said}"
        );
    }
}

#[test]
fn a_token_is_not_asked_for_where_others_can_read_along() {
    let fake = Fake::start(|_, _| {
        Some(answer(
            401,
            &[(
                "WWW-Authenticate",
                r#"Bearer realm="http://tokens.example.com/token""#,
            )],
            "",
        ))
    });
    let said = refused(&gardener(&fake), &fake);
    assert!(
        said.contains(
            "asks for a token from http://tokens.example.com/token, which is not encrypted"
        ),
        "{said}"
    );
}

#[test]
fn answers_of_who_issues_tokens_that_have_none() {
    for body in ["", "{}", r#"{"token":""}"#, "<html>", r#"{"token":7}"#] {
        let fake = with_tokens(move |_| answer(200, &[], body));
        let said = refused(&gardener(&fake), &fake);
        assert!(
            said.contains("what comes back has no token in it"),
            "{body}: {said}"
        );
    }
}

#[test]
fn what_is_there_may_be_no_registry() {
    let said_of = |status: u16, headers: &'static [(&str, &str)]| {
        let fake =
            Fake::start(move |_, _| Some(answer(status, headers, "<html>nothing for you</html>")));
        refused(&Pusher::new(), &fake)
    };
    for (status, headers, problem) in [
        (404, &[][..], "it answers 404 Not Found"),
        (
            200,
            &[("Content-Type", "text/html; charset=utf-8")],
            "a page for people is there",
        ),
        (
            401,
            &[("WWW-Authenticate", "Negotiate")],
            "it wants credentials in none of the ways",
        ),
        (302, &[("Location", "/v2/")], "too many redirects"),
    ] {
        let said = said_of(status, headers);
        assert!(said.contains(problem), "{said}");
        assert!(
            said.contains("is not that of a registry") || status == 302,
            "{said}"
        );
    }
}

#[test]
fn a_name_that_the_registry_does_not_have() {
    let unknown =
        r#"{"errors":[{"code":"NAME_UNKNOWN","message":"the repository does not exist"}]}"#;
    let fake = Fake::start(move |_, seen| seen.is("POST").then(|| answer(404, &[], unknown)));
    let said = refused(&Pusher::new(), &fake);
    assert!(
        said.contains("has no place for `some/hello`: it answers 404 Not Found: NAME_UNKNOWN"),
        "{said}"
    );
    assert!(
        said.contains("want `some/hello` to be created first"),
        "{said}"
    );
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_said() {
    let failures = AtomicUsize::new(0);
    let fake = Fake::start(move |_, seen| {
        let is_busy = !seen.is("HEAD") && failures.fetch_add(1, Ordering::Relaxed) % 3 == 0;
        is_busy.then(|| answer(503, &[], "busy"))
    });
    let pusher = Pusher::new();
    assert_eq!(
        pusher.push(&layout(), &name(&fake)).unwrap().uploaded.blobs,
        2
    );
    let told = pusher.told();
    assert!(
        told.contains(&"retrying: it answers 503 Service Unavailable: busy".to_owned()),
        "{told:?}"
    );

    let fake = Fake::start(|_, seen| seen.is("PUT /v2/").then(|| answer(429, &[], "slower")));
    let said = refused(&Pusher::new(), &fake);
    assert!(said.starts_with("uploading the manifest sha256:"), "{said}");
    assert!(
        said.contains("failed 6 times: it answers 429 Too Many Requests: slower"),
        "{said}"
    );

    let invalid = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}"#;
    let fake = Fake::start(move |_, seen| seen.is("PUT /v2/").then(|| answer(400, &[], invalid)));
    let said = refused(&Pusher::new(), &fake);
    assert!(
        said.contains("refuses uploading the manifest sha256:")
            && said.contains("MANIFEST_INVALID: no"),
        "{said}"
    );
}

#[test]
fn a_registry_that_falls_silent_is_not_waited_for_for_ever() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = silent.local_addr().unwrap();
    // The upload goes to someone who takes it and never answers.
    let fake = Fake::start(move |_, seen| {
        let place = format!("http://{elsewhere}/upload?state=some");
        seen.is("POST")
            .then(|| answer(202, &[("Location", &place)], ""))
    });
    let mut pusher = gardener(&fake);
    pusher.patience.stalled = Duration::from_millis(300);
    pusher.patience.attempts = 2;
    let said = refused(&pusher, &fake);
    assert!(
        said.contains("failed 2 times: nothing happens for 300ms"),
        "{said}"
    );
}

#[test]
fn a_password_does_not_follow_an_upload_to_another_host() {
    let elsewhere = Fake::start(|_, _| None);
    let place = format!("http://{}/upload?state=some", elsewhere.address);
    let fake = Fake::start(move |_, seen| {
        if !seen.shows(BASIC) {
            return Some(answer(
                401,
                &[("WWW-Authenticate", r#"Basic realm="x""#)],
                "",
            ));
        }
        seen.is("POST")
            .then(|| answer(202, &[("Location", &place)], ""))
    });
    assert_eq!(
        gardener(&fake)
            .push(&layout(), &name(&fake))
            .unwrap()
            .uploaded
            .blobs,
        2
    );
    let uploads = elsewhere.seen("PUT");
    assert_eq!(uploads.len(), 2);
    assert!(uploads.iter().all(|seen| seen.authorization.is_none()));
}
