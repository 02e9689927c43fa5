//! What `globalConfiguration` of module.yaml says to the modules.

use std::path::PathBuf;
use std::time::Duration;

use statefun::id::TypeName;
use statefun::prelude::*;
use thiserror::Error;

/// A value of the configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("globalConfiguration, `{name}`: `{value}` {problem}")]
pub struct SettingError {
    name: &'static str,
    value: String,
    problem: String,
}

/// What rides cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pricing {
    /// For getting in, in cents.
    pub base_cents: u64,
    /// For each cell of the route, in cents.
    pub per_cell_cents: u64,
}

impl Pricing {
    /// The price of a ride over so many cells, in cents.
    pub fn price_cents(&self, cells: u32) -> u64 {
        self.per_cell_cents
            .saturating_mul(u64::from(cells))
            .saturating_add(self.base_cents)
    }
}

/// The settings of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `BASE_PRICE` and `PRICE_PER_CELL`, in cents.
    pub pricing: Pricing,
    /// `OFFER_TIMEOUT`: how long a driver may think about an offer.
    pub offer_timeout: Duration,
    /// `RIDE_LIMIT`: how long a driver may take from accepting a ride to its end.
    pub ride_limit: Duration,
    /// `SEARCH_PAUSE`: how long to wait before all cells around are asked again.
    pub search_pause: Duration,
    /// `SEARCH_ROUNDS`: how often they are asked before the ride fails.
    pub search_rounds: u32,
    /// `SEARCH_RADIUS`: how far from the passenger, in cells, drivers are looked for.
    pub search_radius: u16,
    /// `ROUTE_DELAY`: how long it takes to estimate a route.
    pub route_delay: Duration,
    /// `RIDE_OBSERVERS`: the function types that are told of every event of a ride, separated by blanks.
    pub observers: Vec<TypeName>,
    /// `CITY_METRICS`: which counters the city keeps, separated by blanks.
    pub metrics: Vec<String>,
    /// `TICK`: the period of the metronome.
    pub tick: Duration,
    /// `BOARD_FILE`: where the newest report of the city lies.
    pub board_file: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pricing: Pricing {
                base_cents: 250,
                per_cell_cents: 120,
            },
            offer_timeout: Duration::from_secs(5),
            ride_limit: Duration::from_hours(1),
            search_pause: Duration::from_secs(1),
            search_rounds: 10,
            search_radius: 2,
            route_delay: Duration::from_millis(300),
            observers: Vec::new(),
            metrics: Vec::new(),
            tick: Duration::from_secs(5),
            board_file: "board.json".into(),
        }
    }
}

impl Settings {
    /// Reads them; what the configuration does not name stays at its default.
    pub fn read(global: &GlobalConfiguration) -> Result<Self, SettingError> {
        let mut settings = Self::default();
        let number = |name, target: &mut u64| {
            set(global, name, target, |text| {
                text.parse().map_err(|_| "is no whole number")
            })
        };
        number("BASE_PRICE", &mut settings.pricing.base_cents)?;
        number("PRICE_PER_CELL", &mut settings.pricing.per_cell_cents)?;
        set(
            global,
            "SEARCH_ROUNDS",
            &mut settings.search_rounds,
            |text| {
                text.parse()
                    .ok()
                    .filter(|rounds| *rounds > 0)
                    .ok_or("is no whole number from 1 on")
            },
        )?;
        set(
            global,
            "SEARCH_RADIUS",
            &mut settings.search_radius,
            |text| {
                text.parse()
                    .ok()
                    .filter(|radius| *radius <= 10)
                    .ok_or("is no whole number up to 10")
            },
        )?;
        for (name, target) in [
            ("OFFER_TIMEOUT", &mut settings.offer_timeout),
            ("RIDE_LIMIT", &mut settings.ride_limit),
            ("SEARCH_PAUSE", &mut settings.search_pause),
            ("ROUTE_DELAY", &mut settings.route_delay),
            ("TICK", &mut settings.tick),
        ] {
            set(global, name, target, |text| {
                humantime::parse_duration(text).map_err(|_| "is no duration, as in `500ms` or `5s`")
            })?;
        }
        if settings.tick.is_zero() {
            return Err(SettingError {
                name: "TICK",
                value: "0s".to_owned(),
                problem: "is no period".to_owned(),
            });
        }
        set(global, "RIDE_OBSERVERS", &mut settings.observers, |text| {
            text.split_whitespace()
                .map(TypeName::parse)
                .collect::<Result<_, _>>()
        })?;
        set(global, "CITY_METRICS", &mut settings.metrics, |text| {
            Ok::<_, &str>(text.split_whitespace().map(str::to_owned).collect())
        })?;
        set(global, "BOARD_FILE", &mut settings.board_file, |text| {
            Ok::<_, &str>(text.into())
        })?;
        Ok(settings)
    }
}

fn set<T, E: ToString>(
    global: &GlobalConfiguration,
    name: &'static str,
    target: &mut T,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<(), SettingError> {
    if let Some(text) = global.get(name) {
        *target = read(text).map_err(|problem| SettingError {
            name,
            value: text.to_owned(),
            problem: problem.to_string(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let entries = entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(&entries.collect())
    }

    #[test]
    fn what_is_named_is_read_and_the_rest_stays() {
        assert_eq!(read(&[]).unwrap(), Settings::default());
        let settings = read(&[
            ("PRICE_PER_CELL", "7"),
            ("OFFER_TIMEOUT", "250ms"),
            ("RIDE_OBSERVERS", "rides/journal  example/other"),
            ("CITY_METRICS", "ended"),
        ])
        .unwrap();
        assert_eq!(settings.pricing.price_cents(10), 250 + 70);
        assert_eq!(settings.offer_timeout, Duration::from_millis(250));
        assert_eq!(
            settings
                .observers
                .iter()
                .map(|name| name.as_str())
                .collect::<Vec<_>>(),
            ["rides/journal", "example/other"]
        );
        assert_eq!(settings.metrics, ["ended"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (name, value) in [
            ("PRICE_PER_CELL", "cheap"),
            ("BASE_PRICE", "-1"),
            ("SEARCH_ROUNDS", "0"),
            ("SEARCH_RADIUS", "11"),
            ("TICK", "0s"),
            ("TICK", "often"),
            ("RIDE_OBSERVERS", "rides/journal nobody"),
        ] {
            let problem = read(&[(name, value)]).unwrap_err().to_string();
            assert!(problem.contains(name), "{problem}");
        }
    }
}
