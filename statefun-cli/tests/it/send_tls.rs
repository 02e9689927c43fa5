//! `statefun send` and `statefun call` over HTTPS, with real handshakes.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::send::Server;
use crate::support::{Files, Output};

const REPLY: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n\"hi\"";

/// An authority, and the configuration of a server whose certificate is of it.
struct Authority {
    pem: String,
    server: Arc<ServerConfig>,
}

impl Authority {
    /// The server's certificate is that of this name.
    fn new(authority: &str, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, authority);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let chain = vec![certificate.der().clone()];
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Self {
            pem: ca.pem(),
            server: Arc::new(server.unwrap()),
        }
    }

    fn serve(&self) -> Server {
        Server::encrypted(REPLY, self.server.clone())
    }
}

/// Calls it, where the system trusts the authorities of `system.pem`, if there is such a file, and no other.
fn call(files: &Files, server: &Server, host: &str, arguments: &[&str]) -> Output {
    let url = format!("https://{host}:{}/greets/bob", server.port);
    call_to(files, &url, arguments)
}

fn call_to(files: &Files, to: &str, arguments: &[&str]) -> Output {
    let system = files.path().join("system.pem");
    let system = system.to_str().unwrap();
    let environment = [("SSL_CERT_FILE", system), ("SSL_CERT_DIR", "/nowhere")];
    files.statefun_with(&environment, &[&["call", to, "{}"], arguments].concat())
}

#[test]
fn the_authorities_are_those_of_the_system_or_of_a_file() {
    let ours = Authority::new("ours", "localhost");
    let theirs = Authority::new("theirs", "localhost");
    let both = [("ours.pem", &ours), ("theirs.pem", &theirs)]
        .into_iter()
        .fold(Files::new(), |files, (name, authority)| {
            files.with(name, &authority.pem)
        });

    // A file, where the system trusts nobody.
    let server = ours.serve();
    let output = call(&both, &server, "localhost", &["--cacert", "ours.pem"]).ends(0);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("\"hi\"\n", "")
    );
    let request = server.request();
    assert!(
        request.starts_with("post /greets/bob?wait http/1.1\r\n"),
        "{request}"
    );

    // The system's.
    let files = both.with("system.pem", &ours.pem);
    let server = ours.serve();
    call(&files, &server, "localhost", &[]).ends(0);
    server.request();

    // A file in place of the system's.
    let server = ours.serve();
    let output = call(&files, &server, "localhost", &["--cacert", "theirs.pem"]).ends(2);
    assert!(
        output
            .stderr
            .contains("an authority that is not trusted here")
            && output.stderr.contains("`--cacert`"),
        "{}",
        output.stderr
    );
    assert_eq!(server.request(), "", "nothing is said to a stranger");
}

#[test]
fn the_certificate_must_be_that_of_the_host() {
    let authority = Authority::new("ours", "example.com");
    let files = Files::new().with("ca.pem", &authority.pem);
    let server = authority.serve();
    let output = call(&files, &server, "localhost", &["--cacert", "ca.pem"]).ends(2);
    assert!(
        output
            .stderr
            .contains("no encrypted connection to localhost:")
            && output.stderr.contains("example.com"),
        "{}",
        output.stderr
    );
    assert_eq!(server.request(), "");
}

#[test]
fn an_ingress_of_module_yaml_with_tls_is_called_with_it() {
    let authority = Authority::new("ours", "127.0.0.1");
    let server = authority.serve();
    let module = format!(
        "kind: io.statefun.http.v1/ingress\nspec:\n  id: example/greets\n  address: 127.0.0.1:{}\n  \
         valueType: example/Greet\n  targets: [example/greeter]\n  tls: {{certificate: c.pem, key: k.pem}}\n",
        server.port
    );
    let files = Files::new()
        .with("module.yaml", &module)
        .with("ca.pem", &authority.pem);
    call_to(&files, "greets", &["--id", "bob", "--cacert", "ca.pem"]).ends(0);
    assert!(server.request().starts_with("post /greets/bob?wait "));
}

#[test]
fn what_cannot_be_used_is_told() {
    let authority = Authority::new("ours", "localhost");
    let server = authority.serve();
    let files = Files::new()
        .with("ca.pem", &authority.pem)
        .with("empty.pem", "nothing\n");
    for (arguments, expected) in [
        (
            &["--cacert", "missing.pem"][..],
            "`--cacert`: cannot read missing.pem",
        ),
        (
            &["--cacert", "empty.pem"],
            "`--cacert`: empty.pem has no certificate in it",
        ),
        (&[], "this machine trusts no authority"),
    ] {
        let output = call(&files, &server, "localhost", arguments).ends(2);
        assert!(
            output.stderr.contains(expected),
            "{expected}: {}",
            output.stderr
        );
    }
    // None of them has come so far as to connect.
    call(&files, &server, "localhost", &["--cacert", "ca.pem"]).ends(0);
    server.request();

    // What listens does not speak TLS.
    let plain = Server::saying("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let output = call(&files, &plain, "localhost", &["--cacert", "ca.pem"]).ends(2);
    assert!(
        output
            .stderr
            .contains("no encrypted connection to localhost:"),
        "{}",
        output.stderr
    );
}

#[test]
fn an_operations_endpoint_may_stand_behind_https() {
    let authority = Authority::new("ours", "localhost");
    let files = Files::new()
        .with("ours.pem", &authority.pem)
        .with("token", "hush\n");
    let body = r#"{"addresses":[],"truncated":false}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let server = Server::encrypted(&answer, authority.server.clone());
    let url = format!("https://localhost:{}/shop/", server.port);
    let arguments = ["--url", &url, "--token-file", "token", "--cacert"];
    let asked = |ca: &str| files.statefun(&[&["parked", "ls"], &arguments[..], &[ca]].concat());
    let output = asked("ours.pem").ends(0);
    assert_eq!(output.stderr, "nothing is parked\n");
    let request = server.request();
    assert!(
        request.starts_with("get /shop/v1/parked?limit=100 http/1.1\r\n")
            && request.contains("authorization: bearer hush\r\n"),
        "{request}"
    );
}
