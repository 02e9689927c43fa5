//! Finished spans on their way to a collector: OTLP over HTTP, in the background.
//!
//! While the collector is away, spans are sent again for a while, then dropped and counted; what finishes meanwhile waits in a
//! bounded queue. Nobody else waits for any of it.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver as Finished;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::io::http::client::{Client, Receiver};
use crate::io::http::policy::{Backoff, Verdict, judge};
use crate::io::http::tls::{Names, Trust};
use crate::module::model::HttpUrl;
use crate::settings::TracingSettings;
use crate::trace::otlp;
use crate::trace::span::Span;
use crate::trace::tracer::Tracer;

/// Spans of one request, at most.
const BATCH_SPANS: usize = 1024;
/// How often it is looked for finished spans. Who finishes one wakes nobody: that would cost more than the span.
const EVERY: Duration = Duration::from_millis(200);
/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a request is sent, at most.
const ATTEMPTS: u32 = 6;
/// The longest part of the collector's answer that is logged, in characters.
const SHOWN_CHARS: usize = 200;
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(10),
};

/// What the settings call it.
const NAMES: Names = Names {
    url: "`tracing.endpoint`",
    ca: "the system's authorities",
};

/// Sends spans to the collector until it is finished.
pub struct Exporter {
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

/// Starts to export what the tracer is given; none where no collector is named.
///
/// # Errors
/// When the collector cannot be spoken to as the settings say; the text says why.
pub fn start(
    settings: &TracingSettings,
    runtime: &tokio::runtime::Handle,
) -> Result<Option<(Tracer, Exporter)>, String> {
    for problem in &settings.ignored {
        tracing::warn!(problem, "a variable of OpenTelemetry is ignored");
    }
    let Some(url) = &settings.endpoint else {
        return Ok(None);
    };
    let client = client(url, settings)?;
    let (tracer, spans) = Tracer::new(settings.sample, settings.ids);
    let (stopping, told) = watch::channel(false);
    let export = Export {
        client,
        service: settings.service_name.clone(),
        spans,
        tracer: tracer.clone(),
        stopping: told,
        away: false,
    };
    let task = runtime.spawn(export.run());
    Ok(Some((tracer, Exporter { stopping, task })))
}

impl Exporter {
    /// Sends what has finished until now, and ends; no later than after `grace`.
    pub async fn finish(self, grace: Duration) {
        self.stopping.send_replace(true);
        let mut task = self.task;
        if tokio::time::timeout(grace, &mut task).await.is_err() {
            task.abort();
        }
    }
}

fn client(url: &HttpUrl, settings: &TracingSettings) -> Result<Client, String> {
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    );
    for (name, value) in &settings.headers {
        let pair = HeaderName::from_bytes(name.as_bytes())
            .ok()
            .zip(HeaderValue::from_str(value.reveal()).ok());
        let (header, mut value) =
            pair.ok_or_else(|| format!("`tracing.headers.{name}` is no legal header"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let receiver = Receiver {
        url,
        method: Method::POST,
        trust: Trust::System,
        names: NAMES,
        connections: 1,
    };
    Client::new(receiver, headers)
}

struct Export {
    client: Client,
    service: String,
    spans: Finished<Span>,
    tracer: Tracer,
    stopping: watch::Receiver<bool>,
    /// Whether it was said that the collector does not take traces, and not yet that it does again.
    away: bool,
}

impl Export {
    async fn run(mut self) {
        loop {
            // Asked first: what has finished before a stop is still sent.
            let stops = *self.stopping.borrow();
            let batch: Vec<Span> = self.spans.try_iter().take(BATCH_SPANS).collect();
            if !batch.is_empty() {
                self.send(&batch).await;
                continue;
            }
            if stops {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                changed = self.stopping.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn send(&mut self, batch: &[Span]) {
        let body = Bytes::from(otlp::request(&self.service, batch));
        let taken = self.settle(body).await;
        let counts = self.tracer.counts();
        let count = if taken {
            &counts.exported
        } else {
            &counts.failed
        };
        count.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }

    /// Sends a request until it is settled, a few times at most. Whether the collector has taken it.
    async fn settle(&mut self, body: Bytes) -> bool {
        let mut attempt = 0;
        loop {
            let sending = self.client.send(HeaderMap::new(), body.clone());
            let verdict = match tokio::time::timeout(ANSWER, sending).await {
                Ok(Ok(answer)) => judge(&answer),
                Ok(Err(why)) => Verdict::Again { why, after: None },
                Err(_) => Verdict::Again {
                    why: format!("no answer within {}", humantime::format_duration(ANSWER)),
                    after: None,
                },
            };
            attempt += 1;
            let pause = match verdict {
                Verdict::Taken => {
                    self.is_there();
                    return true;
                }
                Verdict::Refused { status, text } => {
                    let shown: String = text.chars().take(SHOWN_CHARS).collect();
                    self.is_away(&format!("it answered {status}: {shown}"));
                    return false;
                }
                Verdict::Again { why, after } => {
                    self.is_away(&why);
                    BACKOFF.pause(attempt - 1, after).min(BACKOFF.longest)
                }
            };
            if attempt >= ATTEMPTS || *self.stopping.borrow() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.stopping.changed() => {}
            }
        }
    }

    /// The collector has taken something.
    fn is_there(&mut self) {
        if std::mem::take(&mut self.away) {
            tracing::info!(
                url = self.client.origin(),
                "the collector takes traces again"
            );
        }
    }

    /// The collector does not take what it is sent. That is said once, until it does again.
    fn is_away(&mut self, why: &str) {
        let url = self.client.origin();
        if std::mem::replace(&mut self.away, true) {
            tracing::debug!(url, why, "traces are not taken");
        } else {
            tracing::warn!(
                url,
                why,
                "the collector does not take traces: they are sent again for a while, and then dropped"
            );
        }
    }
}
