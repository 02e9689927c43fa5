//! Which lines are written: `STATEFUN_LOG`.

use tracing_subscriber::filter::{LevelFilter, Targets};

const LEVELS: &str = "`error`, `warn`, `info`, `debug`, `trace` or `off`";

fn level(text: &str) -> Result<LevelFilter, String> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        "off" => Ok(LevelFilter::OFF),
        _ => Err(format!(
            "`{text}` is no level: it is {LEVELS}, or `my_app=debug` for the modules of one crate"
        )),
    }
}

/// Reads levels as in `warn,my_app=debug`. What is not named has the level `info`.
pub(super) fn levels(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new().with_default(LevelFilter::INFO);
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        targets = match part.split_once('=') {
            Some((target, of_target)) => {
                let target = target.trim();
                if target.is_empty()
                    || !target
                        .chars()
                        .all(|c| c.is_alphanumeric() || "_:-".contains(c))
                {
                    return Err(format!(
                        "`{part}` names no module: write it as in `my_app::orders=debug`"
                    ));
                }
                targets.with_target(target.replace('-', "_"), level(of_target.trim())?)
            }
            None => targets.with_default(level(part)?),
        };
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_are_given_for_all_and_for_one_crate() {
        for (text, of_all, of_app) in [
            ("", LevelFilter::INFO, LevelFilter::INFO),
            ("WARN", LevelFilter::WARN, LevelFilter::WARN),
            ("off", LevelFilter::OFF, LevelFilter::OFF),
            ("my_app=debug", LevelFilter::INFO, LevelFilter::DEBUG),
            (
                "error, my-app=trace",
                LevelFilter::ERROR,
                LevelFilter::TRACE,
            ),
            ("my_app=off,", LevelFilter::INFO, LevelFilter::OFF),
        ] {
            let levels = levels(text).unwrap();
            for level in [
                Level::ERROR,
                Level::WARN,
                Level::INFO,
                Level::DEBUG,
                Level::TRACE,
            ] {
                let written = |target| levels.would_enable(target, &level);
                assert_eq!(written("other"), level <= of_all, "{text:?} {level}");
                assert_eq!(
                    written("my_app::orders"),
                    level <= of_app,
                    "{text:?} {level}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for (text, problem) in [
            ("verbose", "`verbose` is no level"),
            ("info,my_app", "`my_app` is no level"),
            ("my_app=loud", "`loud` is no level"),
            ("=debug", "names no module"),
            ("a b=debug", "names no module"),
        ] {
            let refused = levels(text).unwrap_err();
            assert!(refused.contains(problem), "{text:?}: {refused}");
        }
    }
}
