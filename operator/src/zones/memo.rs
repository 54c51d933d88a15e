//! What was read of zones in the round before: a zone of thousands of records is read when it changes, not in each round.
//!
//! Whether a zone changed, its resource version says; of a ConfigMap its address, which the stores keep until it changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use weft_core::zones::object::{Surroundings, ZoneObject};
use weft_crds::DnsZone;

use crate::problem::Problem;

/// What was read of a zone.
#[derive(Debug)]
pub struct Read {
    /// The zone, or why it is none.
    pub object: Result<ZoneObject, Problem>,
    /// What the serial number stands for.
    pub digest: String,
}

/// What a zone was read from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The object.
    pub zone: Arc<DnsZone>,
    /// The ConfigMaps that it names; none where one is not there.
    pub files: Vec<Option<Arc<ConfigMap>>>,
    /// What it was read with.
    pub surroundings: Arc<Surroundings>,
}

impl Source {
    fn is(&self, other: &Self) -> bool {
        let same =
            |(one, other): (&Option<Arc<ConfigMap>>, &Option<Arc<ConfigMap>>)| match (one, other) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (None, None) => true,
                _ => false,
            };
        is_same(&self.zone, &other.zone)
            && self.files.len() == other.files.len()
            && self.files.iter().zip(&other.files).all(same)
            && self.surroundings == other.surroundings
    }
}

fn is_same(one: &Arc<DnsZone>, other: &Arc<DnsZone>) -> bool {
    let version = |zone: &DnsZone| {
        let metadata = &zone.metadata;
        metadata.uid.clone().zip(metadata.resource_version.clone())
    };
    let known = version(one).is_some() && version(one) == version(other);
    known || Arc::ptr_eq(one, other)
}

/// What was read, by the name of the object.
#[derive(Debug, Default)]
pub struct Memo(Mutex<BTreeMap<String, (Source, Arc<Read>)>>);

impl Memo {
    /// What was read of each zone; what has not been read from the very same is read now.
    pub fn read(
        &self,
        sources: BTreeMap<String, Source>,
        read: impl Fn(&str, &Source) -> Read,
    ) -> BTreeMap<String, Arc<Read>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| sources.contains_key(name));
        for (name, source) in sources {
            let same = known.get(&name).is_some_and(|(old, _)| old.is(&source));
            if !same {
                let fresh = Arc::new(read(&name, &source));
                known.insert(name, (source, fresh));
            }
        }
        let known = known.iter();
        known
            .map(|(name, (_, read))| (name.clone(), Arc::clone(read)))
            .collect()
    }
}
