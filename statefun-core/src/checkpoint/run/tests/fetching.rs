//! What is read of a run, and when.

use std::ops::Range;
use std::sync::Mutex;

use super::super::{Arrival, Fetch, Files, Merge, PartRows, Pending};
use super::*;
use crate::disk::{Disk, OpenMode, SimDisk};

/// Gives bytes when the test says so.
#[derive(Default)]
struct Slow {
    objects: Objects,
    asked: Mutex<Vec<(String, Range<u64>, Option<Arrival>)>>,
}

impl Fetch for Slow {
    fn fetch(&self, name: &str, range: Range<u64>) -> Pending {
        let (arrival, pending) = Pending::coming();
        let asked = (name.to_owned(), range, Some(arrival));
        self.asked.lock().unwrap().push(asked);
        pending
    }
}

impl Slow {
    /// Lets everything come that was asked for; gives how many bytes that are.
    fn deliver(&self) -> usize {
        let mut delivered = 0;
        for (name, range, arrival) in &mut *self.asked.lock().unwrap() {
            if let Some(arrival) = arrival.take() {
                let bytes = self.objects[name].slice(range.start as usize..range.end as usize);
                delivered += bytes.len();
                arrival.give(Ok(bytes));
            }
        }
        delivered
    }

    fn ranges(&self) -> Vec<(String, Range<u64>)> {
        let asked = self.asked.lock().unwrap();
        let asked = asked
            .iter()
            .map(|(name, range, _)| (name.clone(), range.clone()));
        asked.collect()
    }
}

fn rows() -> Model {
    (0..400u32)
        .map(|n| (n.to_be_bytes().to_vec(), Some(vec![n as u8; 20])))
        .collect()
}

fn slow(parts: &[Part]) -> (Arc<Slow>, Vec<RunPart>) {
    let (objects, run) = store(parts);
    let slow = Slow {
        objects: (*objects).clone(),
        asked: Mutex::default(),
    };
    (Arc::new(slow), run)
}

#[test]
fn one_window_is_on_its_way_while_another_is_used() {
    let parts = write(&rows(), 2_000, 300);
    assert!(parts.len() > 2);
    let longest = parts
        .iter()
        .map(|part| part.summary.tail_bytes)
        .max()
        .unwrap();
    let (source, run) = slow(&parts);
    let mut stream = RunStream::new(source.clone(), run, &[], &[], 500).unwrap();
    let mut found = Model::new();
    // Before anything was waited for, and then with every row at most one more than those delivered.
    assert_eq!(source.ranges().len(), 1);
    loop {
        // The last window of a part has its index and footer as well.
        assert!(source.deliver() as u64 <= 500 + longest);
        let under_way = source.ranges().len();
        // What is needed next has come, so that this does not wait.
        let Some((key, value)) = stream.next_row().unwrap() else {
            break;
        };
        found.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        assert!(source.ranges().len() <= under_way + 1);
    }
    assert_eq!(found, rows());
    // All of it once, across parts too.
    let asked: u64 = source
        .ranges()
        .iter()
        .map(|(_, range)| range.end - range.start)
        .sum();
    assert_eq!(
        asked,
        parts.iter().map(|part| part.summary.bytes).sum::<u64>()
    );
}

#[test]
fn of_a_range_only_its_blocks_are_read() {
    let parts = write(&rows(), 2_000, 300);
    let (objects, run) = store(&parts);
    let source = Arc::new(Recording {
        objects: (*objects).clone(),
        asked: Mutex::default(),
    });
    let (start, end) = (150u32.to_be_bytes(), 152u32.to_be_bytes());
    let mut stream = RunStream::new(source.clone(), run, &start, &end, 1 << 20).unwrap();
    assert_eq!(collect(&mut stream).unwrap(), range(&rows(), &start, &end));
    let asked = source.asked.lock().unwrap();
    let bytes: u64 = asked.iter().map(|(_, range)| range.end - range.start).sum();
    assert!(asked.len() <= 4, "{asked:?}");
    assert!(bytes < 1_500, "{bytes} bytes for two rows");
}

#[derive(Default)]
struct Recording {
    objects: Objects,
    asked: Mutex<Vec<(String, Range<u64>)>>,
}

impl Fetch for Recording {
    fn fetch(&self, name: &str, range: Range<u64>) -> Pending {
        let asked = (name.to_owned(), range.clone());
        self.asked.lock().unwrap().push(asked);
        self.objects.fetch(name, range)
    }
}

#[test]
fn bytes_from_another_thread_are_waited_for() {
    let parts = write(&rows(), 2_000, 300);
    let (source, run) = slow(&parts);
    let mut stream = RunStream::new(source.clone(), run, &[], &[], 500).unwrap();
    let (found, ()) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| collect(&mut stream).unwrap());
        while !reader.is_finished() {
            source.deliver();
            std::thread::yield_now();
        }
        (reader.join().unwrap(), ())
    });
    assert_eq!(found, rows());
}

#[test]
fn what_never_comes_is_an_error() {
    let (source, run) = slow(&write(&rows(), 2_000, 300));
    let mut stream = RunStream::new(source.clone(), run.clone(), &[], &[], 500).unwrap();
    source.asked.lock().unwrap().clear();
    let error = stream.advance().unwrap_err().to_string();
    assert!(
        error.contains("0.run") && error.contains("has ended"),
        "{error}"
    );
    // Fewer bytes than were asked for are an error too.
    let mut stream = RunStream::new(source.clone(), run, &[], &[], 500).unwrap();
    let (_, _, arrival) = source.asked.lock().unwrap().remove(0);
    arrival.unwrap().give(Ok(Bytes::from_static(b"SFRN")));
    let error = stream.advance().unwrap_err().to_string();
    assert!(
        error.contains("0.run") && error.contains("4 bytes came"),
        "{error}"
    );
}

#[test]
fn parts_are_read_from_files() {
    let disk = SimDisk::new(1);
    let directory = std::path::Path::new("/data");
    disk.create_dir_all(directory).unwrap();
    let parts = write(&rows(), 2_000, 300);
    let (objects, run) = store(&parts);
    for (name, bytes) in &*objects {
        let file = disk.open(&directory.join(name), OpenMode::Create).unwrap();
        file.write_at(bytes, 0).unwrap();
    }
    let files = Arc::new(Files::new(Arc::new(disk.clone()), directory));
    let mut stream = RunStream::new(files.clone(), run.clone(), &[], &[], 700).unwrap();
    assert_eq!(collect(&mut stream).unwrap(), rows());
    disk.remove(&directory.join("1.run")).unwrap();
    let mut stream = RunStream::new(files, run, &[], &[], 700).unwrap();
    let error = collect(&mut stream).unwrap_err().to_string();
    assert!(error.contains("1.run"), "{error}");
}

#[test]
fn streams_can_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<RunStream>();
    is_send::<RunWriter>();
    is_send::<Merge<RunStream>>();
    is_send::<PartRows<super::super::InFile>>();
}
