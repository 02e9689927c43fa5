//! HTTPS, with real handshakes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use super::app::App;
use super::client::{post, request};
use super::receiver::read;
use super::webhook::{numbered, try_open};
use crate::io::egress::Egress as _;

/// An authority, a server's certificate of its, and files of both.
struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    /// The certificate is that of these names.
    fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, folder.path().display().to_string());
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        let pki = Self { folder };
        pki.write("ca.pem", &ca.pem());
        pki.write("cert.pem", &certificate.pem());
        pki.write("key.pem", &key.serialize_pem());
        pki
    }

    fn local() -> Self {
        Self::new(&["localhost", "127.0.0.1"])
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    /// The lines of an HTTP ingress that speaks HTTPS with these files.
    fn ingress(&self, certificate: &str, key: &str) -> String {
        format!(
            "
kind: io.statefun.http.v1/ingress
spec:
  id: example/greets
  address: 127.0.0.1:0
  valueType: example/Greet
  targets: [example/greeter]
  tls:
    certificate: {}
    key: {}
",
            self.file(certificate).display(),
            self.file(key).display()
        )
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap())
            .unwrap();
        roots
    }

    fn server(&self) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from_pem_file(self.file("cert.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(self.file("key.pem")).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }
}

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Connects, trusting that authority only. Nothing is exchanged until it is written to.
fn connect(address: SocketAddr, trusts: &Pki) -> Client {
    let config = ClientConfig::builder()
        .with_root_certificates(trusts.roots())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    StreamOwned::new(connection, stream)
}

/// Posts a greeting, and returns all that comes back until the server closes the connection.
fn greet(client: &mut Client, path: &str) -> std::io::Result<String> {
    let body = r#"{"who":"ada","times":1}"#;
    client.write_all(&request("POST", path, &["connection: close"], body))?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn messages_come_in_encrypted() {
    let pki = Pki::local();
    let app = App::start(&pki.ingress("cert.pem", "key.pem"));
    let address = app.servers.bound("example/greets").unwrap();
    // Who connects and says nothing keeps nobody waiting.
    let _silent = TcpStream::connect(address).unwrap();
    let answer = greet(&mut connect(address, &pki), "/greets/ada").unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let answer = greet(&mut connect(address, &pki), "/greets/bob?wait=5s").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("Hello ada at bob"),
        "{answer}"
    );
    assert_eq!(app.log().len(), 2);
    let listening = app.servers.listening();
    assert_eq!(listening[0].scheme, "https");
    let example = listening[0].example.as_deref().unwrap();
    assert!(
        example.starts_with(&format!(
            "curl -X POST https://{address}/greets/some-id --insecure "
        )),
        "{example}"
    );
    app.runtime
        .block_on(app.servers.finish(Duration::from_millis(100)));
}

#[test]
fn who_does_not_trust_the_authority_sends_nothing() {
    let (pki, other) = (Pki::local(), Pki::local());
    let app = App::start(&pki.ingress("cert.pem", "key.pem"));
    let address = app.servers.bound("example/greets").unwrap();
    let error = greet(&mut connect(address, &other), "/greets/ada").unwrap_err();
    assert!(
        error.to_string().contains("invalid peer certificate"),
        "{error}"
    );
    assert!(app.log().is_empty());
    greet(&mut connect(address, &pki), "/greets/ada").unwrap();
    assert_eq!(app.log().len(), 1);
}

#[test]
fn who_speaks_plain_http_is_told() {
    let pki = Pki::local();
    let app = App::start(&pki.ingress("cert.pem", "key.pem"));
    let address = app.servers.bound("example/greets").unwrap();
    let answer = post(address, "/greets/ada", r#"{"who":"ada","times":1}"#);
    assert_eq!(answer.status, 400);
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .contains("https://"),
        "{}",
        answer.text()
    );
    assert!(app.log().is_empty());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (pki, other) = (Pki::local(), Pki::local());
    std::fs::copy(other.file("key.pem"), pki.file("other.pem")).unwrap();
    pki.write("empty.pem", "");
    pki.write(
        "bad.pem",
        "-----BEGIN CERTIFICATE-----\nno base64!\n-----END CERTIFICATE-----\n",
    );
    pki.write(
        "odd.pem",
        "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    );
    pki.write(
        "locked.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    for (certificate, key, named, problem) in [
        ("none.pem", "key.pem", "none.pem", "No such file"),
        ("cert.pem", "none.pem", "none.pem", "No such file"),
        ("empty.pem", "key.pem", "empty.pem", "no certificate"),
        ("key.pem", "key.pem", "key.pem", "no certificate"),
        ("bad.pem", "key.pem", "bad.pem", "not PEM"),
        ("odd.pem", "key.pem", "odd.pem", "cannot be used"),
        ("cert.pem", "cert.pem", "cert.pem", "no private key"),
        ("cert.pem", "locked.pem", "locked.pem", "not encrypted"),
        ("cert.pem", "other.pem", "other.pem", "does not belong"),
    ] {
        let Err(error) = App::try_start(&pki.ingress(certificate, key)) else {
            panic!("{certificate} and {key} are taken")
        };
        let error = error.to_string();
        let file = pki.file(named).display().to_string();
        assert!(
            error.contains(&file) && error.contains(problem) && error.contains("`tls"),
            "{certificate}, {key}: {error}"
        );
    }
}

#[test]
fn ingresses_that_share_an_address_share_its_certificate() {
    let pki = Pki::local();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .unwrap()
        .port();
    let one = pki
        .ingress("cert.pem", "key.pem")
        .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let other = one.replace("example/greets", "example/others");
    let app = App::start(&format!("{one}---{other}"));
    let address = app.servers.bound("example/others").unwrap();
    let answer = greet(&mut connect(address, &pki), "/others/ada").unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    drop(app);
    let plain = other.split("  tls:").next().unwrap();
    let Err(error) = App::try_start(&format!("{one}---{plain}")) else {
        panic!("one address speaks HTTPS and plain HTTP")
    };
    assert!(error.to_string().contains("another `tls`"), "{error}");
}

/// A receiver of webhooks that speaks HTTPS, takes everything, and keeps what clients said of connections that failed.
struct Receiver {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
    failures: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Receiver {
    fn start(pki: &Pki) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            bodies: Arc::default(),
            failures: Arc::default(),
            connections: Arc::default(),
        };
        let config = pki.server();
        let (bodies, failures) = (receiver.bodies.clone(), receiver.failures.clone());
        let connections = receiver.connections.clone();
        // It ends with the test's process.
        super::thread(move || {
            for stream in listener.incoming() {
                *connections.lock().unwrap() += 1;
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                    failures.lock().unwrap().push(error.to_string());
                    continue;
                }
                let mut bytes = Vec::new();
                while let Some(received) = read(&mut stream, &mut bytes, 0) {
                    bodies.lock().unwrap().push(received.body);
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                }
            }
        });
        receiver
    }

    fn url(&self) -> String {
        format!("https://{}/hook", self.address)
    }
}

fn trusting(ca: &Path) -> String {
    format!("  tls: {{ca: {}}}\n", ca.display())
}

#[test]
fn records_leave_encrypted() {
    let pki = Pki::local();
    let receiver = Receiver::start(&pki);
    let mut hook = try_open(&receiver.url(), &trusting(&pki.file("ca.pem")), None).unwrap();
    hook.webhook.deliver(1, &numbered(3)).unwrap();
    hook.webhook.deliver(2, &numbered(2)).unwrap();
    assert_eq!(*receiver.bodies.lock().unwrap(), ["0", "1", "2", "0", "1"]);
    assert_eq!(
        *receiver.connections.lock().unwrap(),
        1,
        "a connection is kept"
    );
}

/// Delivers until the receiver saw a connection fail, and returns what the egress says then.
fn refused(receiver: &Receiver, ca: &Path) -> String {
    let mut hook = try_open(&receiver.url(), &trusting(ca), None).unwrap();
    let stopping = hook.stopping.clone();
    let delivering = super::thread(move || hook.webhook.deliver(1, &numbered(1)).unwrap_err());
    while receiver.failures.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    stopping.send_replace(true);
    let error = delivering.join().unwrap();
    assert!(error.transient, "{error}");
    assert!(receiver.bodies.lock().unwrap().is_empty());
    error.to_string()
}

#[test]
fn a_receiver_whose_authority_is_not_trusted_gets_nothing() {
    let (pki, other) = (Pki::local(), Pki::local());
    let error = refused(&Receiver::start(&pki), &other.file("ca.pem"));
    assert!(error.contains("`tls.ca`"), "{error}");
}

#[test]
fn a_receiver_with_the_certificate_of_another_host_gets_nothing() {
    let pki = Pki::new(&["example.com"]);
    let error = refused(&Receiver::start(&pki), &pki.file("ca.pem"));
    assert!(error.contains("example.com"), "{error}");
}

#[test]
fn an_authority_that_cannot_be_read_is_named() {
    let pki = Pki::local();
    pki.write(
        "odd.pem",
        "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    );
    for (file, problem) in [
        ("none.pem", "No such file"),
        ("key.pem", "no certificate"),
        ("odd.pem", "no authority's certificate"),
    ] {
        let Err(error) = try_open(
            "https://example.com/secret-path",
            &trusting(&pki.file(file)),
            None,
        ) else {
            panic!("{file} is taken")
        };
        let error = error.to_string();
        assert!(
            error.contains(&pki.file(file).display().to_string()) && error.contains(problem),
            "{error}"
        );
        assert!(!error.contains("secret-path"), "{error}");
    }
}
