//! What an application is made of, beside module.yaml: link-time registrations and modules bound by hand.

use std::collections::BTreeMap;

use crate::id::TypeName;
use crate::io::egress::Egress;
use crate::io::ingress::Ingress;
use crate::sdk::function::{Factory, FunctionDefinition, StatefulFunction};
use crate::sdk::router::RouterDefinition;

/// What a macro registers at link time.
#[doc(hidden)]
pub enum Registration {
    Function(fn() -> FunctionDefinition),
    Router(fn() -> RouterDefinition),
}

inventory::collect!(Registration);

/// The `globalConfiguration` of all module.yaml files: names and values that modules read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GlobalConfiguration(BTreeMap<String, String>);

impl GlobalConfiguration {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for GlobalConfiguration {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// A part of an application that binds in code what module.yaml cannot say: functions with factories, routers, connectors.
///
/// The application's `main` names it: `App::new().module(Shop).main()`.
///
/// ```
/// # use statefun_core::prelude::*;
/// # use statefun_core::testing::Harness;
/// # #[derive(Clone)]
/// # struct Currency(String);
/// #[stateful_function(typename = "example/till", accepts(i64))]
/// struct Till {
///     currency: Currency, // it has no `Default`, so the module gives it
///     #[persisted]
///     total: PersistedValue<i64>,
/// }
/// # impl Handle<i64> for Till {
/// #     fn handle(&mut self, price: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
/// #         *self.total += price;
/// #         Ok(ctx.reply(format!("{} {}", *self.total, self.currency.0))?)
/// #     }
/// # }
///
/// struct Shop;
///
/// impl Module for Shop {
///     fn configure(&self, global: &GlobalConfiguration, binder: &mut Binder) {
///         let code = global.get("currency").unwrap_or("EUR");
///         if code.len() != 3 {
///             binder.refuse(format_args!("`currency` has three letters, as `CHF` does; `{code}` has not"));
///             return;
///         }
///         let currency = Currency(code.to_owned());
///         binder.function(move || Till::with_fields(currency.clone()));
///     }
/// }
///
/// let mut app = Harness::builder().module(Shop).configuration("currency", "CHF").build()?;
/// let reply: String = app.call(Till::at("front"), 12);
/// assert_eq!(reply, "12 CHF");
///
/// let refused = Harness::builder().module(Shop).configuration("currency", "francs").build();
/// assert!(refused.unwrap_err().to_string().contains("`francs` has not"));
/// # Ok::<(), statefun_core::testing::HarnessError>(())
/// ```
pub trait Module: Send + Sync {
    /// Binds what the module consists of. What it cannot use of the configuration it tells [`Binder::refuse`].
    fn configure(&self, global: &GlobalConfiguration, binder: &mut Binder);
}

/// Collects what an application consists of. Macros register into it at link time; modules add to it.
#[derive(Debug, Default)]
pub struct Binder {
    pub(crate) functions: Vec<FunctionDefinition>,
    pub(crate) factories: Vec<(TypeName, Factory)>,
    pub(crate) routers: Vec<RouterDefinition>,
    pub(crate) ingresses: Vec<BoundIngress>,
    pub(crate) egresses: Vec<BoundEgress>,
    /// What modules refuse to run with.
    pub(crate) problems: Vec<String>,
}

/// An ingress bound in code.
pub(crate) struct BoundIngress {
    pub(crate) id: String,
    pub(crate) ingress: Box<dyn Ingress>,
}

impl std::fmt::Debug for BoundIngress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

/// An egress bound in code.
pub(crate) struct BoundEgress {
    pub(crate) id: String,
    pub(crate) egress: Box<dyn Egress>,
}

impl std::fmt::Debug for BoundEgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

impl Binder {
    /// All that the macros registered in the crates that are linked into this program, sorted by name.
    pub fn linked() -> Self {
        let mut binder = Self::default();
        for registration in inventory::iter::<Registration> {
            match registration {
                Registration::Function(definition) => binder.functions.push(definition()),
                Registration::Router(definition) => binder.routers.push(definition()),
            }
        }
        binder.functions.sort_by_key(|function| function.typename);
        binder.routers.sort_by_key(|router| router.name);
        binder
    }

    /// The functions bound so far.
    pub fn functions(&self) -> &[FunctionDefinition] {
        &self.functions
    }

    /// The routers bound so far.
    pub fn routers(&self) -> &[RouterDefinition] {
        &self.routers
    }

    /// Binds a function type with a factory for its instances; needed where a plain field has no `Default`. The macro
    /// generates `with_fields` for it, which takes the plain fields: `binder.function(move || Till::with_fields(currency.clone()))`.
    /// A function that is linked in already only gets the factory.
    pub fn function<F: StatefulFunction>(
        &mut self,
        factory: impl Fn() -> F + Send + Sync + 'static,
    ) -> &mut Self {
        self.register::<F>();
        self.factories.push((F::type_name(), Factory::of(factory)));
        self
    }

    /// Adds a function type that is not linked in by itself.
    pub fn register<F: StatefulFunction>(&mut self) -> &mut Self {
        if !self
            .functions
            .iter()
            .any(|known| known.typename == F::type_name())
        {
            self.functions.push(F::definition());
        }
        self
    }

    /// Adds a router that is not linked in by itself, such as one of [`linked`](Self::linked) for an application that is
    /// [`unlinked`](crate::App::unlinked).
    pub fn router(&mut self, router: RouterDefinition) -> &mut Self {
        self.routers.push(router);
        self
    }

    /// Refuses to run: the configuration says something that the module cannot use. All that modules refuse is reported
    /// together, and nothing is started.
    pub fn refuse(&mut self, problem: impl std::fmt::Display) -> &mut Self {
        self.problems.push(problem.to_string());
        self
    }

    /// Binds an ingress of the application's own under `namespace/name`; routers name it as they name those of module.yaml.
    pub fn ingress(&mut self, id: &str, ingress: impl Ingress + 'static) -> &mut Self {
        self.ingresses.push(BoundIngress {
            id: id.to_owned(),
            ingress: Box::new(ingress),
        });
        self
    }

    /// Binds an egress of the application's own under `namespace/name`:
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::io::egress::Egress;
    /// # use statefun_core::io::ingress::Ingress;
    /// # fn bind(binder: &mut Binder, metronome: impl Ingress + 'static, board: impl Egress + 'static) {
    /// binder.ingress("rides/metronome", metronome).egress("rides/board", board);
    /// # }
    /// ```
    pub fn egress(&mut self, id: &str, egress: impl Egress + 'static) -> &mut Self {
        self.egresses.push(BoundEgress {
            id: id.to_owned(),
            egress: Box::new(egress),
        });
        self
    }
}
