//! Makes a lab: places, wires, control plane and nodes, as much at once as depends on nothing else.

pub mod member;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::address::{DNS_IPV4, DNS_IPV6};
use crate::asset::{Source, build};
use crate::cgroup;
use crate::cluster::Cluster;
use crate::name::LabName;
use crate::network::{self, OUTSIDE, SWITCH};
use crate::paths::Paths;
use crate::place::init::InitConfig;
use crate::place::{Daemon, Place};
use crate::progress::Progress;
use crate::state::{Cni, LabState, Lock, NodeRecord, Options, ProxyMode};
use crate::{api, control_plane, doctor, down, image, install};

/// What `up` needs besides the lab's own options.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The folder of all labs' state.
    pub state_dir: PathBuf,
    /// Where programs come from.
    pub source: Source,
    /// The folder of Weftnet's own programs.
    pub programs: Option<PathBuf>,
    /// The folder with the charts.
    pub charts: PathBuf,
    /// A folder that is applied once Weftnet is installed; `None`: the one for the lab's families.
    pub resources: Option<PathBuf>,
    /// `lab/cluster` of the checkout.
    pub cluster_folder: PathBuf,
}

/// Makes the lab `name` and waits until its nodes are Ready, as far as anything makes them so.
pub fn up(
    env: &Environment,
    name: &LabName,
    options: &Options,
    progress: &Progress,
) -> Result<Cluster> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab makes namespaces and mounts: run weft-lab as root");
    }
    let paths = Paths::new(&env.state_dir, name);
    let _lock = Lock::take(&paths, name)?;
    refuse_running(&paths, name)?;
    down::remove(&paths, name)?;
    doctor::check_inotify(options.placement.len() as u64)?;
    let programs = env.source.programs(&options.kubernetes, &[], progress)?;
    if options.kube_proxy == Some(ProxyMode::Iptables) {
        let packages = ["iptables".to_owned()];
        build::install("kube-proxy in this mode", &packages, progress)?;
    }
    let state = LabState {
        name: name.clone(),
        options: options.clone(),
        complete: false,
        programs,
        api_port: None,
        places: Default::default(),
        nodes: Default::default(),
        daemons: Vec::new(),
    };
    state.save(&paths)?;
    let cluster = Cluster::new(paths, state);
    let making = Making {
        env,
        cluster: &cluster,
        progress,
        keep: kept_folders(env, &cluster)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    making.run(&runtime)?;
    cluster.update(|state| state.complete = true)?;
    Ok(cluster)
}

fn refuse_running(paths: &Paths, name: &LabName) -> Result<()> {
    // A record that does not read, or an `up` that was killed, is debris.
    let Ok(Some(state)) = LabState::load(paths) else {
        return Ok(());
    };
    if !state.complete {
        return Ok(());
    }
    match Cluster::open(paths.root(), name) {
        Ok(_) => bail!(
            "lab {name} is running already: use it, take it down with `weft-lab down --name {name}`, or make another with --name"
        ),
        Err(_) => Ok(()),
    }
}

fn kept_folders(env: &Environment, cluster: &Cluster) -> Result<Vec<PathBuf>> {
    let mut keep = vec![cluster.paths().lab(), env.source.cache.clone()];
    keep.extend(cluster.state().programs.folders());
    keep.push(image::programs_dir(env.programs.as_deref())?);
    keep.retain(|dir| dir.is_dir());
    keep.sort();
    keep.dedup();
    Ok(keep)
}

pub(crate) struct Making<'a> {
    pub(crate) env: &'a Environment,
    pub(crate) cluster: &'a Cluster,
    pub(crate) progress: &'a Progress,
    pub(crate) keep: Vec<PathBuf>,
}

impl Making<'_> {
    fn run(&self, runtime: &tokio::runtime::Runtime) -> Result<()> {
        let cluster = self.cluster;
        let state = cluster.state();
        let nodes = node_records(&state);
        let names = [SWITCH, OUTSIDE, control_plane::PLACE];
        // Images, credentials and places depend on nothing.
        let template = std::thread::scope(|scope| -> Result<PathBuf> {
            let template = scope.spawn(|| self.image_template());
            let credentials =
                scope.spawn(|| control_plane::write_credentials(&state, cluster.paths()));
            let places: Vec<_> = names
                .iter()
                .map(|name| scope.spawn(move || self.start_place(name, None)))
                .collect();
            for place in places {
                joined(place)?;
            }
            joined(credentials)?;
            network::set_up_switch(&cluster.switch()?, &state)?;
            self.start_control_plane()?;
            joined(template)
        })?;
        self.progress.note("control plane started");
        std::thread::scope(|scope| -> Result<()> {
            let making: Vec<_> = nodes
                .iter()
                .map(|node| scope.spawn(|| self.prepare_node(node, &template)))
                .collect();
            self.start_outside()?;
            for node in making {
                joined(node)?;
            }
            Ok(())
        })?;
        self.progress.note("nodes started");
        let client = runtime.block_on(cluster.client())?;
        runtime.block_on(self.wait_for_api(&client))?;
        self.progress.note("API server ready");
        for daemon in [
            control_plane::controller_manager(&state, cluster.paths()),
            control_plane::scheduler(&state, cluster.paths()),
        ] {
            cluster.add_daemon(&daemon)?;
        }
        for node in &nodes {
            runtime.block_on(api::create_node(&client, node))?;
            self.start_node_daemons(node)?;
        }
        self.refresh_static_routes()?;
        if state.options.coredns {
            runtime.block_on(api::apply(&client, &coredns_manifest(&state)))?;
        }
        if state.options.cni == Cni::Weftnet {
            install::weftnet(self.env, cluster, &client, runtime, self.progress)?;
        }
        if state.options.cni != Cni::None {
            let limit = Duration::from_secs(60 + 10 * nodes.len() as u64);
            runtime.block_on(api::wait_for_nodes(&client, limit))?;
            self.progress.note(&format!("{} nodes Ready", nodes.len()));
        }
        // The servers behind the Service are every node's fall-back. Resources of a user's own may give no addresses.
        if state.options.weft_dns && !nodes.is_empty() && self.env.resources.is_none() {
            let name = (install::NAMESPACE, "weft-dns");
            let limit = Duration::from_secs(60);
            runtime.block_on(api::wait_for_deployment(&client, name, limit))?;
            self.progress.note("cluster DNS ready");
        }
        Ok(())
    }

    fn image_template(&self) -> Result<PathBuf> {
        let state = self.cluster.state();
        let dir = image::programs_dir(self.env.programs.as_deref())?;
        let mut specs = image::specs(&state.programs, &dir);
        if state.options.cni != Cni::Weftnet {
            specs.retain(|spec| spec.name != image::AGENT && spec.name != image::OPERATOR);
        }
        image::template::ensure(
            &specs,
            &state,
            self.cluster.paths(),
            &self.env.source.cache,
            &self.keep,
            self.progress,
        )
    }

    pub(crate) fn start_place(&self, name: &str, node_dir: Option<PathBuf>) -> Result<Place> {
        let state = self.cluster.state();
        let outside = state.plan().outside().all();
        let config = InitConfig {
            name: name.to_owned(),
            node_dir,
            keep: self.keep.clone(),
            resolvers: outside.iter().map(ToString::to_string).collect(),
            hierarchies: cgroup::hierarchies()?,
            forwards: name == SWITCH,
        };
        let path = state.programs.search_path();
        let place = Place::start(&state.name, self.cluster.paths(), &config, &path)?;
        let record = place.record().clone();
        self.cluster.update(|state| {
            state.places.insert(name.to_owned(), record);
        })?;
        Ok(place)
    }

    fn start_control_plane(&self) -> Result<()> {
        let (cluster, state) = (self.cluster, self.cluster.state());
        let place = cluster.place(control_plane::PLACE)?;
        let addresses = state.plan().control_plane();
        network::connect(&cluster.switch()?, &place, &state, 0, addresses)?;
        cluster.add_daemon(&control_plane::etcd(&state, cluster.paths()))?;
        cluster.add_daemon(&control_plane::api_server(&state, cluster.paths()))?;
        cluster.start_forwarder()
    }

    fn start_outside(&self) -> Result<()> {
        let (cluster, state) = (self.cluster, self.cluster.state());
        let outside = cluster.outside()?;
        network::connect_outside(&cluster.switch()?, &outside, state.plan())?;
        let corefile = cluster.paths().place(OUTSIDE).join("Corefile");
        fs::write(&corefile, include_str!("../files/outside.Corefile"))
            .with_context(|| format!("failed to write {}", corefile.display()))?;
        let coredns = state.programs.path("coredns").display().to_string();
        let probe = image::programs_dir(self.env.programs.as_deref())?.join("weft-probe");
        let daemons = [
            (
                "dns",
                vec![coredns, "-conf".to_owned(), corefile.display().to_string()],
            ),
            (
                "serve",
                vec![probe.display().to_string(), "serve".to_owned()],
            ),
        ];
        for (name, argv) in daemons {
            cluster.add_daemon(&Daemon {
                name: name.to_owned(),
                place: OUTSIDE.to_owned(),
                argv,
                env: Default::default(),
            })?;
        }
        Ok(())
    }

    async fn wait_for_api(&self, client: &kube::Client) -> Result<()> {
        let place = self.cluster.place(control_plane::PLACE)?;
        let alive = || {
            let running = |name| !place.processes(name).is_empty();
            running("kube-apiserver") && running("etcd")
        };
        api::wait_until_ready(client, alive).await
    }
}

/// The nodes that the options ask for.
fn node_records(state: &LabState) -> Vec<NodeRecord> {
    let numbered = (1u8..).zip(&state.options.placement);
    numbered
        .map(|(number, segment)| NodeRecord::new(state.plan(), number, *segment))
        .collect()
}

fn coredns_manifest(state: &LabState) -> String {
    let addresses = state.options.families.select(DNS_IPV4, DNS_IPV6);
    let policy = match addresses.len() {
        1 => "SingleStack",
        _ => "RequireDualStack",
    };
    let quoted: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
    include_str!("../files/coredns.yaml")
        .replace("@DNS@", addresses.first().unwrap_or(&DNS_IPV4))
        .replace("@DNS_ALL@", &quoted.join(", "))
        .replace("@POLICY@", policy)
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a thread that makes the lab panicked"),
    }
}

/// The folder of this project's files: charts, go.mod files, manifests.
pub fn default_source() -> PathBuf {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
    lab.parent().unwrap_or(lab).to_owned()
}
