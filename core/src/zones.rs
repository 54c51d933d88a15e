//! Names and what they answer: cluster data and zones of users in, [`Zones`] out.
//!
//! `Zones` is one moment's answer to every question that is ours. It is handed to the serving threads whole
//! and costs nothing to ask: a name is found by its labels, records are written one by one into the caller's
//! [`answer::Sections`], and nothing is allocated. Kubernetes DNS-Based Service Discovery 1.1.0 says what the
//! cluster's names are.

pub mod answer;
mod builtin;
pub mod cluster;
pub mod config;
pub mod file;
pub mod input;
pub mod name;
pub mod record;
mod resolve;
mod selector;
pub mod text;
pub mod user;

use std::collections::HashMap;
use std::sync::Arc;

use builtin::BuiltIn;
use cluster::Data;
use config::{Config, ZoneKind};
use name::{Name, NameError};
use user::UserZone;

/// Everything that is answered at one moment.
#[derive(Clone)]
pub struct Zones {
    config: Arc<Config>,
    builtin: Arc<Vec<BuiltIn>>,
    table: Arc<Table>,
    data: Data,
    base: Box<[u8]>,
    external_base: Option<Box<[u8]>>,
    /// Whether the first full list of the cluster's objects has arrived.
    pub synced: bool,
    /// Serial number of the built-in zones.
    pub serial: u32,
}

/// Who answers for a zone.
#[derive(Clone, Debug)]
enum Holder {
    BuiltIn(usize),
    User(Arc<UserZone>),
}

/// Zones by name.
#[derive(Default)]
struct Table {
    zones: HashMap<Box<[u8]>, Holder>,
    /// Bit n: some zone has n labels.
    depths: u128,
}

impl Table {
    fn insert(&mut self, apex: &Name, holder: Holder) {
        self.depths |= 1 << apex.count().min(127);
        self.zones.insert(apex.wire().into(), holder);
    }

    /// The zone with the longest name that a name, in lower case, is or stands below.
    fn find(&self, name: &[u8]) -> Option<(usize, &Holder)> {
        let mut depth = name::labels(name).count();
        let mut at = 0;
        loop {
            let has_depth = self.depths >> depth.min(127) & 1 == 1;
            let holder = has_depth.then(|| self.zones.get(&name[at..])).flatten();
            if let Some(holder) = holder {
                return Some((at, holder));
            }
            depth = depth.checked_sub(1)?;
            at += usize::from(name[at]) + 1;
        }
    }
}

impl Zones {
    /// Zones without any cluster data.
    ///
    /// # Errors
    /// A zone whose name leaves no room for names in it.
    pub fn new(config: Config) -> Result<Self, NameError> {
        let zones = config.zones.iter().cloned();
        let builtin: Result<Vec<_>, _> =
            zones.map(|(apex, kind)| BuiltIn::new(apex, kind)).collect();
        let base = |name: &Name, kind| BuiltIn::new(name.clone(), kind).map(|zone| zone.base);
        let external = config.primary_external.as_ref();
        let mut all = Self {
            base: base(&config.primary, ZoneKind::Cluster)?,
            external_base: external
                .map(|name| base(name, ZoneKind::External))
                .transpose()?,
            config: Arc::new(config),
            builtin: Arc::new(builtin?),
            table: Arc::default(),
            data: Data::default(),
            synced: false,
            serial: 1,
        };
        all.set_users(&[]);
        Ok(all)
    }

    /// Puts other cluster data in force.
    pub fn set_data(&mut self, data: Data) {
        self.data = data;
    }

    /// The cluster data in force.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The values in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Puts other zones of users in force. A built-in zone stays where one has the same name.
    pub fn set_users(&mut self, users: &[Arc<UserZone>]) {
        let mut table = Table::default();
        for zone in users {
            table.insert(&zone.apex, Holder::User(Arc::clone(zone)));
        }
        for (index, zone) in self.builtin.iter().enumerate() {
            table.insert(&zone.apex, Holder::BuiltIn(index));
        }
        self.table = Arc::new(table);
    }

    /// The name of the zone that a name falls in, for counting.
    #[must_use]
    pub fn zone_of(&self, lower: &[u8]) -> Option<&Name> {
        let (_, holder) = self.table.find(lower)?;
        Some(match holder {
            Holder::BuiltIn(index) => &self.builtin[*index].apex,
            Holder::User(zone) => &zone.apex,
        })
    }
}
