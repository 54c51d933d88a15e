//! Names and what they answer: cluster data and zones of users in, [`Zones`] out.
//!
//! `Zones` is one moment's answer to every question that is ours. It is handed to the serving threads whole
//! and costs nothing to ask: a name is found by its labels, records are written one by one into the caller's
//! [`answer::Sections`], and nothing is allocated. Kubernetes DNS-Based Service Discovery 1.1.0 says what the
//! cluster's names are.

pub mod answer;
pub mod audience;
mod builtin;
pub mod clients;
pub mod cluster;
pub mod config;
pub mod directory;
pub mod file;
pub mod forward;
pub mod import;
pub mod input;
pub mod name;
pub mod object;
pub mod policy;
pub mod record;
mod resolve;
mod selector;
mod table;
pub mod text;
pub mod user;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use builtin::BuiltIn;
use cluster::Data;
use config::{Config, ZoneKind};
use directory::{Directory, Objects};
use name::{Name, NameError};
use object::Surroundings;
use table::{Holder, Table};
use user::UserZone;
use weft_crds::OnMiss;

/// Everything that is answered at one moment.
#[derive(Clone)]
pub struct Zones {
    config: Arc<Config>,
    builtin: Arc<Vec<BuiltIn>>,
    directory: Directory,
    data: Data,
    base: Box<[u8]>,
    external_base: Option<Box<[u8]>>,
    /// Whether the first full list of the cluster's objects has arrived.
    pub synced: bool,
    /// Serial number of the built-in zones.
    pub serial: u32,
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
            directory: Directory::of(Table::default()),
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

    /// Puts other zones of users in force, for everybody. A built-in zone stays where one has the same name.
    pub fn set_users(&mut self, users: &[Arc<UserZone>]) {
        let mut table = Table::default();
        for (index, zone) in self.builtin.iter().enumerate() {
            table.push(&zone.apex, Holder::BuiltIn(index));
        }
        for zone in users {
            table.push(&zone.apex, Holder::User(Arc::clone(zone), OnMiss::NXDomain));
        }
        self.directory = Directory::of(table);
    }

    /// A place for zones of users as objects, to compile with [`Zones::set_directory`]. `listen`: where else we are asked.
    #[must_use]
    pub fn objects(&self, listen: impl IntoIterator<Item = SocketAddr>) -> Objects {
        let own = self.config.addresses.iter();
        let own = own.map(|address| SocketAddr::new(*address, 53));
        let surroundings = Surroundings {
            primary_ns: Name::parse("ns.dns", Some(&self.config.primary))
                .unwrap_or_else(|_| self.config.primary.clone()),
            ourselves: own.chain(listen).collect::<BTreeSet<_>>(),
            cluster: self.cluster_zones().cloned().collect(),
        };
        Objects::new(Arc::clone(&self.builtin), surroundings)
    }

    /// Puts other zones of users, and other classes of clients, in force.
    pub fn set_directory(&mut self, directory: Directory) {
        self.directory = directory;
    }

    /// The zones in force.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    fn cluster_zones(&self) -> impl Iterator<Item = &Name> {
        let ours = |zone: &&BuiltIn| matches!(zone.kind, ZoneKind::Cluster | ZoneKind::ClusterSet);
        self.builtin.iter().filter(ours).map(|zone| &zone.apex)
    }

    /// The name of the zone that a name falls in, for counting.
    #[must_use]
    pub fn zone_of(&self, lower: &[u8]) -> Option<&Name> {
        let (_, holder) = self.directory.table(None).find(lower)?;
        match holder {
            Holder::BuiltIn(index) => Some(&self.builtin[*index].apex),
            Holder::User(zone, _) => Some(&zone.apex),
            Holder::Forward(forward) => Some(&forward.apex),
            Holder::Broken => None,
        }
    }
}
