//! From the configuration of another cluster DNS to DnsZones: what it says in, objects and what could not be said with them out.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use weft_crds::{ConfigMapRef, DnsZoneSpec};

use super::name::Name;
use super::object::{self, Files, Surroundings};

pub mod corefile;
pub mod kube_dns;
pub mod plugins;
mod rules;

/// Why a configuration cannot be read.
#[derive(Debug, Error)]
pub enum ImportError {
    /// A brace without its other half.
    #[error("the Corefile is not whole: {0}")]
    Form(String),
    /// An entry that is no JSON of its form.
    #[error("{entry} is not {wanted}")]
    Json {
        /// The entry.
        entry: &'static str,
        /// What it should be.
        wanted: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
}

/// What came of a configuration.
#[derive(Debug, Default)]
pub struct Imported {
    /// The zones, by the names of their objects.
    pub zones: Vec<(String, DnsZoneSpec)>,
    /// Chart values that say the same as settings of cluster names; empty: the defaults do.
    pub values: BTreeMap<&'static str, serde_json::Value>,
    /// What is to be done by hand.
    pub notes: Vec<String>,
    /// What could not be said.
    pub lost: Vec<String>,
}

impl Imported {
    /// Adds a zone under a name that no other has. One that would be refused is said to be lost.
    fn push(&mut self, name: &str, spec: DnsZoneSpec) {
        let name = self.free_name(name);
        let surroundings = Surroundings {
            primary_ns: Name::root(),
            ourselves: BTreeSet::new(),
            cluster: Vec::new(),
        };
        match object::parse(&name, &spec, 1, &AnyFile, &surroundings) {
            Ok(_) => self.zones.push((name, spec)),
            Err(faults) => {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                self.lost
                    .push(format!("zone {}: {}", spec.zone, faults.join("; ")));
            }
        }
    }

    fn free_name(&self, wanted: &str) -> String {
        let mut name: String = wanted
            .trim_matches('.')
            .chars()
            .map(|letter| match letter {
                'a'..='z' | '0'..='9' => letter,
                _ => '-',
            })
            .collect();
        name = name.trim_matches('-').to_owned();
        if name.is_empty() {
            "root".clone_into(&mut name);
        }
        let taken = |name: &str| {
            let mut zones = self.zones.iter();
            zones.any(|(other, _)| other == name)
        };
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        names.find(|name| !taken(name)).unwrap_or(name)
    }
}

/// Zone files are read where the zones are: here any is taken to be good.
struct AnyFile;

impl Files for AnyFile {
    fn text(&self, _: &ConfigMapRef) -> Option<&str> {
        Some("")
    }
}
