//! Counters, gauges and histograms of an author's own: `ctx.counter("orders").add(1)`.

use std::fmt;

use crate::id::TypeName;
use crate::metrics::DEFAULT_BOUNDS;
use crate::metrics::own::{Labels, Value};
use crate::sdk::context::{Context, InvocationEffects};
use crate::sdk::function::StatefulFunction;

/// A metric as it is being used.
struct Use<'c> {
    effects: &'c mut InvocationEffects,
    function: TypeName,
    name: &'static str,
    labels: Labels,
}

impl Use<'_> {
    fn measure(self, value: Value) {
        let own = &mut self.effects.own;
        if let Err(misuse) = own.measure(self.function, self.name, self.labels, value) {
            self.effects.fail(misuse);
        }
    }
}

/// Counts what happens; see [`Context::counter`].
#[must_use = "it counts when `add` is called"]
pub struct Counter<'c>(Use<'c>);

/// Holds the last value; see [`Context::gauge`].
#[must_use = "it is set when `set` is called"]
pub struct Gauge<'c>(Use<'c>);

/// Counts values by their size; see [`Context::histogram`].
#[must_use = "it takes a value when `observe` is called"]
pub struct Observer<'c>(Use<'c>, &'static [f64]);

impl Counter<'_> {
    /// Tells apart what is counted. A metric has the same labels wherever it is used.
    pub fn label(mut self, name: &'static str, value: &str) -> Self {
        self.0.labels.add(name, value);
        self
    }

    /// Counts so many more.
    pub fn add(self, more: u64) {
        self.0.measure(Value::Add(more));
    }
}

impl Gauge<'_> {
    /// Tells apart what has the value. A metric has the same labels wherever it is used.
    pub fn label(mut self, name: &'static str, value: &str) -> Self {
        self.0.labels.add(name, value);
        self
    }

    /// Replaces the value. One that is not finite is left out.
    pub fn set(self, value: f64) {
        self.0.measure(Value::Set(value));
    }
}

impl Observer<'_> {
    /// Tells apart what is observed. A metric has the same labels wherever it is used.
    pub fn label(mut self, name: &'static str, value: &str) -> Self {
        self.0.labels.add(name, value);
        self
    }

    /// Takes a value. One that is not finite is left out.
    pub fn observe(self, value: f64) {
        let bounds = self.1;
        self.0.measure(Value::Observe(value, bounds));
    }
}

macro_rules! show_name {
    ($($metric:ident),*) => {$(
        impl fmt::Debug for $metric<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($metric)).field(&self.0.name).finish()
            }
        }
    )*};
}
show_name!(Counter, Gauge, Observer);

impl<F: StatefulFunction> Context<'_, F> {
    /// Counts something, for Prometheus and `statefun top`.
    ///
    /// What an invocation measures counts when it succeeds, as its other effects do; then it counts once, however often it was
    /// tried. It is not persisted: every process begins with 0, and what it does again after a crash it measures again.
    ///
    /// A metric is the application's: of one name it is of one kind, and has the same labels everywhere; whose function has
    /// measured is kept as the label `function`. Names follow Prometheus' rules: letters, digits and `_`. What breaks these rules
    /// fails the invocation for good. There may be 100 metrics, and 100 combinations of label values (and function) of each;
    /// what goes beyond counts with the label values `other`. So labels are for what has few values, such as a kind, and not for
    /// ids.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// # #[stateful_function(typename = "example/orders", accepts(String))]
    /// # struct Orders { #[persisted] open: PersistedValue<Vec<String>> }
    /// impl Handle<String> for Orders {
    ///     fn handle(&mut self, product: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         ctx.counter("orders").label("product", &product).add(1);
    ///         ctx.histogram("product_name_length").observe(product.len() as f64);
    ///         self.open.push(product);
    ///         ctx.gauge("open_orders").set(self.open.len() as f64);
    ///         if self.open.len() > 2 {
    ///             return Err(HandlerError::permanent("too much at once")); // then nothing was measured
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut app = Harness::builder().function::<Orders>().build()?;
    /// for product in ["tea", "milk", "tea"] {
    ///     app.send(Orders::at("ada"), product.to_owned());
    /// }
    /// app.run_until_idle();
    /// assert_eq!(app.counter("example/orders", "orders"), 2);
    /// let labels: Vec<_> = app.metrics().into_iter().flat_map(|metric| metric.labels).collect();
    /// assert!(labels.contains(&("product".to_owned(), "milk".to_owned())));
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
    pub fn counter(&mut self, name: &'static str) -> Counter<'_> {
        Counter(self.used(name))
    }

    /// Says how much there is of something; whatever instance says so last counts, on whichever worker. As to failures, restarts,
    /// names and limits, see [`counter`](Self::counter).
    pub fn gauge(&mut self, name: &'static str) -> Gauge<'_> {
        Gauge(self.used(name))
    }

    /// Observes values, and counts them by their size: in steps of 1, 2, 5 and 10 from 0.001 to 1,000,000. As to failures,
    /// restarts, names and limits, see [`counter`](Self::counter).
    pub fn histogram(&mut self, name: &'static str) -> Observer<'_> {
        self.histogram_with(name, DEFAULT_BOUNDS)
    }

    /// As [`histogram`](Self::histogram), with upper bounds of one's own, ascending: `&[10.0, 50.0, 100.0]`. A metric has the same
    /// ones wherever it is used.
    pub fn histogram_with(&mut self, name: &'static str, bounds: &'static [f64]) -> Observer<'_> {
        Observer(self.used(name), bounds)
    }

    fn used(&mut self, name: &'static str) -> Use<'_> {
        let scope = self.scope();
        Use {
            function: scope.address.function(),
            effects: scope.effects,
            name,
            labels: Labels::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::OwnValue;
    use crate::prelude::*;
    use crate::testing::Harness;

    #[stateful_function(
        typename = "own-metrics/till",
        accepts(String, i64),
        retry(max_attempts = 3, initial_delay = "1s")
    )]
    struct Till {}

    impl Handle<String> for Till {
        fn handle(&mut self, name: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
            match name.as_str() {
                "kind" => ctx.gauge("sold").set(1.0),
                "name" => ctx.counter("sold-out").add(1),
                _ => {
                    ctx.counter("sold").add(1);
                    ctx.histogram_with("price", &[10.0]).observe(12.0);
                }
            }
            Ok(())
        }
    }

    /// Fails after it has measured, and panics next; the last attempt succeeds.
    impl Handle<i64> for Till {
        fn handle(&mut self, attempt: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
            ctx.counter("sold").add(attempt.unsigned_abs());
            ctx.gauge("left").set(0.5);
            if ctx.now().as_ms() < 1_735_689_601_000 {
                return Err(HandlerError::new("not yet"));
            }
            assert!(ctx.now().as_ms() >= 1_735_689_602_000, "not yet either");
            Ok(())
        }
    }

    fn till() -> Harness {
        Harness::builder().function::<Till>().build().unwrap()
    }

    #[test]
    fn what_is_tried_again_counts_once() {
        let mut app = till();
        app.send(Till::at("a"), 5).run_until_idle();
        assert_eq!((app.failures().len(), app.metrics()), (1, Vec::new()));
        app.advance(Duration::from_mins(1));
        assert_eq!(app.failures().len(), 2);
        assert_eq!(app.counter("own-metrics/till", "sold"), 5);
        let left = app.metrics().remove(0);
        assert_eq!(
            (left.name.as_str(), left.value),
            ("left", OwnValue::Gauge(0.5))
        );
        // It is the process' and not the state's.
        app.restart();
        assert_eq!(app.metrics(), []);
        app.send(Till::at("a"), "tea".to_owned()).run_until_idle();
        assert_eq!(app.counter("own-metrics/till", "sold"), 1);
    }

    #[test]
    fn misuse_fails_the_invocation_for_good_and_says_why() {
        let mut app = till();
        app.send(Till::at("a"), "tea".to_owned());
        for (name, problem) in [
            ("kind", "`sold` is a counter, and is used as a gauge"),
            ("name", "`sold-out` is no name of a metric"),
        ] {
            app.send(Till::at(name), name.to_owned()).run_until_idle();
            let parked = app.parked();
            let parked = parked.iter().find(|parked| parked.id == name).unwrap();
            assert!(parked.problem.contains(problem), "{}", parked.problem);
        }
        assert_eq!(app.metrics().len(), 2);
    }
}
