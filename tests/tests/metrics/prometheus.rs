//! Prometheus itself reads what applications show.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use statefun_tests::kill::process::wait_for;

use crate::support::{TOKEN, get, is_there, metrics, start};

const WIRING: &str = "\
kind: io.statefun.file.v1/ingress
spec:
  id: logs/orders
  path: orders.jsonl
  valueType: logs/Order
  routers: [orders]
";

const ORDERS: &str = "{\"id\": \"ada\", \"what\": \"tea\"}\n{\"id\": \"bob\", \"what\": \"fail\"}\n{\"id\": \"eve\", \"what\": \"cake\"}\n";

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("module.yaml"), WIRING).unwrap();
    std::fs::write(directory.path().join("orders.jsonl"), ORDERS).unwrap();
    directory
}

#[test]
fn promtool_finds_nothing_wrong() {
    if !is_there("promtool", "promtool_finds_nothing_wrong") {
        return;
    }
    let directory = directory();
    let (process, _, endpoint) = start(env!("CARGO_BIN_EXE_log-app"), directory.path(), vec![]);
    let text = wait_for(
        || Some(metrics(endpoint)).filter(|text| text.contains("app_orders_total{")),
        || process.last_words(),
    );
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

/// A Prometheus that looks at one application.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(directory: &Path, target: SocketAddr) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let config = directory.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n- job_name: statefun\n  \
                 authorization: {{credentials: {TOKEN}}}\n  static_configs: [{{targets: ['{target}']}}]\n"
            ),
        )
        .unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("prometheus.stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// The values of a query; none while it does not answer, or has none.
    fn query(&self, query: &str) -> Option<Vec<f64>> {
        std::net::TcpStream::connect(self.address).ok()?;
        let (status, _, body) = get(self.address, &format!("/api/v1/query?query={query}"));
        if status != 200 {
            return None;
        }
        // Answers may come in chunks, whose lengths stand around the JSON.
        let json = body.get(body.find('{')?..=body.rfind('}')?)?;
        let answer: Value = serde_json::from_str(json).ok()?;
        let results = answer["data"]["result"].as_array()?;
        let values = results.iter().map(|result| {
            let value = result["value"][1].as_str();
            value.and_then(|value| value.parse().ok()).unwrap()
        });
        let values: Vec<f64> = values.collect();
        (!values.is_empty()).then_some(values)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_an_application() {
    if !is_there("prometheus", "prometheus_scrapes_an_application") {
        return;
    }
    let directory = directory();
    let (process, _, endpoint) = start(env!("CARGO_BIN_EXE_log-app"), directory.path(), vec![]);
    let prometheus = Prometheus::start(directory.path(), endpoint);
    let said = || {
        let prometheus = std::fs::read_to_string(directory.path().join("prometheus.stderr"));
        format!(
            "{}\n{}",
            prometheus.unwrap_or_default(),
            process.last_words()
        )
    };
    for (query, expected) in [
        ("up", vec![1.0]),
        (
            "statefun_function_in_total{function=\"logs/orders\"}",
            vec![3.0],
        ),
        (
            "statefun_function_blocked_addresses{reason=\"parked\"}",
            vec![1.0],
        ),
        ("statefun_ingress_lag_bytes", vec![0.0]),
        // A failed invocation counts nothing.
        ("sum(app_orders_total)", vec![2.0]),
        ("statefun_epoch_seconds_count>bool(0)", vec![1.0]),
    ] {
        let escaped = query
            .replace('"', "%22")
            .replace('{', "%7B")
            .replace('}', "%7D")
            .replace('>', "%3E");
        wait_for(
            || (prometheus.query(&escaped)? == expected).then_some(()),
            || {
                format!(
                    "{query}: {:?}, not {expected:?}\n{}",
                    prometheus.query(&escaped),
                    said()
                )
            },
        );
    }
}
