//! Where a lab keeps its files.
//!
//! One folder per lab, removed by `down`; one cache for all labs, which stays.

use std::path::{Path, PathBuf};

use crate::name::LabName;

/// The folder of all labs' state unless told otherwise.
pub const STATE_DIR: &str = "/var/lib/weft-lab";
/// The cache unless told otherwise: programs, images and image roots.
pub const CACHE_DIR: &str = "/var/cache/weftnet";

/// The files of one lab.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    name: LabName,
}

impl Paths {
    /// The files of the lab `name` below `root`.
    pub fn new(root: &Path, name: &LabName) -> Self {
        Self {
            root: root.to_owned(),
            name: name.clone(),
        }
    }

    /// The folder of all labs.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// This lab's folder.
    pub fn lab(&self) -> PathBuf {
        self.root.join(self.name.as_str())
    }

    /// The record of what the lab is made of.
    pub fn state(&self) -> PathBuf {
        self.lab().join("state.json")
    }

    /// Held while a lab is being made or taken down; outlives the lab's folder.
    pub fn lock(&self) -> PathBuf {
        self.root.join(format!(".{}.lock", self.name))
    }

    /// Certificates, keys, tokens and kubeconfigs.
    pub fn pki(&self) -> PathBuf {
        self.lab().join("pki")
    }

    /// The kubeconfig for the user.
    pub fn kubeconfig(&self) -> PathBuf {
        self.lab().join("kubeconfig")
    }

    /// The folder of one place (a node, the control plane, …).
    pub fn place(&self, place: &str) -> PathBuf {
        self.lab().join("places").join(place)
    }

    /// The log of one component in one place.
    pub fn log(&self, place: &str, component: &str) -> PathBuf {
        self.lab()
            .join("logs")
            .join(place)
            .join(format!("{component}.log"))
    }

    /// All logs.
    pub fn logs(&self) -> PathBuf {
        self.lab().join("logs")
    }
}
