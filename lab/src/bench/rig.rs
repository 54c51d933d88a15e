//! What a benchmark runs on: three nodes with Weftnet, made for it and taken down, or those that run;
//! or nodes without a plugin.

use anyhow::{Context, Result, bail};

use super::measure::Measure;
use crate::address::Families;
use crate::cluster::Cluster;
use crate::name::LabName;
use crate::place::Place;
use crate::progress::Progress;
use crate::scenario::lab::Lab;
use crate::state::{Cni, Options};
use crate::up::{Environment, up};

/// A lab and a runtime for its API.
pub struct Rig {
    /// The lab.
    pub lab: Lab,
    /// For questions to the API.
    pub runtime: tokio::runtime::Runtime,
    made: Option<(std::path::PathBuf, LabName)>,
}

impl Rig {
    /// Takes the lab that runs.
    ///
    /// # Errors
    /// When there is none.
    pub fn here(env: &Environment, name: &LabName) -> Result<Self> {
        Self::on(Cluster::open(&env.state_dir, name)?, None)
    }

    /// Makes a lab of three nodes, without kube-proxy, with the programs that lie beside this one.
    ///
    /// # Errors
    /// When it cannot be made; then nothing of it is left.
    pub fn make(env: &Environment, name: &LabName, progress: &Progress) -> Result<Self> {
        let name = name_of(name)?;
        let options = options(Families::Dual, 3, Cni::Weftnet)?;
        let made = (env.state_dir.clone(), name.clone());
        let rig =
            up(env, &name, &options, progress).and_then(|cluster| Self::on(cluster, Some(made)));
        if rig.is_err() {
            // The first failure is the one to tell.
            let _ = crate::down::down(&env.state_dir, &name);
        }
        rig.context("failed to make a lab for the benchmark")
    }

    fn on(cluster: Cluster, made: Option<(std::path::PathBuf, LabName)>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let lab = runtime.block_on(Lab::open(cluster))?;
        if lab.options().cni != Cni::Weftnet || lab.nodes.len() < 2 {
            bail!("a benchmark needs a lab with Weftnet and at least two nodes");
        }
        Ok(Self { lab, runtime, made })
    }

    /// The place of node `number`, from 1.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn node(&self, number: usize) -> Result<&Place> {
        Ok(&self.lab.node(number)?.place)
    }

    /// Takes down what was made.
    ///
    /// # Errors
    /// When something of it is left.
    pub fn close(self) -> Result<()> {
        if let Some((state_dir, name)) = self.made {
            crate::down::down(&state_dir, &name)?;
        }
        Ok(())
    }
}

/// Measures on a lab whose nodes have no plugin, made for it and taken down.
///
/// # Errors
/// When the lab cannot be made or something of it is left, or those of the measurement.
pub fn on_bare_nodes(
    env: &Environment,
    name: &LabName,
    nodes: usize,
    progress: &Progress,
    measure: impl FnOnce(&Cluster) -> Result<Vec<Measure>>,
) -> Result<Vec<Measure>> {
    let name = name_of(name)?;
    let options = options(Families::Ipv4, nodes, Cni::None)?;
    let measured = up(env, &name, &options, progress).and_then(|cluster| measure(&cluster));
    let taken_down = crate::down::down(&env.state_dir, &name);
    let measured = measured?;
    taken_down?;
    Ok(measured)
}

/// A name beside the given one, within the length that a name may have.
fn name_of(name: &LabName) -> Result<LabName> {
    let short: String = name.as_str().chars().take(14).collect();
    format!("{short}-bench").parse().map_err(anyhow::Error::msg)
}

/// Nothing runs that would be measured along, such as the rules of kube-proxy.
fn options(families: Families, nodes: usize, cni: Cni) -> Result<Options> {
    Ok(Options {
        families,
        placement: vec![0; nodes],
        segments: 1,
        cni,
        kube_proxy: None,
        coredns: false,
        weft_dns: false,
        kubernetes: crate::asset::versions::version_of("kubernetes")?,
        mtu: 1500,
    })
}
