//! `statefun state export`: states as JSON, an address a line.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use statefun_core::inspect::Query;

use super::source::Source;
use crate::status::{Failure, Outcome, Status};
use crate::table::grouped;
use crate::terminal::Terminal;

/// Bytes that are written together.
const WRITE_BYTES: usize = 64 << 10;

pub(super) fn run(
    source: &Source,
    query: &Query,
    output: Option<&Path>,
    terminal: &Terminal,
) -> Outcome {
    let answered = match output {
        None => {
            let mut out: Vec<u8> = Vec::new();
            let end = source.lines(query, terminal, &mut |line| {
                out.extend_from_slice(line);
                out.push(b'\n');
                if out.len() >= WRITE_BYTES {
                    terminal.data(std::mem::take(&mut out))
                } else {
                    Ok(())
                }
            });
            // What was told is complete lines, whatever came then.
            terminal.data(out)?;
            end?
        }
        Some(path) => {
            let mut file = Replacing::new(path)?;
            let end = source.lines(query, terminal, &mut |line| file.line(line))?;
            file.finish()?;
            end
        }
    };
    terminal.note(format_args!(
        "exported {} address{}",
        grouped(answered.end.addresses),
        if answered.end.addresses == 1 {
            ""
        } else {
            "es"
        }
    ));
    Source::tell_end(&answered, terminal);
    Ok(Status::Fine)
}

/// A file that appears when it is complete.
struct Replacing {
    path: PathBuf,
    unfinished: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Replacing {
    fn new(path: &Path) -> Result<Self, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let unfinished = PathBuf::from(name);
        let file = File::create(&unfinished).map_err(|error| {
            Failure::usage(format_args!(
                "cannot create {}: {error}",
                unfinished.display()
            ))
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            unfinished,
            file: Some(BufWriter::with_capacity(WRITE_BYTES, file)),
        })
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::usage(format_args!(
            "cannot write {}: {error}",
            self.path.display()
        ))
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.file {
            Some(file) => file.write_all(line).and_then(|()| file.write_all(b"\n")),
            None => Ok(()),
        };
        written.map_err(|error| self.failed(&error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let file = self.file.take();
        let finished = file
            .map_or(Ok(()), |file| {
                let file = file
                    .into_inner()
                    .map_err(std::io::IntoInnerError::into_error)?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&self.unfinished, &self.path));
        finished.map_err(|error| self.failed(&error))
    }
}

impl Drop for Replacing {
    fn drop(&mut self) {
        // It has its name, or is of no use.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}
