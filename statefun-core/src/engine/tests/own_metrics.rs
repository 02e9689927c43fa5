//! What functions measure of their own is summed over all workers.

use super::running::Running;
use crate::engine::start::EngineSettings;
use crate::metrics::{Histogram, OwnValue};
use crate::prelude::*;

#[stateful_function(typename = "own-metrics/shop", accepts(i64))]
struct Shop {}

impl Handle<i64> for Shop {
    fn handle(&mut self, price: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        ctx.counter("sold").add(1);
        ctx.histogram_with("price", &[5.0, 50.0])
            .observe(price as f64);
        ctx.gauge("last").set(7.0);
        Ok(())
    }
}

#[test]
fn the_snapshot_has_the_sum_of_all_workers() {
    let directory = tempfile::tempdir().unwrap();
    let settings = EngineSettings {
        workers: 2,
        ..EngineSettings::default()
    };
    let mut app = Running::start(directory.path(), "own-metrics/out", settings, |binder| {
        binder.register::<Shop>();
    });
    // Enough for both workers to have some.
    for price in 0..100 {
        app.send(Shop::at(price.to_string()), price);
    }
    let measured = |app: &Running| -> Vec<(String, OwnValue)> {
        let own = app.engine().handle().metrics().own;
        own.into_iter()
            .map(|metric| (metric.name, metric.value))
            .collect()
    };
    let price = Histogram {
        bounds: vec![5.0, 50.0],
        counts: vec![6, 45, 49],
        sum: 4950.0,
    };
    let expected = [
        ("last".to_owned(), OwnValue::Gauge(7.0)),
        ("price".to_owned(), OwnValue::Histogram(price)),
        ("sold".to_owned(), OwnValue::Counter(100)),
    ];
    app.eventually("everything is counted", |app| measured(app) == expected);
    app.stop();
}
