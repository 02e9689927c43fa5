//! HTTPS is not compiled in.

use std::convert::Infallible;
use std::io;

use tokio::net::TcpStream;

use super::{Names, Trust};
use crate::module::model::Tls;

/// What to say where module.yaml wants HTTPS. Its checks say so earlier, with the place.
fn needs_tls(what: &str) -> String {
    format!(
        "{what} needs HTTPS, which this build does not have: in Cargo.toml write \
         `statefun = {{ package = \"statefun-core\", version = \"{}\", features = [\"tls\"] }}`",
        env!("CARGO_PKG_VERSION")
    )
}

/// A server's certificate and key: there is none in this build.
#[derive(Clone)]
pub(in crate::io::http) struct ServerTls(Infallible);

impl ServerTls {
    /// Says which feature it takes.
    pub(in crate::io::http) fn load(_: &Tls) -> Result<Self, String> {
        Err(needs_tls("`tls`"))
    }

    /// Never called: there is no such certificate.
    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(in crate::io::http) async fn accept(&self, _: TcpStream) -> io::Result<TcpStream> {
        match self.0 {}
    }
}

/// Whom a client trusts: nobody in this build.
#[derive(Debug)]
pub struct ClientTls(Infallible);

impl ClientTls {
    /// Says which feature it takes.
    pub fn load(_: &str, _: Trust<'_>, _: Names) -> Result<Self, String> {
        Err(needs_tls("an https:// `url`"))
    }

    /// Never called: nobody is trusted.
    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub async fn connect(&self, _: TcpStream) -> io::Result<TcpStream> {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build without the feature says at its start, whatever module.yaml's checks have been passed by.
    #[test]
    fn each_side_says_which_line_of_cargo_toml_is_missing() {
        let version = env!("CARGO_PKG_VERSION");
        let line = format!(
            "`statefun = {{ package = \"statefun-core\", version = \"{version}\", features = [\"tls\"] }}`"
        );
        let tls = Tls {
            certificate: "c.pem".into(),
            key: "k.pem".into(),
        };
        let server = ServerTls::load(&tls).map(drop).unwrap_err();
        let names = Names {
            url: "its `url`",
            ca: "tls.ca",
        };
        let client = ClientTls::load("example.com", Trust::System, names)
            .map(drop)
            .unwrap_err();
        for (said, what) in [
            (server, "`tls` needs HTTPS"),
            (client, "an https:// `url` needs HTTPS"),
        ] {
            assert!(said.starts_with(what) && said.ends_with(&line), "{said}");
        }
    }
}
