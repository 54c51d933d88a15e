//! The programs a lab runs: Kubernetes, etcd, containerd and the rest, in pinned versions.
//!
//! Each is looked for where it may be at the least cost: in a folder that was named, in `$PATH`, in
//! the cache, at its project's downloads, and is built from its published Go modules otherwise.

pub mod build;
pub mod download;
pub mod find;
pub mod versions;
pub mod wrapper;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::progress::Progress;
use versions::Asset;

/// Where each program is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// The file of a program; its bare name if it was not asked for, so that `$PATH` decides.
    pub fn path(&self, program: &str) -> PathBuf {
        self.0
            .get(program)
            .cloned()
            .unwrap_or_else(|| PathBuf::from(program))
    }

    /// A value for PATH with the programs' folders before the machine's own, but that of the CNI
    /// plugins, in which other programs may lie too, behind it: one of them is called `bridge`, as a
    /// program of the machine is.
    pub fn search_path(&self) -> String {
        let plugins = self.0.get("loopback").and_then(|file| file.parent());
        let mut dirs: Vec<String> = Vec::new();
        for folder in self.folders() {
            if Some(folder.as_path()) != plugins {
                dirs.push(folder.display().to_string());
            }
        }
        dirs.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        dirs.extend(plugins.map(|folder| folder.display().to_string()));
        dirs.join(":")
    }

    /// All programs' folders, without repetition.
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> = Vec::new();
        for dir in self.0.values().filter_map(|file| file.parent()) {
            if !dirs.iter().any(|known| known == dir) {
                dirs.push(dir.to_owned());
            }
        }
        dirs
    }

    /// Programs and their files.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_path()))
    }
}

/// Where to look and where to keep.
#[derive(Clone, Debug)]
pub struct Source {
    /// A folder with ready programs, if one was named.
    pub given: Option<PathBuf>,
    /// The cache folder.
    pub cache: PathBuf,
    /// The folder with go.mod files (`lab/assets`).
    pub modules: PathBuf,
}

impl Source {
    /// Finds or makes all programs that labs run, or those of the assets that are named.
    pub fn programs(
        &self,
        kubernetes: &str,
        names: &[String],
        progress: &Progress,
    ) -> Result<Programs> {
        let mut assets = versions::pinned()?;
        if let Some(unknown) = names.iter().find(|n| !assets.iter().any(|a| a.name == **n)) {
            let known: Vec<&str> = assets.iter().map(|a| a.name.as_str()).collect();
            bail!(
                "there is no asset {unknown}; there are {}",
                known.join(", ")
            );
        }
        assets
            .retain(|asset| (names.is_empty() && !asset.on_demand) || names.contains(&asset.name));
        let mut programs = BTreeMap::new();
        for asset in assets {
            let (asset, modules) = self.module_of(asset, kubernetes)?;
            let dir = self.asset(&asset, &modules, progress)?;
            for (program, path) in dir {
                programs.insert(program, path);
            }
        }
        Ok(Programs(programs))
    }

    /// The cache folder of an asset: its name says everything that its content depends on.
    pub fn cache_dir(&self, asset: &Asset, modules: &Path) -> Result<PathBuf> {
        let key = build::cache_key(asset, modules)?;
        let name = format!("{}-{}-{key}", asset.name, asset.version);
        Ok(self.cache.join("programs").join(name))
    }

    /// An asset and the folder of its go.mod, with the wanted version of Kubernetes.
    pub fn module_of(&self, asset: Asset, kubernetes: &str) -> Result<(Asset, PathBuf)> {
        if asset.name == "kubernetes" && asset.version != kubernetes {
            let wanted = Asset {
                version: kubernetes.to_owned(),
                ..asset
            };
            let modules = self
                .cache
                .join("modules")
                .join(format!("kubernetes-{kubernetes}"));
            return Ok((wanted, modules));
        }
        let modules = self.modules.join(&asset.name);
        Ok((asset, modules))
    }

    fn asset(
        &self,
        asset: &Asset,
        modules: &Path,
        progress: &Progress,
    ) -> Result<BTreeMap<String, PathBuf>> {
        if let Some(found) = find::in_folder(self.given.as_deref(), asset) {
            return Ok(found);
        }
        if let Some(found) = find::in_path(asset) {
            return Ok(found);
        }
        if !modules.join("go.mod").exists() {
            if asset.name == "kubernetes" {
                wrapper::write(&asset.version, modules, progress)?;
            } else {
                bail!(
                    "{} is missing: the lab needs its own source folder (--source, WEFT_SOURCE)",
                    modules.join("go.mod").display()
                );
            }
        }
        let dir = self.cache_dir(asset, modules)?;
        if let Some(found) = find::in_folder(Some(&dir), asset) {
            return Ok(found);
        }
        let work = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(make_parent(&dir)?)
            .with_context(|| format!("failed to make a folder beside {}", dir.display()))?;
        if let Err(refused) = download::fetch(asset, work.path(), progress) {
            progress.note(&format!(
                "{} {}: {refused:#}; building it",
                asset.name, asset.version
            ));
            build::build(asset, modules, work.path(), progress)?;
        }
        find::in_folder(Some(work.path()), asset)
            .with_context(|| format!("not all programs of {} were made", asset.name))?;
        let work = work.keep();
        // Another weft-lab may have made the same in the meantime: its result is as good.
        if std::fs::rename(&work, &dir).is_err() {
            let _ = std::fs::remove_dir_all(&work);
        }
        find::in_folder(Some(&dir), asset)
            .with_context(|| format!("{} is not complete; remove it and try again", dir.display()))
    }
}

fn make_parent(dir: &Path) -> Result<PathBuf> {
    let parent = dir.parent().unwrap_or(Path::new("/")).to_owned();
    std::fs::create_dir_all(&parent)
        .with_context(|| format!("failed to make {}", parent.display()))?;
    Ok(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_path_names_each_folder_once_and_plugins_last() {
        let programs = Programs(BTreeMap::from([
            ("kubelet".to_owned(), PathBuf::from("/cache/k/kubelet")),
            ("kubectl".to_owned(), PathBuf::from("/cache/k/kubectl")),
            ("etcd".to_owned(), PathBuf::from("/cache/e/etcd")),
            ("loopback".to_owned(), PathBuf::from("/cache/c/loopback")),
        ]));
        let path = programs.search_path();
        assert!(
            path.starts_with("/cache/e:/cache/k:/usr/local/sbin") && path.ends_with(":/cache/c"),
            "{path}"
        );
        assert_eq!(programs.path("etcd"), PathBuf::from("/cache/e/etcd"));
        assert_eq!(programs.path("nft"), PathBuf::from("nft"));
    }
}
