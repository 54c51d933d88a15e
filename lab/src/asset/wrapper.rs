//! Makes a go.mod that builds another Kubernetes version than the pinned one.
//!
//! Kubernetes' own go.mod names its libraries as v0.0.0 in folders beside it. As a dependency it
//! builds only when each of them is replaced by the published module of the same release.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::find::search;
use crate::place::succeeded;
use crate::progress::Progress;

const COMMANDS: [&str; 6] = [
    "kubelet",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubectl",
];

/// Writes the wrapper of a version into `dir`.
pub fn write(version: &str, dir: &Path, progress: &Progress) -> Result<()> {
    let Some(libraries) = library_version(version) else {
        bail!("{version:?} is no Kubernetes version: write it as 1.34.10");
    };
    let Some(go) = search("go") else {
        bail!(
            "Kubernetes {version} is not in the cache, and preparing it needs Go: install Go 1.25 or later"
        );
    };
    let step = progress.step(&format!("preparing Kubernetes {version}"));
    let parent = dir.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let work = tempfile::tempdir_in(parent)?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&go);
        command.args(arguments).current_dir(work.path());
        command.env("GOWORK", "off").env_remove("GOFLAGS");
        let output = command.output().context("failed to start go")?;
        succeeded(&output, &format!("go {}", arguments.join(" "))).map(|()| output.stdout)
    };
    fs::write(
        work.path().join("go.mod"),
        "module weftnet.dev/lab/assets/kubernetes\n",
    )?;
    let module = format!("k8s.io/kubernetes@v{version}");
    let found = run(&["mod", "download", "-json", &module]).with_context(|| {
        format!("the Go module proxy does not have Kubernetes {version}; try another patch release")
    })?;
    let found: serde_json::Value = serde_json::from_slice(&found)?;
    let go_mod = found["GoMod"]
        .as_str()
        .context("go mod download names no GoMod")?;
    let text = fs::read_to_string(go_mod)?;
    fs::write(
        work.path().join("go.mod"),
        go_mod_for(version, &libraries, &text),
    )?;
    run(&["mod", "tidy"])?;
    fs::rename(work.keep(), dir)
        .with_context(|| format!("failed to put the wrapper into {}", dir.display()))?;
    step.done();
    Ok(())
}

/// `1.34.10` is published with libraries in version `0.34.10`.
fn library_version(version: &str) -> Option<String> {
    let rest = version.strip_prefix("1.")?;
    let number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let valid = rest.split('.').count() == 2 && rest.split('.').all(number);
    valid.then(|| format!("0.{rest}"))
}

fn go_mod_for(version: &str, libraries: &str, of_kubernetes: &str) -> String {
    let mut text = String::from("module weftnet.dev/lab/assets/kubernetes\n\n");
    let go_line = of_kubernetes.lines().find(|line| line.starts_with("go "));
    text += &format!(
        "{}\n\nrequire k8s.io/kubernetes v{version}\n\nreplace (\n",
        go_line.unwrap_or("go 1.24.0")
    );
    for line in of_kubernetes.lines() {
        let line = line.trim().trim_start_matches("replace ");
        if let Some((module, target)) = line.split_once(" => ")
            && target.starts_with("./staging/")
        {
            text += &format!("\t{module} => {module} v{libraries}\n");
        }
    }
    // Kubernetes also names its libraries without a replacement, as v0.0.0.
    for line in of_kubernetes.lines() {
        let mut words = line.split_whitespace();
        if let (Some(module), Some("v0.0.0")) = (words.next(), words.next())
            && module.starts_with("k8s.io/")
            && !text.contains(&format!("\t{module} =>"))
        {
            text += &format!("\t{module} => {module} v{libraries}\n");
        }
    }
    text += ")\n\ntool (\n";
    for command in COMMANDS {
        text += &format!("\tk8s.io/kubernetes/cmd/{command}\n");
    }
    text + ")\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_is_replaced_by_its_published_release() {
        let of_kubernetes = "module k8s.io/kubernetes\n\ngo 1.24.0\n\nrequire (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 v2.130.1\n)\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        let text = go_mod_for("1.33.1", "0.33.1", of_kubernetes);
        assert_eq!(text.matches("k8s.io/api => k8s.io/api v0.33.1").count(), 1);
        assert!(!text.contains("klog"), "{text}");
        let modern = "go 1.24.0\nrequire (\n\tk8s.io/api v0.0.0\n)\n";
        assert!(
            go_mod_for("1.33.1", "0.33.1", modern).contains("k8s.io/api => k8s.io/api v0.33.1")
        );
    }

    #[test]
    fn only_whole_versions_are_taken() {
        assert_eq!(library_version("1.33.4").as_deref(), Some("0.33.4"));
        for bad in ["1.33", "v1.33.4", "2.0.0", "1.33.x", ""] {
            assert_eq!(library_version(bad), None, "{bad}");
        }
    }
}
