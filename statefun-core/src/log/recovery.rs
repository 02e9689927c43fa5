//! Opening: reading what is there, telling a torn end from damage, and making the decision final.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Failure, LogError};
use super::keeper::{Prepared, Retained, Shared};
use super::record::{Defect, HEADER_BYTES, Header, Kind, SECTOR, Sealed, VERSION, next_offset};
use super::segment::{self, Cursor, Segment};
use super::writer::{End, EpochLog, Position};
use super::{OpenOptions, RecordView, Recovered};
use crate::disk::{Disk, DiskFile, DiskLock, OpenMode};

/// How much is copied at once when the last record is written again, in bytes.
const COPY: u64 = 1 << 20;

/// The last good record.
#[derive(Clone, Copy)]
struct Last {
    /// The index of its segment among those found.
    index: usize,
    offset: u64,
    /// Where the next one would begin.
    next: u64,
    body_bytes: u64,
    checksum: u64,
    attempt: u64,
    epoch: u64,
}

/// Where the chain of records ends, and what is there.
struct Stop {
    index: usize,
    offset: u64,
    found: String,
    /// Nothing seems to have been written there, so that what comes next may have been put into the next segment.
    blank: bool,
    /// What the next segment begins with.
    next: Option<String>,
    /// There is the header of a record, here or in the next segment, but not the whole record.
    torn: Option<Position>,
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    options: &'a OpenOptions,
    /// `Read` when nothing may be changed.
    mode: OpenMode,
    /// Their files are opened one at a time: there may be more than a process may have open.
    segments: Vec<Arc<Segment>>,
    retained: VecDeque<Retained>,
    last: Option<Last>,
}

impl EpochLog {
    /// Opens the log in `dir`, or begins one when there is none, and shows every epoch that it retains to `visit`, in
    /// order, in memory for one record at a time.
    ///
    /// An end that was torn by a crash is given up: it was never acknowledged. When the function returns, everything shown is
    /// durable, and the decision about the end too; opening again, also after a crash in the middle, shows the same
    /// epochs. On an error after some were shown, what was made of them must be thrown away.
    ///
    /// # Errors
    ///
    /// [`LogError::Locked`], [`LogError::Lineage`] and [`LogError::Version`] when the directory is not ours to open;
    /// [`LogError::Corrupt`], [`LogError::MissingSegment`], [`LogError::MissingEpochs`] and [`LogError::MarkerAhead`] when a
    /// crash cannot explain what is found; [`LogError::NoSpace`] when there is no room to begin, [`LogError::Io`] and
    /// [`LogError::Poisoned`] when a file could not be read or written; [`LogError::Visitor`] with the visitor's error.
    pub fn open<E>(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        options: &OpenOptions,
        visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), E>,
    ) -> Result<Recovered, LogError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let dir = dir.into();
        options.check()?;
        disk.create_dir_all(&dir)
            .map_err(LogError::io("create", &dir))?;
        let lock = lock(&*disk, &dir)?;
        let mut recovery = Recovery {
            disk: &*disk,
            dir: &dir,
            options,
            mode: OpenMode::ReadWrite,
            segments: Vec::new(),
            retained: VecDeque::new(),
            last: None,
        };
        let stop = recovery.follow(visit)?;
        recovery.settle()?;
        let torn = stop.and_then(|stop| stop.torn);
        let last = recovery.last;
        let ready = recovery.ready()?;
        let retained = recovery.retained;
        let shared = Arc::new(Shared::new(
            Arc::clone(&disk),
            dir,
            options.first_segment_bytes,
            options.segment_bytes,
            options.background,
            options.filling,
        ));
        let mut log = restore(shared, ready, retained, last, options, lock)?;
        log.begin_attempt()?;
        if options.background {
            log.start_thread()?;
        }
        log.prepare_ahead();
        let retention = log.retention();
        tracing::debug!(
            attempt = log.attempt(),
            last_epoch = log.last_epoch(),
            segments = retention.segment_count(),
            "the epoch log is open"
        );
        if let Some(torn) = &torn {
            tracing::info!(
                ?torn,
                "the epoch log ended within a record, as after a crash"
            );
        }
        Ok(Recovered {
            first_epoch: retention.first_epoch(),
            last_epoch: log.last_epoch(),
            attempt: log.attempt(),
            torn,
            log,
        })
    }
}

/// Shows every epoch that a log which nobody has open retains, in order, and returns the last one: what
/// [`EpochLog::open`] would show. Nothing is changed, no start is recorded, and a torn end stays as it is; so what is
/// shown is not more durable than it was. Without a directory there is no epoch.
///
/// # Errors
///
/// As [`EpochLog::open`].
pub fn read_tail<E>(
    disk: &dyn Disk,
    dir: &Path,
    options: &OpenOptions,
    visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), E>,
) -> Result<u64, LogError>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    if !disk.exists(dir).map_err(LogError::io("look for", dir))? {
        return Ok(options.base_epoch);
    }
    let _lock = lock(disk, dir)?;
    let mut recovery = Recovery {
        disk,
        dir,
        options,
        mode: OpenMode::Read,
        segments: Vec::new(),
        retained: VecDeque::new(),
        last: None,
    };
    recovery.follow(visit)?;
    Ok(recovery.last.map_or(options.base_epoch, |last| last.epoch))
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, LogError> {
    let path = dir.join(segment::LOCK);
    disk.lock(&path).map_err(|source| {
        if source.kind() == io::ErrorKind::WouldBlock {
            LogError::Locked {
                dir: dir.to_owned(),
            }
        } else {
            LogError::io("lock", &path)(source)
        }
    })
}

/// The log as it was left.
fn restore(
    shared: Arc<Shared>,
    mut ready: VecDeque<Prepared>,
    retained: VecDeque<Retained>,
    last: Option<Last>,
    options: &OpenOptions,
    lock: Box<dyn DiskLock>,
) -> Result<EpochLog, LogError> {
    let found = ready.pop_front();
    let last_epoch = last.map_or(options.base_epoch, |last| last.epoch);
    shared.restore(
        retained,
        ready,
        found.as_ref().map(|found| &*found.segment),
        last_epoch,
    );
    let active = match found {
        Some(found) => found,
        None => shared.take(0).map_err(|failure| {
            if failure.is_no_space() && shared.failure().is_none() {
                LogError::NoSpace {
                    path: failure.path,
                    source: failure.source,
                }
            } else {
                LogError::io(failure.operation, &failure.path)(failure.source)
            }
        })?,
    };
    let end = End {
        active,
        offset: last.map_or(0, |last| last.next),
        previous: last.map_or(0, |last| last.checksum),
        lineage: options.lineage,
        attempt: last.map_or(0, |last| last.attempt),
        last_epoch,
    };
    Ok(EpochLog::at(shared, end, lock))
}

impl Stop {
    fn at_defect(index: usize, segment: &Segment, offset: u64, defect: Defect) -> Self {
        Self {
            index,
            offset,
            found: defect.to_string(),
            blank: matches!(defect, Defect::Zeros | Defect::End | Defect::Place { .. }),
            next: None,
            torn: matches!(defect, Defect::Checksum { .. }).then_some(Position {
                segment: segment.number,
                offset,
                bytes: 0,
            }),
        }
    }
}

impl Recovery<'_> {
    /// Shows what is there, and finds where it ends.
    fn follow<E>(
        &mut self,
        visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), E>,
    ) -> Result<Option<Stop>, LogError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.find_segments()?;
        let stop = self.walk(&mut |view| {
            let epoch = view.epoch;
            visit(view).map_err(|error| LogError::Visitor {
                epoch,
                source: error.into(),
            })
        })?;
        self.judge(stop.as_ref())?;
        Ok(stop)
    }

    fn find_segments(&mut self) -> Result<(), LogError> {
        let names = self
            .disk
            .list(self.dir)
            .map_err(LogError::io("list", self.dir))?;
        let mut numbers = Vec::new();
        for name in names {
            if let Some(number) = segment::number(&name) {
                numbers.push(number);
            } else if segment::is_left_over(&name) && self.mode != OpenMode::Read {
                let path = self.dir.join(name);
                self.disk
                    .remove(&path)
                    .map_err(LogError::io("remove", &path))?;
            }
        }
        numbers.sort_unstable();
        for pair in numbers.windows(2) {
            if pair[0] + 1 != pair[1] {
                return Err(LogError::MissingSegment {
                    path: segment::path(self.dir, pair[0] + 1),
                });
            }
        }
        for number in numbers {
            let mut segment = Segment::new(self.dir, number, 0);
            let file = self.open_file(&segment)?;
            let bytes = file.len().map_err(LogError::io("measure", &segment.path))?;
            segment = Segment::new(self.dir, number, bytes & !(SECTOR - 1));
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Follows the chain of records to its end. Gives what is behind the last good one, if there is any segment.
    fn walk(
        &mut self,
        visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), LogError>,
    ) -> Result<Option<Stop>, LogError> {
        let mut stop: Option<Stop> = None;
        for index in 0..self.segments.len() {
            let segment = Arc::clone(&self.segments[index]);
            let mut cursor = self.cursor(&segment)?;
            let mut offset = 0;
            let end = loop {
                let (sealed, body) = match cursor
                    .record(offset)
                    .map_err(LogError::io("read", &segment.path))?
                {
                    Ok(record) => record,
                    Err(defect) => break Stop::at_defect(index, &segment, offset, defect),
                };
                let header = self.understand(&segment, offset, &sealed)?;
                if let Err(found) = self.follows(&segment, offset, &header)? {
                    break Stop {
                        index,
                        offset,
                        found,
                        blank: false,
                        next: None,
                        torn: None,
                    };
                }
                if header.kind == Kind::Epoch {
                    visit(RecordView {
                        epoch: header.epoch,
                        attempt: header.attempt,
                        body,
                    })?;
                }
                let next = next_offset(offset, header.body_bytes);
                self.accept(index, &segment, &header, sealed.checksum(), next);
                offset = next;
            };
            if end.offset == 0 {
                // No record of the chain begins here: it ended in the segment before, if anywhere.
                return Ok(Some(match stop {
                    Some(stop) => Stop {
                        torn: stop.torn.or(end.torn),
                        next: Some(end.found),
                        ..stop
                    },
                    None => end,
                }));
            }
            stop = Some(end);
        }
        Ok(stop)
    }

    fn open_file(&self, segment: &Segment) -> Result<Arc<dyn DiskFile>, LogError> {
        self.disk
            .open_direct(&segment.path, self.mode)
            .map_err(LogError::io("open", &segment.path))
    }

    fn cursor(&self, segment: &Segment) -> Result<Cursor, LogError> {
        let file = self.open_file(segment)?;
        Ok(Cursor::new(file, segment.number, segment.bytes))
    }

    /// The segment that is written next, and those prepared beyond it.
    fn ready(&self) -> Result<VecDeque<Prepared>, LogError> {
        let active = self.last.map_or(0, |last| last.index);
        self.segments
            .iter()
            .skip(active)
            .map(|segment| {
                Ok(Prepared {
                    segment: Arc::clone(segment),
                    file: self.open_file(segment)?,
                })
            })
            .collect()
    }

    /// The header of a whole record, when it is one of ours.
    fn understand(
        &self,
        segment: &Segment,
        offset: u64,
        sealed: &Sealed,
    ) -> Result<Header, LogError> {
        let header = sealed.header().map_err(|found| LogError::Version {
            path: segment.path.clone(),
            offset,
            found,
            supported: VERSION,
        })?;
        if sealed.lineage() != self.options.lineage {
            return Err(LogError::Lineage {
                path: segment.path.clone(),
                expected: self.options.lineage,
                found: sealed.lineage(),
            });
        }
        Ok(header)
    }

    /// Whether a whole record of ours is the next one; if not, what it is instead. An error when it claims to be the
    /// next one and cannot be.
    fn follows(
        &self,
        segment: &Segment,
        offset: u64,
        header: &Header,
    ) -> Result<Result<(), String>, LogError> {
        let Some(last) = self.last else {
            // The oldest record retained. Only the first of all has nothing before it.
            let first_of_all =
                header.kind == Kind::Attempt && header.attempt == 1 && header.previous == 0;
            return Ok(if segment.number > 1 || first_of_all {
                Ok(())
            } else {
                Err(format!(
                    "a record of attempt {}, epoch {} where a log begins",
                    header.attempt, header.epoch
                ))
            });
        };
        if header.previous != last.checksum {
            return Ok(Err(format!(
                "a record of attempt {}, epoch {} that follows checksum {:016x} instead of {:016x}",
                header.attempt, header.epoch, header.previous, last.checksum
            )));
        }
        let expected = match header.kind {
            Kind::Epoch => (last.attempt, last.epoch.saturating_add(1)),
            Kind::Attempt => (last.attempt.saturating_add(1), last.epoch),
        };
        if (header.attempt, header.epoch) == expected {
            return Ok(Ok(()));
        }
        Err(LogError::Corrupt {
            path: segment.path.clone(),
            offset,
            expected: format!("attempt {}, epoch {}", expected.0, expected.1),
            found: format!("attempt {}, epoch {}", header.attempt, header.epoch),
        })
    }

    fn accept(
        &mut self,
        index: usize,
        segment: &Arc<Segment>,
        header: &Header,
        checksum: u64,
        next: u64,
    ) {
        if self.last.is_none_or(|last| last.index != index) {
            self.retained
                .push_back(Retained::new(Arc::clone(segment), header.epoch));
        }
        if let Some(newest) = self.retained.back_mut() {
            let epoch = (header.kind == Kind::Epoch).then_some(header.epoch);
            newest.note(epoch, header.offset, next);
        }
        self.last = Some(Last {
            index,
            offset: header.offset,
            next,
            body_bytes: header.body_bytes,
            checksum,
            attempt: header.attempt,
            epoch: header.epoch,
        });
    }

    /// Whether a crash explains what is behind the last good record, and the state what is before the first.
    fn judge(&self, stop: Option<&Stop>) -> Result<(), LogError> {
        if let Some(stop) = stop {
            self.nothing_behind(stop)?;
        }
        let last_epoch = self.last.map_or(self.options.base_epoch, |last| last.epoch);
        let applied_epoch = self.options.applied_epoch;
        if applied_epoch > last_epoch {
            return Err(LogError::MarkerAhead {
                path: stop.map_or_else(
                    || self.dir.to_owned(),
                    |stop| self.segments[stop.index].path.clone(),
                ),
                offset: stop.map_or(0, |stop| stop.offset),
                last_epoch,
                applied_epoch,
            });
        }
        if let (Some(first), Some(oldest)) = (self.first_possible_epoch(), self.retained.front())
            && applied_epoch.saturating_add(1) < first
        {
            return Err(LogError::MissingEpochs {
                path: oldest.segment.path.clone(),
                first_epoch: first,
                applied_epoch,
            });
        }
        Ok(())
    }

    /// The first epoch in the log or, when there is none, the next one.
    fn first_possible_epoch(&self) -> Option<u64> {
        let first = self
            .retained
            .iter()
            .find_map(|retained| retained.first_epoch);
        first.or(self.last.map(|last| last.epoch.saturating_add(1)))
    }

    /// Only the record that was being written may be broken, so nothing whole may come after it.
    fn nothing_behind(&self, stop: &Stop) -> Result<(), LogError> {
        for (index, segment) in self.segments.iter().enumerate().skip(stop.index) {
            let from = if index == stop.index { stop.offset } else { 0 };
            let later = self
                .cursor(segment)?
                .search(from)
                .map_err(LogError::io("read", &segment.path))?;
            let Some((offset, sealed)) = later else {
                continue;
            };
            let header = self.understand(segment, offset, &sealed)?;
            let (mut broken, mut found) = ((stop.index, stop.offset), &stop.found);
            if let Some(next) = stop.next.as_ref().filter(|_| stop.blank)
                && (index, offset) > (stop.index + 1, 0)
            {
                (broken, found) = ((stop.index + 1, 0), next);
            }
            let whole = if (index, offset) == broken {
                String::new()
            } else {
                format!(
                    ", and behind it a whole record of attempt {}, epoch {} at byte {offset} of {}",
                    header.attempt,
                    header.epoch,
                    segment.path.display()
                )
            };
            return Err(LogError::Corrupt {
                path: self.segments[broken.0].path.clone(),
                offset: broken.1,
                expected: self.expected_next(),
                found: format!("{found}{whole}"),
            });
        }
        // The newest record's segment is never given up, so a log whose first segments are gone has a record.
        match (self.last, self.segments.first()) {
            (None, Some(oldest)) if oldest.number > 1 => Err(LogError::Corrupt {
                path: oldest.path.clone(),
                offset: 0,
                expected: "a record, since older segments were given up".to_owned(),
                found: stop.found.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn expected_next(&self) -> String {
        self.last.map_or_else(
            || "the first record of the log".to_owned(),
            |last| {
                format!(
                    "the record after attempt {}, epoch {} with checksum {:016x}",
                    last.attempt, last.epoch, last.checksum
                )
            },
        )
    }

    /// Makes everything that was read durable.
    fn settle(&self) -> Result<(), LogError> {
        if let Some(last) = self.last {
            self.write_again(&last)?;
        }
        for segment in &self.segments {
            self.open_file(segment)?
                .sync_data()
                .map_err(LogError::io("sync", &segment.path))?;
        }
        self.disk
            .sync_dir(self.dir)
            .map_err(LogError::io("sync", self.dir))
    }

    /// The last record may have been read from the kernel's memory only, and after a failed sync another sync alone
    /// would not write it: the kernel has marked it clean. So it is written again, with the same bytes. All before it
    /// were acknowledged, hence durable, before it was begun.
    fn write_again(&self, last: &Last) -> Result<(), LogError> {
        let segment = &self.segments[last.index];
        let file = self.open_file(segment)?;
        let end = last.offset + HEADER_BYTES as u64 + last.body_bytes;
        let mut at = last.offset;
        let mut copy = Vec::new();
        while at < end {
            copy.resize((end - at).min(COPY) as usize, 0);
            file.read_exact_at(&mut copy, at)
                .map_err(LogError::io("read", &segment.path))?;
            file.write_at(&copy, at).map_err(|source| {
                let failure = Failure::new("write", &segment.path)(source);
                if failure.is_no_space() {
                    LogError::NoSpace {
                        path: failure.path,
                        source: failure.source,
                    }
                } else {
                    LogError::io(failure.operation, &failure.path)(failure.source)
                }
            })?;
            at += copy.len() as u64;
        }
        Ok(())
    }
}
