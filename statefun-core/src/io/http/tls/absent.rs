//! HTTPS is not compiled in.

use std::convert::Infallible;
use std::io;
use std::path::Path;

use tokio::net::TcpStream;

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
pub(in crate::io::http) struct ClientTls(Infallible);

impl ClientTls {
    /// Says which feature it takes.
    pub(in crate::io::http) fn load(_: &str, _: Option<&Path>) -> Result<Self, String> {
        Err(needs_tls("an https:// `url`"))
    }

    /// Never called: nobody is trusted.
    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(in crate::io::http) async fn connect(&self, _: TcpStream) -> io::Result<TcpStream> {
        match self.0 {}
    }
}
