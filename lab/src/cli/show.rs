//! What commands print about a lab.

use std::fmt::Arguments;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;

/// Nodes, places and what runs in them.
pub fn status(cluster: &Cluster) -> Result<()> {
    let state = cluster.state();
    let options = &state.options;
    line(format_args!(
        "lab {}: Kubernetes {}, {:?}, {} segment(s), plugin {:?}{}",
        state.name,
        options.kubernetes,
        options.families,
        options.segments,
        options.cni,
        if state.complete {
            ""
        } else {
            " (not complete)"
        }
    ));
    line(format_args!(
        "{:16} {:10} {:9} ADDRESSES",
        "PLACE", "PID", "PROCESSES"
    ));
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
        line(format_args!(
            "{name:16} {:<10} {processes:9} {}",
            record.pid,
            addresses.join(" ")
        ));
    }
    line(format_args!(""));
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
    line(format_args!(
        "export KUBECONFIG={}",
        cluster.kubeconfig().display()
    ));
    line(format_args!(
        "export PATH=$PATH:{}:{}",
        folder.display(),
        helm_folder.display()
    ));
    line(format_args!("kubectl get nodes -o wide"));
    line(format_args!("kubectl get ipp,ovl,podaddresses -A"));
    line(format_args!("kubectl get pods -A -o wide"));
    let name = state.name.as_str();
    let flag = if name == "default" {
        String::new()
    } else {
        format!(" --name {name}")
    };
    line(format_args!("weft-lab exec{flag} node-1 -- ip route"));
    line(format_args!("weft-lab down{flag}"));
}

/// Prints a line; that nobody reads on, as with `| head`, is no failure.
fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The kubeconfig or its path.
pub fn kubeconfig(cluster: &Cluster, print: bool) -> Result<()> {
    let file = cluster.kubeconfig();
    if print {
        let text = fs::read_to_string(&file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        line(format_args!("{}", text.trim_end()));
    } else {
        line(format_args!("{}", file.display()));
    }
    Ok(())
}

/// A list of logs, or the end of those that match.
pub fn logs(folder: &Path, which: Option<&str>, tail: usize) -> Result<()> {
    let Some(which) = which else {
        for file in log_files(folder)? {
            let name = file
                .strip_prefix(folder)
                .unwrap_or(&file)
                .with_extension("");
            line(format_args!("{}", name.display()));
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
            line(format_args!("==> {} <==", file.display()));
        }
        for text in &lines[lines.len().saturating_sub(tail)..] {
            line(format_args!("{text}"));
        }
    }
    Ok(())
}

fn log_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
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
