//! HTTPS by rustls, with ring for the arithmetic.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{Names, Trust};
use crate::module::model::Tls;

/// The only protocol that is spoken inside.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Not the process' own: an application may have chosen another for itself.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A server's certificate and key.
#[derive(Clone)]
pub(in crate::io::http) struct ServerTls(TlsAcceptor);

impl ServerTls {
    /// Reads both files. The error names the file and what is wrong with it.
    pub(in crate::io::http) fn load(tls: &Tls) -> Result<Self, String> {
        let chain = certificates("tls.certificate", &tls.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| {
            let file = tls.key.display();
            match error {
                PemError::NoItemsFound => format!(
                    "`tls.key`: {file} has no private key that can be read: it must be PEM, and not encrypted \
                     (`openssl pkey -in {file}` writes it like that)"
                ),
                error => unreadable("tls.key", &tls.key, &error),
            }
        })?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| {
            let (certificate, key) = (tls.certificate.display(), tls.key.display());
            match error {
                Error::InconsistentKeys(_) => format!(
                    "`tls`: the key in {key} does not belong to the first certificate in {certificate}; the server's own \
                     comes first there, and its issuers follow"
                ),
                error => format!("`tls`: {certificate} and {key} cannot be used: {error}"),
            }
        })?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Begins a connection. Cancel safe: it is closed.
    pub(in crate::io::http) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<server::TlsStream<TcpStream>> {
        self.0.accept(stream).await
    }
}

/// Whom a client trusts to be the host that it calls.
pub struct ClientTls {
    connector: TlsConnector,
    name: ServerName<'static>,
    names: Names,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientTls").field(&self.name).finish()
    }
}

impl ClientTls {
    /// For one host. The error says what is wrong.
    pub fn load(host: &str, trust: Trust<'_>, names: Names) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{} names a host that no certificate can have", names.url))?;
        let mut roots = RootCertStore::empty();
        if let Trust::SystemAnd(file) | Trust::Only(file) = trust {
            for certificate in certificates(names.ca, file)? {
                roots.add(certificate).map_err(|error| {
                    format!(
                        "`{}`: {} holds no authority's certificate: {error}",
                        names.ca,
                        file.display()
                    )
                })?;
            }
        }
        if !matches!(trust, Trust::Only(_)) {
            let system = rustls_native_certs::load_native_certs();
            // Some of them may be too old or too odd to be of use; the others do.
            roots.add_parsable_certificates(system.certs);
            if roots.is_empty() {
                let why = system.errors.first().map(|error| format!(" ({error})"));
                return Err(format!(
                    "{} is https://, and this machine trusts no authority{}: install its certificates \
                     (`ca-certificates` on Debian and Alpine), or name a file of them in `{}` or `SSL_CERT_FILE`",
                    names.url,
                    why.unwrap_or_default(),
                    names.ca
                ));
            }
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("HTTPS cannot be set up: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
            names,
        })
    }

    /// Begins a connection; the other side must prove that it is the host. Cancel safe: it is closed.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        let connected = self.connector.connect(self.name.clone(), stream).await;
        connected.map_err(|error| {
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
            match cause {
                Some(Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                )) => io::Error::other(format!(
                    "its certificate is from an authority that is not trusted here: name that one's certificate in \
                     `{}`, if it is the right one",
                    self.names.ca
                )),
                _ => error,
            }
        })
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(field: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, PemError> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let all = all.map_err(|error| unreadable(field, file, &error))?;
    if all.is_empty() {
        return Err(format!(
            "`{field}`: {} has no certificate in it: it must be PEM, which begins with `-----BEGIN CERTIFICATE-----`",
            file.display()
        ));
    }
    Ok(all)
}

fn unreadable(field: &str, file: &Path, error: &PemError) -> String {
    let file = file.display();
    match error {
        PemError::Io(error) => format!("`{field}`: cannot read {file}: {error}"),
        error => format!("`{field}`: {file} is not PEM: {error}"),
    }
}
