//! An application on a machine that may be lost, the store with its checkpoints, and clients that keep it busy.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use statefun_core::checkpoint::bucket::{Bucket, BucketOptions, Retries};
use statefun_core::checkpoint::location::Location;
use statefun_core::checkpoint::manifest::{Descriptor, Entry, Manifest};
use statefun_core::checkpoint::{CheckpointError, operate};
use statefun_core::rand::Random;
use statefun_core::steps::Step;
use statefun_tests::kill::files::{Kept, MODULE, count_lines, listed, number_of, parse};
use statefun_tests::kill::model::Model;
use statefun_tests::kill::process::{Process, Start, wait_for};
use statefun_tests::kill::world::{Clients, Load, World, lock};
use statefun_tests::servers::{Server, Store};

/// When an epoch is complete, as the setting has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Local,
    Blob,
}

/// Where checkpoints are.
pub(crate) enum Place {
    Directory,
    Server(Box<Server>),
}

impl Place {
    pub(crate) fn server(store: Store) -> Self {
        Self::Server(Box::new(Server::start(store)))
    }
}

/// Runs something beside the test.
pub(crate) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let thread = std::thread::Builder::new().name("beside".to_owned());
    thread.spawn(run).unwrap()
}

/// How often the long tests are tried.
pub(crate) fn times(short: u64) -> u64 {
    let times = number_of("STATEFUN_RESTORES", 1);
    if times == 1 {
        println!("{short} times here; STATEFUN_RESTORES=n makes it n times as often");
    }
    short * times
}

/// All there is in a test.
pub(crate) struct Scene {
    root: Kept,
    pub(crate) world: Arc<World>,
    pub(crate) random: Random,
    pub(crate) place: Place,
    pub(crate) durability: Durability,
    /// The directory that the application lies in at present; a new one for each machine.
    pub(crate) machine: PathBuf,
    machines: u32,
    starts: u32,
    /// Variables for all processes.
    pub(crate) environment: Vec<(&'static str, String)>,
    runtime: tokio::runtime::Runtime,
    seed: u64,
}

impl Scene {
    /// A machine with nothing on it but the application.
    pub(crate) fn new(place: Place, durability: Durability) -> Self {
        let seed = number_of("STATEFUN_SEED", Random::from_system().next_u64());
        println!("STATEFUN_SEED={seed}");
        let root = Kept::new();
        let machine = root.path().join("machine-1");
        std::fs::create_dir(&machine).unwrap();
        std::fs::write(machine.join("module.yaml"), MODULE).unwrap();
        Self {
            world: Arc::new(World::new(&machine)),
            random: Random::seeded(seed),
            place,
            durability,
            machine,
            machines: 1,
            starts: 0,
            environment: vec![("STATEFUN_CHECKPOINT_INTERVAL", "500ms".to_owned())],
            runtime: tokio::runtime::Runtime::new().unwrap(),
            root,
            seed,
        }
    }

    /// Clients and a writer; requests are only of use where an answer outlives the machine.
    pub(crate) fn load(&self) -> Load {
        let clients = if self.durability == Durability::Blob {
            Clients {
                keyed: 3,
                bare: 2,
                rotates: false,
            }
        } else {
            Clients::default()
        };
        Load::start(&self.world, self.seed, clients)
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Writes so many operations at once.
    pub(crate) fn write(&mut self, operations: u64) {
        let until = lock(&self.world.taken).len() as u64 + operations;
        while (lock(&self.world.taken).len() as u64) < until {
            self.world.write(&mut self.random, 200);
        }
    }

    /// Starts a process with arguments, to be killed at a step.
    pub(crate) fn start(&mut self, arguments: &[&str], kill: Option<(Step, u64)>) -> Process {
        self.starts += 1;
        let durability = match self.durability {
            Durability::Local => "local",
            Durability::Blob => "blob",
        };
        let mut environment = vec![
            ("STATEFUN_DATA_DIR", "data".to_owned()),
            ("STATEFUN_DURABILITY", durability.to_owned()),
        ];
        environment.extend(match &self.place {
            Place::Directory => vec![(
                "STATEFUN_CHECKPOINT_URL",
                self.root.path().join("checkpoints").display().to_string(),
            )],
            Place::Server(server) => server.variables("app"),
        });
        environment.extend(self.environment.iter().cloned());
        if let Some((step, count)) = kill {
            environment.push(("STATEFUN_TEST_KILL", format!("{}:{count}", step.name())));
        }
        let start = Start {
            binary: Path::new(env!("CARGO_BIN_EXE_kill-app")),
            directory: &self.machine,
            name: format!("life-{}", self.starts),
            workers: 1 + self.random.below(3) as usize,
            environment,
        };
        start.spawn_with(arguments)
    }

    /// Has the clients go to a process once it is ready.
    pub(crate) fn ready(&self, process: &mut Process) {
        let addresses = process.ready();
        let addresses = addresses.unwrap_or_else(|| panic!("it ended\n{}", process.last_words()));
        *lock(&self.world.addresses) = Some(addresses);
    }

    /// A process that is ready.
    pub(crate) fn run(&mut self, arguments: &[&str]) -> Process {
        let mut process = self.start(arguments, None);
        self.ready(&mut process);
        process
    }

    /// Restores the newest checkpoint on this machine, and goes on. Where output is ahead of it, that is cut off as the message says. Returns
    /// whether it was.
    pub(crate) fn restore(&mut self) -> (Process, bool) {
        let mut process = self.start(&["--restore", "latest"], None);
        if let Some(addresses) = process.ready() {
            *lock(&self.world.addresses) = Some(addresses);
            return (process, false);
        }
        let said = refusal(&mut process);
        assert!(
            self.durability == Durability::Local,
            "all output was of complete epochs, and those are all there\n{said}"
        );
        self.cut_off(&said);
        (self.run(&[]), true)
    }

    /// Does what the message says.
    pub(crate) fn cut_off(&self, said: &str) {
        let command = said
            .split('`')
            .find(|quoted| quoted.starts_with("truncate -s "));
        let Some(command) = command else {
            // At the checkpoint there was no output yet.
            assert!(said.contains("from offset 0 on"), "{said}");
            assert!(said.contains("Move it away"), "{said}");
            return std::fs::remove_file(self.output()).unwrap();
        };
        let run = Command::new("sh")
            .args(["-c", command])
            .current_dir(&self.machine)
            .status();
        assert!(run.unwrap().success(), "{command}");
    }

    /// The process is killed, and its machine is gone. Another one has what was read and written.
    pub(crate) fn lose_machine(&mut self, mut process: Process) {
        *lock(&self.world.addresses) = None;
        process.kill();
        let lost = self.machine.clone();
        self.new_machine(&["lines.jsonl", "handled.jsonl"]);
        lock(&self.world.writer)
            .directories
            .retain(|directory| *directory != lost);
        std::fs::remove_dir_all(lost.join("data")).unwrap();
    }

    /// Another machine with the application and copies of some files, data directories included; lines are written there as well
    /// from now on.
    pub(crate) fn new_machine(&mut self, files: &[&str]) {
        self.machines += 1;
        let old = self.machine.clone();
        self.machine = self.root.path().join(format!("machine-{}", self.machines));
        std::fs::create_dir(&self.machine).unwrap();
        let mut writer = lock(&self.world.writer);
        for entry in std::fs::read_dir(&old).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // Rotated files have the name and more.
            if ["module.yaml"]
                .iter()
                .chain(files)
                .any(|file| name.starts_with(file))
            {
                copy(&old.join(&name), &self.machine.join(&name));
            }
        }
        writer.directories.push(self.machine.clone());
    }

    /// The server with the checkpoints.
    pub(crate) fn server(&mut self) -> &mut Server {
        match &mut self.place {
            Place::Server(server) => server,
            Place::Directory => panic!("a directory has no server"),
        }
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.machine.join("handled.jsonl")
    }

    /// Waits until a process has made so many more checkpoints.
    pub(crate) fn wait_for_checkpoints(&self, process: &mut Process, count: u64) {
        let wanted = process.steps().count(Step::Collected) + count;
        wait_for(
            || {
                self.world.assert_no_problems();
                let ended = process.ended();
                assert!(ended.is_none(), "{ended:?}\n{}", process.last_words());
                (process.steps().count(Step::Collected) >= wanted).then_some(())
            },
            || "a checkpoint".to_owned(),
        );
    }

    /// Waits until so many more records are there.
    pub(crate) fn wait_for_output(&self, process: &Process, records: usize) {
        let wanted = count_lines(&self.output()) + records;
        wait_for(
            || (count_lines(&self.output()) >= wanted).then_some(()),
            || format!("more output\n{}", process.last_words()),
        );
    }

    /// Where the checkpoints are, as somebody else sees it.
    pub(crate) fn bucket(&self) -> Bucket {
        match &self.place {
            Place::Directory => {
                let path = self.root.path().join("checkpoints");
                let location = Location::parse(path.to_str().unwrap()).unwrap();
                Bucket::open(&location, &BucketOptions::default()).unwrap()
            }
            Place::Server(server) => server.open("app", Retries::default()),
        }
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn manifest(&self) -> Option<Manifest> {
        self.block_on(operate::manifest(&self.bucket())).unwrap()
    }

    pub(crate) fn describe(&self, wanted: &str) -> (Entry, Descriptor) {
        self.block_on(operate::describe(&self.bucket(), wanted))
            .unwrap()
    }

    /// What is wrong with the checkpoints; nothing while there are none.
    pub(crate) fn problems(&self) -> Vec<(String, CheckpointError)> {
        if self.manifest().is_none() {
            return Vec::new();
        }
        let verified = self.block_on(operate::verify(&self.bucket(), None, |_| {}));
        verified.unwrap().problems
    }

    /// Nothing that the manifest names is damaged or missing. Nobody may be writing.
    pub(crate) fn verify(&self) {
        let problems = self.problems();
        assert!(problems.is_empty(), "{problems:?}");
    }

    /// Nothing is there that nothing refers to. Nobody may be writing.
    pub(crate) fn assert_swept(&self) {
        let bucket = self.bucket();
        let manifest = self.manifest().unwrap();
        let mut wanted = BTreeSet::from(["manifest.json".to_owned()]);
        for entry in &manifest.checkpoints {
            let (_, descriptor) = self.describe(&entry.id);
            wanted.insert(entry.object.clone());
            wanted.extend(descriptor.objects().map(|(name, _)| name.to_owned()));
        }
        let there: BTreeSet<String> = self
            .block_on(bucket.list(""))
            .unwrap()
            .into_iter()
            .map(|object| object.name)
            .filter(|name| !name.starts_with("epochs/"))
            .collect();
        assert_eq!(there, wanted);
    }

    /// What must come out of all that was taken so far.
    pub(crate) fn model(&self) -> Model {
        let mut model = Model::default();
        for (op, source) in lock(&self.world.taken).iter() {
            model.add(*op, source);
        }
        model
    }

    /// The clients end, and everything comes to rest: state and output are those of the model. The process has ended then.
    pub(crate) fn end(&mut self, load: Load, mut process: Process) {
        load.end();
        self.world.assert_no_problems();
        let (model, happened) = self.world.settle(&self.output(), &process);
        self.world.check_nodes(&model, &process);
        let status = process.terminate();
        assert!(status.success(), "{status}\n{}", process.last_words());
        self.check_output(&model);
        self.world.check_replies(&model);
        self.verify();
        println!(
            "{} operations, {happened} of them doubtful, {} records, each once and in order",
            lock(&self.world.taken).len() + happened,
            model.records()
        );
    }

    pub(crate) fn check_output(&self, model: &Model) {
        let problems = model.check(&parse(&std::fs::read(self.output()).unwrap()));
        assert!(
            problems.is_empty(),
            "{} problems:\n{}",
            problems.len(),
            listed(&problems)
        );
    }

    pub(crate) fn nap(&mut self, most: Duration) {
        std::thread::sleep(most.mul_f64(self.random.below(1000) as f64 / 1e3));
    }
}

/// What a process has said that was to end with an error, as a person reads it, wherever lines are broken.
pub(crate) fn refusal(process: &mut Process) -> String {
    let status = process.wait();
    let said = process.said();
    assert!(
        matches!(status.code(), Some(1 | 2)),
        "{status}\n{}",
        process.last_words()
    );
    let said: Vec<&str> = said
        .split_whitespace()
        .filter(|word| !matches!(*word, "│" | "|"))
        .collect();
    said.join(" ")
}

/// Copies a file or a directory, if there is one.
pub(crate) fn copy(from: &Path, to: &Path) {
    let Ok(metadata) = std::fs::metadata(from) else {
        return;
    };
    if metadata.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else if metadata.is_file() {
        std::fs::copy(from, to).unwrap();
    }
}
