//! `io.statefun.stdio.v1`: JSON lines from standard input and to standard output.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::file::encode::LineEncoder;
use super::file::feed::{self, Feed, Halt};
use super::file::frames::{Frames, Layout};
use super::file::records::{Format, Records};
use crate::clock::WallClock;
use crate::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
use crate::io::file::MOST_BYTES;
use crate::io::ingress::{Ingress, IngressContext, IngressError, Partition};
use crate::module::model::{FieldName, StdioEgress as EgressSpec, StdioIngress as IngressSpec};

/// Standard input as messages name it.
const INPUT: &str = "standard input";
/// The problem of an egress that nobody reads any more.
const READER_GONE: &str = "whoever reads the standard output has closed it";

/// `io.statefun.stdio.v1/ingress`: reads records from standard input, one per line; it is finished at its end.
///
/// What was read cannot be read again, so there is no position: a start after a crash goes on with what comes then.
pub struct StdioIngress {
    spec: IngressSpec,
    input: Option<Box<dyn Read + Send>>,
    most_bytes: usize,
}

impl fmt::Debug for StdioIngress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioIngress")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl StdioIngress {
    /// An ingress as module.yaml describes it.
    pub fn new(spec: IngressSpec) -> Self {
        Self::with_input(spec, io::stdin())
    }

    /// An ingress that reads from something else.
    pub fn with_input(spec: IngressSpec, input: impl Read + Send + 'static) -> Self {
        Self {
            spec,
            input: Some(Box::new(input)),
            most_bytes: MOST_BYTES,
        }
    }

    /// With another bound for the length of a line, in bytes.
    #[must_use]
    pub fn with_longest_record(mut self, bytes: usize) -> Self {
        self.most_bytes = bytes.max(1);
        self
    }
}

impl Ingress for StdioIngress {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let pointer = self.spec.id_from.as_ref().map(|key| &key.pointer);
        let format = Format::json(&context.decoder, self.spec.value_type.as_str(), pointer)
            .map_err(|problem| context.error(problem))?
            .with_traceparent(self.spec.traceparent.as_ref());
        let input = self
            .input
            .take()
            .ok_or_else(|| context.error("standard input can be read only once"))?;
        let most_bytes = self.most_bytes;
        // The thread may wait for input when the application stops; it ends with the process then.
        let partition = feed::spawn(
            context,
            "stdin".to_owned(),
            None,
            // What the writer has not written yet is not known; what waits here is.
            Box::new(|_| None),
            move |feed| read(input, Arc::new(format), most_bytes, feed),
        )?;
        Ok(vec![partition])
    }
}

fn read(
    mut input: impl Read,
    format: Arc<Format>,
    most_bytes: usize,
    feed: &mut Feed,
) -> Result<(), Halt> {
    let mut frames = Frames::new(Layout::Lines, most_bytes, 0, 1);
    let records = Records::new(format, INPUT.to_owned());
    let clock = WallClock::default();
    loop {
        feed.go_on()?;
        let count = match frames.fill(|buffer| input.read(buffer)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => {
                read.map_err(|error| Halt::failed(format_args!("cannot read {INPUT}: {error}")))?
            }
        };
        let now = clock.now();
        while let Some(frame) = frames.next(count == 0) {
            let mut record = records.read(&frame);
            record.timestamp = now;
            feed.send(record)?;
        }
        if count == 0 {
            return Ok(());
        }
    }
}

/// `io.statefun.stdio.v1/egress`: writes each record to standard output as one line of JSON, at least once.
///
/// What was written before a crash and not logged as such is written again after the next start; a restore does the same with
/// everything since its checkpoint.
///
/// When nobody reads any more, as behind `| head`, the application stops as it does after Ctrl-C, and ends without an error.
/// What it could not write is kept, and written after the next start.
pub struct StdioEgress {
    spec: EgressSpec,
    output: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    reader_gone: Option<Arc<AtomicBool>>,
}

impl fmt::Debug for StdioEgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdioEgress")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl StdioEgress {
    /// An egress as module.yaml describes it.
    pub fn new(spec: EgressSpec) -> Self {
        Self::with_output(spec, io::stdout())
    }

    /// An egress that writes to something else.
    pub fn with_output(spec: EgressSpec, output: impl Write + Send + 'static) -> Self {
        Self {
            spec,
            output: Box::new(output),
            buffer: Vec::new(),
            reader_gone: None,
        }
    }

    /// Sets a flag when nobody reads the output any more. Who reads the flag stops the application; until then the
    /// egress takes nothing, and without such a flag it fails.
    #[must_use]
    pub fn tell_when_reader_is_gone(mut self, flag: Arc<AtomicBool>) -> Self {
        self.reader_gone = Some(flag);
        self
    }

    fn error(&self, problem: impl fmt::Display) -> EgressError {
        EgressError {
            egress: self.spec.id.to_string(),
            problem: problem.to_string(),
            transient: false,
        }
    }

    fn written(&self, outcome: io::Result<()>) -> Result<(), EgressError> {
        outcome.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => {
                if let Some(flag) = &self.reader_gone {
                    flag.store(true, Ordering::SeqCst);
                }
                EgressError {
                    transient: self.reader_gone.is_some(),
                    ..self.error(READER_GONE)
                }
            }
            _ => self.error(format_args!("cannot write to standard output: {error}")),
        })
    }
}

/// Whether an egress ended because nobody reads the standard output any more, as behind `| head`: a reason to stop, but no failure.
pub fn is_reader_gone(error: &EgressError) -> bool {
    error.problem == READER_GONE
}

impl Egress for StdioEgress {
    fn open(&mut self, _context: &EgressContext) -> Result<(), EgressError> {
        Ok(())
    }

    fn deliver(&mut self, epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        self.buffer.clear();
        let field = self.spec.traceparent.as_ref().map(FieldName::as_str);
        for record in records {
            LineEncoder::Json
                .append_record(record, field, &mut self.buffer)
                .map_err(|problem| {
                    self.error(format_args!(
                    "record {} of worker {} in epoch {epoch} (`{}`) cannot be written: {problem}",
                    record.sequence, record.worker, record.typename
                ))
                })?;
        }
        let outcome = self
            .output
            .write_all(&self.buffer)
            .and_then(|()| self.output.flush());
        self.written(outcome)
    }

    fn flush(&mut self) -> Result<Bytes, EgressError> {
        let outcome = self.output.flush();
        self.written(outcome)?;
        Ok(Bytes::new())
    }
}
