//! Who is pushing: credentials as `docker login` and `podman login` have left them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use thiserror::Error;

use crate::image::reference::Reference;

/// What a helper answers in place of a user's name when the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// What helpers say when they have nothing, which is no failure. The protocol has no better sign.
const NOT_FOUND: [&str; 2] = ["credentials not found", "no credentials"];
/// The key of Docker Hub in docker's file, and the other ones that are seen there.
const DOCKER_HUB_KEYS: [&str; 4] = [
    "https://index.docker.io/v1/",
    "index.docker.io",
    "docker.io",
    "registry-1.docker.io",
];

/// What a registry is shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// To be exchanged for a token of access.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user})"),
            Self::IdentityToken(_) => write!(f, "IdentityToken"),
        }
    }
}

/// What was found, and where.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Nothing means to try without.
    pub(super) credentials: Option<Credentials>,
    /// The file, or the helper and the file that names it.
    pub(super) from: Option<String>,
    /// The files that were looked into, whether they are there or not.
    pub(super) files: Vec<PathBuf>,
}

/// Why credentials cannot be found out.
#[derive(Debug, Error)]
pub(crate) enum CredentialsError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} cannot be understood: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },
    #[error("`{program}`, which {} names, cannot be run: {source}", path.display())]
    NoHelper {
        path: PathBuf,
        program: String,
        source: io::Error,
    },
    #[error("`{program}`, which {} names, {problem}", path.display())]
    Helper {
        path: PathBuf,
        program: String,
        problem: String,
    },
}

impl CredentialsError {
    /// How to mend it.
    pub(crate) fn help(&self, registry: &str) -> String {
        match self {
            Self::Unreadable { .. } | Self::Malformed { .. } => {
                format!(
                    "mend the file, or have it written anew by `docker login {registry}` or `podman login {registry}`"
                )
            }
            Self::NoHelper { path, program, .. } => format!(
                "put `{program}` where PATH finds it, or remove it from `credsStore` and `credHelpers` of {} and log in anew",
                path.display()
            ),
            Self::Helper { program, .. } => {
                format!("see what `echo {registry} | {program} get` says")
            }
        }
    }
}

/// `config.json` of docker, and `auth.json` of podman, which is the same.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

/// What is empty is what a credentials store has.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Variables of the environment by name; a parameter so that tests need not change the process's.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// Those of this process. What is set to nothing is not set.
pub(super) fn process_variables(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Looks into each file until one has something for the registry.
pub(super) fn find(
    reference: &Reference,
    variables: Variables<'_>,
) -> Result<Found, CredentialsError> {
    let mut found = Found {
        files: files(variables),
        ..Found::default()
    };
    for path in found.files.clone() {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => continue,
            Err(source) => return Err(CredentialsError::Unreadable { path, source }),
        };
        // podman leaves an empty file behind.
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        // What the parser says may repeat what is there, which is secret.
        let malformed = |error: serde_json::Error| CredentialsError::Malformed {
            path: path.clone(),
            problem: format!(
                "{:?} error at line {}, column {}",
                error.classify(),
                error.line(),
                error.column()
            ),
        };
        let config: Config = serde_json::from_slice(&text).map_err(malformed)?;
        if let Some((credentials, from)) = config.find(variables, &path, reference)? {
            found.credentials = Some(credentials);
            found.from = Some(from);
            return Ok(found);
        }
    }
    Ok(found)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Where docker and podman keep credentials, the more specific first.
fn files(variables: Variables<'_>) -> Vec<PathBuf> {
    let below = |name, path: &str| variables(name).map(|folder| folder.join(path));
    let docker =
        below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json"));
    let podman = match variables("REGISTRY_AUTH_FILE") {
        Some(file) => vec![Some(file)],
        None => vec![
            below("XDG_RUNTIME_DIR", "containers/auth.json"),
            below("XDG_CONFIG_HOME", "containers/auth.json")
                .or_else(|| below("HOME", ".config/containers/auth.json")),
        ],
    };
    // Whoever sets a variable means it; between the defaults docker's comes first.
    let podman_first =
        variables("REGISTRY_AUTH_FILE").is_some() && variables("DOCKER_CONFIG").is_none();
    let mut files: Vec<PathBuf> = if podman_first {
        podman.into_iter().chain([docker]).flatten().collect()
    } else {
        [docker].into_iter().chain(podman).flatten().collect()
    };
    files.dedup();
    files
}

impl Config {
    fn find(
        &self,
        variables: Variables<'_>,
        path: &Path,
        reference: &Reference,
    ) -> Result<Option<(Credentials, String)>, CredentialsError> {
        let keys = registry_keys(reference);
        for key in &keys {
            if let Some(helper) = self
                .cred_helpers
                .get(key)
                .filter(|helper| !helper.is_empty())
                && let Some(found) = ask_helper(variables, path, helper, key)?
            {
                return Ok(Some(found));
            }
        }
        for key in place_keys(reference, &keys) {
            let named = self.auths.iter().find(|(name, _)| bare(name) == bare(&key));
            if let Some((_, auth)) = named
                && let Some(credentials) = auth.credentials(path, &key)?
            {
                return Ok(Some((credentials, path.display().to_string())));
            }
        }
        let store = self
            .creds_store
            .as_deref()
            .filter(|store| !store.is_empty());
        match (store, keys.first()) {
            (Some(store), Some(key)) => ask_helper(variables, path, store, key),
            _ => Ok(None),
        }
    }
}

/// What the registry may be called.
fn registry_keys(reference: &Reference) -> Vec<String> {
    if reference.is_docker_hub() {
        return DOCKER_HUB_KEYS.map(str::to_owned).to_vec();
    }
    vec![reference.registry().to_owned()]
}

/// podman knows credentials of a part of a registry: these come first, the longest of them before the others.
fn place_keys(reference: &Reference, registries: &[String]) -> Vec<String> {
    let mut keys = Vec::new();
    let mut place = format!("{}/{}", reference.registry(), reference.name());
    while let Some((shorter, _)) = place.rsplit_once('/') {
        let shorter = shorter.to_owned();
        keys.push(place);
        place = shorter;
    }
    keys.extend_from_slice(registries);
    keys
}

/// A key of `auths` without what old clients wrote around it.
fn bare(key: &str) -> &str {
    match key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
    {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key,
    }
}

impl Auth {
    fn credentials(&self, path: &Path, key: &str) -> Result<Option<Credentials>, CredentialsError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identitytoken.clone())));
        }
        if !self.auth.is_empty() {
            let decoded = decode(&self.auth).ok_or_else(|| CredentialsError::Malformed {
                path: path.to_owned(),
                problem: format!("`auth` of `{key}` is not `USER:PASSWORD` in base64"),
            })?;
            return Ok(Some(decoded));
        }
        Ok((!self.username.is_empty()).then(|| Credentials::Password {
            user: self.username.clone(),
            password: self.password.clone(),
        }))
    }
}

fn decode(text: &str) -> Option<Credentials> {
    // Clients differ in whether they pad.
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&alphabet::STANDARD, config)
        .decode(text)
        .ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credentials::Password {
        user: user.to_owned(),
        // docker pads what it encodes with zeros.
        password: password.trim_end_matches('\0').to_owned(),
    })
}

/// Runs `docker-credential-NAME get`.
fn ask_helper(
    variables: Variables<'_>,
    path: &Path,
    helper: &str,
    key: &str,
) -> Result<Option<(Credentials, String)>, CredentialsError> {
    let program = format!("docker-credential-{helper}");
    let no_helper = |source| CredentialsError::NoHelper {
        path: path.to_owned(),
        program: program.clone(),
        source,
    };
    let problem = |problem: String| CredentialsError::Helper {
        path: path.to_owned(),
        program: program.clone(),
        problem,
    };
    let mut command = Command::new(&program);
    if let Some(places) = variables("PATH") {
        command.env("PATH", places);
    }
    let mut child = command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no_helper)?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read has its reasons, and tells them.
        let _ = input.write_all(key.as_bytes());
    }
    let output = child.wait_with_output().map_err(no_helper)?;
    let said = [&output.stdout, &output.stderr]
        .map(|text| String::from_utf8_lossy(text).trim().to_owned());
    if !output.status.success() {
        let says_none = |text: &String| {
            NOT_FOUND
                .iter()
                .any(|none| text.to_lowercase().contains(none))
        };
        if said.iter().any(says_none) {
            return Ok(None);
        }
        let said = said.into_iter().find(|text| !text.is_empty());
        let said = said.map_or_else(
            || output.status.to_string(),
            |text| text.chars().take(300).collect(),
        );
        return Err(problem(format!("fails: {said}")));
    }
    // Its answer is a secret: what is wrong with it is said without showing it.
    let answer: HelperAnswer = serde_json::from_slice(&output.stdout).map_err(|error| {
        problem(format!(
            "does not answer as such helpers do, at column {}",
            error.column()
        ))
    })?;
    let credentials = if answer.username == TOKEN_USER {
        Credentials::IdentityToken(answer.secret)
    } else {
        Credentials::Password {
            user: answer.username,
            password: answer.secret,
        }
    };
    Ok(Some((
        credentials,
        format!("`{program}`, which {} names", path.display()),
    )))
}
