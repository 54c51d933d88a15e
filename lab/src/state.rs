//! What a lab is made of, on disk, so that any later command finds it again.
//!
//! Written before the thing it names is made, and replaced as a whole: a killed `up` leaves either
//! the old or the new record, and `down` needs only the lab's name in the worst case.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::address::{AddressPlan, Addresses, Families};
use crate::asset::Programs;
use crate::name::LabName;
use crate::paths::Paths;
use crate::place::{Daemon, PlaceRecord};

/// What connects pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Cni {
    /// Weftnet, installed with its chart.
    #[default]
    Weftnet,
    /// Nothing: nodes stay NotReady until somebody installs a plugin.
    None,
    /// The reference plugin bridge with host-local addresses and static routes between nodes.
    Bridge,
    /// The reference plugin ptp with host-local addresses and static routes between nodes.
    Ptp,
}

/// What a lab was asked to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Address families.
    pub families: Families,
    /// The segment of each node to start with; its length is their number.
    pub placement: Vec<u8>,
    /// Number of L2 segments.
    pub segments: u8,
    /// What connects pods.
    pub cni: Cni,
    /// How kube-proxy does Services; none: it does not.
    pub kube_proxy: Option<ProxyMode>,
    /// Whether CoreDNS does DNS.
    pub coredns: bool,
    /// Whether Weftnet's own server does DNS.
    #[serde(default)]
    pub weft_dns: bool,
    /// The Kubernetes version.
    pub kubernetes: String,
    /// The MTU of the nodes' links in bytes.
    pub mtu: u32,
}

/// How kube-proxy writes its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// nf_tables.
    Nftables,
    /// The iptables program; it must be on the machine.
    Iptables,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name, such as `node-1`.
    pub name: String,
    /// Its number, from 1.
    pub number: u8,
    /// Its L2 segment, from 0.
    pub segment: u8,
    /// Its addresses.
    pub addresses: Addresses,
}

impl NodeRecord {
    /// Node `number` of a lab.
    pub fn new(plan: AddressPlan, number: u8, segment: u8) -> Self {
        Self {
            name: format!("node-{number}"),
            number,
            segment,
            addresses: plan.node(segment, number),
        }
    }
}

/// The record of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    /// Its name.
    pub name: LabName,
    /// What it was asked to be.
    pub options: Options,
    /// Whether `up` came to its end.
    pub complete: bool,
    /// The programs it runs.
    pub programs: Programs,
    /// The port on 127.0.0.1 that leads to the API server.
    pub api_port: Option<u16>,
    /// Its places by name.
    pub places: BTreeMap<String, PlaceRecord>,
    /// Its nodes by number.
    pub nodes: BTreeMap<u8, NodeRecord>,
    /// Long-running programs, by place and name, in the order of their start.
    pub daemons: Vec<Daemon>,
}

impl LabState {
    /// Reads a lab's record; `None` when there is no such lab.
    pub fn load(paths: &Paths) -> Result<Option<Self>> {
        let file = paths.state();
        match fs::read(&file) {
            Ok(text) => {
                let state = serde_json::from_slice(&text).with_context(|| {
                    format!(
                        "{} does not read as a lab's record; `weft-lab down` removes it",
                        file.display()
                    )
                })?;
                Ok(Some(state))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", file.display())),
        }
    }

    /// Writes the record, as a whole or not at all.
    pub fn save(&self, paths: &Paths) -> Result<()> {
        fs::create_dir_all(paths.lab())
            .with_context(|| format!("failed to make {}", paths.lab().display()))?;
        let text = serde_json::to_vec_pretty(self)?;
        replace_file(&paths.state(), &text)
    }

    /// The lab's address plan.
    pub fn plan(&self) -> AddressPlan {
        AddressPlan {
            families: self.options.families,
        }
    }

    /// Remembers a daemon, in the place of an earlier one of the same name.
    pub fn remember(&mut self, daemon: &Daemon) {
        let same = |d: &&mut Daemon| d.place == daemon.place && d.name == daemon.name;
        match self.daemons.iter_mut().find(same) {
            Some(found) => *found = daemon.clone(),
            None => self.daemons.push(daemon.clone()),
        }
    }
}

/// Writes a file so that readers see the old or the new content, never a part.
pub fn replace_file(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content).with_context(|| format!("failed to write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("failed to replace {}", path.display()))
}

/// Keeps others from making or removing the same lab; released when dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holding it is its use")] Flock<File>);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// When another `up` or `down` of this lab is at work.
    pub fn take(paths: &Paths, name: &LabName) -> Result<Self> {
        let file = paths.lock();
        fs::create_dir_all(paths.root())
            .with_context(|| format!("failed to make {}", paths.root().display()))?;
        let handle =
            File::create(&file).with_context(|| format!("failed to open {}", file.display()))?;
        match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!(
                "lab {name} is being made or taken down by another weft-lab; wait for it, or take another --name"
            ),
            Err((_, error)) => {
                Err(error).with_context(|| format!("failed to lock {}", file.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &LabName) -> LabState {
        LabState {
            name: name.clone(),
            options: Options {
                families: Families::Dual,
                placement: vec![0, 0],
                segments: 1,
                cni: Cni::Weftnet,
                kube_proxy: Some(ProxyMode::Nftables),
                coredns: true,
                weft_dns: false,
                kubernetes: "1.34.10".to_owned(),
                mtu: 1500,
            },
            complete: false,
            programs: Programs::default(),
            api_port: Some(4711),
            places: BTreeMap::new(),
            nodes: BTreeMap::new(),
            daemons: Vec::new(),
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let name: LabName = "one".parse().unwrap();
        let paths = Paths::new(dir.path(), &name);
        assert_eq!(LabState::load(&paths).unwrap(), None);
        let state = state(&name);
        state.save(&paths).unwrap();
        assert_eq!(LabState::load(&paths).unwrap(), Some(state));
    }

    #[test]
    fn a_damaged_record_names_the_file_and_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let name: LabName = "one".parse().unwrap();
        let paths = Paths::new(dir.path(), &name);
        state(&name).save(&paths).unwrap();
        fs::write(paths.state(), "{\"name\":").unwrap();
        let error = LabState::load(&paths).unwrap_err().to_string();
        assert!(
            error.contains("state.json") && error.contains("weft-lab down"),
            "{error}"
        );
    }

    #[test]
    fn two_commands_cannot_make_the_same_lab_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let name: LabName = "one".parse().unwrap();
        let paths = Paths::new(dir.path(), &name);
        let held = Lock::take(&paths, &name).unwrap();
        assert!(Lock::take(&paths, &name).is_err());
        drop(held);
        assert!(Lock::take(&paths, &name).is_ok());
    }

    #[test]
    fn a_daemon_started_again_is_remembered_once() {
        let mut state = state(&"one".parse().unwrap());
        let mut daemon = Daemon {
            name: "kubelet".to_owned(),
            place: "node-1".to_owned(),
            argv: vec!["a".to_owned()],
            env: BTreeMap::new(),
        };
        state.remember(&daemon);
        daemon.argv.push("b".to_owned());
        state.remember(&daemon);
        assert_eq!(state.daemons, [daemon]);
    }
}
