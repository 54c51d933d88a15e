//! The record on disk and the address book in memory, kept alike: nothing is told to anybody before
//! the record has it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use weft_core::assign::{AddressBook, AssignError, Lease, Resting, RestoreError};
use weft_core::view::{AttachmentKey, NodeView, PodView};

use super::ports;
use crate::record::{
    Assigned, Assignment, Cooling, Entry, Files, Opened, Record, RecordError, State,
};

/// Record and book of this node.
#[derive(Debug)]
pub(super) struct Addresses {
    record: Record,
    book: AddressBook,
}

/// Why addresses cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The state directory cannot be made.
    #[error("failed to open the state directory")]
    Folder(#[source] std::io::Error),
    /// The record says two things of one address.
    #[error(
        "{0}: the record of addresses contradicts itself, and nothing is assigned; drain the node, then move the file record in the agent's state directory away and restart the agent"
    )]
    Contradiction(#[from] RestoreError),
}

impl Addresses {
    /// Opens the record and fills the book from it.
    pub(super) fn open(
        state_dir: &Path,
        node_uid: &str,
        is_ours: impl FnOnce(&State) -> bool,
    ) -> Result<(Self, Opened), AddressError> {
        let files = Files::new(state_dir.to_owned()).map_err(AddressError::Folder)?;
        let (record, opened) = Record::open(Box::new(files), node_uid, is_ours)?;
        let mut book = AddressBook::default();
        for (key, assignment) in &record.state().assignments {
            let lease = |assigned: &Assigned| Lease {
                address: assigned.address,
                pool: assigned.pool.clone(),
            };
            book.restore(key, assignment.addresses.iter().map(lease).collect())?;
        }
        for rest in record.state().cooling.values() {
            let Cooling {
                address,
                pool,
                until,
            } = rest.clone();
            book.restore_resting(
                unix_seconds(),
                Resting {
                    address,
                    pool,
                    until,
                },
            )?;
        }
        Ok((Self { record, book }, opened))
    }

    pub(super) fn state(&self) -> &State {
        self.record.state()
    }

    pub(super) fn book(&self) -> &AddressBook {
        &self.book
    }

    /// Whether a pod has an address of a network, or one rests.
    pub(super) fn has_any_of(&self, net: &IpNet) -> bool {
        let mut leases = self.book.leases().flat_map(|(_, leases)| leases);
        leases.any(|lease| net.contains(&lease.address))
            || self.book.resting().any(|rest| net.contains(&rest.address))
    }

    pub(super) fn configure(&mut self, view: &NodeView) {
        self.book.configure(view);
    }

    pub(super) fn belong_to(&mut self, node_uid: &str) -> Result<(), RecordError> {
        self.record.belong_to(node_uid)
    }

    /// Chooses addresses, in memory only.
    pub(super) fn choose(&mut self, key: &AttachmentKey) -> Result<Vec<Assigned>, AssignError> {
        let leases = self.book.assign(unix_seconds(), key)?;
        Ok(leases
            .into_iter()
            .map(|Lease { address, pool }| Assigned { address, pool })
            .collect())
    }

    /// Forgets a choice that never reached the record. Its addresses rest: nobody can say who saw them.
    pub(super) fn give_back(&mut self, key: &AttachmentKey) {
        if !self.state().assignments.contains_key(key) {
            self.book.release(unix_seconds(), key);
        }
    }

    /// Puts assignments on disk, all with one fsync.
    pub(super) fn keep(&mut self, assignments: Vec<Assignment>) -> Result<(), RecordError> {
        let batch: Vec<Entry> = assignments.into_iter().map(Entry::Assign).collect();
        self.record.append(&batch)
    }

    /// Releases attachments, all with one fsync; answers what they were. Unknown ones are passed over.
    /// After an error they are still in the record, and releasing them again works.
    pub(super) fn release(
        &mut self,
        keys: &[AttachmentKey],
    ) -> Result<Vec<Assignment>, RecordError> {
        let now = unix_seconds();
        let known = keys
            .iter()
            .filter_map(|key| self.state().assignments.get(key));
        let released: Vec<Assignment> = known.cloned().collect();
        let batch: Vec<Entry> = released
            .iter()
            .map(|assignment| self.release_entry(assignment, now))
            .collect();
        self.record.append(&batch)?;
        for assignment in &released {
            self.book.release(now, &assignment.key());
        }
        Ok(released)
    }

    /// Ends cool-downs whose time is up.
    pub(super) fn expire(&mut self) -> Result<(), RecordError> {
        self.book.expire(unix_seconds());
        let still: BTreeSet<IpAddr> = self.book.resting().map(|rest| rest.address).collect();
        let over: Vec<IpAddr> = self
            .state()
            .cooling
            .keys()
            .filter(|address| !still.contains(address))
            .copied()
            .collect();
        if over.is_empty() {
            return Ok(());
        }
        self.record
            .append(&[Entry::CoolDownEnd { addresses: over }])
    }

    fn release_entry(&self, assignment: &Assignment, now: u64) -> Entry {
        let rest = |assigned: &Assigned| Cooling {
            address: assigned.address,
            pool: assigned.pool.clone(),
            until: self.book.rests_until(now, &assigned.pool),
        };
        Entry::Release {
            container_id: assignment.container_id.clone(),
            ifname: assignment.ifname.clone(),
            cooling: assignment.addresses.iter().map(rest).collect(),
        }
    }
}

/// The plan's form of an assignment.
pub(super) fn pod_view(assignment: &Assignment, host_index: Option<u32>) -> PodView {
    PodView {
        pod: format!("{}/{}", assignment.namespace, assignment.name),
        host_link: assignment.host_link.clone(),
        host_index,
        host_mac: assignment.host_mac,
        pod_mac: assignment.pod_mac,
        addresses: assignment
            .addresses
            .iter()
            .map(|assigned| assigned.address)
            .collect(),
        host_ports: ports::planned(&assignment.host_ports),
    }
}

/// The clock that the record uses.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use weft_core::plan::Mac;

    use super::*;

    #[test]
    fn before_the_pools_are_known_a_released_address_rests_on_disk_too() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Addresses::open(folder.path(), "node", |_| true).unwrap().0;
        let assignment = Assignment {
            container_id: "a".to_owned(),
            ifname: "eth0".to_owned(),
            netns: String::new(),
            pod_uid: String::new(),
            namespace: String::new(),
            name: String::new(),
            host_link: String::new(),
            host_mac: Mac([2, 0, 0, 0, 0, 1]),
            pod_mac: Mac([2, 0, 0, 0, 0, 2]),
            mtu: 1500,
            addresses: vec![Assigned {
                address: "10.8.0.1".parse().unwrap(),
                pool: "default".to_owned(),
            }],
            host_ports: Vec::new(),
            time: 0,
        };
        open().keep(vec![assignment.clone()]).unwrap();
        let before = unix_seconds();
        assert_eq!(open().release(&[assignment.key()]).unwrap().len(), 1);
        let again = open();
        let rest: Vec<u64> = again
            .state()
            .cooling
            .values()
            .map(|rest| rest.until)
            .collect();
        assert!(
            rest.iter().all(|until| *until >= before + 30),
            "{rest:?} at {before}"
        );
        assert_eq!(rest.len(), 1);
        let on_disk = again.state().cooling.values().map(|rest| rest.until);
        assert!(again.book().resting().map(|rest| rest.until).eq(on_disk));
    }
}
