//! A running lab: its places, its nodes, its API, and what can be done to them.
//!
//! This is what commands, scenarios and benchmarks hold. Methods without `async` block their thread
//! for as long as what they run takes; call them from `tokio::task::spawn_blocking` in async code.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::Client;
use nix::sys::signal::Signal;

use crate::control_plane;
use crate::name::LabName;
use crate::network::{self, OUTSIDE, SWITCH};
use crate::paths::Paths;
use crate::place::{Daemon, Place};
use crate::state::{LabState, NodeRecord};
use crate::{api, forward};

/// A handle of a running lab; cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    state: Mutex<LabState>,
}

impl Cluster {
    /// Attaches to a lab that `up` made.
    pub fn open(state_dir: &Path, name: &LabName) -> Result<Self> {
        let paths = Paths::new(state_dir, name);
        let Some(state) = LabState::load(&paths)? else {
            bail!("there is no lab {name}: `weft-lab up --name {name}` makes one");
        };
        let cluster = Self::new(paths, state);
        cluster.place(control_plane::PLACE)?;
        Ok(cluster)
    }

    /// A handle of a lab that is being made.
    pub(crate) fn new(paths: Paths, state: LabState) -> Self {
        let state = Mutex::new(state);
        Self {
            inner: Arc::new(Inner { paths, state }),
        }
    }

    /// The lab's name.
    pub fn name(&self) -> LabName {
        self.locked().name.clone()
    }

    /// A copy of the lab's record.
    pub fn state(&self) -> LabState {
        self.locked().clone()
    }

    /// The lab's files.
    pub fn paths(&self) -> &Paths {
        &self.inner.paths
    }

    /// A kubeconfig that works on this machine.
    pub fn kubeconfig(&self) -> PathBuf {
        self.inner.paths.kubeconfig()
    }

    /// A client with all rights.
    pub async fn client(&self) -> Result<Client> {
        api::client(&self.kubeconfig()).await
    }

    /// All nodes, by number.
    pub fn nodes(&self) -> Vec<NodeRecord> {
        self.locked().nodes.values().cloned().collect()
    }

    /// One node by name.
    pub fn node(&self, name: &str) -> Result<NodeRecord> {
        let nodes = self.nodes();
        let found = nodes.iter().find(|node| node.name == name).cloned();
        found.with_context(|| {
            let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            format!("there is no node {name}; the lab has {}", known.join(", "))
        })
    }

    /// A place by name: a node, `control-plane`, `switch` or `outside`.
    pub fn place(&self, name: &str) -> Result<Place> {
        let state = self.locked();
        let Some(record) = state.places.get(name) else {
            let known: Vec<&str> = state.places.keys().map(String::as_str).collect();
            bail!(
                "lab {} has no place {name}; it has {}",
                state.name,
                known.join(", ")
            );
        };
        let path = state.programs.search_path();
        Place::attach(&state.name, &self.inner.paths, name, record, &path)
    }

    /// The namespace that plays the outside world.
    pub fn outside(&self) -> Result<Place> {
        self.place(OUTSIDE)
    }

    /// The namespace with the bridges and the router.
    pub fn switch(&self) -> Result<Place> {
        self.place(SWITCH)
    }

    /// Starts (again) a daemon that the lab knows, and waits for nothing.
    pub fn start_daemon(&self, place: &str, name: &str) -> Result<i32> {
        let daemon = self.daemon(place, name)?;
        self.place(place)?.start_daemon(&daemon)
    }

    /// Starts a daemon that the lab does not know yet, and remembers it.
    pub fn add_daemon(&self, daemon: &Daemon) -> Result<i32> {
        self.update(|state| state.remember(daemon))?;
        self.place(&daemon.place)?.start_daemon(daemon)
    }

    /// A known daemon.
    pub fn daemon(&self, place: &str, name: &str) -> Result<Daemon> {
        let state = self.locked();
        let found = state
            .daemons
            .iter()
            .find(|d| d.place == place && d.name == name);
        found.cloned().with_context(|| {
            let here = state.daemons.iter().filter(|d| d.place == place);
            let known: Vec<&str> = here.map(|d| d.name.as_str()).collect();
            format!("{place} runs no {name}; it runs {}", known.join(", "))
        })
    }

    /// Sends a signal to all processes of a program in a place, containers included; returns how many
    /// there were. STOP and CONT halt and resume.
    pub fn signal(&self, place: &str, program: &str, signal: Signal) -> Result<usize> {
        Ok(self.place(place)?.signal(program, signal))
    }

    /// Kills a daemon and waits until it is gone.
    pub fn kill_daemon(&self, place: &str, name: &str) -> Result<()> {
        let place = self.place(place)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while place.signal(name, Signal::SIGKILL) > 0 {
            if Instant::now() > deadline {
                bail!("{name} in {} did not end within 10 s", place.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills a daemon and starts it again.
    pub fn restart_daemon(&self, place: &str, name: &str) -> Result<i32> {
        self.kill_daemon(place, name)?;
        self.start_daemon(place, name)
    }

    /// Halts or resumes the API server: connections stay open and nothing answers.
    pub fn halt_api_server(&self, halted: bool) -> Result<()> {
        let signal = if halted {
            Signal::SIGSTOP
        } else {
            Signal::SIGCONT
        };
        match self.signal(control_plane::PLACE, "kube-apiserver", signal)? {
            0 => bail!("the API server is not running"),
            _ => Ok(()),
        }
    }

    /// Ends the API server: connections are refused until [`Cluster::start_api_server`].
    pub fn stop_api_server(&self) -> Result<()> {
        self.kill_daemon(control_plane::PLACE, "kube-apiserver")
    }

    /// Starts the API server after [`Cluster::stop_api_server`]; ready some seconds later.
    pub fn start_api_server(&self) -> Result<()> {
        self.start_daemon(control_plane::PLACE, "kube-apiserver")?;
        Ok(())
    }

    /// Cuts a node off from every other place, or connects it again.
    pub fn partition(&self, node: &str, cut: bool) -> Result<()> {
        self.node(node)?;
        network::set_link(&self.switch()?, node, !cut)
    }

    /// Connects 127.0.0.1 of the machine with the API server.
    pub(crate) fn start_forwarder(&self) -> Result<()> {
        let state = self.state();
        let place = self.place(control_plane::PLACE)?;
        let host = state.plan().control_plane().first();
        let target = SocketAddr::new(host, control_plane::API_PORT);
        let log = self.inner.paths.log(control_plane::PLACE, "forwarder");
        let port = forward::start(&place, target, state.api_port, &log)?;
        self.update(|state| state.api_port = Some(port))?;
        control_plane::write_user_kubeconfig(&self.inner.paths, port)
    }

    /// Changes the record and writes it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut LabState)) -> Result<()> {
        let mut state = self.locked();
        change(&mut state);
        state.save(&self.inner.paths)
    }

    fn locked(&self) -> MutexGuard<'_, LabState> {
        // A record is changed by assignments alone: a panic in between leaves nothing half done.
        self.inner
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
