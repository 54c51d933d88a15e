//! The node under test: objects in force, the compiled state, and a model of the kernel's table that
//! changes by the batches alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node as NodeObject, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::Value;
use weft_core::compile;
use weft_core::services::{
    self, Config, Endpoints, NodePortAddresses, ServiceName, ServiceObject, Services, SliceName,
    SliceObject, object,
};
use weft_core::view::NodeView;
use weft_nft::{Batch, Table};

use super::format::{self, File, Stage};

/// The node under test.
#[derive(Debug)]
pub struct Node {
    name: String,
    addresses: Vec<IpAddr>,
    config: Config,
    /// Ranges that the file's config names; those of ServiceCIDR objects come on top.
    fixed_ranges: Vec<IpNet>,
    ranges: BTreeMap<String, Vec<IpNet>>,
    services: BTreeMap<ServiceName, ServiceObject>,
    slices: BTreeMap<SliceName, SliceObject>,
    state: Services,
    frame: services::Frame,
    table: Table,
    batches: Vec<Batch>,
}

impl Node {
    /// A node with nothing in force.
    pub fn new(file: &File) -> Self {
        let format::NodeUnderTest {
            name,
            zone,
            addresses,
        } = &file.node;
        let format::Config {
            pod_cidrs,
            service_cidrs,
            node_port_addresses,
            masquerade_all,
        } = &file.config;
        let config = Config {
            node: name.clone(),
            zone: zone.clone(),
            node_addresses: addresses.clone(),
            node_port_addresses: match node_port_addresses {
                format::NodePortAddresses::Word(format::Word::Primary) => {
                    NodePortAddresses::Primary
                }
                format::NodePortAddresses::Within(nets) => NodePortAddresses::Within(nets.clone()),
            },
            pod_networks: pod_cidrs.clone(),
            service_networks: service_cidrs.clone(),
            masquerade_all: *masquerade_all,
        };
        let state = Services::new(config.clone());
        let frame = state.frame();
        let table = static_part(&frame);
        Self {
            name: name.clone(),
            addresses: addresses.clone(),
            fixed_ranges: service_cidrs.clone(),
            ranges: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            batches: vec![weft_nft::replace(&table)],
            config,
            state,
            frame,
            table,
        }
    }

    /// The node's addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Whether a source is the node itself.
    pub fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// The table as the batches made it.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The batches since the last call, for a real kernel.
    pub fn take_batches(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.batches)
    }

    /// Goes over to a stage. Answers in which ways the table is not what compiling anew makes.
    ///
    /// # Errors
    /// When an object does not read, or a batch does not apply to the table.
    pub fn apply(&mut self, stage: &Stage) -> Result<Vec<String>> {
        for reference in &stage.deleted {
            self.delete(reference)?;
        }
        for value in &stage.objects {
            self.set(value)?;
        }
        let mut config = self.config.clone();
        config.service_networks = self.fixed_ranges.clone();
        config
            .service_networks
            .extend(self.ranges.values().flatten());
        if config != *self.state.config() {
            self.state.configure(config.clone());
            self.config = config;
        }
        self.commit()?;
        Ok(self.differences())
    }

    /// Endpoints under policy Cluster and under policy Local.
    pub fn choice(&self, service: &str, port: &str) -> (Vec<String>, Vec<String>) {
        let (namespace, name) = service.split_once('/').unwrap_or(("", service));
        let name = ServiceName::new(namespace, name);
        let shown = |list: Option<Vec<SocketAddr>>| {
            let list = list.unwrap_or_default();
            list.iter().map(SocketAddr::to_string).collect()
        };
        let Endpoints { cluster, local } = self.state.endpoints(&name, port).unwrap_or_default();
        (shown(cluster), shown(local))
    }

    /// Service and ready endpoints of every health check node port.
    pub fn health(&self) -> BTreeMap<u16, (String, usize)> {
        let served = self.state.health().into_iter();
        served
            .map(|(port, health)| (port, (health.service.to_string(), health.ready)))
            .collect()
    }

    /// As an agent makes changes true (see [`services::Changes`]).
    fn commit(&mut self) -> Result<()> {
        let services::Changes {
            before,
            batches,
            after,
            stale: _,
        } = self.state.compile();
        self.take_frame(before)?;
        for batch in batches {
            self.apply_batch(batch)?;
        }
        self.state.committed();
        self.take_frame(after)
    }

    fn take_frame(&mut self, frame: Option<services::Frame>) -> Result<()> {
        let Some(frame) = frame else { return Ok(()) };
        let have = static_part(&self.frame);
        let want = static_part(&frame);
        for batch in weft_nft::diff(&have, &want) {
            self.apply_batch(batch)?;
        }
        self.frame = frame;
        Ok(())
    }

    fn apply_batch(&mut self, batch: Batch) -> Result<()> {
        self.table
            .apply(&batch)
            .context("a batch does not apply to the table that is there")?;
        self.batches.push(batch);
        Ok(())
    }

    fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut held = static_part(&self.state.frame());
        self.state.fill(&mut held);
        if held != self.table {
            differences.push(format!(
                "the batches made another table than the state holds: {}",
                first_difference(&held, &self.table)
            ));
        }
        if self.anew().1.health() != self.state.health() {
            differences.push("other health checks".to_owned());
        }
        differences
    }

    /// The table that compiling everything anew makes, and its state.
    pub fn anew(&self) -> (Table, Services) {
        let mut anew = Services::new(self.config.clone());
        for (name, object) in &self.services {
            anew.set_service(name, Some(object.clone()));
        }
        for (name, object) in &self.slices {
            anew.set_slice(name, Some(object.clone()));
        }
        drop(anew.compile());
        let mut table = static_part(&anew.frame());
        anew.fill(&mut table);
        (table, anew)
    }

    fn set(&mut self, value: &Value) -> Result<()> {
        match value.get("kind").and_then(Value::as_str) {
            Some("Service") => {
                let service: Service = typed(value)?;
                let name = ServiceName::new(&namespace(value), &name(value));
                self.set_service(name, object::service(&service).object);
            }
            Some("EndpointSlice") => {
                let slice: EndpointSlice = typed(value)?;
                let name = SliceName::new(&namespace(value), &name(value));
                self.set_slice(name, object::slice(&slice).object);
            }
            Some("Node") if name(value) == self.name => {
                let node: NodeObject = typed(value)?;
                self.config.zone = object::zone(&node);
            }
            Some("Node") => {}
            Some("ServiceCIDR") => {
                let range: ServiceCIDR = typed(value)?;
                let networks = object::service_networks(&range).object.unwrap_or_default();
                self.ranges.insert(name(value), networks);
            }
            other => bail!("objects of kind {other:?} are not known to this suite"),
        }
        Ok(())
    }

    fn delete(&mut self, reference: &str) -> Result<()> {
        let parts: Vec<&str> = reference.split('/').collect();
        match parts[..] {
            ["Service", namespace, name] => {
                self.set_service(ServiceName::new(namespace, name), None);
            }
            ["EndpointSlice", namespace, name] => {
                self.set_slice(SliceName::new(namespace, name), None);
            }
            ["ServiceCIDR", _, name] => drop(self.ranges.remove(name)),
            ["Node", _, name] if name == self.name => self.config.zone = None,
            ["Node", ..] => {}
            _ => bail!("{reference:?} is no kind/namespace/name of this suite"),
        }
        Ok(())
    }

    fn set_service(&mut self, name: ServiceName, object: Option<ServiceObject>) {
        self.state.set_service(&name, object.clone());
        match object {
            Some(object) => drop(self.services.insert(name, object)),
            None => drop(self.services.remove(&name)),
        }
    }

    fn set_slice(&mut self, name: SliceName, object: Option<SliceObject>) {
        self.state.set_slice(&name, object.clone());
        match object {
            Some(object) => drop(self.slices.insert(name, object)),
            None => drop(self.slices.remove(&name)),
        }
    }
}

/// The chains and declarations of a frame, in a plan that has nothing else to do.
pub fn static_part(frame: &services::Frame) -> Table {
    let view = NodeView {
        services: Some(frame.clone()),
        ..NodeView::default()
    };
    compile::all(&view).0.table
}

fn typed<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T> {
    serde_json::from_value(value.clone())
        .with_context(|| format!("object {}/{}", namespace(value), name(value)))
}

fn name(value: &Value) -> String {
    text(value, "/metadata/name")
}

fn namespace(value: &Value) -> String {
    text(value, "/metadata/namespace")
}

fn text(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

/// The first line in which two tables print differently.
fn first_difference(a: &Table, b: &Table) -> String {
    let (a, b) = (a.to_string(), b.to_string());
    let mut lines = a.lines().zip(b.lines());
    let found = lines.find(|(a, b)| a != b);
    found.map_or_else(
        || "one is longer".to_owned(),
        |(a, b)| format!("{:?} and {:?}", a.trim(), b.trim()),
    )
}
