//! From an application to a running engine: the only file that names concrete connectors and stores.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::catalog::DataDirectory;
use crate::disk::RealDisk;
use crate::engine::registry::{IngressWiring, Parts, Registry, RegistryError};
use crate::engine::start::{Engine, EngineSettings, EngineSetup, StartError};
use crate::id::KeyGroups;
use crate::io::egress::Egress;
use crate::io::ingress::Ingress;
use crate::sdk::module::{Binder, GlobalConfiguration, Module};

/// Why an application could not be started.
#[derive(Debug, Error)]
pub enum RunError {
    /// Its parts do not fit together.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The engine could not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// An application about to be started: what is linked in and what modules bind.
#[derive(Debug)]
pub struct Launch {
    binder: Binder,
    data_directory: PathBuf,
    settings: EngineSettings,
    key_groups: KeyGroups,
    drop_data: Vec<String>,
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
        }
    }

    /// Adds what a module binds.
    #[must_use]
    pub fn module(mut self, module: &dyn Module, global: &GlobalConfiguration) -> Self {
        module.configure(global, &mut self.binder);
        self
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

    /// Starts it.
    pub fn start(self, runtime: &tokio::runtime::Handle) -> Result<Engine, RunError> {
        let Binder { functions, factories, routers, ingresses: bound_ingresses, egresses: bound_egresses } = self.binder;
        let mut wirings: Vec<IngressWiring> = Vec::new();
        let mut ingresses: Vec<(String, Box<dyn Ingress>)> = Vec::new();
        for bound in bound_ingresses {
            wirings.push(IngressWiring { id: bound.id.clone(), ..IngressWiring::default() });
            ingresses.push((bound.id, bound.ingress));
        }
        let egresses: Vec<(String, Box<dyn Egress>)> =
            bound_egresses.into_iter().map(|bound| (bound.id, bound.egress)).collect();
        let registry = Registry::new(Parts {
            functions,
            factories,
            routers,
            egresses: egresses.iter().map(|(id, _)| id.clone()).collect(),
            ingresses: wirings,
            key_groups: self.key_groups,
        })?;
        Ok(Engine::start(EngineSetup {
            registry,
            directory: DataDirectory { root: self.data_directory, disk: Arc::new(RealDisk) },
            settings: self.settings,
            ingresses,
            egresses,
            drop_data: self.drop_data,
            runtime: runtime.clone(),
        })?)
    }
}
