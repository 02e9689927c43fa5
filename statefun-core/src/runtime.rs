//! From an application to a running engine: the only file that names concrete connectors and stores.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use thiserror::Error;

use crate::catalog::{Catalog, DataDirectory};
use crate::checkpoint::Checkpoints;
use crate::clock::WallClock;
use crate::disk::{Disk, RealDisk};
use crate::engine::dead_letters::DeadLetterDesk;
use crate::engine::recovery::recover;
use crate::engine::registry::{IngressWiring, OnError, Parts, Registry, RegistryError};
use crate::engine::start::{Engine, EngineSettings, EngineSetup, StartError};
use crate::engine::starting::StartListener;
use crate::id::{KeyGroups, TypeName};
use crate::inspect::{Import, ImportError, ImportOptions, Imported, OfflineError, open_directory};
use crate::io::egress::Egress;
use crate::io::file::{FileEgress, FileIngress};
use crate::io::http::{HttpIngress, HttpServers, Webhook};
use crate::io::ingress::Ingress;
use crate::io::playground::{PlaygroundEgress, PlaygroundIngress};
use crate::io::stdio::{StdioEgress, StdioIngress};
use crate::module::description::{DESCRIPTION_VERSION, Description, MessageDescription};
use crate::module::model::{self, Spec};
use crate::module::{Application, BuildFeatures};
use crate::sdk::function::FunctionDefinition;
use crate::sdk::module::{Binder, GlobalConfiguration, Module};
use crate::sdk::router::RouterDefinition;
use crate::state::memory::MemoryStore;
use crate::trace::Tracer;

/// Why an application could not be started.
#[derive(Debug, Error)]
pub enum RunError {
    /// Modules refuse what the configuration says; a line for each refusal.
    #[error("{0}")]
    Refused(String),
    /// Its parts do not fit together.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The engine could not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Why nothing was imported into a data directory.
#[derive(Debug, Error)]
pub enum ImportRunError {
    /// The application does not fit together, or not the directory; or the directory is in use or damaged.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The directory cannot be read.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// The lines are wrong, or something that is needed failed.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// An application about to be started: what is linked in and what modules bind.
#[derive(Debug)]
pub struct Launch {
    binder: Binder,
    data_directory: PathBuf,
    settings: EngineSettings,
    key_groups: KeyGroups,
    drop_data: Vec<String>,
    checkpoints: Option<Checkpoints>,
    listener: StartListener,
    tracer: Option<Tracer>,
    modules: Option<Application>,
    servers: Arc<HttpServers>,
    reader_gone: Arc<AtomicBool>,
}

impl Launch {
    /// Everything that the macros registered in the crates that are linked into this program.
    pub fn linked(data_directory: impl Into<PathBuf>) -> Self {
        Self::of(Binder::linked(), data_directory)
    }

    /// Exactly what a binder holds.
    pub fn of(binder: Binder, data_directory: impl Into<PathBuf>) -> Self {
        Self {
            binder,
            data_directory: data_directory.into(),
            settings: EngineSettings::default(),
            key_groups: KeyGroups::default(),
            drop_data: Vec::new(),
            checkpoints: None,
            listener: StartListener::default(),
            tracer: None,
            modules: None,
            servers: HttpServers::new(),
            reader_gone: Arc::default(),
        }
    }

    /// Adds what a module binds.
    #[must_use]
    pub fn module(mut self, module: &dyn Module, global: &GlobalConfiguration) -> Self {
        module.configure(global, &mut self.binder);
        self
    }

    /// With what the module.yaml files wire; they must have been checked.
    #[must_use]
    pub fn wiring(mut self, modules: Application) -> Self {
        self.modules = Some(modules);
        self
    }

    /// The HTTP servers that its connectors will share. They take requests once [`HttpServers::start`] is called, which
    /// [`start`](Self::start) does last.
    pub fn servers(&self) -> Arc<HttpServers> {
        self.servers.clone()
    }

    /// Turns true when an egress writes to standard output and nobody reads it any more, which is a reason to stop.
    pub fn reader_gone(&self) -> Arc<AtomicBool> {
        self.reader_gone.clone()
    }

    /// What `describe` says of it.
    pub fn describe(&self) -> Description {
        describe(&self.binder)
    }

    /// With these settings.
    #[must_use]
    pub fn settings(mut self, settings: EngineSettings) -> Self {
        self.settings = settings;
        self
    }

    /// With so many key groups, should the data directory be new.
    #[must_use]
    pub fn key_groups(mut self, key_groups: KeyGroups) -> Self {
        self.key_groups = key_groups;
        self
    }

    /// Deletes the data of these functions (`ns/name`) and states (`ns/name:state`), which the code no longer has.
    #[must_use]
    pub fn drop_data(mut self, names: Vec<String>) -> Self {
        self.drop_data = names;
        self
    }

    /// Makes checkpoints there; with none, they are not made.
    #[must_use]
    pub fn checkpoints(mut self, checkpoints: Option<Checkpoints>) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// Has someone hear what the start is doing.
    #[must_use]
    pub fn listener(mut self, listener: StartListener) -> Self {
        self.listener = listener;
        self
    }

    /// Traces it; with none, nothing is traced.
    #[must_use]
    pub fn tracer(mut self, tracer: Option<Tracer>) -> Self {
        self.tracer = tracer;
        self
    }

    /// What the modules said to the configuration.
    ///
    /// # Errors
    /// When one of them refuses it.
    pub fn check_modules(&self) -> Result<(), RunError> {
        if self.binder.problems.is_empty() {
            Ok(())
        } else {
            Err(RunError::Refused(self.binder.problems.join("\n")))
        }
    }

    /// What it consists of, for whoever looks at its data without running it.
    pub(crate) fn registry(self, runtime: &tokio::runtime::Handle) -> Result<Registry, RunError> {
        Ok(self.setup(runtime)?.registry)
    }

    /// Starts it.
    pub fn start(self, runtime: &tokio::runtime::Handle) -> Result<Engine, RunError> {
        let servers = self.servers.clone();
        let engine = Engine::start(self.setup(runtime)?)?;
        servers.start();
        Ok(engine)
    }

    /// Imports lines of JSON, as [`inspect`](crate::inspect) describes them, as the state of its functions into the data
    /// directory, which is made when there is none; nothing runs. All of them become state, or none does. `progress` is
    /// told now and then how many lines were read.
    ///
    /// # Errors
    /// When lines are wrong; when the directory is in use, or the application does not fit it.
    pub fn import(
        self,
        runtime: &tokio::runtime::Handle,
        input: &mut dyn BufRead,
        options: ImportOptions,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Imported, ImportRunError> {
        let mut setup = self.setup(runtime)?;
        let directory = setup.directory.clone();
        let disk = directory.disk.clone();
        let known = Catalog::read(&*disk, &directory.root)
            .map_err(|error| RunError::Start(error.into()))?;
        if let Some(known) = &known {
            setup.registry.key_groups = known.key_groups;
        }
        // Wrong lines are found before anything is made.
        let scratch = existing(&*disk, &directory.root);
        let now = WallClock::default().now();
        let import = Import::read(input, &setup.registry, now, disk, scratch, progress)?;
        if options.dry_run {
            return Ok(match open_directory(&directory) {
                Ok((view, _)) => import.check(view.rows(), options.replace)?,
                Err(OfflineError::NoData(_)) => {
                    import.check(&MemoryStore::default(), options.replace)?
                }
                Err(error) => return Err(error.into()),
            });
        }
        if known.is_none() {
            import.check(&MemoryStore::default(), options.replace)?;
        }
        let mut recovered = recover(&mut setup).map_err(RunError::from)?;
        let imported = import.check(&*recovered.store, options.replace)?;
        let mut catalog = recovered.catalog.clone();
        if import.note_versions(&mut catalog) {
            // Before there are such rows: a start must find that they can be read.
            catalog
                .write(&*directory.disk, &directory.root)
                .map_err(|error| RunError::Start(error.into()))?;
        }
        // An epoch of its own, so that the next checkpoint is of another than the last one.
        let epoch = recovered.add_epoch(now).map_err(RunError::from)?;
        import.apply(&recovered.store, epoch)?;
        Ok(imported)
    }

    /// All that an engine of it is made of.
    fn setup(self, runtime: &tokio::runtime::Handle) -> Result<EngineSetup, RunError> {
        self.check_modules()?;
        let Binder {
            functions,
            factories,
            routers,
            ingresses: bound_ingresses,
            egresses: bound_egresses,
            problems: _,
        } = self.binder;
        let mut wirings: Vec<IngressWiring> = Vec::new();
        let mut ingresses: Vec<(String, Box<dyn Ingress>)> = Vec::new();
        for bound in bound_ingresses {
            wirings.push(IngressWiring {
                id: bound.id.clone(),
                ..IngressWiring::default()
            });
            ingresses.push((bound.id, bound.ingress));
        }
        let mut egresses: Vec<(String, Box<dyn Egress>)> = bound_egresses
            .into_iter()
            .map(|bound| (bound.id, bound.egress))
            .collect();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let dead_letters = DeadLetterDesk::default();
        for spec in self.modules.iter().flat_map(Application::specs) {
            let wiring = wiring_of(spec);
            match connector(
                spec,
                &self.servers,
                &disk,
                &functions,
                &dead_letters,
                &self.reader_gone,
            ) {
                Some(Connector::Ingress(ingress)) => {
                    ingresses.push((wiring.id.clone(), ingress));
                    wirings.push(wiring);
                }
                Some(Connector::Egress(egress)) => egresses.push((wiring.id, egress)),
                None => {}
            }
        }
        let registry = Registry::new(Parts {
            functions,
            factories,
            routers,
            egresses: egresses.iter().map(|(id, _)| id.clone()).collect(),
            ingresses: wirings,
            key_groups: self.key_groups,
        })?;
        Ok(EngineSetup {
            registry,
            directory: DataDirectory {
                root: self.data_directory,
                disk,
            },
            settings: self.settings,
            ingresses,
            egresses,
            drop_data: self.drop_data,
            checkpoints: self.checkpoints,
            listener: self.listener,
            tracer: self.tracer,
            dead_letters,
            clock: Arc::default(),
            runtime: runtime.clone(),
        })
    }
}

/// The directory, or the nearest one above it that there is.
fn existing(disk: &dyn Disk, directory: &Path) -> PathBuf {
    let found = directory
        .ancestors()
        .filter(|above| !above.as_os_str().is_empty())
        .find(|above| disk.exists(above).unwrap_or(false));
    found.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// What the code of an application declares.
fn describe(binder: &Binder) -> Description {
    let mut messages: Vec<MessageDescription> = Vec::new();
    let accepted = binder
        .functions
        .iter()
        .flat_map(|function| &function.accepts);
    for message in accepted.chain(binder.routers.iter().map(|router| &router.message)) {
        let message = message.describe();
        if !messages
            .iter()
            .any(|known| known.typename == message.typename)
        {
            messages.push(message);
        }
    }
    messages.sort_by(|a, b| a.typename.cmp(&b.typename));
    Description {
        version: DESCRIPTION_VERSION,
        core_version: env!("CARGO_PKG_VERSION").to_owned(),
        features: BuildFeatures::compiled()
            .names()
            .map(str::to_owned)
            .collect(),
        functions: binder
            .functions
            .iter()
            .map(FunctionDefinition::describe)
            .collect(),
        routers: binder
            .routers
            .iter()
            .map(RouterDefinition::describe)
            .collect(),
        messages,
        ingresses: binder
            .ingresses
            .iter()
            .map(|bound| bound.id.clone())
            .collect(),
        egresses: binder
            .egresses
            .iter()
            .map(|bound| bound.id.clone())
            .collect(),
    }
}

fn wiring_of(spec: &Spec) -> IngressWiring {
    let parse = |name: &str| TypeName::parse(name).ok();
    IngressWiring {
        id: spec.id().unwrap_or_default().to_owned(),
        targets: spec
            .targets()
            .iter()
            .filter_map(|target| parse(target.as_str()))
            .collect(),
        routers: spec
            .routers()
            .iter()
            .map(|router| router.as_str().to_owned())
            .collect(),
        on_error: match spec.on_error() {
            Some(model::OnError::DeadLetter(egress)) => {
                OnError::DeadLetter(egress.as_str().to_owned())
            }
            Some(model::OnError::Skip) => OnError::Skip,
            Some(model::OnError::Fail) | None => OnError::Fail,
        },
    }
}

enum Connector {
    Ingress(Box<dyn Ingress>),
    Egress(Box<dyn Egress>),
}

fn connector(
    spec: &Spec,
    servers: &Arc<HttpServers>,
    disk: &Arc<dyn Disk>,
    functions: &[FunctionDefinition],
    dead_letters: &DeadLetterDesk,
    reader_gone: &Arc<AtomicBool>,
) -> Option<Connector> {
    let (spec, servers) = (spec.clone(), servers.clone());
    Some(match spec {
        Spec::HttpIngress(spec) => Connector::Ingress(Box::new(HttpIngress::new(spec, servers))),
        Spec::HttpEgress(spec) => {
            let letters = spec
                .dead_letter
                .as_ref()
                .map(|egress| dead_letters.letters_to(egress.as_str()));
            Connector::Egress(Box::new(Webhook::new(spec, functions, letters)))
        }
        Spec::FileIngress(spec) => {
            Connector::Ingress(Box::new(FileIngress::new(spec, disk.clone())))
        }
        Spec::FileEgress(spec) => Connector::Egress(Box::new(FileEgress::new(spec, disk.clone()))),
        Spec::StdioIngress(spec) => Connector::Ingress(Box::new(StdioIngress::new(spec))),
        Spec::StdioEgress(spec) => {
            let egress = StdioEgress::new(spec).tell_when_reader_is_gone(reader_gone.clone());
            Connector::Egress(Box::new(egress))
        }
        Spec::PlaygroundIngress(spec) => {
            Connector::Ingress(Box::new(PlaygroundIngress::new(spec, servers)))
        }
        Spec::PlaygroundEgress(spec) => {
            Connector::Egress(Box::new(PlaygroundEgress::new(spec, servers)))
        }
        Spec::Configuration(_) => return None,
    })
}
