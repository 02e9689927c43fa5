//! What a new application has for running beside Prometheus and Grafana.

use std::collections::BTreeSet;

use serde_json::Value;
use statefun_core::metrics::{Kind, METRICS, Metric};

use crate::support::Files;

fn scaffold(template: &str) -> Files {
    let files = Files::new();
    files
        .statefun(&["new", "my-shop", "--template", template, "--no-git"])
        .ends(0);
    files
}

fn dashboard() -> Value {
    let files = scaffold("greeter");
    serde_json::from_str(&files.read("my-shop/deploy/grafana/statefun.json")).unwrap()
}

/// All values of that name, wherever they stand.
fn all<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                if field == name {
                    found.push(value);
                }
                all(value, name, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| all(value, name, found)),
        _ => {}
    }
}

fn texts(value: &Value, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    all(value, name, &mut found);
    let texts = found.into_iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// What queries consist of: names, and what is between them.
fn words(query: &str) -> impl Iterator<Item = &str> {
    let is_in_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    query
        .split(move |c| !is_in_word(c))
        .filter(|word| !word.is_empty())
}

/// The metric that a word of a query names, if it names one.
fn metric(word: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| match metric.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|part| word.strip_suffix(part) == Some(metric.name)),
        Kind::Counter | Kind::Gauge => word == metric.name,
    })
}

#[test]
fn the_dashboard_shows_all_metrics_and_no_others() {
    let dashboard = dashboard();
    let mut shown = BTreeSet::new();
    let mut queries = texts(&dashboard, "expr");
    queries.extend(texts(&dashboard, "definition"));
    for query in queries {
        let named: Vec<&str> = words(&query)
            .filter(|word| word.starts_with("statefun_") || word.starts_with("process_"))
            .collect();
        assert!(!named.is_empty(), "{query}");
        let mut labels = vec!["instance", "le"];
        for word in named {
            let metric =
                metric(word).unwrap_or_else(|| panic!("there is no metric `{word}`: {query}"));
            shown.insert(metric.name);
            labels.extend(metric.labels);
            let is_rate = ["rate(", "increase(", "label_values("];
            assert!(
                metric.kind == Kind::Gauge || is_rate.iter().any(|what| query.contains(what)),
                "{query} shows a count since the start"
            );
        }
        // What is grouped by is there.
        for grouped in query.split("by (").skip(1) {
            let grouped = grouped.split(')').next().unwrap();
            for label in words(grouped) {
                assert!(labels.contains(&label), "{query} has no label `{label}`");
            }
        }
    }
    let missing: Vec<&str> = METRICS
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !shown.contains(name))
        .collect();
    assert!(missing.is_empty(), "they are shown nowhere: {missing:?}");
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "statefun");
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(
            place("x") + place("w") <= 24,
            "{title} is wider than the page"
        );
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "{title} lies over another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        for (part, is_there) in [
            ("description", panel["description"].is_string()),
            ("unit", panel["fieldConfig"]["defaults"]["unit"].is_string()),
            ("queries", !panel["targets"].as_array().unwrap().is_empty()),
        ] {
            assert!(is_there, "{title} has no {part}");
        }
    }
    // Any Prometheus can be chosen.
    let mut sources = Vec::new();
    all(&dashboard, "datasource", &mut sources);
    assert!(
        sources
            .iter()
            .all(|source| source["uid"] == "${datasource}")
    );
}

#[test]
fn the_services_fit_the_application() {
    for template in ["greeter", "minimal", "ride-sharing"] {
        let files = scaffold(template);
        let compose: serde_yaml::Value =
            serde_yaml::from_str(&files.read("my-shop/deploy/compose.yaml")).unwrap();
        let services = &compose["services"];
        let application = &services["application"];
        let manifest = files.read("my-shop/Cargo.toml");
        let version = manifest
            .lines()
            .find_map(|line| line.strip_prefix("version = "))
            .unwrap();
        assert_eq!(
            application["image"].as_str().unwrap(),
            format!("my-shop:${{VERSION:-{}}}", version.trim_matches('"'))
        );
        assert_eq!(application["read_only"], true);
        // Nothing is offered to other machines.
        for service in ["application", "prometheus", "grafana"] {
            for port in services[service]["ports"].as_sequence().unwrap() {
                let port = port.as_str().unwrap();
                assert!(port.starts_with("127.0.0.1:"), "{service}: {port}");
            }
        }
        let published: Vec<&str> = application["ports"]
            .as_sequence()
            .unwrap()
            .iter()
            .filter_map(|port| port.as_str()?.rsplit(':').next())
            .collect();
        let wiring = files.read("my-shop/module.yaml");
        let listens = wiring
            .lines()
            .filter_map(|line| line.trim().strip_prefix("address: "))
            .filter_map(|address| address.rsplit(':').next());
        let mut expected: Vec<&str> = listens.chain(["9464"]).collect();
        expected.dedup();
        assert_eq!(published, expected, "{template}");

        // What is mounted is there, and what is used is declared.
        for service in ["application", "prometheus", "grafana"] {
            for volume in services[service]["volumes"].as_sequence().unwrap() {
                let (from, _) = volume.as_str().unwrap().split_once(':').unwrap();
                match from.strip_prefix("./") {
                    Some(file) => {
                        let path = files.path().join("my-shop/deploy").join(file);
                        assert!(path.is_file(), "{service}: {from}");
                    }
                    None => assert!(compose["volumes"].get(from).is_some(), "{service}: {from}"),
                }
            }
        }

        let prometheus: serde_yaml::Value =
            serde_yaml::from_str(&files.read("my-shop/deploy/prometheus.yml")).unwrap();
        let target = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0];
        assert_eq!(*target, "application:9464");
        let source: serde_yaml::Value =
            serde_yaml::from_str(&files.read("my-shop/deploy/grafana/datasource.yaml")).unwrap();
        assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
        let interval = &prometheus["global"]["scrape_interval"];
        assert_eq!(
            &source["datasources"][0]["jsonData"]["timeInterval"],
            interval
        );
    }
}
