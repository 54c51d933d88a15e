//! Reads `lab/assets/versions.yaml`, the one file that pins versions.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

const FILE: &str = include_str!("../../assets/versions.yaml");

/// One project's programs in one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asset {
    /// The project, and the folder of its go.mod.
    pub name: String,
    /// The version, without a leading `v`.
    pub version: String,
    /// Programs and the Go packages they are built from.
    pub programs: BTreeMap<String, String>,
    /// Go build tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Variables set by the linker (`-X`).
    #[serde(default)]
    pub define: BTreeMap<String, String>,
    /// Further flags for the linker.
    #[serde(default)]
    pub link_flags: Vec<String>,
    /// Whether it is built with a C compiler.
    #[serde(default)]
    pub cgo: bool,
    /// Debian packages that building it needs.
    #[serde(default)]
    pub packages: Vec<String>,
    /// What makes each program print its version; without it, `$PATH` is not trusted.
    #[serde(default)]
    pub version_arguments: BTreeMap<String, Vec<String>>,
    /// Programs of this asset that are a package's tests (`go test -c`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
    /// Made only when asked for by name: no lab needs it to run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// Where its project publishes it.
    pub download: Download,
}

/// An official download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Address of the archive, or of each program; empty: it is published as modules alone.
    pub url: String,
    /// Address of its SHA-256 sum.
    pub checksum: String,
    /// Paths of the programs in the archive; empty: no archive.
    #[serde(default)]
    pub members: BTreeMap<String, String>,
}

impl Asset {
    /// Fills in `{version}`, `{major}`, `{minor}` and `{arch}`.
    pub fn fill(&self, text: &str) -> String {
        let mut parts = self.version.split('.');
        let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        text.replace("{version}", &self.version)
            .replace("{major}", major)
            .replace("{minor}", minor)
            .replace("{arch}", architecture())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Versions {
    assets: Vec<Asset>,
}

/// All assets in their pinned versions.
pub fn pinned() -> Result<Vec<Asset>> {
    let versions: Versions =
        serde_saphyr::from_str(FILE).context("lab/assets/versions.yaml does not read")?;
    Ok(versions.assets)
}

/// The pinned version of one asset.
pub fn version_of(name: &str) -> Result<String> {
    let assets = pinned()?;
    let found = assets.into_iter().find(|asset| asset.name == name);
    found
        .map(|asset| asset.version)
        .with_context(|| format!("lab/assets/versions.yaml does not name {name}"))
}

/// This machine's architecture as Go and the projects' downloads call it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_pinned_version_is_the_one_its_go_mod_builds() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        for asset in pinned().unwrap() {
            let go_mod = std::fs::read_to_string(dir.join(&asset.name).join("go.mod")).unwrap();
            let version = format!(" v{}", asset.version);
            let named = go_mod.lines().any(|line| {
                let line = line.trim().trim_end_matches(" // indirect");
                line.ends_with(&version)
            });
            assert!(named, "go.mod of {} does not require {version}", asset.name);
        }
    }

    #[test]
    fn downloads_of_archives_name_every_program() {
        for asset in pinned().unwrap() {
            let members: Vec<_> = asset.download.members.keys().collect();
            let programs: Vec<_> = asset.programs.keys().collect();
            assert!(members.is_empty() || members == programs, "{}", asset.name);
        }
    }

    #[test]
    fn placeholders_are_filled_in() {
        let assets = pinned().unwrap();
        let kubernetes = assets.iter().find(|a| a.name == "kubernetes").unwrap();
        assert_eq!(
            kubernetes.fill("v{version} {major}.{minor}"),
            "v1.34.10 1.34"
        );
    }
}
