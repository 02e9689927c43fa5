//! Making, filling, laying aside and removing the log's files.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{GROWTH, Prepared, Shared, Spare, State};
use crate::clock::Stopwatch;
use crate::disk::{DiskFile, OpenMode};
use crate::log::Filling;
use crate::log::error::Failure;
use crate::log::segment::{self, Segment};

/// When a segment was wanted before it was filled with zeros, so many next ones are not filled, only reserved: the device cannot
/// write everything twice. Their syncs take longer, since the file system has to note what is written.
const RESERVED_IN_A_HURRY: u32 = 8;
/// How long the next piece of a segment waits at most, when the segment that is written has room enough.
const REST: Duration = Duration::from_millis(100);
/// How much further the next segment is filled than the one before it is written.
const AHEAD: f64 = 2.0;
/// How long it takes until there should be one spare less.
const SPARE_FOR: Duration = Duration::from_secs(5);
/// How much of a file is given back at once, in bytes, and how long the next piece waits: a device that is told of all the space
/// that is free again has no time for epochs meanwhile.
const GIVEN_BACK_BYTES: u64 = 4 << 20;
const GIVEN_BACK_EVERY: Duration = Duration::from_millis(20);

/// What is to be done with files.
enum Task {
    Prepare,
    LayAside(Arc<Segment>),
    Remove(Arc<Segment>),
    GiveUp(Spare),
}

impl Shared {
    /// Takes a segment of at least `bytes` to be written, waiting until there is one. A full disk is no harm: the same
    /// call may be made again.
    pub(in crate::log) fn take(&self, bytes: u64) -> Result<Prepared, Failure> {
        {
            let mut state = self.state();
            if state.prepared.is_empty() {
                (state.hurry, state.awaited) = (RESERVED_IN_A_HURRY, true);
            }
        }
        let _files = self.files();
        let late = self.state().prepared.is_empty();
        let prepared = if late { self.prepare(bytes) } else { Ok(()) };
        self.state().awaited = false;
        prepared?;
        // It stays in the list until it is long enough, so that it is not lost when there is no space.
        let short = {
            let state = self.state();
            state.prepared.front().and_then(|next| {
                (next.segment.bytes < bytes)
                    .then(|| (Arc::clone(&next.segment), Arc::clone(&next.file)))
            })
        };
        if let Some((segment, file)) = short {
            let grown = self.grow(&segment, &*file, bytes)?;
            if let Some(next) = self.state().prepared.front_mut() {
                next.segment = grown;
            }
        }
        let mut state = self.state();
        match state.prepared.pop_front() {
            Some(prepared) => {
                state.starved = false;
                state.taken += 1;
                drop(state);
                Ok(prepared)
            }
            None => Err(Failure {
                operation: "prepare",
                path: self.dir.clone(),
                source: io::ErrorKind::Interrupted.into(),
            }),
        }
    }

    /// Makes a segment longer that has no records yet.
    pub(in crate::log) fn grow(
        &self,
        segment: &Segment,
        file: &dyn DiskFile,
        bytes: u64,
    ) -> Result<Arc<Segment>, Failure> {
        let bytes = segment::whole_sectors(bytes);
        segment::fill(file, segment.bytes, bytes, &mut |_| true)
            .map_err(Failure::new("extend", &segment.path))?;
        Ok(Segment::new(&self.dir, segment.number, bytes))
    }

    /// Makes the next segment: from a spare when there is one, else a new one. The caller holds `files`.
    fn prepare(&self, at_least: u64) -> Result<(), Failure> {
        let (number, bytes, spare) = {
            let mut state = self.state();
            let bytes = state.next_bytes.max(segment::whole_sectors(at_least));
            (state.next_number, bytes, state.take_spare(bytes))
        };
        let path = segment::path(&self.dir, number);
        let (file, bytes) = if let Some(spare) = spare {
            // Opened first, so that a failure leaves everything as it was.
            let renamed = self
                .disk
                .open_direct(&spare.path, OpenMode::ReadWrite)
                .map_err(Failure::new("open", &spare.path))
                .and_then(|file| {
                    self.disk
                        .rename(&spare.path, &path)
                        .map_err(Failure::new("rename", &spare.path))?;
                    Ok(file)
                });
            match renamed {
                Ok(file) => (file, spare.bytes),
                Err(failure) => {
                    self.state().spares.push(spare);
                    return Err(failure);
                }
            }
        } else {
            let unfinished = path.with_extension(format!("log{}", segment::UNFINISHED));
            let mut bytes = bytes;
            let file = loop {
                match self.create(&unfinished, bytes) {
                    Ok(Some(file)) => break file,
                    Ok(None) => return Ok(()),
                    Err(failure) => {
                        // Gives the space back; at the next start at the latest.
                        let _ = self.disk.remove(&unfinished);
                        // Where one is needed now, and there is no space for as much as would be good, less will do.
                        let least = segment::whole_sectors(at_least).max(self.first_bytes);
                        let less = segment::whole_sectors(bytes / GROWTH).max(least);
                        if at_least == 0 || less >= bytes || !failure.is_no_space() {
                            return Err(failure);
                        }
                        bytes = less;
                    }
                }
            };
            if let Err(source) = self.disk.rename(&unfinished, &path) {
                let _ = self.disk.remove(&unfinished);
                return Err(Failure::new("rename", &unfinished)(source));
            }
            (file, bytes)
        };
        self.sync_names()?;
        let mut state = self.state();
        state.prepared.push_back(Prepared {
            segment: Segment::new(&self.dir, number, bytes),
            file,
        });
        state.next_number = number + 1;
        state.next_bytes = self.grown(bytes);
        state.hurry = state.hurry.saturating_sub(1);
        Ok(())
    }

    /// Makes a change of a name last.
    fn sync_names(&self) -> Result<(), Failure> {
        self.disk.sync_dir(&self.dir).map_err(|source| {
            // Not even a lack of space may be tried again: the name is there, but for how long?
            let failure = Failure::new("sync", &self.dir)(source);
            self.poison(&failure);
            failure
        })
    }

    fn create(&self, path: &Path, bytes: u64) -> Result<Option<Arc<dyn DiskFile>>, Failure> {
        let file = self
            .disk
            .open_direct(path, OpenMode::Create)
            .map_err(Failure::new("create", path))?;
        file.set_len(0).map_err(Failure::new("empty", path))?;
        let reserve = match self.filling {
            Filling::Always => false,
            Filling::UnlessLate => self.background && self.state().hurry > 0,
            Filling::Never => true,
        };
        // Where a file system cannot set space aside, it is filled.
        if reserve && file.reserve(bytes).is_ok() {
            file.sync_all().map_err(Failure::new("sync", path))?;
            return Ok(Some(file));
        }
        let mut goes_on = |filled: u64| {
            self.rest_while_ahead(filled as f64 / bytes as f64);
            !self.stop.load(Ordering::Relaxed)
        };
        let filled =
            segment::fill(&*file, 0, bytes, &mut goes_on).map_err(Failure::new("fill", path))?;
        Ok(filled.then_some(file))
    }

    /// The device has epochs to write as well: leaves it to them for a while, when the next segment will be `filled`, a part of
    /// one, long before it is needed.
    fn rest_while_ahead(&self, filled: f64) {
        if !self.background {
            return;
        }
        let is_ahead = || {
            let state = self.state();
            let written = state.retained.back().map_or(0.0, |newest| {
                newest.end as f64 / newest.segment.bytes as f64
            });
            filled > AHEAD * written && !state.awaited
        };
        let watch = Stopwatch::start();
        while watch.elapsed() < REST && !self.stop.load(Ordering::Relaxed) && is_ahead() {
            crate::clock::pause(REST / 20);
        }
    }

    /// Has segments prepared and removed as needed.
    pub(in crate::log) fn work(&self) {
        if self.background {
            self.state().work = true;
            self.wake.notify_one();
        } else {
            self.tidy();
        }
    }

    /// Prepares, lays aside and removes segments until there is nothing more to do.
    fn tidy(&self) {
        while !self.stop.load(Ordering::Relaxed) && self.failure().is_none() {
            let files = self.files();
            let task = self.state().next_task();
            let done = match task {
                None => return,
                Some(Task::Prepare) => self.prepare_next(),
                Some(Task::LayAside(old)) => match self.lay_aside(&old) {
                    Ok(()) => self.sync_names(),
                    Err(source) => return self.leave(old, &source),
                },
                Some(Task::Remove(old)) => match self.remove(&old.path) {
                    Ok(()) => self.sync_names(),
                    Err(source) => return self.leave(old, &source),
                },
                Some(Task::GiveUp(spare)) => {
                    drop(files);
                    self.give_up(spare);
                    Ok(())
                }
            };
            if let Err(failure) = done {
                self.poison(&failure);
            }
        }
    }

    /// Gives up the end of a spare, or all of it when it is small.
    fn give_up(&self, mut spare: Spare) {
        let given = if spare.bytes > GIVEN_BACK_BYTES {
            spare.bytes -= GIVEN_BACK_BYTES;
            self.disk
                .open(&spare.path, OpenMode::ReadWrite)
                .and_then(|file| {
                    file.set_len(spare.bytes)?;
                    file.sync_all()
                })
        } else {
            spare.bytes = 0;
            self.remove(&spare.path)
        };
        match given {
            // The next start removes it.
            Err(source) => warn_of_left_over(&spare.path, &source),
            Ok(()) if spare.bytes == 0 => {}
            // It is too short now to serve as anything, and so it goes on.
            Ok(()) => self.state().spares.push(spare),
        }
        if self.background {
            crate::clock::pause(GIVEN_BACK_EVERY);
        }
    }

    /// Prepares a segment that nobody waits for: when there is no space, there may be later.
    fn prepare_next(&self) -> Result<(), Failure> {
        match self.prepare(0) {
            Err(failure) if failure.is_no_space() && self.failure().is_none() => {
                tracing::warn!(dir = %self.dir.display(), cause = %failure.cause(), "no space to prepare the log's next segment");
                let mut state = self.state();
                (state.starved, state.wanted) = (true, 0);
                Ok(())
            }
            other => other,
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A segment that cannot be removed stays, and so do those behind it: their numbers are consecutive.
    fn leave(&self, old: Arc<Segment>, source: &io::Error) {
        warn_of_left_over(&old.path, source);
        self.state().released.push_front(old);
    }

    /// Makes a spare of a segment that nobody needs.
    fn lay_aside(&self, old: &Segment) -> io::Result<()> {
        let path = old.path.with_extension(segment::SPARE);
        self.disk.rename(&old.path, &path)?;
        self.state().spares.push(Spare {
            path,
            bytes: old.bytes,
        });
        Ok(())
    }

    /// The background thread.
    pub(in crate::log) fn run(&self) {
        let mut since = Stopwatch::start();
        loop {
            self.tidy();
            if self.stop.load(Ordering::Relaxed) || self.failure().is_some() {
                return;
            }
            let state = self.state();
            // A spurious wake-up costs one look.
            let (mut state, _) = self
                .wake
                .wait_timeout_while(state, SPARE_FOR, |state| {
                    !state.work && !self.stop.load(Ordering::Relaxed)
                })
                .unwrap_or_else(PoisonError::into_inner);
            if state.wanted > 1 && since.elapsed() >= SPARE_FOR {
                state.wanted -= 1;
                since = Stopwatch::start();
            }
        }
    }

    /// Ends the background thread, also in the middle of preparing a segment.
    pub(in crate::log) fn stop(&self) {
        // Under the lock, so that the thread cannot miss it between its look and its sleep.
        let _state = self.state();
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }
}

impl State {
    /// Takes a spare that may serve as a segment of so many bytes.
    fn take_spare(&mut self, bytes: u64) -> Option<Spare> {
        let at = self
            .spares
            .iter()
            .position(|spare| fits(spare.bytes, bytes))?;
        Some(self.spares.swap_remove(at))
    }

    /// What is to be done next.
    fn next_task(&mut self) -> Option<Task> {
        self.work = false;
        let unprepared = self.prepared.is_empty() && !self.starved;
        if unprepared && (self.released.is_empty() || !self.spares.is_empty()) {
            return Some(Task::Prepare);
        }
        let next_bytes = self.next_bytes;
        if let Some(old) = self.released.pop_front() {
            // A reader that knows of it opens it by its name: it finds the file as it was, or none.
            let serves = self.spares.len() < self.wanted
                && fits(old.bytes, next_bytes)
                && Arc::strong_count(&old) == 1;
            return Some(if serves {
                Task::LayAside(old)
            } else {
                Task::Remove(old)
            });
        }
        let unfit = |spare: &Spare| !fits(spare.bytes, next_bytes);
        let surplus = match self.spares.iter().position(unfit) {
            Some(at) => Some(self.spares.swap_remove(at)),
            None if self.spares.len() > self.wanted => self.spares.pop(),
            None => None,
        };
        surplus.map(Task::GiveUp)
    }
}

fn warn_of_left_over(path: &Path, source: &io::Error) {
    tracing::warn!(path = %path.display(), %source, "cannot remove or rename a segment that is no longer needed");
}

/// Whether a file of `old` bytes may serve as a segment of so many.
fn fits(old: u64, bytes: u64) -> bool {
    (bytes..=bytes.saturating_mul(2)).contains(&old)
}
