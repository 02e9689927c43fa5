//! `statefun::main()`: what an application's binary does. `run` runs it, `describe` says what its code declares, `import` gives
//! its functions state, `migrate` tells whether the code reads what is stored.

mod importing;
mod migrating;
mod place;
mod restoring;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{AdminServer, LiveEngine, socket_path};
use crate::engine::shared::EngineError;
use crate::engine::start::{Engine, StartError};
use crate::io::http::{HttpServers, Listening};
use crate::module::render::{Format, HumanOptions, render, summary};
use crate::module::{Application, BuildFeatures, check};
use crate::runtime::{Launch, RunError};
use crate::sdk::module::{Binder, GlobalConfiguration, Module};
use crate::settings::{SETTINGS_FILE, Settings};
use importing::{Import, said};
use migrating::Migrate;
use place::{check_role, default_modules, home, no_modules};
use restoring::{open_checkpoints, restore};

/// What `main` returns: the process' exit code.
pub type Exit = ExitCode;

/// Fine.
const FINE: u8 = 0;
/// The input (module.yaml, settings, data) is wrong.
const WRONG_INPUT: u8 = 1;
/// The command line is wrong, or the application failed.
const FAILED: u8 = 2;

const HELP: &str = "\
A Stateful Functions application.

Usage: APP [run] [OPTIONS]     take records in, run functions, write results
       APP describe            print what the code declares, as JSON
       APP import FILE         make the lines of FILE (or `-`) the state of functions, as
                               `statefun state export` writes them; the application must not run
       APP migrate --dry-run   read all that the newest checkpoint has as this code would, and
                               report what it does not read

Options of run and import (each overrides its variable, which overrides statefun.yaml):
  --data-dir DIR       where state and log lie            STATEFUN_DATA_DIR   [.statefun/data]
  --workers N          worker threads                     STATEFUN_WORKERS    [all cores]
  --module FILE        a module.yaml; may be repeated     [module.yaml and modules/*.yaml]
  --restore WHICH      begin with a checkpoint: `latest`, an id, or a name; `auto` restores
                       the latest, but only into an empty directory    STATEFUN_RESTORE
  --replace            let --restore delete what is in the data directory; import: let addresses
                       that have state lose it, and get that of their lines
  --drop-data NAME     delete the data of a function (ns/name) or state (ns/name:state) that
                       the code no longer has, or what has not left of an egress that
                       module.yaml no longer has (egress:ns/name); may be repeated
  --dry-run            import: check everything, write nothing; migrate: needed, since states are
                       migrated when they are read
  --checkpoint WHICH   migrate: another one than the newest: an id, or a name
  --json               migrate: the report as JSON
  -h, --help           this text

More of the environment:
  STATEFUN_HOME        the directory with module.yaml, modules/ and statefun.yaml  [where it is started]
  ROLE                 `standalone`, the only role that there is yet               [standalone]
";

/// Runs the application that is linked into this program: `fn main() -> statefun::Exit { statefun::main() }`.
pub fn main() -> Exit {
    App::new().main()
}

/// An application with modules of its own, beside what the macros register.
///
/// ```no_run
/// # use statefun_core::prelude::*;
/// # struct Shop;
/// # impl Module for Shop {
/// #     fn configure(&self, _: &GlobalConfiguration, _: &mut Binder) {}
/// # }
/// fn main() -> statefun_core::Exit {
///     statefun_core::App::new().module(Shop).main()
/// }
/// ```
#[derive(Default)]
pub struct App {
    modules: Vec<Box<dyn Module>>,
    unlinked: bool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("modules", &self.modules.len())
            .field("unlinked", &self.unlinked)
            .finish()
    }
}

#[derive(Debug, Default)]
struct Arguments {
    describe: bool,
    import: Option<Import>,
    migrate: Option<Migrate>,
    data_dir: Option<String>,
    workers: Option<String>,
    modules: Vec<PathBuf>,
    drop_data: Vec<String>,
    restore: Option<String>,
    replace: bool,
}

enum Stop {
    Help,
    Usage(String),
    Input(String),
    Failed(String),
}

fn say(text: &str) {
    // Without a place to say it there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What an error says, and what caused it as far as it does not say so itself.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text.push_str(&format!("\n  because: {why}"));
        }
        cause = error.source();
    }
    text
}

impl App {
    /// What the macros registered in all crates that are linked in.
    pub fn new() -> Self {
        Self::default()
    }

    /// An application of what its modules bind, and nothing else: what the macros registered counts only where a module binds
    /// it. So one program can hold several applications.
    pub fn unlinked() -> Self {
        Self {
            unlinked: true,
            ..Self::default()
        }
    }

    /// Adds a module that binds functions with factories, routers or connectors in code.
    #[must_use]
    pub fn module(mut self, module: impl Module + 'static) -> Self {
        self.modules.push(Box::new(module));
        self
    }

    /// Runs it, as the command line says.
    pub fn main(self) -> Exit {
        self.main_with(std::env::args().skip(1).collect())
    }

    /// Runs it, as these arguments say.
    pub fn main_with(self, arguments: Vec<String>) -> Exit {
        match self.follow(arguments) {
            Ok(()) => ExitCode::from(FINE),
            Err(Stop::Help) => {
                let _ = std::io::stdout().write_all(HELP.as_bytes());
                ExitCode::from(FINE)
            }
            Err(Stop::Usage(problem)) => {
                say(&format!("error: {problem}\n\n{HELP}"));
                ExitCode::from(FAILED)
            }
            Err(Stop::Input(problem)) => {
                say(&format!("error: {problem}"));
                ExitCode::from(WRONG_INPUT)
            }
            Err(Stop::Failed(problem)) => {
                say(&format!("error: {problem}"));
                ExitCode::from(FAILED)
            }
        }
    }

    fn follow(self, arguments: Vec<String>) -> Result<(), Stop> {
        let arguments = parse(arguments)?;
        if arguments.describe {
            return self.describe();
        }
        let runs = arguments.import.is_none() && arguments.migrate.is_none();
        if runs {
            check_role()?;
        }
        log_to_stderr();
        let home = home();
        let mut settings =
            Settings::load(&home.join(SETTINGS_FILE), |name| std::env::var(name).ok())
                .map_err(|error| Stop::Input(told(&error)))?;
        for (flag, name, value) in [
            ("--data-dir", "dataDir", &arguments.data_dir),
            ("--workers", "workers", &arguments.workers),
        ] {
            if let Some(value) = value {
                settings
                    .set(name, value)
                    .map_err(|problem| Stop::Usage(format!("{flag}: {problem}")))?;
            }
        }
        let wiring = load_wiring(&home, &arguments.modules)?;
        let global: GlobalConfiguration = wiring
            .global_configuration()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let launch = self.launch(&settings, &global);
        // First, since a module that refuses has not bound all that module.yaml is checked against.
        launch
            .check_modules()
            .map_err(|error| Stop::Input(told(&error)))?;
        let findings = check(
            &wiring,
            Some(&launch.describe()),
            &BuildFeatures::compiled(),
        );
        if !findings.is_empty() {
            say(&render(&findings, wiring.sources(), Format::Human(human())));
        }
        if findings.has_errors() {
            let mut text = summary(&findings);
            if arguments.modules.is_empty() && default_modules(&home).is_empty() {
                text.push_str(&format!("\n{}", no_modules(&home)));
            }
            return Err(Stop::Input(text));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.workers.clamp(1, 2))
            .thread_name("statefun-io")
            .enable_all()
            .build()
            .map_err(|error| Stop::Failed(format!("threads cannot be started: {error}")))?;
        let checkpoints = open_checkpoints(&settings)?;
        let wanted = arguments
            .restore
            .clone()
            .or_else(|| std::env::var("STATEFUN_RESTORE").ok());
        if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty() && runs) {
            restore(
                &settings,
                checkpoints.as_ref(),
                &wanted,
                arguments.replace,
                runtime.handle(),
            )?;
        }
        let launch = launch
            .checkpoints(checkpoints.clone())
            .wiring(wiring)
            .settings(settings.engine())
            .key_groups(settings.key_groups)
            .drop_data(arguments.drop_data);
        if let Some(migrate) = &arguments.migrate {
            return migrate.follow(launch, &settings, checkpoints.as_ref(), runtime.handle());
        }
        if let Some(import) = &arguments.import {
            let imported = import.follow(launch, runtime.handle())?;
            say(&said(&imported, import.options.dry_run, &settings.data_dir));
            return Ok(());
        }
        let servers = launch.servers();
        let reader_gone = launch.reader_gone();
        let engine = launch
            .start(runtime.handle())
            .map_err(|error| not_run(&error))?;
        let live = LiveEngine::new(engine.handle().clone(), servers.clone());
        let admin = AdminServer::start(
            &socket_path(&settings.data_dir),
            Arc::new(live),
            runtime.handle(),
        );
        if let Err(error) = &admin {
            tracing::warn!(%error, "live commands, such as `statefun parked`, are not offered");
        }
        // Before anybody is told that it is ready: who hears it may ask it to stop at once.
        let signals = {
            let _inside = runtime.enter();
            Signals::listen()
        };
        say(&started(&settings, &engine, &servers.listening()));
        ready();
        let stopped = run(engine, &servers, &reader_gone, &runtime, signals);
        drop(admin);
        runtime.shutdown_timeout(Duration::from_secs(1));
        stopped.map_err(|error| Stop::Failed(told(&error)))
    }

    fn launch(&self, settings: &Settings, global: &GlobalConfiguration) -> Launch {
        let binder = if self.unlinked {
            Binder::default()
        } else {
            Binder::linked()
        };
        let mut launch = Launch::of(binder, &settings.data_dir);
        for module in &self.modules {
            launch = launch.module(&**module, global);
        }
        launch
    }

    /// Modules are configured with what module.yaml says, as far as it can be read.
    fn describe(&self) -> Result<(), Stop> {
        let (wiring, _) = Application::load_files(default_modules(&home()));
        let global = wiring
            .global_configuration()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let launch = self.launch(&Settings::default(), &global);
        launch
            .check_modules()
            .map_err(|error| Stop::Input(told(&error)))?;
        let description = launch.describe();
        let json = serde_json::to_string_pretty(&description)
            .map_err(|error| Stop::Failed(told(&error)))?;
        let _ = writeln!(std::io::stdout(), "{json}");
        Ok(())
    }
}

fn parse(arguments: Vec<String>) -> Result<Arguments, Stop> {
    let mut parsed = Arguments::default();
    let mut rest = arguments.into_iter();
    let mut first = true;
    while let Some(argument) = rest.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                (name.to_owned(), Some(value.to_owned()))
            }
            _ => (argument.clone(), None),
        };
        let mut value = || {
            let value = inline.clone().or_else(|| rest.next());
            value.ok_or_else(|| Stop::Usage(format!("{name} needs a value")))
        };
        match name.as_str() {
            "run" if first => {}
            "describe" if first => parsed.describe = true,
            "import" if first => parsed.import = Some(Import::default()),
            "migrate" if first => parsed.migrate = Some(Migrate::default()),
            "-h" | "--help" | "help" => return Err(Stop::Help),
            "--data-dir" => parsed.data_dir = Some(value()?),
            "--workers" => parsed.workers = Some(value()?),
            "--module" => parsed.modules.push(value()?.into()),
            "--drop-data" => parsed.drop_data.push(value()?),
            "--restore" => parsed.restore = Some(value()?),
            "--replace" => parsed.replace = true,
            "--checkpoint" if parsed.migrate.is_some() => {
                let wanted = value()?;
                if let Some(migrate) = &mut parsed.migrate {
                    migrate.checkpoint = Some(wanted);
                }
            }
            other if parsed.migrate.is_some() => {
                if let Some(migrate) = &mut parsed.migrate {
                    match other {
                        "--dry-run" => migrate.dry_run = true,
                        "--json" => migrate.as_json = true,
                        _ => return Err(Stop::Usage(format!("`{argument}` is not understood"))),
                    }
                }
            }
            other => {
                let understood = parsed.import.as_mut().is_some_and(|import| match other {
                    "--dry-run" => {
                        import.options.dry_run = true;
                        true
                    }
                    "-" => import.file.replace(argument.clone().into()).is_none(),
                    file if !file.starts_with('-') => {
                        import.file.replace(argument.clone().into()).is_none()
                    }
                    _ => false,
                });
                if !understood {
                    return Err(Stop::Usage(format!("`{argument}` is not understood")));
                }
            }
        }
        first = false;
    }
    match &mut parsed.import {
        Some(Import { file: None, .. }) => {
            return Err(Stop::Usage(
                "`import` needs a file, or `-` for standard input".to_owned(),
            ));
        }
        Some(import) => import.options.replace = parsed.replace,
        None if parsed.replace && parsed.restore.is_none() => {
            return Err(Stop::Usage("`--replace` goes with `--restore`".to_owned()));
        }
        None => {}
    }
    if parsed
        .migrate
        .as_ref()
        .is_some_and(|migrate| !migrate.dry_run)
    {
        return Err(Stop::Usage(
            "states are migrated when they are read; `migrate --dry-run` tells whether all of them will be".to_owned(),
        ));
    }
    let runs = parsed.import.is_none() && parsed.migrate.is_none();
    if !runs && parsed.restore.is_some() {
        return Err(Stop::Usage("`--restore` goes with `run`".to_owned()));
    }
    Ok(parsed)
}

/// What could not be started is wrong, or has failed.
fn not_run(error: &RunError) -> Stop {
    match error {
        RunError::Start(
            StartError::Catalog(_)
            | StartError::InUse { .. }
            | StartError::Unfinished(_)
            | StartError::Engine(
                EngineError::Ingress(_) | EngineError::Egress(_) | EngineError::Checkpoint(_),
            ),
        )
        | RunError::Registry(_)
        | RunError::Refused(_) => Stop::Input(told(error)),
        RunError::Start(_) => Stop::Failed(told(error)),
    }
}

fn load_wiring(home: &Path, modules: &[PathBuf]) -> Result<Application, Stop> {
    let files = if modules.is_empty() {
        default_modules(home)
    } else {
        modules.to_vec()
    };
    let (wiring, findings) = Application::load_files(files);
    if findings.has_errors() {
        say(&render(&findings, wiring.sources(), Format::Human(human())));
        return Err(Stop::Input(summary(&findings)));
    }
    Ok(wiring)
}

fn human() -> HumanOptions {
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        HumanOptions::default()
    } else {
        HumanOptions::plain()
    }
}

fn log_to_stderr() {
    let level = std::env::var("STATEFUN_LOG")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(tracing::Level::INFO);
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}

/// What a person sees when the application is ready.
fn started(settings: &Settings, engine: &Engine, listening: &[Listening]) -> String {
    let recovery = engine.handle().recovery();
    let mut text = format!(
        "statefun: data in {}, {} worker{}",
        settings.data_dir.display(),
        settings.workers,
        if settings.workers == 1 { "" } else { "s" },
    );
    if recovery.epoch > 0 {
        text.push_str(&format!(
            "\n  continues behind epoch {} ({} epochs replayed, {} messages under way, {} ms)",
            recovery.epoch,
            recovery.replayed_epochs,
            recovery.carried_messages,
            recovery.duration.as_millis()
        ));
    }
    for place in listening {
        text.push_str(&format!(
            "\n  {}: {} {}://{}{}",
            place.component, place.method, place.scheme, place.address, place.path
        ));
        if let Some(example) = &place.example {
            text.push_str(&format!("\n    try: {example}"));
        }
    }
    text.push_str("\n  ready; Ctrl-C stops it");
    text
}

/// Tells tools that the application is ready.
fn ready() {
    if let Some(path) = std::env::var_os("STATEFUN_READY_FILE")
        && let Err(error) = std::fs::write(&path, std::process::id().to_string())
    {
        tracing::warn!(%error, path = %path.to_string_lossy(), "the ready file cannot be written");
    }
}

/// Runs until a signal, a failure, the end of all sources, or of those who read the standard output.
fn run(
    engine: Engine,
    servers: &HttpServers,
    reader_gone: &AtomicBool,
    runtime: &tokio::runtime::Runtime,
    mut signals: Signals,
) -> Result<(), EngineError> {
    let quiet = runtime.block_on(async {
        let mut quiet_looks = 0;
        loop {
            tokio::select! {
                () = signals.received() => return false,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            if engine.has_stopped() || reader_gone.load(Ordering::SeqCst) {
                return false;
            }
            // Twice, since a message may be between two workers' looks.
            quiet_looks = if engine.is_quiet() {
                quiet_looks + 1
            } else {
                0
            };
            if quiet_looks > 2 && servers.listening().is_empty() {
                return true;
            }
        }
    });
    if quiet {
        say("statefun: all input has been read and worked off");
    } else if reader_gone.load(Ordering::SeqCst) {
        say("statefun: nobody reads the standard output any more; stopping");
    } else if !engine.has_stopped() {
        say("statefun: stopping");
    }
    let stopped = engine.stop();
    runtime.block_on(servers.finish(Duration::from_secs(1)));
    stopped
}

/// What asks the application to stop. From [`Signals::listen`] on, it ends in order; until then, it ends at once.
struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// To be called inside of a runtime.
    fn listen() -> Self {
        Self {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    async fn received(&mut self) {
        tokio::select! {
            () = received(&mut self.interrupt) => {}
            () = received(&mut self.terminate) => {}
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
