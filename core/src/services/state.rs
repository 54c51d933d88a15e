//! All Services that a node serves, in a compact form, and what an update changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use weft_nft::{Batch, Element, Key, Table};

use super::{Config, Frame, ServiceName, ServiceObject, SliceName, SliceObject};
use crate::finding::Finding;
use crate::view::Protocol;

/// All Services that a node serves.
#[derive(Debug, Default)]
pub struct Services {
    config: Config,
}

/// What an update changes. The order in which the agent makes it true:
///
/// 1. the frame `before` goes into the plan, and the plan's differences are committed;
/// 2. `batches` are committed one by one, in their order;
/// 3. [`Services::committed`], or [`Services::interrupted`] with the rest if one failed;
/// 4. the frame `after` goes into the plan, and the plan's differences are committed.
#[derive(Debug, Default)]
pub struct Changes {
    /// What chains must be there before the batches; none if it is what it was.
    pub before: Option<Frame>,
    /// Elements that come and go, as transactions.
    pub batches: Batches,
    /// What chains are needed when all batches are committed; none if it is the same.
    pub after: Option<Frame>,
    /// UDP connections that may lead to endpoints that are gone, to be looked for after the batches.
    pub stale: Vec<StaleFlows>,
}

/// Transactions, made one at a time as they are asked for: a cold load is large.
#[derive(Debug, Default)]
pub struct Batches {}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        None
    }
}

impl Batches {
    /// Nothing is to be committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }
}

/// Tracked connections of a service port: those whose original destination is a frontend and whose
/// answers come from somewhere that is not an endpoint are to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleFlows {
    /// The transport protocol.
    pub protocol: Protocol,
    /// Original destinations: addresses and ports.
    pub frontends: Vec<SocketAddr>,
    /// Ports on every address in this list of the node's.
    pub node_ports: Vec<(Vec<IpAddr>, u16)>,
    /// The endpoints that may answer.
    pub endpoints: Vec<SocketAddr>,
}

/// What a health check node port answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The Service.
    pub service: ServiceName,
    /// Local endpoints that are ready: none answers 503, more 200.
    pub ready: usize,
}

impl Services {
    /// No Services yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }

    /// What the node knows about itself.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes another configuration. Everything that depends on it is compiled again.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// A Service came, changed or went.
    pub fn set_service(&mut self, _name: &ServiceName, _object: Option<ServiceObject>) {}

    /// An EndpointSlice came, changed or went.
    pub fn set_slice(&mut self, _name: &SliceName, _object: Option<SliceObject>) {}

    /// Names of all Services and slices that are held, to find those that a new list lacks.
    #[must_use]
    pub fn names(&self) -> (Vec<ServiceName>, Vec<SliceName>) {
        (Vec::new(), Vec::new())
    }

    /// Whether something changed since the last [`Services::compile`].
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        false
    }

    /// Compiles what changed since the last time.
    pub fn compile(&mut self) -> Changes {
        Changes::default()
    }

    /// All batches of the last [`Services::compile`] are in the kernel.
    pub fn committed(&mut self) {}

    /// The kernel refused `batch`; `rest` was not tried. Both come first in the next [`Services::compile`].
    pub fn interrupted(&mut self, _batch: Batch, _rest: Batches) {}

    /// At start: takes the numbers that a table read from the kernel gave, before the first [`Services::compile`].
    pub fn adopt(&mut self, _set: &str, _elements: &mut dyn Iterator<Item = (Key, Element)>) {}

    /// At start and in the audit: what makes a set's elements, as the kernel holds them, right. First what
    /// is to be added, then what is to be removed.
    pub fn audit(
        &self,
        _set: &str,
        _have: &mut dyn Iterator<Item = (Key, Element)>,
    ) -> (Vec<Batch>, Vec<Batch>) {
        (Vec::new(), Vec::new())
    }

    /// Names of the sets whose elements are held here and never in the plan, in the order in which the
    /// audit adds to them; removals go the other way.
    #[must_use]
    pub fn bulk_sets() -> &'static [&'static str] {
        &[]
    }

    /// What chains are needed.
    #[must_use]
    pub fn frame(&self) -> Frame {
        Frame::default()
    }

    /// Every element that is wanted, set by set.
    pub fn elements(&self, _each: &mut dyn FnMut(&'static str, Key, Element)) {}

    /// Puts every wanted element into a table that has the sets.
    pub fn fill(&self, table: &mut Table) {
        self.elements(&mut |set, key, element| {
            let set = table.sets.entry(set.to_owned()).or_default();
            set.elements.insert(key, element);
        });
    }

    /// Endpoints of a service port under policy Cluster and under policy Local, of both families; none
    /// where nothing of the Service uses the policy.
    #[must_use]
    pub fn choice(
        &self,
        _service: &ServiceName,
        _port: &str,
    ) -> Option<(Option<Vec<SocketAddr>>, Option<Vec<SocketAddr>>)> {
        None
    }

    /// Every health check node port that this node serves.
    #[must_use]
    pub fn health(&self) -> BTreeMap<u16, Health> {
        BTreeMap::new()
    }

    /// What is not as wished.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}
