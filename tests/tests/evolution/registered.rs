//! States of a registry: their types have versions too.

use statefun_core::prelude::*;
use statefun_core::testing::{Harness, HarnessBuilder};

macro_rules! sensor {
    ($gauge:ty) => {
        #[stateful_function(
            typename = "evolution/sensor",
            accepts(i64, bool),
            retry(max_attempts = 1)
        )]
        pub(crate) struct Sensor {
            #[persisted]
            gauges: PersistedRegistry,
        }

        impl Handle<i64> for Sensor {
            fn handle(&mut self, number: i64, _: &mut Context<'_, Self>) -> HandlerResult {
                self.gauges
                    .value::<$gauge>("now")?
                    .set(<$gauge>::of(number));
                let days = self
                    .gauges
                    .state::<PersistedTable<i64, $gauge>>("days", Expiration::None)?;
                days.set(number, <$gauge>::of(number));
                Ok(())
            }
        }

        impl Handle<bool> for Sensor {
            fn handle(&mut self, _: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
                let mut shown = vec![self.gauges.value::<$gauge>("now")?.text()];
                let days = self
                    .gauges
                    .state::<PersistedTable<i64, $gauge>>("days", Expiration::None)?;
                shown.extend(days.values()?.iter().map(<$gauge>::text));
                Ok(ctx.reply(shown.join(" "))?)
            }
        }
    };
}

mod v1 {
    use super::*;

    #[persisted]
    #[derive(Debug)]
    pub(crate) struct Gauge {
        pub(crate) level: i64,
    }

    impl Gauge {
        fn of(level: i64) -> Self {
            Self { level }
        }
        fn text(&self) -> String {
            format!("v1:{}", self.level)
        }
    }

    sensor!(Gauge);
}

mod v1_with_unit {
    use super::*;

    #[persisted]
    #[derive(Debug)]
    pub(crate) struct Gauge {
        pub(crate) level: i64,
        pub(crate) unit: Option<String>,
    }

    impl Gauge {
        fn of(level: i64) -> Self {
            let unit = Some("m".to_owned());
            Self { level, unit }
        }
        fn text(&self) -> String {
            format!(
                "v1:{}{}",
                self.level,
                self.unit.as_deref().unwrap_or_default()
            )
        }
    }

    sensor!(Gauge);
}

mod v2 {
    use super::*;

    use super::v1_with_unit::Gauge as GaugeV1;

    #[persisted(version = 2, migrate_from = GaugeV1)]
    #[derive(Debug)]
    pub(crate) struct Gauge {
        text: String,
    }

    impl From<GaugeV1> for Gauge {
        fn from(old: GaugeV1) -> Self {
            let text = format!("{}{}", old.level, old.unit.unwrap_or_default());
            Self { text }
        }
    }

    impl Gauge {
        fn of(level: i64) -> Self {
            let text = level.to_string();
            Self { text }
        }
        fn text(&self) -> String {
            format!("v2:{}", self.text)
        }
    }

    sensor!(Gauge);
}

fn shown(app: &mut Harness) -> String {
    app.call(v1::Sensor::at("attic"), true)
}

fn code<F: StatefulFunction>() -> HarnessBuilder {
    Harness::builder().function::<F>()
}

#[test]
fn they_are_migrated_as_declared_ones_are() {
    let at = || v1::Sensor::at("attic");
    let mut app = code::<v1::Sensor>().build().unwrap();
    app.send(at(), 1).run_until_idle();
    app.restart_as(code::<v1_with_unit::Sensor>());
    app.send(at(), 2).run_until_idle();
    assert_eq!(shown(&mut app), "v1:2m v1:1 v1:2m");
    app.restart_as(code::<v2::Sensor>());
    assert_eq!(shown(&mut app), "v2:2m v2:1 v2:2m");
    app.send(at(), 3).run_until_idle();
    for _ in 0..2 {
        app.restart();
        assert_eq!(shown(&mut app), "v2:3 v2:1 v2:2m v2:3");
    }
    app.assert_no_failures();

    // What comes too early is found where the state is asked for: its name is known only then.
    app.restart_as(code::<v1_with_unit::Sensor>());
    app.send(at(), 4).run_until_idle();
    let problem = app
        .failures()
        .first()
        .unwrap()
        .problem()
        .unwrap()
        .to_owned();
    assert!(
        problem.contains("the latest that this code has is 1") && problem.contains("(version 2)"),
        "{problem}"
    );
}
