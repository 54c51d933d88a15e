//! The node's record: who has which address, kept over crashes of the agent and of the machine.
//!
//! An append-only log of [`Entry`]s below the agent's state directory. A batch is one frame with one
//! checksum, and it is on disk before anybody is told of it. The record is compacted by writing a new
//! file and renaming it. A torn last frame is dropped: nobody was told of it. A damaged frame
//! elsewhere is an error with a way out, never a guess. A record of another node, which came with a
//! disk image, is set aside under another name.

mod entry;
mod frame;
mod storage;
#[cfg(test)]
mod tests;

use std::io;

pub use entry::{Assigned, Assignment, Cooling, Entry, RecordedPort, State};
pub use storage::{Files, Storage};

/// The record's file below the state directory.
pub const FILE: &str = "record";
/// The file that becomes the record by renaming.
const NEW: &str = "record.new";
/// The format that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;
/// Frames that are appended before the log is worth compacting.
const FRAMES_BEFORE_COMPACTION: usize = 4096;

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refused.
    #[error("failed to {action} the record of addresses")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// A frame before the last is damaged.
    #[error(
        "the record of addresses is damaged at byte {offset} of {length}: no address is assigned or released, and running pods go on; drain the node, then move the file {FILE} in the agent's state directory away and restart the agent, which begins an empty record"
    )]
    Damaged {
        /// Where the first bad frame begins.
        offset: usize,
        /// Length of the file.
        length: usize,
    },
    /// A newer program wrote it.
    #[error(
        "the record of addresses has format {found}, and this agent reads up to {FORMAT}: install the newer agent again, or drain the node and move the file {FILE} in the agent's state directory away"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
}

/// An open record.
#[derive(Debug)]
pub struct Record {
    storage: Box<dyn Storage>,
    node_uid: String,
    state: State,
    /// Frames in the file.
    frames: usize,
    /// The end of the file is not known: the next append begins with a new file.
    uncertain: bool,
}

/// What opening found besides a good record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// A record of another node was renamed to this.
    pub set_aside: Option<String>,
    /// Bytes of a torn last frame that were dropped.
    pub dropped: usize,
}

impl Record {
    /// Opens the record of a node, or begins an empty one.
    ///
    /// A record with another node's UID is set aside, unless `is_ours` knows better: a Node object that
    /// is made again on a running machine has a new UID, and the machine still has the pods.
    ///
    /// # Errors
    /// Where the file system refuses, the record is damaged, or a newer program wrote it.
    pub fn open(
        mut storage: Box<dyn Storage>,
        node_uid: &str,
        is_ours: impl FnOnce(&State) -> bool,
    ) -> Result<(Self, Opened), RecordError> {
        let mut opened = Opened::default();
        let bytes = storage.read(FILE).map_err(failed("read"))?;
        let mut record = Self {
            storage,
            node_uid: node_uid.to_owned(),
            state: State::default(),
            frames: 0,
            uncertain: true,
        };
        if let Some(bytes) = bytes {
            let read = frame::read(&bytes)?;
            if read.format > FORMAT {
                return Err(RecordError::Newer { found: read.format });
            }
            read.entries
                .iter()
                .for_each(|entry| record.state.apply(entry));
            let other = read.header_is_whole && read.node_uid != node_uid;
            if other && !is_ours(&record.state) {
                record.state = State::default();
                opened.set_aside = Some(record.set_aside(&read.node_uid)?);
            } else {
                opened.dropped = bytes.len() - read.good_length;
                record.frames = read.frames;
                record.uncertain = opened.dropped > 0 || !read.header_is_whole || other;
            }
        }
        if record.uncertain {
            record.compact()?;
        }
        Ok((record, opened))
    }

    /// Who has what.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Puts a batch on disk with one fsync, then into memory. After an error the batch counts as
    /// not written, and the next append begins with a new file.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn append(&mut self, batch: &[Entry]) -> Result<(), RecordError> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.uncertain || self.frames > FRAMES_BEFORE_COMPACTION + 4 * self.state.len() {
            self.compact()?;
        }
        let frame = frame::entries(batch).map_err(failed("encode"))?;
        let written = self
            .storage
            .append(FILE, &frame)
            .and_then(|()| self.storage.sync(FILE));
        if let Err(source) = written {
            self.uncertain = true;
            return Err(RecordError::Io {
                action: "write to",
                source,
            });
        }
        self.frames += 1;
        batch.iter().for_each(|entry| self.state.apply(entry));
        Ok(())
    }

    /// Writes what is known into a new file that takes the record's place.
    ///
    /// # Errors
    /// Where the file system refuses; the old file is then still in place.
    pub fn compact(&mut self) -> Result<(), RecordError> {
        self.uncertain = true;
        let mut bytes = frame::header(FORMAT, &self.node_uid).map_err(failed("encode"))?;
        let entries = self.state.entries();
        if !entries.is_empty() {
            bytes.extend(frame::entries(&entries).map_err(failed("encode"))?);
        }
        self.storage
            .create(NEW, &bytes)
            .map_err(failed("create the new file of"))?;
        self.storage
            .sync(NEW)
            .map_err(failed("sync the new file of"))?;
        self.storage
            .rename(NEW, FILE)
            .map_err(failed("rename the new file of"))?;
        self.storage
            .sync_folder()
            .map_err(failed("sync the folder of"))?;
        self.frames = 1;
        self.uncertain = false;
        Ok(())
    }

    /// The Node object has another UID now: the record goes on under it.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn belong_to(&mut self, node_uid: &str) -> Result<(), RecordError> {
        if self.node_uid == node_uid {
            return Ok(());
        }
        node_uid.clone_into(&mut self.node_uid);
        self.compact()
    }

    fn set_aside(&mut self, other_uid: &str) -> Result<String, RecordError> {
        let safe: String = other_uid
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .take(64)
            .collect();
        let name = format!("{FILE}.of-node-{safe}");
        self.storage
            .rename(FILE, &name)
            .map_err(failed("set aside"))?;
        self.storage
            .sync_folder()
            .map_err(failed("sync the folder of"))?;
        Ok(name)
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> RecordError {
    move |source| RecordError::Io { action, source }
}
