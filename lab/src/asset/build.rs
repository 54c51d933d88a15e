//! Builds an asset from its published Go modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::find::search;
use super::versions::{Asset, architecture};
use crate::progress::Progress;

/// Twelve digits that change with whatever the programs are built from.
pub fn cache_key(asset: &Asset, modules: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for file in ["go.mod", "go.sum", "main.go"] {
        let path = modules.join(file);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(_) if file == "main.go" => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", path.display()));
            }
        };
        hash.update(file);
        hash.update(content.len().to_le_bytes());
        hash.update(content);
    }
    hash.update(serde_json::to_vec(asset)?);
    hash.update(architecture());
    let digest = hash.finalize();
    Ok(digest.iter().take(6).map(|b| format!("{b:02x}")).collect())
}

/// Builds all programs of an asset into `into`.
pub fn build(asset: &Asset, modules: &Path, into: &Path, progress: &Progress) -> Result<()> {
    let Some(go) = search("go") else {
        bail!(
            "{} {} is neither in the cache nor downloadable, and building it needs Go: install Go 1.25 or later (on Debian: apt-get install golang, or from the Go project)",
            asset.name,
            asset.version
        );
    };
    install_packages(asset, progress)?;
    let log_file = into.join("build.log");
    for program in asset.programs.keys() {
        let step = progress.step(&format!("building {program} {}", asset.version));
        let log = fs::File::create(&log_file)?;
        let status = command(asset, &go, program, &into.join(program))
            .current_dir(modules)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .with_context(|| format!("failed to start {}", go.display()))?;
        if !status.success() {
            let text = fs::read_to_string(&log_file).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!(
                "building {program} {} failed:\n{}",
                asset.version,
                tail.join("\n")
            );
        }
        step.done();
    }
    fs::remove_file(&log_file)?;
    Ok(())
}

fn command(asset: &Asset, go: &Path, program: &str, output: &Path) -> Command {
    let mut command = Command::new("nice");
    command.arg(go);
    if asset.tests.iter().any(|test| test == program) {
        command.args(["test", "-c"]);
    } else {
        command.arg("build");
    }
    command
        .args(["-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(link_flags(asset))
        .arg(format!("-tags={}", asset.tags.join(",")))
        .arg("-o")
        .arg(output)
        .args(asset.programs.get(program))
        .env("CGO_ENABLED", if asset.cgo { "1" } else { "0" })
        .env_remove("GOFLAGS")
        .env("GOWORK", "off");
    command
}

fn link_flags(asset: &Asset) -> String {
    let mut flags = vec!["-s".to_owned(), "-w".to_owned()];
    flags.extend(asset.link_flags.iter().cloned());
    for (variable, value) in &asset.define {
        flags.push(format!("-X {variable}={}", asset.fill(value)));
    }
    flags.join(" ")
}

/// Installs what building or an image needs with apt-get, where that is possible, and says what is missing elsewhere.
pub fn install_packages(asset: &Asset, progress: &Progress) -> Result<()> {
    install(&asset.name, &asset.packages, progress)
}

/// Installs Debian packages that `what` needs.
pub fn install(what: &str, packages: &[String], progress: &Progress) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .map(String::as_str)
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!(
        "apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    let Some(apt) = search("apt-get").filter(|_| nix::unistd::geteuid().is_root()) else {
        bail!("{} needs {}: as root, {line}", what, missing.join(", "));
    };
    let step = progress.step(&format!("installing {}", missing.join(", ")));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&apt);
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).output()
    };
    run(&["-qq", "update"])?;
    let mut arguments = vec!["-qq", "install", "-y", "--no-install-recommends"];
    arguments.extend(&missing);
    crate::place::succeeded(&run(&arguments)?, &line)?;
    step.done();
    Ok(())
}

fn is_installed(package: &str) -> bool {
    match package {
        "gcc" => search("gcc").is_some(),
        "pkg-config" => search("pkg-config").is_some(),
        "iptables" => search("iptables").is_some(),
        "curl" => search("curl").is_some(),
        "netcat-openbsd" => search("nc").is_some(),
        "bind9-dnsutils" => search("dig").is_some(),
        "libseccomp-dev" => PathBuf::from("/usr/include/seccomp.h").exists(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asset::versions;

    #[test]
    fn the_cache_key_follows_modules_and_flags() {
        let assets = versions::pinned().unwrap();
        let asset = assets.iter().find(|a| a.name == "cni").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("go.mod"), "module a").unwrap();
        fs::write(dir.path().join("go.sum"), "").unwrap();
        let key = cache_key(asset, dir.path()).unwrap();
        assert_eq!(key, cache_key(asset, dir.path()).unwrap());
        let mut tagged = asset.clone();
        tagged.tags.push("other".to_owned());
        assert_ne!(key, cache_key(&tagged, dir.path()).unwrap());
        fs::write(dir.path().join("go.sum"), "x").unwrap();
        assert_ne!(key, cache_key(asset, dir.path()).unwrap());
    }

    #[test]
    fn versions_are_built_into_the_programs() {
        let assets = versions::pinned().unwrap();
        let kubernetes = assets.iter().find(|a| a.name == "kubernetes").unwrap();
        let flags = link_flags(kubernetes);
        assert!(
            flags.contains("-X k8s.io/component-base/version.gitMinor=34"),
            "{flags}"
        );
    }
}
