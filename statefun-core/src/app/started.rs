//! What an application says when it is ready: to people, to programs that read its log, to tools that wait for it.

use serde_json::{Value, json};

use crate::engine::start::Engine;
use crate::io::http::Listening;
use crate::logging::Said;
use crate::settings::Settings;

/// What is said when the application is ready.
pub(super) fn started(
    settings: &Settings,
    engine: &Engine,
    listening: &[Listening],
) -> Said<'static> {
    Said {
        text: for_people(settings, engine, listening),
        message: "ready",
        fields: for_programs(settings, engine, listening),
    }
}

fn for_programs(settings: &Settings, engine: &Engine, listening: &[Listening]) -> Value {
    let recovery = engine.handle().recovery();
    let listening: Vec<Value> = listening
        .iter()
        .map(|place| {
            json!({
                "component": place.component,
                "method": place.method,
                "url": format!("{}://{}{}", place.scheme, place.address, place.path),
            })
        })
        .collect();
    json!({
        "data_dir": settings.data_dir.display().to_string(),
        "workers": settings.workers,
        "pid": std::process::id(),
        "after_epoch": recovery.epoch,
        "replayed_epochs": recovery.replayed_epochs,
        "carried_messages": recovery.carried_messages,
        "recovery_ms": recovery.duration.as_millis() as u64,
        "listening": listening,
    })
}

fn for_people(settings: &Settings, engine: &Engine, listening: &[Listening]) -> String {
    let recovery = engine.handle().recovery();
    let mut text = format!(
        "statefun: data in {}, {} worker{}",
        settings.data_dir.display(),
        settings.workers,
        if settings.workers == 1 { "" } else { "s" },
    );
    if recovery.epoch > 0 {
        text.push_str(&format!(
            "\n  continues behind epoch {} ({} epochs replayed, {} messages under way, {} ms)",
            recovery.epoch,
            recovery.replayed_epochs,
            recovery.carried_messages,
            recovery.duration.as_millis()
        ));
    }
    for place in listening {
        text.push_str(&format!(
            "\n  {}: {} {}://{}{}",
            place.component, place.method, place.scheme, place.address, place.path
        ));
        if let Some(example) = &place.example {
            text.push_str(&format!("\n    try: {example}"));
        }
    }
    text.push_str("\n  ready; Ctrl-C stops it");
    text
}

/// Tells tools that the application is ready.
pub(super) fn ready() {
    if let Some(path) = std::env::var_os("STATEFUN_READY_FILE")
        && let Err(error) = std::fs::write(&path, std::process::id().to_string())
    {
        tracing::warn!(%error, path = %path.to_string_lossy(), "the ready file cannot be written");
    }
}
