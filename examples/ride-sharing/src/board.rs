//! An egress of the application's own: a board that shows the newest report.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use statefun::io::egress::{Egress, EgressContext, EgressError, EgressRecord};

/// A file that holds the newest record, and nothing else; whoever reads it sees a whole one.
///
/// After a crash, records come again. That makes no difference here, since the last of them are the newest: in effect
/// each is shown once. So there is nothing to remember, and the position that the engine keeps stays empty.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    id: String,
    newest: Option<Bytes>,
}

impl Board {
    /// A board at that path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            id: String::new(),
            newest: None,
        }
    }

    /// Writes beside the file and then puts that in its place.
    fn replace(&self, content: &[u8]) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        let directory = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Egress for Board {
    fn open(&mut self, context: &EgressContext) -> Result<(), EgressError> {
        self.id.clone_from(&context.id);
        Ok(())
    }

    fn deliver(&mut self, _: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        if let Some(newest) = records.last() {
            self.newest = Some(newest.payload.clone());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Bytes, EgressError> {
        if let Some(newest) = &self.newest {
            self.replace(newest).map_err(|error| EgressError {
                egress: self.id.clone(),
                problem: format!("cannot write {}: {error}", self.path.display()),
                // A full disk may become less full.
                transient: true,
            })?;
            self.newest = None;
        }
        Ok(Bytes::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &'static str) -> EgressRecord {
        EgressRecord {
            worker: 0,
            sequence: 0,
            typename: "rides/CityReport",
            payload: Bytes::from_static(text.as_bytes()),
            trace: None,
        }
    }

    #[test]
    fn the_newest_record_is_what_the_file_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("board.json");
        let mut board = Board::new(&path);
        board.deliver(1, &[record("1"), record("2")]).unwrap();
        board.deliver(2, &[record("3")]).unwrap();
        board.deliver(3, &[]).unwrap();
        board.flush().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
        // Nothing new: the file stays as it is, also when someone has taken it away.
        std::fs::remove_file(&path).unwrap();
        board.flush().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_board_that_cannot_be_written_says_so_and_is_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("board.json");
        let mut board = Board::new(&path);
        board.deliver(1, &[record("1")]).unwrap();
        let error = board.flush().unwrap_err();
        assert!(
            error.transient && error.problem.contains("board.json"),
            "{error}"
        );
        std::fs::create_dir(directory.path().join("missing")).unwrap();
        board.flush().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    }
}
