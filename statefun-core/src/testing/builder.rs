//! Putting a harness together.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::engine::registry::{IngressWiring, OnError, Parts, Registry};
use crate::id::{KeyGroups, LazyTypeName, TypeName};
use crate::sdk::context::Context;
use crate::sdk::error::HandlerResult;
use crate::sdk::function::{Accepts, FunctionDefinition, Handle, Handler, StatefulFunction};
use crate::sdk::message::TypedValue;
use crate::sdk::module::{Binder, GlobalConfiguration, Module};
use crate::sdk::state::StateVisitor;
use crate::testing::{Harness, HarnessError};

/// The ingress under which the harness' own requests go.
pub(super) const HARNESS_INGRESS: &str = "io.statefun/harness";

/// 2025-01-01T00:00:00Z.
const START: Timestamp = Timestamp(1_735_689_600_000);

/// How a harness behaves.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) cache_bytes: usize,
    pub(super) message_limit: usize,
    pub(super) operation_timeout: Duration,
    /// Whether messages that do not survive their encoding fail the test; only the harness' own tests have use for them.
    pub(super) check_messages: bool,
}

type Registration = Box<dyn FnOnce(&mut Binder)>;

/// Puts a [`Harness`] together; see [`Harness::builder`].
#[must_use]
pub struct HarnessBuilder {
    linked: bool,
    registrations: Vec<Registration>,
    modules: Vec<Box<dyn Module>>,
    configuration: BTreeMap<String, String>,
    routers: Vec<String>,
    stubs: Vec<String>,
    egresses: Vec<String>,
    ingresses: BTreeMap<String, IngressWiring>,
    start: Timestamp,
    settings: Settings,
}

impl Default for HarnessBuilder {
    fn default() -> Self {
        Self {
            linked: false,
            registrations: Vec::new(),
            modules: Vec::new(),
            configuration: BTreeMap::new(),
            routers: Vec::new(),
            stubs: Vec::new(),
            egresses: Vec::new(),
            ingresses: BTreeMap::new(),
            start: START,
            settings: Settings {
                seed: 0,
                cache_bytes: 64 << 20,
                message_limit: 100_000,
                operation_timeout: Duration::from_secs(10),
                check_messages: true,
            },
        }
    }
}

impl fmt::Debug for HarnessBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HarnessBuilder")
            .field("linked", &self.linked)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl HarnessBuilder {
    /// Adds every function and router that is linked into the test, as the application would have them.
    pub fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    /// Adds one function type.
    pub fn function<F: StatefulFunction>(mut self) -> Self {
        self.registrations.push(Box::new(|binder| {
            binder.register::<F>();
        }));
        self
    }

    /// Adds one function type, whose instances `make` makes: for plain fields without a `Default`, and for fakes in them.
    pub fn factory<F: StatefulFunction>(
        mut self,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        self.registrations.push(Box::new(|binder| {
            binder.function(make);
        }));
        self
    }

    /// Adds what a module binds. Modules are configured in order, when all of the configuration is known.
    pub fn module(mut self, module: impl Module + 'static) -> Self {
        self.modules.push(Box::new(module));
        self
    }

    /// Sets a name of the `globalConfiguration` that modules read.
    pub fn configuration(mut self, name: &str, value: &str) -> Self {
        self.configuration.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds one router that is linked in, by the name of its Rust function.
    pub fn router(mut self, name: &str) -> Self {
        self.routers.push(name.to_owned());
        self
    }

    /// Adds a function that accepts everything and does nothing, in place of the real one if there is one: what it is sent
    /// can be looked at with [`Harness::sent_to`]. It stands for functions in other languages, or out of a test's scope.
    pub fn stub(mut self, typename: &str) -> Self {
        self.stubs.push(typename.to_owned());
        self
    }

    /// Lets the records of an ingress go to functions, at the address of their key, as `targets` in module.yaml does.
    pub fn targets(mut self, ingress: &str, functions: impl IntoIterator<Item = TypeName>) -> Self {
        self.ingress(ingress).targets.extend(functions);
        self
    }

    /// Lets linked routers read the records of an ingress, as `routers` in module.yaml does. A router whose attribute
    /// names the ingress needs no mention.
    pub fn routers<'a>(mut self, ingress: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        for name in names {
            self.routers.push(name.to_owned());
            self.ingress(ingress).routers.push(name.to_owned());
        }
        self
    }

    /// What happens to records of an ingress that cannot be read or routed, as `onError` in module.yaml does. Without
    /// it, [`Harness::ingest`] fails the test.
    pub fn on_error(mut self, ingress: &str, on_error: OnError) -> Self {
        self.ingress(ingress).on_error = on_error;
        self
    }

    /// Adds an egress that no function declares. Those that functions list under `egress(…)`, and those that modules
    /// bind, are there by themselves.
    pub fn egress(mut self, id: &str) -> Self {
        self.egresses.push(id.to_owned());
        self
    }

    /// What `ctx.random()` starts from; 0 if nothing is said.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// When the test begins, in virtual time; 2025-01-01T00:00:00Z if nothing is said.
    pub fn start(mut self, start: Timestamp) -> Self {
        self.start = start;
        self
    }

    /// What the instances in memory may occupy, in bytes: a small number makes states go to rows and come back.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.settings.cache_bytes = bytes;
        self
    }

    /// After how many messages [`Harness::run_until_idle`] takes them for a cycle that never ends; 100,000 if nothing is said.
    pub fn message_limit(mut self, messages: usize) -> Self {
        self.settings.message_limit = messages.max(1);
        self
    }

    /// How long, in real time, [`Harness::run_until_idle`] waits for operations; 10 seconds if nothing is said.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.settings.operation_timeout = timeout;
        self
    }

    fn ingress(&mut self, id: &str) -> &mut IngressWiring {
        self.ingresses
            .entry(id.to_owned())
            .or_insert_with(|| IngressWiring {
                id: id.to_owned(),
                ..IngressWiring::default()
            })
    }

    /// Builds the harness.
    ///
    /// # Errors
    /// With what would stop the real application at its start: names that are used twice, a function that needs a factory,
    /// routers and targets that are not there, a configuration that a module refuses.
    pub fn build(self) -> Result<Harness, HarnessError> {
        let (start, settings) = (self.start, self.settings.clone());
        Harness::start(self.registry()?, start, settings)
    }

    /// The application, without anything that it has done.
    pub(super) fn registry(mut self) -> Result<Registry, HarnessError> {
        let mut binder = if self.linked {
            Binder::linked()
        } else {
            Binder::default()
        };
        for register in std::mem::take(&mut self.registrations) {
            register(&mut binder);
        }
        let global: GlobalConfiguration = std::mem::take(&mut self.configuration)
            .into_iter()
            .collect();
        for module in &self.modules {
            module.configure(&global, &mut binder);
        }
        if !binder.problems.is_empty() {
            return Err(HarnessError::RefusedConfiguration(
                binder.problems.join("\n"),
            ));
        }
        self.add_routers(&mut binder)?;
        for name in &self.stubs {
            let typename = TypeName::parse(name)?;
            binder
                .functions
                .retain(|function| function.typename != typename);
            binder.functions.push(FunctionDefinition {
                typename,
                ..Stub::definition()
            });
        }
        for bound in &binder.ingresses {
            self.ingress(&bound.id);
        }
        for router in &binder.routers {
            if let Some(ingress) = router.ingress {
                self.ingress(ingress);
            }
        }
        self.ingress(HARNESS_INGRESS);
        let egresses = self.all_egresses(&binder);
        Ok(Registry::new(Parts {
            functions: binder.functions,
            factories: binder.factories,
            routers: binder.routers,
            egresses,
            ingresses: self.ingresses.into_values().collect(),
            key_groups: KeyGroups::default(),
        })?)
    }

    fn add_routers(&self, binder: &mut Binder) -> Result<(), HarnessError> {
        for name in &self.routers {
            if binder.routers.iter().any(|router| router.name == name) {
                continue;
            }
            let linked = Binder::linked().routers;
            let known = || linked.iter().map(|router| router.name.to_owned()).collect();
            let router = linked.iter().find(|router| router.name == name);
            let unknown = || HarnessError::UnknownRouter {
                name: name.clone(),
                known: known(),
            };
            binder.routers.push(router.ok_or_else(unknown)?.clone());
        }
        Ok(())
    }

    fn all_egresses(&self, binder: &Binder) -> Vec<String> {
        let declared = binder
            .functions
            .iter()
            .flat_map(|function| &function.egress)
            .map(|egress| egress.id.clone());
        let bound = binder.egresses.iter().map(|bound| bound.id.clone());
        let dead_letters = self
            .ingresses
            .values()
            .filter_map(|wiring| match &wiring.on_error {
                OnError::DeadLetter(egress) => Some(egress.clone()),
                OnError::Fail | OnError::Skip => None,
            });
        let mut egresses: Vec<String> = self
            .egresses
            .iter()
            .cloned()
            .chain(declared)
            .chain(bound)
            .chain(dead_letters)
            .collect();
        egresses.sort_unstable();
        egresses.dedup();
        egresses
    }
}

/// Stands for a function that is not there.
struct Stub;

impl StatefulFunction for Stub {
    const TYPENAME: &'static str = "io.statefun/stub";

    fn type_name() -> TypeName {
        static NAME: LazyTypeName = LazyTypeName::new(Stub::TYPENAME);
        NAME.get()
    }
    fn definition() -> FunctionDefinition {
        FunctionDefinition::of::<Self>()
    }
    fn handlers() -> Vec<Handler<Self>> {
        vec![Handler::of::<TypedValue>()]
    }
    fn visit_states<V: StateVisitor>(&mut self, _visitor: &mut V) {}
    fn swap_states(&mut self, _other: &mut Self) {}
    fn create() -> Option<Self> {
        Some(Self)
    }
    fn field_without_default() -> Option<&'static str> {
        None
    }
}

impl Accepts<TypedValue> for Stub {}

impl Handle<TypedValue> for Stub {
    fn handle(&mut self, _message: TypedValue, _ctx: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}
