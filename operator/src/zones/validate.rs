//! From DnsZone objects to accepted zones: every record valid, nothing asked of ourselves, one zone for a name and a client.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use sha2::{Digest, Sha256};
use weft_core::zones::directory::{self, shadow};
use weft_core::zones::name::Name;
use weft_core::zones::object::{self, Fault, Files, Surroundings, ZoneObject};
use weft_crds::{ConfigMapRef, DnsZone, reason};

use super::memo::{Read, Source};
use crate::problem::{Code, Problem};
use crate::snapshot::Snapshot;

/// Faults that a message lists.
const LISTED: usize = 5;
/// Hexadecimal digits of a digest that are kept: enough that no two versions of a zone share them.
const DIGITS: usize = 16;

/// What became of a DnsZone.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Records of a version that can be used.
    pub records: Option<usize>,
    /// What that version is, in short.
    pub digest: String,
    /// Zones that answer in its place.
    pub conflicts: Vec<String>,
    /// Why it is not accepted.
    pub rejected: Option<Problem>,
}

/// The zone files of one zone.
struct ZoneFiles<'a>(&'a Source);

impl Files for ZoneFiles<'_> {
    fn text(&self, name: &ConfigMapRef) -> Option<&str> {
        let named = |map: &&Arc<ConfigMap>| {
            map.metadata.name.as_ref() == Some(&name.name)
                && map.metadata.namespace.as_ref() == Some(&name.namespace)
        };
        let map = self.0.files.iter().flatten().find(named)?;
        map.data.as_ref()?.get(&name.key).map(String::as_str)
    }
}

/// Reads and judges every DnsZone.
#[must_use]
pub fn validate(snapshot: &Snapshot) -> BTreeMap<String, Judged> {
    let read = snapshot.zone_memo.read(sources(snapshot), read);
    let mut judged = BTreeMap::new();
    let mut objects: BTreeMap<&str, &ZoneObject> = BTreeMap::new();
    for (name, read) in &read {
        let outcome = Judged {
            records: read.object.as_ref().ok().map(|object| object.records),
            digest: read.digest.clone(),
            conflicts: Vec::new(),
            rejected: read.object.as_ref().err().cloned(),
        };
        objects.extend(read.object.as_ref().map(|object| (name.as_str(), object)));
        judged.insert(name.clone(), outcome);
    }
    for (name, others) in shadow::shadowed(objects.into_iter()) {
        if let Some(outcome) = judged.get_mut(name) {
            outcome.conflicts = others.iter().map(|other| (*other).to_owned()).collect();
            outcome.rejected = Some(shadowed_by(&others));
        }
    }
    judged
}

/// What each zone is read from.
fn sources(snapshot: &Snapshot) -> BTreeMap<String, Source> {
    let surroundings = Arc::new(surroundings(snapshot));
    let file = |name: &ConfigMapRef| {
        let key = (name.namespace.clone(), name.name.clone());
        snapshot.zone_files.get(&key).map(Arc::clone)
    };
    let source = |(name, zone): (&String, &Arc<DnsZone>)| {
        let source = Source {
            zone: Arc::clone(zone),
            files: directory::sources(&zone.spec).map(file).collect(),
            surroundings: Arc::clone(&surroundings),
        };
        (name.clone(), source)
    };
    snapshot.zones.iter().map(source).collect()
}

fn read(name: &str, source: &Source) -> Read {
    let files = ZoneFiles(source);
    let object = object::parse(name, &source.zone.spec, 1, &files, &source.surroundings);
    Read {
        object: object.map_err(|faults| problem(&faults)),
        digest: digest(&source.zone, &files),
    }
}

/// What zones are read with. Names of built-in zones that cannot be read are the chart's mistake, which servers refuse to start with.
fn surroundings(snapshot: &Snapshot) -> Surroundings {
    let domain = Name::absolute(&snapshot.cluster_domain).unwrap_or_else(|_| Name::root());
    Surroundings {
        primary_ns: Name::parse("ns.dns", Some(&domain)).unwrap_or_else(|_| domain.clone()),
        ourselves: snapshot
            .dns_addresses
            .iter()
            .map(|address| SocketAddr::new(*address, 53))
            .collect(),
        cluster: vec![domain],
    }
}

/// What the serial number stands for: the zone as it is written, and the text of its zone files.
fn digest(zone: &DnsZone, files: &ZoneFiles<'_>) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&zone.spec).unwrap_or_default());
    for source in directory::sources(&zone.spec) {
        let text = files.text(source).unwrap_or_default();
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    let bytes = hash.finalize();
    let mut digits = String::with_capacity(DIGITS);
    for byte in &bytes[..DIGITS / 2] {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn problem(faults: &[Fault]) -> Problem {
    let of_one_kind = |is: fn(&Fault) -> bool| !faults.is_empty() && faults.iter().all(is);
    let (reason, code) = if of_one_kind(|fault| matches!(fault, Fault::Source { .. })) {
        (reason::SOURCE_NOT_FOUND, Code::ZONE_SOURCE)
    } else if of_one_kind(|fault| matches!(fault, Fault::Loop { .. })) {
        (reason::LOOP, Code::ZONE_LOOP)
    } else {
        (reason::INVALID_ZONE, Code::INVALID_ZONE)
    };
    let listed: Vec<String> = faults
        .iter()
        .take(LISTED)
        .map(ToString::to_string)
        .collect();
    let mut sentence = listed.join("; ");
    if faults.len() > LISTED {
        let _ = write!(sentence, "; and {} more", faults.len() - LISTED);
    }
    Problem::new(reason, code, sentence)
}

fn shadowed_by(others: &[&str]) -> Problem {
    Problem::new(
        reason::SHADOWED,
        Code::ZONE_SHADOWED,
        format!(
            "DnsZone {} has the same name and the same clients, and answers in place of this one: raise spec.priority, narrow spec.visibility, or let that one pass on what it does not have (spec.onMiss: NextZone)",
            others.join(", ")
        ),
    )
}
