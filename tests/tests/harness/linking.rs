//! What is linked in, modules, factories, configuration.

use std::sync::Arc;

use statefun_core::io::ingress::Record;
use statefun_core::prelude::*;
use statefun_core::testing::{Harness, HarnessError};

/// Has no `Default`: only a module can make it.
struct Currency(String);

#[stateful_function(typename = "linking/till", accepts(i64))]
struct Till {
    currency: Arc<Currency>,
    /// A plain field with a default.
    served: u32,
    #[persisted]
    total: PersistedValue<i64>,
}

impl Handle<i64> for Till {
    fn handle(&mut self, price: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.served += 1;
        *self.total += price;
        Ok(ctx.reply(format!(
            "{} {} ({})",
            *self.total, self.currency.0, self.served
        ))?)
    }
}

/// Binds what the code alone can say.
pub(crate) struct Shop;

impl Module for Shop {
    fn configure(&self, global: &GlobalConfiguration, binder: &mut Binder) {
        let currency = Arc::new(Currency(global.get("currency").unwrap_or("EUR").to_owned()));
        binder.function(move || Till::with_fields(currency.clone(), 0));
    }
}

#[test]
fn functions_of_a_library_are_linked_in_though_none_of_its_names_is_used() {
    let mut app = Harness::builder().linked().module(Shop).build().unwrap();
    for title in ["Solaris", "Silence", "Amok"] {
        app.ingest("library/books", Record::new(title.to_owned()));
    }
    app.run_until_idle().assert_no_failures();
    let shelf = app.address("library/shelf", "S");
    assert_eq!(app.sent_to::<String>(shelf), ["Solaris", "Silence"]);
}

#[test]
fn a_missing_factory_is_an_error_that_says_how_to_mend_it() {
    let error = Harness::builder().linked().build().unwrap_err();
    assert!(
        matches!(error, HarnessError::MissingFactory(_)),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("linking/till: the field `currency` has no `Default`"),
        "{text}"
    );
    assert!(text.contains("`.factory(|| …)`"), "{text}");
}

#[test]
fn modules_read_the_configuration() {
    let told = |builder: statefun_core::testing::HarnessBuilder| -> String {
        builder.build().unwrap().call(Till::at("x"), 5)
    };
    assert_eq!(told(Harness::builder().module(Shop)), "5 EUR (1)");
    assert_eq!(
        told(
            Harness::builder()
                .module(Shop)
                .configuration("currency", "CHF")
        ),
        "5 CHF (1)"
    );
    let own = || Till::with_fields(Arc::new(Currency("XXX".to_owned())), 0);
    assert_eq!(told(Harness::builder().factory(own)), "5 XXX (1)");
}

#[test]
fn plain_fields_come_from_the_factory_after_a_restart() {
    let mut app = Harness::builder().module(Shop).build().unwrap();
    let _: String = app.call(Till::at("x"), 5);
    let again: String = app.call(Till::at("x"), 6);
    assert_eq!(again, "11 EUR (2)");
    let restarted: String = app.restart().call(Till::at("x"), 7);
    assert_eq!(restarted, "18 EUR (1)");
}
