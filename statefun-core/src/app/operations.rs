//! The operations endpoint of this process: it is there before the application runs, and until it has ended.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Stop, told};
use crate::admin::{Live, OPERATIONS, OperationsServer, Stage};
use crate::engine::starting::StartListener;
use crate::module::model::Spec;
use crate::module::{Application, Findings, ReservedPort, check_reserved_ports};
use crate::settings::{Listen, OperationsSettings};

/// Finds connectors that listen on the port that the settings give to the endpoint.
pub(super) fn check_port(wiring: &Application, settings: &OperationsSettings) -> Findings {
    let reserved: Vec<ReservedPort> = settings.reserved_port().into_iter().collect();
    check_reserved_ports(wiring, &reserved)
}

/// The endpoint, and how far the application is.
pub(super) struct Operations {
    stage: Arc<Stage>,
    server: Option<OperationsServer>,
}

impl Operations {
    /// Listens from now on, at none of the ports that are needed otherwise, as far as there is a choice.
    pub(super) fn start(
        settings: &OperationsSettings,
        needed: &[u16],
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, Stop> {
        let stage = Arc::new(Stage::default());
        let started = OperationsServer::start(settings, needed, stage.clone(), runtime);
        let server = match started {
            Ok(server) => server,
            // Nobody has asked for it.
            Err(error) if settings.listen == Listen::Default => {
                tracing::warn!(%error, "there is no operations endpoint: no health, no metrics");
                None
            }
            Err(error) => return Err(Stop::Input(told(&error))),
        };
        if let Some(server) = &server
            && !server.is_where_expected(settings)
        {
            // Whoever looks on while it starts has no other way to know.
            tracing::info!(address = %server.address(), "the operations endpoint listens");
        }
        if server.as_ref().is_some_and(OperationsServer::is_restricted) {
            tracing::warn!(
                "the operations endpoint offers health and metrics only, since other machines reach it and it has no token: set \
                 `operations.token`, or STATEFUN_OPERATIONS_TOKEN"
            );
        }
        Ok(Self { stage, server })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(OperationsServer::address)
    }

    /// The application is doing that, and does not run yet.
    pub(super) fn starting(&self, doing: impl fmt::Display) {
        self.stage.starting(doing);
    }

    /// Hears what the start is doing.
    pub(super) fn listener(&self) -> StartListener {
        let stage = self.stage.clone();
        StartListener::new(move |step| stage.starting(step))
    }

    /// The application runs.
    pub(super) fn running(&self, live: Arc<dyn Live>) {
        self.stage.running(live);
    }

    /// The application is about to stop.
    pub(super) fn stopping(&self) {
        self.stage.stopping();
    }

    /// What a person sees of it when the application is ready.
    pub(super) fn line(&self) -> Option<String> {
        let server = self.server.as_ref()?;
        let why = server.instead_of().map(|usual| {
            let port = usual.port();
            format!(" (a free port, since {port} is taken; `operations.listen` sets one)")
        });
        let address = server.address();
        let why = why.unwrap_or_default();
        Some(format!("{OPERATIONS}: http://{address}{why}"))
    }
}

/// The ports that connectors will listen on.
pub(super) fn listening_ports(wiring: &Application) -> Vec<u16> {
    wiring
        .specs()
        .filter_map(|spec| match spec {
            Spec::HttpIngress(spec) => Some(spec.address.port()),
            Spec::PlaygroundIngress(spec) => Some(spec.port),
            Spec::PlaygroundEgress(spec) => Some(spec.port),
            _ => None,
        })
        .collect()
}
