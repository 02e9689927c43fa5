//! The settings under `tracing`: where traces go, how many, and what they tell.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::module::model::{HttpUrl, Secret};
use crate::trace::Sample;

/// Where traces go, how many, and what they tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingSettings {
    /// Where the collector takes spans (OTLP over HTTP). Without it nothing is traced.
    pub endpoint: Option<HttpUrl>,
    /// The share of traces that are recorded, of those that begin here.
    pub sample: Sample,
    /// What the application is called in traces.
    pub service_name: String,
    /// Headers of every request to the collector.
    pub headers: BTreeMap<String, Secret>,
    /// Whether spans tell the ids of addresses.
    pub ids: bool,
    /// Variables of OpenTelemetry that cannot be used, and why.
    pub(crate) ignored: Vec<String>,
    /// What was set: OpenTelemetry's own variables count for the rest.
    said: BTreeSet<String>,
}

impl Default for TracingSettings {
    fn default() -> Self {
        let program = std::env::current_exe().ok();
        let name = program.as_ref().and_then(|path| path.file_name());
        Self {
            endpoint: None,
            sample: Sample::default(),
            service_name: name.map_or_else(
                || "statefun".to_owned(),
                |name| name.to_string_lossy().into_owned(),
            ),
            headers: BTreeMap::new(),
            ids: true,
            ignored: Vec::new(),
            said: BTreeSet::new(),
        }
    }
}

/// Where a collector takes spans, below the address that is configured.
const PATH: &str = "/v1/traces";

/// The variables of OpenTelemetry that count where neither the file nor a variable of ours says anything. Its headers go to its
/// endpoint only: they may hold what nobody else is to know.
const OPEN_TELEMETRY: [(&str, &str, &str); 3] = [
    ("OTEL_SERVICE_NAME", "serviceName", "serviceName"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "headers", "endpoint"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "endpoint", "endpoint"),
];

impl TracingSettings {
    /// Sets one from text, under the name that it has below `tracing`; nothing when there is none of that name.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Option<Result<(), String>> {
        let value = value.trim();
        let set = match name {
            "endpoint" if value == "none" => {
                self.endpoint = None;
                Ok(())
            }
            "endpoint" => endpoint(value).map(|endpoint| self.endpoint = Some(endpoint)),
            "sample" => value.parse().map(|sample| self.sample = sample),
            "serviceName" if value.is_empty() => Err("a name is needed".to_owned()),
            "serviceName" => {
                value.clone_into(&mut self.service_name);
                Ok(())
            }
            "headers" => headers(value).map(|headers| self.headers = headers),
            "ids" => value
                .parse()
                .map(|ids| self.ids = ids)
                .map_err(|_| format!("`{value}` is neither `true` nor `false`")),
            _ => return None,
        };
        self.said.insert(name.to_owned());
        Some(set)
    }

    /// Sets the headers, which are no text in the file.
    pub(super) fn set_headers(&mut self, headers: BTreeMap<String, Secret>) {
        self.headers = headers;
        self.said.insert("headers".to_owned());
    }

    /// What OpenTelemetry's own variables say, where nothing else does. They are not ours alone: one that cannot be used is
    /// no reason not to start.
    pub(super) fn complete(&mut self, environment: impl Fn(&str) -> Option<String>) {
        for (variable, name, unless) in OPEN_TELEMETRY {
            if self.said.contains(name) || self.said.contains(unless) {
                continue;
            }
            let value = environment(variable).filter(|value| !value.trim().is_empty());
            if let Some(Err(problem)) = value.and_then(|value| self.set(name, &value)) {
                self.ignored.push(format!("{variable}: {problem}"));
            }
        }
    }
}

fn endpoint(text: &str) -> Result<HttpUrl, String> {
    let base = text.trim_end_matches('/');
    let url = if base.ends_with(PATH) {
        base.to_owned()
    } else {
        format!("{base}{PATH}")
    };
    HttpUrl::parse(&url).map_err(|problem| {
        format!(
            "this is not the URL of a collector: {problem}; write it as in `http://127.0.0.1:4318`"
        )
    })
}

/// Headers as OpenTelemetry's variables have them: `name=value,name=value`, values escaped as in URLs.
fn headers(text: &str) -> Result<BTreeMap<String, Secret>, String> {
    let mut headers = BTreeMap::new();
    for pair in text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        // What is wrong may be a secret, and is not shown.
        let (name, value) = pair
            .split_once('=')
            .ok_or("headers are written as in `name=value,other=value`")?;
        let value = crate::io::http::percent_decode(value.trim())
            .map_err(|problem| format!("the header `{}`: {problem}", name.trim()))?;
        headers.insert(name.trim().to_owned(), Secret::new(&*value));
    }
    Ok(headers)
}

/// As it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct TracingSection {
    endpoint: Option<String>,
    sample: Option<serde_yaml::Number>,
    service_name: Option<String>,
    pub(super) headers: Option<BTreeMap<String, Secret>>,
    ids: Option<bool>,
}

impl TracingSection {
    /// Each setting with its text; headers are no text.
    pub(super) fn values(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("tracing.endpoint", self.endpoint.clone()),
            (
                "tracing.sample",
                self.sample.as_ref().map(ToString::to_string),
            ),
            ("tracing.serviceName", self.service_name.clone()),
            ("tracing.ids", self.ids.map(|ids| ids.to_string())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SETTINGS_FILE, Settings};

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<TracingSettings, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(SETTINGS_FILE);
        std::fs::write(&file, text).unwrap();
        let lookup = |name: &str| {
            let mut known = environment.iter();
            let found = known.find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::load(&file, lookup)
            .map(|settings| settings.tracing)
            .map_err(|error| error.to_string())
    }

    fn url(settings: &TracingSettings) -> Option<&str> {
        settings.endpoint.as_ref().map(HttpUrl::as_str)
    }

    fn header<'a>(settings: &'a TracingSettings, name: &str) -> Option<&'a str> {
        settings.headers.get(name).map(Secret::reveal)
    }

    #[test]
    fn traces_are_set_by_file_and_environment() {
        let text = "tracing:\n  endpoint: http://127.0.0.1:4318\n  sample: 0.25\n  serviceName: shop\n  \
                    headers: {Authorization: 'Basic x'}\n  ids: false\n";
        let settings = load(text, &[]).unwrap();
        assert_eq!(url(&settings), Some("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(settings.sample, Sample::of(0.25).unwrap());
        assert_eq!(settings.service_name, "shop");
        assert_eq!(header(&settings, "Authorization"), Some("Basic x"));
        assert!(!settings.ids);

        let environment = [
            ("STATEFUN_TRACING_ENDPOINT", "https://a/x/v1/traces"),
            ("STATEFUN_TRACING_SAMPLE", "1"),
            ("STATEFUN_TRACING_SERVICE_NAME", "other"),
            ("STATEFUN_TRACING_HEADERS", "a=b%2C%20c, d = e"),
            ("STATEFUN_TRACING_IDS", "true"),
        ];
        let settings = load(text, &environment).unwrap();
        assert_eq!(url(&settings), Some("https://a/x/v1/traces"));
        assert_eq!((settings.sample, settings.ids), (Sample::ALL, true));
        assert_eq!(settings.service_name, "other");
        assert_eq!(header(&settings, "a"), Some("b, c"));
        assert_eq!(header(&settings, "d"), Some("e"));
        assert_eq!(header(&settings, "Authorization"), None);

        let off = load("", &[]).unwrap();
        assert_eq!((url(&off), off.sample), (None, Sample::of(0.01).unwrap()));
        assert!(!off.service_name.is_empty());
    }

    #[test]
    fn variables_of_open_telemetry_count_where_nothing_else_is_said() {
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "key=secret"),
            ("OTEL_SERVICE_NAME", "theirs"),
        ];
        let settings = load("", &environment).unwrap();
        assert_eq!(url(&settings), Some("http://collector:4318/v1/traces"));
        assert_eq!(header(&settings, "key"), Some("secret"));
        assert_eq!(settings.service_name, "theirs");

        // What goes to one place does not go to another.
        let settings = load("tracing: {endpoint: 'http://own:1'}", &environment).unwrap();
        assert_eq!(url(&settings), Some("http://own:1/v1/traces"));
        assert_eq!(header(&settings, "key"), None);
        assert_eq!(settings.service_name, "theirs");

        let settings = load("tracing: {endpoint: none, serviceName: own}", &environment).unwrap();
        assert_eq!(
            (url(&settings), settings.service_name.as_str()),
            (None, "own")
        );
        for (unusable, told) in [("", 0), ("collector:4317", 1)] {
            let settings = load("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", unusable)]).unwrap();
            assert_eq!((url(&settings), settings.ignored.len()), (None, told));
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, environment, expected) in [
            ("tracing: {endpoint: localhost}", vec![], "tracing.endpoint"),
            (
                "tracing: {endpoint: 'grpc://a:1'}",
                vec![],
                "neither `http` nor `https`",
            ),
            ("tracing: {sample: 2}", vec![], "tracing.sample"),
            ("tracing: {sample: some}", vec![], "sample"),
            ("tracing: {ids: maybe}", vec![], "ids"),
            ("tracing: {serviceName: ' '}", vec![], "tracing.serviceName"),
            ("tracing: {url: 'http://a'}", vec![], "url"),
            (
                "",
                vec![("STATEFUN_TRACING_SAMPLE", "5%")],
                "STATEFUN_TRACING_SAMPLE",
            ),
            ("", vec![("STATEFUN_TRACING_HEADERS", "a")], "name=value"),
            (
                "",
                vec![("STATEFUN_TRACING_HEADERS", "a=%zz")],
                "the header `a`",
            ),
        ] {
            let error = load(text, &environment).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
