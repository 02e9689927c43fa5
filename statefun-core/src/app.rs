//! `statefun::main()`: what an application's binary does. `run` runs it, `describe` says what its code declares, `import` gives
//! its functions state, `migrate` tells whether the code reads what is stored.

mod importing;
mod migrating;
mod operations;
mod place;
mod restoring;
mod running;
mod started;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::{AdminServer, Live, LiveEngine, socket_path};
use crate::engine::shared::EngineError;
use crate::engine::start::StartError;
use crate::logging::{self, say, say_error, say_fields, say_findings};
use crate::module::render::summary;
use crate::module::{Application, BuildFeatures, check};
use crate::runtime::{Launch, RunError};
use crate::sdk::module::{Binder, GlobalConfiguration, Module};
use crate::settings::{SETTINGS_FILE, Settings};
use crate::trace::export;
use importing::{Import, said};
use migrating::Migrate;
use operations::{Operations, check_port, listening_ports};
use place::{check_role, default_modules, home, no_modules};
use restoring::{open_checkpoints, restore};
use running::{Signals, stop, wait_for_end};
use started::{ready, started};

/// What `main` returns: the process' exit code.
pub type Exit = ExitCode;

/// Fine.
const FINE: u8 = 0;
/// The input (module.yaml, settings, data) is wrong.
const WRONG_INPUT: u8 = 1;
/// The command line is wrong, or the application failed.
const FAILED: u8 = 2;

/// Longest time that the last spans take to the collector while the process stops.
const LAST_SPANS: Duration = Duration::from_secs(2);

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

Variables for log lines, which go to standard error:
  STATEFUN_LOG         error, warn, info, debug, trace or off; one crate's as my_app=debug    [info]
  STATEFUN_LOG_FORMAT  human, json, or auto: human on a terminal, JSON otherwise              [auto]

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
                say_error(&problem, Some(HELP));
                ExitCode::from(FAILED)
            }
            Err(Stop::Input(problem)) => {
                say_error(&problem, None);
                ExitCode::from(WRONG_INPUT)
            }
            Err(Stop::Failed(problem)) => {
                say_error(&problem, None);
                ExitCode::from(FAILED)
            }
        }
    }

    fn follow(self, arguments: Vec<String>) -> Result<(), Stop> {
        let arguments = parse(arguments)?;
        let runs = arguments.import.is_none() && arguments.migrate.is_none();
        if arguments.describe || !runs {
            logging::speak_to_people();
        }
        if arguments.describe {
            return self.describe();
        }
        logging::begin().map_err(Stop::Input)?;
        if runs {
            check_role()?;
        }
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
        let findings = findings.and(check_port(&wiring, &settings.operations));
        say_findings(&findings, wiring.sources());
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
        let ports = listening_ports(&wiring);
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
        // Before anything that may take long: probes ask from the first moment on.
        let operations = Operations::start(&settings.operations, &ports, runtime.handle())?;
        let wanted = arguments
            .restore
            .clone()
            .or_else(|| std::env::var("STATEFUN_RESTORE").ok());
        if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
            let from = (checkpoints.as_ref(), wanted.as_str());
            restore(
                &settings,
                from,
                arguments.replace,
                &operations,
                runtime.handle(),
            )?;
        }
        let launch = launch.listener(operations.listener());
        let (tracer, exporter) = export::start(&settings.tracing, runtime.handle())
            .map_err(|problem| Stop::Input(format!("tracing: {problem}")))?
            .unzip();
        let launch = launch.tracer(tracer);
        let servers = launch.servers();
        let reader_gone = launch.reader_gone();
        let engine = launch
            .start(runtime.handle())
            .map_err(|error| not_run(&error))?;
        let live = LiveEngine::new(engine.handle().clone(), servers.clone());
        let live: Arc<dyn Live> = Arc::new(live.operations(operations.address()));
        let admin = AdminServer::start(
            &socket_path(&settings.data_dir),
            live.clone(),
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
        operations.running(live);
        let listening = servers.listening();
        say_fields(&started(&settings, &engine, &listening, &operations));
        ready();
        let ended = wait_for_end(&engine, &servers, &reader_gone, &runtime, signals);
        // Before anything stops: who sends work here is to send it elsewhere.
        operations.stopping();
        if let Some(why) = ended {
            say(why);
        }
        let stopped = stop(engine, &servers, &runtime);
        if let Some(exporter) = exporter {
            runtime.block_on(exporter.finish(LAST_SPANS));
        }
        drop((admin, operations));
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
        say_findings(&findings, wiring.sources());
        return Err(Stop::Input(summary(&findings)));
    }
    Ok(wiring)
}
