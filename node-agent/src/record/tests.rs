//! The record after a stop at each step of writing, after truncation at each byte, and with bits
//! turned.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weft_core::plan::Mac;

use super::*;

const NODE: &str = "0d9c1a5e-0000-4000-8000-000000000001";

fn files(folder: &Path) -> Box<dyn Storage> {
    Box::new(Files::new(folder.to_owned()).unwrap())
}

fn open(folder: &Path) -> Result<(Record, Opened), RecordError> {
    Record::open(files(folder), NODE, |_| false)
}

fn assign(number: u8) -> Entry {
    Entry::Assign(Assignment {
        container_id: format!("container{number}"),
        ifname: "eth0".to_owned(),
        netns: format!("/run/netns/{number}"),
        pod_uid: format!("uid-{number}"),
        namespace: "default".to_owned(),
        name: format!("web-{number}"),
        host_link: format!("weft{number:011x}"),
        host_mac: Mac([2, 0, 0, 0, 0, number]),
        pod_mac: Mac([2, 0, 0, 0, 1, number]),
        mtu: 1450,
        addresses: vec![Assigned {
            address: [10, 64, 0, number].into(),
            pool: "default".to_owned(),
        }],
        host_ports: vec![RecordedPort {
            host_port: 8080,
            host_ip: None,
            container_port: 80,
            protocol: "tcp".to_owned(),
        }],
        time: 1_700_000_000,
    })
}

fn release(number: u8) -> Entry {
    let cooling = Cooling {
        address: [10, 64, 0, number].into(),
        pool: "default".to_owned(),
        until: 1_700_000_031,
    };
    Entry::Release {
        container_id: format!("container{number}"),
        ifname: "eth0".to_owned(),
        cooling: vec![cooling],
    }
}

fn cool_down_end(number: u8) -> Entry {
    Entry::CoolDownEnd {
        addresses: vec![[10, 64, 0, number].into()],
    }
}

/// A life of a record, in batches.
fn life() -> Vec<Vec<Entry>> {
    vec![
        vec![assign(1), assign(2)],
        vec![release(1)],
        vec![assign(3)],
        vec![cool_down_end(1), release(2)],
        vec![assign(1)],
    ]
}

/// The states after 0, 1, 2, … batches.
fn states() -> Vec<State> {
    let mut state = State::default();
    let mut states = vec![state.clone()];
    for batch in life() {
        batch.iter().for_each(|entry| state.apply(entry));
        states.push(state.clone());
    }
    states
}

/// Real files, until the machine stops at a given step; half of what that step writes arrives.
#[derive(Debug)]
struct Stopping {
    files: Box<dyn Storage>,
    steps: Arc<AtomicUsize>,
}

impl Stopping {
    fn goes_on(&self) -> bool {
        self.steps
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |steps| {
                steps.checked_sub(1)
            })
            .is_ok()
    }

    fn stopped<T>() -> io::Result<T> {
        Err(io::Error::other("the machine has stopped"))
    }
}

impl Storage for Stopping {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.files.read(name)
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.goes_on() {
            return self.files.create(name, bytes);
        }
        self.files.create(name, &bytes[..bytes.len() / 2])?;
        Self::stopped()
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.goes_on() {
            return self.files.append(name, bytes);
        }
        self.files.append(name, &bytes[..bytes.len() / 2])?;
        Self::stopped()
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        if self.goes_on() {
            self.files.sync(name)
        } else {
            Self::stopped()
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if self.goes_on() {
            self.files.rename(from, to)
        } else {
            Self::stopped()
        }
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        if self.goes_on() {
            self.files.sync_folder()
        } else {
            Self::stopped()
        }
    }
}

/// Lives until the machine stops; says how many batches were acknowledged.
fn live(folder: &Path, steps: usize, compact_after: usize) -> (usize, bool) {
    let stopping = Stopping {
        files: files(folder),
        steps: Arc::new(AtomicUsize::new(steps)),
    };
    let acknowledged = Rc::new(Cell::new(0));
    let whole = (|| -> Result<(), RecordError> {
        let (mut record, _) = Record::open(Box::new(stopping), NODE, |_| false)?;
        for (number, batch) in life().into_iter().enumerate() {
            record.append(&batch)?;
            acknowledged.set(number + 1);
            if number + 1 == compact_after {
                record.compact()?;
            }
        }
        Ok(())
    })()
    .is_ok();
    (acknowledged.get(), whole)
}

#[test]
fn what_was_acknowledged_is_there_after_a_stop_at_each_step() {
    for compact_after in 0..=5 {
        let mut stopped = 0;
        for steps in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let (acknowledged, whole) = live(folder.path(), steps, compact_after);
            let (record, _) = open(folder.path()).unwrap();
            let found = states()
                .iter()
                .position(|state| state == record.state())
                .unwrap();
            // The batch in flight may have reached the disk or not.
            assert!(
                found == acknowledged || found == acknowledged + 1,
                "{steps}: {found}, {acknowledged}"
            );
            if whole {
                break;
            }
            stopped += 1;
        }
        assert!(
            stopped >= 14,
            "only {stopped} steps: the stops are not injected"
        );
    }
}

#[test]
fn a_record_goes_on_after_a_failed_write() {
    let folder = tempfile::tempdir().unwrap();
    let steps = Arc::new(AtomicUsize::new(usize::MAX));
    let stopping = Stopping {
        files: files(folder.path()),
        steps: Arc::clone(&steps),
    };
    let (mut record, _) = Record::open(Box::new(stopping), NODE, |_| false).unwrap();
    record.append(&[assign(1)]).unwrap();
    steps.store(0, Ordering::Relaxed);
    assert!(record.append(&[assign(2)]).is_err());
    steps.store(usize::MAX, Ordering::Relaxed);
    record.append(&[assign(3)]).unwrap();
    let (again, opened) = open(folder.path()).unwrap();
    assert_eq!(opened, Opened::default());
    assert_eq!(again.state(), record.state());
    assert_eq!(again.state().assignments.len(), 2);
}

#[test]
fn truncated_at_each_byte_it_holds_every_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    live(folder.path(), usize::MAX, 0);
    let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
    for length in 0..bytes.len() {
        let cut = tempfile::tempdir().unwrap();
        std::fs::write(cut.path().join(FILE), &bytes[..length]).unwrap();
        let whole = bytes[..length]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let (mut record, opened) = open(cut.path()).unwrap();
        assert_eq!(
            record.state(),
            &states()[whole.saturating_sub(1)],
            "{length}"
        );
        let end = bytes[..length]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        assert_eq!(opened.dropped, length - end);
        // What is appended then is found again.
        record.append(&[assign(9)]).unwrap();
        assert_eq!(open(cut.path()).unwrap().0.state(), record.state());
    }
}

#[test]
fn a_turned_bit_before_the_last_frame_is_damage_and_in_it_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    live(folder.path(), usize::MAX, 0);
    let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
    let last = bytes.iter().rposition(|byte| *byte == 0x1e).unwrap();
    for at in 0..bytes.len() {
        for bit in [0, 3, 7] {
            let mut turned = bytes.clone();
            turned[at] ^= 1 << bit;
            let cut = tempfile::tempdir().unwrap();
            std::fs::write(cut.path().join(FILE), &turned).unwrap();
            let states = states();
            match open(cut.path()) {
                Err(RecordError::Damaged { .. }) => assert!(at < last, "byte {at}"),
                Err(error) => panic!("byte {at}: {error}"),
                Ok((record, _)) => {
                    // Upper and lower case of a checksum's digit are the same number.
                    let harmless = record.state() == &states[5];
                    assert!(
                        at >= last && record.state() == &states[4] || harmless,
                        "byte {at}"
                    );
                }
            }
        }
    }
}

#[test]
fn damage_says_where_it_is_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    live(folder.path(), usize::MAX, 0);
    let mut bytes = std::fs::read(folder.path().join(FILE)).unwrap();
    bytes[100] = 0;
    std::fs::write(folder.path().join(FILE), &bytes).unwrap();
    let text = open(folder.path()).unwrap_err().to_string();
    assert!(
        text.contains("damaged at byte") && text.contains("drain the node"),
        "{text}"
    );
    assert_eq!(
        std::fs::read(folder.path().join(FILE)).unwrap(),
        bytes,
        "a damaged record is left as it is"
    );
}

#[test]
fn another_nodes_record_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    live(folder.path(), usize::MAX, 0);
    let before = std::fs::read(folder.path().join(FILE)).unwrap();
    let (record, opened) = Record::open(files(folder.path()), "another-uid", |_| false).unwrap();
    assert!(record.state().is_empty());
    let name = opened.set_aside.unwrap();
    assert_eq!(std::fs::read(folder.path().join(&name)).unwrap(), before);
    assert!(name.ends_with(NODE));
}

#[test]
fn the_same_machines_record_is_taken_over_under_a_new_uid() {
    let folder = tempfile::tempdir().unwrap();
    live(folder.path(), usize::MAX, 0);
    let (record, opened) =
        Record::open(files(folder.path()), "new-uid", |state| !state.is_empty()).unwrap();
    assert_eq!((record.state(), opened), (&states()[5], Opened::default()));
    let (again, _) = Record::open(files(folder.path()), "new-uid", |_| false).unwrap();
    assert_eq!(again.state(), record.state());
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join(FILE),
        frame::header(FORMAT + 1, NODE).unwrap(),
    )
    .unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(RecordError::Newer { found: 2 })
    ));
}

#[test]
fn a_long_log_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = open(folder.path()).unwrap().0;
    record.append(&[assign(1)]).unwrap();
    record.frames = FRAMES_BEFORE_COMPACTION + 100;
    record.append(&[release(1)]).unwrap();
    assert_eq!(record.frames, 2);
    assert_eq!(open(folder.path()).unwrap().0.state(), record.state());
}
