//! Where credentials are found.

use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::super::credentials::{Credentials, CredentialsError, Found, find};
use super::*;

impl Pusher {
    fn with_variable(mut self, name: &str, below_home: &str) -> Self {
        let path = self.home.path().join(below_home);
        self.variables.insert(name.to_owned(), path);
        self
    }

    /// A helper that is found by PATH.
    fn with_helper(self, name: &str, script: &str) -> Self {
        let file = format!("bin/docker-credential-{name}");
        let pusher = self.with_file(&file, &format!("#!/bin/sh\n{script}\n"));
        let path = pusher.home.path().join(&file);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let places = format!("{}/bin:/usr/bin:/bin", pusher.home.path().display());
        let mut pusher = pusher;
        pusher.variables.insert("PATH".to_owned(), places.into());
        pusher
    }

    fn find(&self, reference: &str) -> Result<Found, CredentialsError> {
        let variables = |name: &str| self.variables.get(name).cloned();
        find(&reference.parse().unwrap(), &variables)
    }

    /// `user:password from file`, or what else there is; without the home directory.
    fn finds(&self, reference: &str) -> String {
        let found = match self.find(reference) {
            Ok(found) => found,
            Err(error) => return self.short(&format!("{error}; {}", error.help("REGISTRY"))),
        };
        let from = self.short(&found.from.unwrap_or_default());
        match found.credentials {
            Some(Credentials::Password { user, password }) => {
                format!("{user}:{password} from {from}")
            }
            Some(Credentials::IdentityToken(token)) => format!("token {token} from {from}"),
            None => {
                let files = found
                    .files
                    .iter()
                    .map(|file| self.short(&file.display().to_string()));
                format!("nothing in {}", files.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn short(&self, text: &str) -> String {
        text.replace(&self.home.path().display().to_string(), "~")
    }
}

fn auths(entries: &[(&str, &str)]) -> String {
    let entries: serde_json::Map<_, _> = entries
        .iter()
        .map(|(registry, pair)| {
            let auth = serde_json::json!({"auth": STANDARD.encode(pair)});
            ((*registry).to_owned(), auth)
        })
        .collect();
    serde_json::json!({"auths": entries}).to_string()
}

#[test]
fn the_files_of_docker_and_of_podman() {
    assert_eq!(
        Pusher::new().finds("ghcr.io/a"),
        "nothing in ~/.docker/config.json, ~/.config/containers/auth.json"
    );
    let all = || {
        Pusher::new()
            .with_file(".docker/config.json", &auths(&[("a.io", "in:docker")]))
            .with_file(
                "special/config.json",
                &auths(&[("a.io", "in:special"), ("b.io", "in:special")]),
            )
            .with_file(
                "run/containers/auth.json",
                &auths(&[("a.io", "in:run"), ("c.io", "in:run")]),
            )
            .with_file(
                ".config/containers/auth.json",
                &auths(&[("c.io", "in:podman"), ("d.io", "in:podman")]),
            )
            .with_file("named.json", &auths(&[("a.io", "in:named")]))
    };
    let docker = all().with_variable("XDG_RUNTIME_DIR", "run");
    assert_eq!(
        docker.finds("a.io/a"),
        "in:docker from ~/.docker/config.json"
    );
    assert_eq!(
        docker.finds("c.io/a"),
        "in:run from ~/run/containers/auth.json"
    );
    assert_eq!(
        docker.finds("d.io/a"),
        "in:podman from ~/.config/containers/auth.json"
    );
    assert_eq!(
        docker.finds("b.io/a"),
        "nothing in ~/.docker/config.json, ~/run/containers/auth.json, ~/.config/containers/auth.json"
    );
    let special = all().with_variable("DOCKER_CONFIG", "special");
    assert_eq!(
        special.finds("b.io/a"),
        "in:special from ~/special/config.json"
    );
    assert_eq!(
        special.finds("d.io/a"),
        "in:podman from ~/.config/containers/auth.json"
    );
    let named = all().with_variable("REGISTRY_AUTH_FILE", "named.json");
    assert_eq!(named.finds("a.io/a"), "in:named from ~/named.json");
    assert_eq!(
        named.finds("d.io/a"),
        "nothing in ~/named.json, ~/.docker/config.json"
    );
    let both = named.with_variable("DOCKER_CONFIG", "special");
    assert_eq!(
        both.finds("a.io/a"),
        "in:special from ~/special/config.json"
    );
}

#[test]
fn forms_of_an_entry() {
    let with = |entry: serde_json::Value| {
        let text = serde_json::json!({"auths": {"a.io": entry}}).to_string();
        Pusher::new()
            .with_file(".docker/config.json", &text)
            .finds("a.io/a")
    };
    let docker = "from ~/.docker/config.json";
    assert_eq!(
        with(serde_json::json!({"auth": STANDARD.encode("u:p:q")})),
        format!("u:p:q {docker}")
    );
    assert_eq!(
        with(serde_json::json!({"auth": STANDARD_NO_PAD.encode("u:pp")})),
        format!("u:pp {docker}")
    );
    assert_eq!(
        with(serde_json::json!({"username": "u", "password": "p"})),
        format!("u:p {docker}")
    );
    assert_eq!(
        with(serde_json::json!({"auth": STANDARD.encode("u:p"), "identitytoken": "t"})),
        format!("token t {docker}")
    );
    assert!(with(serde_json::json!({})).starts_with("nothing in "));
    for entry in [
        serde_json::json!({"auth": "%%%"}),
        serde_json::json!({"auth": STANDARD.encode("nothing")}),
    ] {
        let said = with(entry);
        assert!(
            said.starts_with("~/.docker/config.json cannot be understood: `auth` of `a.io"),
            "{said}"
        );
        assert!(said.contains("`podman login REGISTRY`"), "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_understood_is_named_and_not_shown() {
    let said = |text: &str| {
        Pusher::new()
            .with_file(".docker/config.json", text)
            .finds("a.io/a")
    };
    for text in [
        "{",
        r#"{"auths": {"a.io": {"auth": 17}}}"#,
        r#"{"auths": "hush"}"#,
        "hush",
    ] {
        let said = said(text);
        assert!(
            said.starts_with("~/.docker/config.json cannot be understood: "),
            "{said}"
        );
        assert!(
            said.contains(" error at line 1, column ") && !said.contains("hush"),
            "{said}"
        );
    }
    assert!(said(" \n").starts_with("nothing in "));
    assert!(said("{}").starts_with("nothing in "));
    let folder = Pusher::new().with_file(".docker/config.json/file", "");
    assert!(
        folder
            .finds("a.io/a")
            .starts_with("cannot read ~/.docker/config.json: ")
    );
}

#[test]
fn docker_hub_goes_by_several_names() {
    for key in [
        "https://index.docker.io/v1/",
        "docker.io",
        "index.docker.io",
        "https://registry-1.docker.io",
    ] {
        let pusher = Pusher::new().with_file(".docker/config.json", &auths(&[(key, "u:p")]));
        for reference in [
            "hello",
            "me/hello:1",
            "docker.io/me/hello",
            "index.docker.io/hello",
        ] {
            assert_eq!(
                pusher.finds(reference),
                "u:p from ~/.docker/config.json",
                "{key} {reference}"
            );
        }
        assert!(pusher.finds("ghcr.io/docker.io").starts_with("nothing"));
    }
}

#[test]
fn podman_knows_credentials_of_a_part_of_a_registry() {
    let text = auths(&[
        ("a.io", "all:1"),
        ("a.io/team", "team:1"),
        ("a.io/team/hello", "one:1"),
        ("https://b.io/v2/", "b:1"),
    ]);
    let pusher = Pusher::new().with_file(".config/containers/auth.json", &text);
    for (reference, user) in [
        ("a.io/team/hello:1", "one"),
        ("a.io/team/other:1", "team"),
        ("a.io/teams/other:1", "all"),
        ("a.io/hello", "all"),
        ("b.io/hello", "b"),
    ] {
        assert!(
            pusher.finds(reference).starts_with(&format!("{user}:1 ")),
            "{reference}"
        );
    }
    assert!(pusher.finds("a.io:5000/team/hello").starts_with("nothing"));
}

#[test]
fn helpers_are_asked() {
    let answers = r#"read registry; echo "{\"ServerURL\": \"$registry\", \"Username\": \"$1 $registry\", \"Secret\": \"s\"}""#;
    let one = Pusher::new()
        .with_file(
            ".docker/config.json",
            r#"{"credHelpers": {"a.io": "one", "b.io": ""}, "auths": {"a.io": {}}}"#,
        )
        .with_helper("one", answers);
    assert_eq!(
        one.finds("a.io/a"),
        "get a.io:s from `docker-credential-one`, which ~/.docker/config.json names"
    );
    assert!(one.finds("b.io/a").starts_with("nothing"));

    // For all registries; what a file has by itself comes first.
    let mut config: serde_json::Value = serde_json::from_str(&auths(&[("c.io", "u:p")])).unwrap();
    config["credsStore"] = "store".into();
    config["auths"]["a.io"] = serde_json::json!({});
    let store = Pusher::new()
        .with_file(".docker/config.json", &config.to_string())
        .with_helper("store", answers);
    assert!(
        store
            .finds("a.io/a")
            .starts_with("get a.io:s from `docker-credential-store`")
    );
    assert!(
        store
            .finds("me/a")
            .starts_with("get https://index.docker.io/v1/:s from ")
    );
    assert_eq!(store.finds("c.io/a"), "u:p from ~/.docker/config.json");

    let token = Pusher::new()
        .with_file(".docker/config.json", r#"{"credsStore": "token"}"#)
        .with_helper("token", r#"echo '{"Username": "<token>", "Secret": "t"}'"#);
    assert!(token.finds("a.io/a").starts_with("token t from "));
}

#[test]
fn helpers_that_have_nothing_or_fail() {
    let with = |script: &str| {
        Pusher::new()
            .with_file(".docker/config.json", r#"{"credsStore": "it"}"#)
            .with_file(".config/containers/auth.json", &auths(&[("a.io", "u:p")]))
            .with_helper("it", script)
    };
    // As the helpers of docker say it. Then the next file is looked into.
    let nothing = with("echo credentials not found in native keychain; exit 1");
    assert_eq!(
        nothing.finds("a.io/a"),
        "u:p from ~/.config/containers/auth.json"
    );

    let fails = with("echo the keychain is locked >&2; exit 3").finds("a.io/a");
    assert_eq!(
        fails,
        "`docker-credential-it`, which ~/.docker/config.json names, fails: the keychain is locked; see what `echo REGISTRY | \
         docker-credential-it get` says"
    );
    let odd = with("echo hush").finds("a.io/a");
    assert!(
        odd.contains("names, does not answer as such helpers do") && !odd.contains("hush"),
        "{odd}"
    );

    let absent = Pusher::new()
        .with_file(".docker/config.json", r#"{"credsStore": "absent"}"#)
        .finds("a.io/a");
    assert!(absent.starts_with("`docker-credential-absent`, which ~/.docker/config.json names, cannot be run: No such file"), "{absent}");
    assert!(
        absent.contains("put `docker-credential-absent` where PATH finds it"),
        "{absent}"
    );
}

#[test]
fn secrets_are_not_shown() {
    let password = Credentials::Password {
        user: "u".to_owned(),
        password: "hush".to_owned(),
    };
    let token = Credentials::IdentityToken("hush".to_owned());
    assert!(!format!("{password:?}{token:?}").contains("hush"));
}
