//! What commands print about a lab.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;

/// Nodes, places and what runs in them.
pub fn status(cluster: &Cluster) -> Result<()> {
    let state = cluster.state();
    let options = &state.options;
    println!(
        "lab {}: Kubernetes {}, {:?}, {} segment(s), plugin {:?}{}",
        state.name,
        options.kubernetes,
        options.families,
        options.segments,
        options.cni,
        if state.complete { "" } else { " (not complete)" }
    );
    println!("{:16} {:10} {:9} ADDRESSES", "PLACE", "PID", "PROCESSES");
    for (name, record) in &state.places {
        let node = state.nodes.values().find(|node| node.name == *name);
        let addresses: Vec<String> = node
            .map(|node| node.addresses.all())
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        let processes = match cluster.place(name) {
            Ok(place) => place.cgroups().processes().len().to_string(),
            Err(_) => "ended".to_owned(),
        };
        println!("{name:16} {:<10} {processes:9} {}", record.pid, addresses.join(" "));
    }
    println!();
    how_to_use(cluster);
    Ok(())
}

/// The lines that a user tries first.
pub fn how_to_use(cluster: &Cluster) {
    let state = cluster.state();
    let kubectl = state.programs.path("kubectl");
    let folder = kubectl.parent().unwrap_or(Path::new("/"));
    let helm = state.programs.path("helm");
    let helm_folder = helm.parent().unwrap_or(Path::new("/"));
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("export PATH=$PATH:{}:{}", folder.display(), helm_folder.display());
    println!("kubectl get nodes -o wide");
    println!("kubectl get ipp,ovl,podaddresses -A");
    println!("kubectl get pods -A -o wide");
    let name = state.name.as_str();
    let flag = if name == "default" { String::new() } else { format!(" --name {name}") };
    println!("weft-lab exec{flag} node-1 -- ip route");
    println!("weft-lab down{flag}");
}

/// The kubeconfig or its path.
pub fn kubeconfig(cluster: &Cluster, print: bool) -> Result<()> {
    let file = cluster.kubeconfig();
    if print {
        let text = fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        print!("{text}");
    } else {
        println!("{}", file.display());
    }
    Ok(())
}

/// A list of logs, or the end of those that match.
pub fn logs(folder: &Path, which: Option<&str>, tail: usize) -> Result<()> {
    let Some(which) = which else {
        for file in log_files(folder)? {
            let name = file.strip_prefix(folder).unwrap_or(&file).with_extension("");
            println!("{}", name.display());
        }
        return Ok(());
    };
    let wanted = folder.join(which);
    let mut files = vec![wanted.with_extension("log")];
    if wanted.is_dir() {
        files = log_files(&wanted)?;
    }
    for file in &files {
        let Ok(text) = fs::read(file) else {
            bail!("there is no log {which}; `weft-lab logs` lists them");
        };
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        if files.len() > 1 {
            println!("==> {} <==", file.display());
        }
        for line in &lines[lines.len().saturating_sub(tail)..] {
            println!("{line}");
        }
    }
    Ok(())
}

fn log_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(log_files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
