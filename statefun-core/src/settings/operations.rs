//! The settings under `operations`: where the operations endpoint listens, and who may ask there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;

use crate::module::ReservedPort;
use crate::module::model::{ListenAddress, Secret};

/// Where the operations endpoint listens when nothing is said, if that port is free.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// The operations endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OperationsSettings {
    /// Where it listens.
    pub listen: Listen,
    /// What a client must show. Without it, only what cannot do harm is offered to other machines.
    pub token: Option<Secret>,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Listen {
    /// At [`DEFAULT_LISTEN`]; at another free port of the same host when that one is taken.
    #[default]
    Default,
    /// There, and nowhere else.
    At(ListenAddress),
    /// Nowhere.
    Off,
}

impl OperationsSettings {
    /// The port that the endpoint is to have, when the settings name one: nothing else may listen there.
    pub fn reserved_port(&self) -> Option<ReservedPort> {
        match &self.listen {
            Listen::At(address) => Some(ReservedPort {
                port: address.port(),
                purpose: "the operations endpoint's, by `operations.listen`".to_owned(),
            }),
            Listen::Default | Listen::Off => None,
        }
    }

    /// Sets one from text, under the name that it has below `operations`; nothing when there is none of that name.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        Some(match name {
            "listen" if value.eq_ignore_ascii_case("off") => {
                self.listen = Listen::Off;
                Ok(())
            }
            "listen" => ListenAddress::parse(value)
                .map(|address| self.listen = Listen::At(address))
                .map_err(|problem| {
                    format!(
                        "`{value}` is no address to listen on: {problem}; write `host:port`, as in `{DEFAULT_LISTEN}`, or `off`"
                    )
                }),
            // What is wrong with a token is said without showing it.
            "token" if value.is_empty() => {
                Err("it is empty: leave it out for no token".to_owned())
            }
            "token" if !value.bytes().all(|byte| byte.is_ascii_graphic()) => Err(
                "it must be one word of ASCII letters, digits and signs, since it stands in an HTTP header".to_owned(),
            ),
            "token" => {
                self.token = Some(Secret::new(value));
                Ok(())
            }
            _ => return None,
        })
    }
}

/// As it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct OperationsSection {
    listen: Option<String>,
    token: Option<Secret>,
}

impl OperationsSection {
    /// Each setting with its text.
    pub(super) fn values(self) -> [(&'static str, Option<String>); 2] {
        [
            ("operations.listen", self.listen),
            (
                "operations.token",
                self.token.map(|token| token.reveal().to_owned()),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, SettingsError};

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(crate::settings::SETTINGS_FILE);
        std::fs::write(&file, text).unwrap();
        let lookup = |name: &str| {
            let known = environment.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        };
        Settings::load(&file, lookup)
    }

    #[test]
    fn file_and_environment_say_where_it_listens_and_who_may_ask() {
        let of = |text: &str, environment: &[(&str, &str)]| {
            let operations = load(text, environment).unwrap().operations;
            let listen = match operations.listen {
                Listen::Default => "default".to_owned(),
                Listen::Off => "off".to_owned(),
                Listen::At(address) => format!("{} {}", address.host(), address.port()),
            };
            let token = operations.token.map(|token| token.reveal().to_owned());
            (listen, token.unwrap_or_default())
        };
        let both = "operations: {listen: '[::]:9000', token: hush}";
        assert_eq!(of("", &[]), ("default".to_owned(), String::new()));
        assert_eq!(of(both, &[]), (":: 9000".to_owned(), "hush".to_owned()));
        // A number is the text that stands there.
        let number = load("operations: {token: 0123}", &[]).unwrap();
        let token = number.operations.token.unwrap();
        assert_eq!(token.reveal(), "0123");
        let off = ("off".to_owned(), String::new());
        assert_eq!(of("operations:\n  listen: off\n", &[]), off);
        let environment = [
            ("STATEFUN_OPERATIONS_LISTEN", "localhost:0"),
            ("STATEFUN_OPERATIONS_TOKEN", "s3cret"),
        ];
        let expected = ("localhost 0".to_owned(), "s3cret".to_owned());
        assert_eq!(of(both, &environment), expected);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        for (text, environment, expected) in [
            ("operations: {listen: 9464}", vec![], "no port"),
            ("operations: {listen: localhost}", vec![], "no port"),
            ("operations: {token: ''}", vec![], "empty"),
            ("operations: {token: hush hush}", vec![], "one word"),
            ("operations: {token: [hush]}", vec![], "sequence"),
            ("operations: {token: {hush: hush}}", vec![], "map"),
            ("operations: {tokne: hush}", vec![], "tokne"),
            (
                "",
                vec![("STATEFUN_OPERATIONS_TOKEN", "hush\nhush")],
                "STATEFUN_OPERATIONS_TOKEN",
            ),
            (
                "",
                vec![("STATEFUN_OPERATIONS_LISTEN", "here")],
                "STATEFUN_OPERATIONS_LISTEN",
            ),
        ] {
            let error = load(text, &environment).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(said.contains(expected), "{text}: {said}");
            assert!(!said.contains("hush"), "{said}");
        }
        let settings = load("operations: {token: hush}", &[]).unwrap();
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
