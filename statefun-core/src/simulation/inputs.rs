//! The files that are read: the program that writes and rotates them, on a disk that no crash of ours touches, and the
//! real file ingress that follows them, a step at a time.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use crate::disk::Crash;
use crate::disk::{Disk, OpenMode, SimDisk};
use crate::engine::registry::OnError;
use crate::engine::worker::partition_address;
use crate::id::{Address, KeyGroups};
use crate::io::file::FileIngress;
use crate::io::file::feed::Halt;
use crate::io::file::follower::{Follower, Next};
use crate::io::ingress::{Ack, AckOutcome, IngressContext, Record};
use crate::sdk::error::{RouterError, RouterResult};
use crate::sdk::function::StatefulFunction;
use crate::sdk::message::{Message, MessageDefinition};
use crate::sdk::router::{Downstream, RouterDefinition, route_typed};
use crate::simulation::model::Source;
use crate::simulation::plan::{
    Kind, drawn, is_misrouted, is_narrow, make_id, misrouted, mix, target,
};
use crate::simulation::process::Process;
use crate::simulation::sink::runtime;
use crate::simulation::workload::{LETTERS, Narrow, Node, Token, world};
use crate::simulation::{Mutant, Shape, Sim, Stop, consequences};
use crate::state::keys::{Space, address_key};

/// The ingresses that read files, and what becomes of what they cannot read or route.
pub(super) const INGRESSES: [&str; 4] = ["sim/in0", "sim/in1", "sim/in2", "sim/in3"];
/// One of them that leaves such records out.
const SKIPPING: &str = INGRESSES[2];
pub(super) const ROUTER: &str = "tokens";

/// The policy of each of [`INGRESSES`].
pub(super) fn policy(index: usize) -> OnError {
    match index {
        0 => OnError::Fail,
        2 => OnError::Skip,
        _ => OnError::DeadLetter(LETTERS.to_owned()),
    }
}

/// A line of a file.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Without its line end.
    pub(super) bytes: Vec<u8>,
    /// The message that it stands for; none when it cannot be read or routed.
    pub(super) id: Option<u64>,
}

/// A file, and how far it is written.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    ingress: &'static str,
    pub(super) address: Address,
    /// Of the row that holds its position.
    pub(super) key: Vec<u8>,
    pub(super) lines: Vec<Line>,
    /// How many lines are written.
    written: usize,
    /// How many bytes of the next one are.
    begun: usize,
    /// Bytes of the file that is at the path.
    bytes: u64,
    rotations: u32,
}

/// The router of all ingresses.
pub(super) fn router() -> RouterDefinition {
    fn tokens(token: Token, out: &mut Downstream<'_>) -> RouterResult {
        let to = target(token.id);
        if is_misrouted(token.id) {
            if drawn(token.id, 20, 2) {
                // Without the panic hook's message.
                std::panic::resume_unwind(Box::new("a router panics".to_owned()));
            }
            return Err(RouterError::new("nobody is to get it"));
        }
        if is_narrow(to) {
            out.forward(Narrow::at(format!("n{to}")), token);
        } else {
            out.forward(Node::at(format!("n{to}")), token);
        }
        Ok(())
    }
    RouterDefinition {
        name: ROUTER,
        ingress: None,
        message: MessageDefinition::of::<Token>(),
        to: vec![Node::type_name(), Narrow::type_name()],
        route: |message, out| route_typed(message, out, tokens),
    }
}

/// The files and their lines, as many as the run has time for.
pub(super) fn inputs(seed: u64, shape: &Shape) -> Vec<Input> {
    let groups = KeyGroups::new(shape.key_groups);
    let mut inputs: Vec<Input> = INGRESSES[..shape.partitions as usize]
        .iter()
        .enumerate()
        .map(|(index, ingress)| {
            let path = PathBuf::from(format!("/in/p{index}.jsonl"));
            let address = partition_address(ingress, &path.display().to_string());
            Input {
                key: address_key(Space::Source, groups, &address),
                path,
                ingress,
                address,
                lines: Vec::new(),
                written: 0,
                begun: 0,
                bytes: 0,
                rotations: 0,
            }
        })
        .collect();
    let mut room = shape.messages;
    let mut numbers: HashMap<(usize, u64), u64> = HashMap::new();
    for number in 0..shape.records {
        for (index, input) in inputs.iter_mut().enumerate() {
            let chance = mix(mix(seed, index as u64), number);
            let id = make_id(
                chance,
                1 + chance % 4,
                Kind::Plain,
                chance / 7 % shape.rules.nodes,
            );
            let bad = mix(chance, 0xBAD).is_multiple_of(6) && policy(index) != OnError::Fail;
            let left = room.checked_sub(consequences(id, shape.rules));
            if !bad && left.is_none() {
                continue;
            }
            let mut token = Token {
                id: if bad { misrouted(id) } else { id },
                lane: format!("source {index}"),
                seq: 0,
                due_ms: 0,
                cancels: 0,
            };
            if !bad {
                room = left.unwrap_or_default();
                let seq = numbers.entry((index, target(id))).or_default();
                *seq += 1;
                token.seq = *seq;
            }
            let mut bytes = Vec::new();
            token.encode(&mut bytes).expect("a token can be written");
            if bad && drawn(id, 17, 2) {
                // No JSON at all, and no other file's.
                bytes.truncate(1 + (chance >> 8) as usize % (bytes.len() - 1));
                bytes.insert(0, b'a' + index as u8);
            }
            input.lines.push(Line {
                bytes,
                id: (!bad).then_some(id),
            });
        }
    }
    inputs
}

impl Input {
    /// What the model is to know of it.
    pub(super) fn source(&self, index: usize) -> Source {
        Source {
            lines: self.lines.clone(),
            ends: HashMap::new(),
            letters: matches!(policy(index), OnError::DeadLetter(_)),
        }
    }

    pub(super) fn is_written(&self) -> bool {
        self.written == self.lines.len()
    }

    /// Gives the file another name, as log rotation does.
    fn rotate(&mut self, disk: &SimDisk) {
        let name = |number: u32| match number {
            0 => self.path.clone(),
            number => PathBuf::from(format!("{}.{number}", self.path.display())),
        };
        for number in (0..=self.rotations).rev() {
            disk.rename(&name(number), &name(number + 1))
                .expect("this disk does not fail");
        }
        self.rotations += 1;
        self.bytes = 0;
    }
}

/// A file as the running process follows it.
pub(super) struct Reader {
    follower: Follower,
    /// Records that were read and not taken in.
    ahead: VecDeque<Record>,
    /// How many were taken in, of all lines.
    pub(super) taken: u64,
    /// The position of the last one.
    position: Option<Bytes>,
}

impl Sim {
    /// The program that writes one of the files goes on.
    pub(super) fn write_input(&mut self) {
        let index = self.random.below(self.inputs.len() as u64) as usize;
        if self.inputs[index].is_written() {
            return;
        }
        let disk = self.inputs_disk.clone();
        // Before the first position is durable, nobody knows what a file that gets another name was.
        let known = self.model.positions.contains_key(&self.inputs[index].key);
        if known && self.inputs[index].begun == 0 && self.inputs[index].bytes > 0 && self.one_in(6)
        {
            self.inputs[index].rotate(&disk);
            self.trace.note(format_args!("file {index} is rotated"));
            return;
        }
        let most = if self.calm { 100 } else { 12 };
        for _ in 0..=self.random.below(most) {
            let whole = self.calm || !self.one_in(4);
            let chance = self.random.next_u64();
            let input = &mut self.inputs[index];
            let Some(line) = input.lines.get(input.written) else {
                break;
            };
            let mut bytes = line.bytes.clone();
            bytes.push(b'\n');
            let rest = &bytes[input.begun..];
            let count = if whole {
                rest.len()
            } else {
                1 + chance as usize % rest.len()
            };
            let file = disk
                .open(&input.path, OpenMode::Create)
                .expect("this disk does not fail");
            file.write_at(&rest[..count], input.bytes)
                .expect("this disk does not fail");
            input.bytes += count as u64;
            input.begun += count;
            if input.begun < bytes.len() {
                break;
            }
            input.begun = 0;
            input.written += 1;
            let inode = file.metadata().expect("this disk does not fail").inode;
            if let Some(source) = self.model.sources.get_mut(&input.key) {
                source
                    .ends
                    .insert((inode, input.bytes), input.written as u64);
            }
        }
    }

    /// Reads of one of the files fail, until the process starts again.
    pub(super) fn make_unreadable(&mut self) {
        let index = self.random.below(self.inputs.len() as u64) as usize;
        let path = &self.inputs[index].path;
        if self.inputs_disk.content(path).is_some() {
            self.trace.note(format_args!("file {index} cannot be read"));
            self.inputs_disk.set_readable(path, false);
            self.unreadable = true;
        }
    }

    /// Opens the files where the log knows reading to be; `position` is what a worker says of a partition.
    pub(super) fn readers(
        &mut self,
        position: impl Fn(&Address) -> Result<Option<Vec<u8>>, Stop>,
    ) -> Result<Vec<Reader>, Stop> {
        if std::mem::take(&mut self.unreadable) {
            for input in &self.inputs {
                self.inputs_disk.set_readable(&input.path, true);
            }
        }
        let mut readers = Vec::new();
        for input in &self.inputs {
            let name = input.path.display().to_string();
            let (mut context, _) = IngressContext::for_tests(input.ingress, runtime().handle());
            context.decoder = self.registry.decoder();
            let known = position(&input.address)?.map(Bytes::from);
            context
                .positions
                .extend(known.clone().map(|position| (name.clone(), position)));
            let spec = json!({
                "id": input.ingress, "path": name, "format": "json", "valueType": Token::type_name(), "idFrom": null,
                "follow": true, "startupPosition": "earliest",
                "csv": {"delimiter": ",", "header": null, "columns": []},
                "targets": [], "routers": [ROUTER], "onError": "fail",
            });
            let spec = serde_json::from_value(spec).expect("the description of an ingress");
            let ingress = FileIngress::new(spec, Arc::new(self.inputs_disk.clone()));
            let follower = ingress
                .follower(&context)
                .map_err(|error| error.to_string())?;
            readers.push(Reader {
                follower,
                ahead: VecDeque::new(),
                taken: self.model.positions.get(&input.key).copied().unwrap_or(0),
                position: known,
            });
        }
        Ok(readers)
    }

    /// The thread of one file goes on: it reads ahead.
    fn read_ahead(&mut self, p: &mut Process, index: usize) -> Result<(), Stop> {
        for _ in 0..=self.random.below(8) {
            match p.readers[index].follower.next() {
                Ok(Next::Record(record)) => p.readers[index].ahead.push_back(*record),
                Ok(Next::Soon) => {}
                Ok(Next::After(_)) => break,
                Ok(Next::Never) => {
                    return Err(Stop::Violation(format!("file {index} is not followed")));
                }
                Err(Halt::Failed(_)) if self.unreadable => {
                    return Err(Stop::Down(Crash::Process));
                }
                Err(halt) => return Err(Stop::Violation(format!("file {index}: {halt:?}"))),
            }
        }
        Ok(())
    }

    /// Takes a record from one of the files that the worker polls.
    pub(super) fn admit(&mut self, p: &mut Process, index: usize) -> Result<(), Stop> {
        let chosen = self.random.below(self.inputs.len() as u64) as usize;
        let groups = self.registry.key_groups;
        let owner = groups.owner(self.inputs[chosen].address.key_group(groups), p.sites.len());
        if owner != index {
            return Ok(());
        }
        if p.readers[chosen].ahead.is_empty() || self.one_in(3) {
            self.read_ahead(p, chosen)?;
        }
        let reader = &mut p.readers[chosen];
        let Some(mut record) = reader.ahead.pop_front() else {
            return Ok(());
        };
        let input = &self.inputs[chosen];
        let number = reader.taken;
        let Some(line) = input.lines.get(number as usize) else {
            return Err(Stop::Violation(format!(
                "file {chosen} has {} lines, and another one was read",
                input.lines.len()
            )));
        };
        if self.mutant == Some(Mutant::SourceRepeats) {
            record.position.clone_from(&reader.position);
        }
        if self.mutant == Some(Mutant::ReadAheadCounts)
            && let Some(last) = reader.ahead.back()
        {
            record.position.clone_from(&last.position);
        }
        reader.position.clone_from(&record.position);
        // Who is told of a bad record decides about it, instead of its ingress.
        if line.id.is_some() && number.is_multiple_of(2) {
            let acked = p.acked.clone();
            record = record.with_ack(Ack::new(move |outcome| {
                if outcome == AckOutcome::Durable {
                    acked.lock().unwrap().push((chosen, number));
                } else {
                    let problem = format!("record {number} of {chosen}: {outcome:?}");
                    world(|world| world.violations.push(problem));
                }
            }));
        }
        let ingress = match line.id {
            None if self.mutant == Some(Mutant::LetterLost) => SKIPPING,
            _ => input.ingress,
        };
        self.trace.note(format_args!(
            "worker {index} takes record {number} of {chosen}: {:x?}",
            line.id
        ));
        reader.taken += 1;
        let ingress = self.registry.ingress_index(ingress).unwrap_or_default();
        p.sites[index]
            .worker
            .admit(ingress, Some(&input.address), record)?;
        Ok(())
    }

    /// Whether there are lines that nobody has taken in.
    pub(super) fn lines_are_left(&self, p: &Process) -> bool {
        let readers = p.readers.iter().zip(&self.inputs);
        readers
            .into_iter()
            .any(|(reader, input)| reader.taken < input.lines.len() as u64)
    }
}
