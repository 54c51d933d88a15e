//! `tests/conformance/services/*.yaml`: objects stage by stage, and what a node makes of them.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use weft_core::services::{Config, NodePortAddresses, ServiceName, Services, SliceName, object};
use weft_nft::trace::{self, Arrival, Flow as Traced, Host, Packet, Route, Tracer};
use weft_nft::{Table, l4proto};

use super::table;

/// A file of the suite.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    #[serde(rename = "suite")]
    _suite: String,
    pub name: String,
    #[serde(rename = "about")]
    _about: String,
    #[serde(rename = "source")]
    _source: String,
    node: NodeUnderTest,
    config: FileConfig,
    pub stages: Vec<Stage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeUnderTest {
    name: String,
    zone: Option<String>,
    addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct FileConfig {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<IpNet>,
    #[serde(rename = "serviceCIDRs")]
    service_cidrs: Vec<IpNet>,
    node_port_addresses: Value,
    #[serde(rename = "masqueradeAll")]
    masquerade_all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub name: String,
    #[serde(default)]
    deleted: Vec<String>,
    #[serde(default)]
    objects: Vec<Value>,
    #[serde(default)]
    pub flows: Vec<Flow>,
    #[serde(default)]
    endpoints: Vec<Choice>,
    health: Option<Vec<Health>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    pub name: String,
    pub from: IpAddr,
    pub protocol: String,
    pub to: IpAddr,
    pub port: u16,
    pub expect: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    service: String,
    port: String,
    cluster: Option<Vec<SocketAddr>>,
    local: Option<Vec<SocketAddr>>,
}

#[derive(Deserialize, PartialEq, Debug, Clone, PartialOrd, Ord, Eq)]
#[serde(deny_unknown_fields)]
struct Health {
    service: String,
    port: u16,
    ready: usize,
}

/// The node under test, as the stages leave it.
pub struct Stand {
    pub services: Services,
    base: Vec<IpNet>,
    more: BTreeMap<String, Vec<IpNet>>,
}

pub fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/services");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

pub fn read(path: &Path) -> File {
    let text = std::fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Stand {
    pub fn new(file: &File) -> Self {
        let FileConfig {
            pod_cidrs,
            service_cidrs,
            node_port_addresses,
            masquerade_all,
        } = &file.config;
        let node_port_addresses = match node_port_addresses {
            Value::Array(nets) => {
                let nets = nets
                    .iter()
                    .map(|net| net.as_str().unwrap().parse().unwrap());
                NodePortAddresses::Within(nets.collect())
            }
            _ => NodePortAddresses::Primary,
        };
        let services = Services::new(Config {
            node: file.node.name.clone(),
            zone: file.node.zone.clone(),
            node_addresses: file.node.addresses.clone(),
            node_port_addresses,
            pod_networks: pod_cidrs.clone(),
            service_networks: service_cidrs.clone(),
            masquerade_all: *masquerade_all,
        });
        Self {
            services,
            base: service_cidrs.clone(),
            more: BTreeMap::new(),
        }
    }

    pub fn enter(&mut self, stage: &Stage) {
        for deleted in &stage.deleted {
            let [kind, namespace, name] = deleted.splitn(3, '/').collect::<Vec<_>>()[..] else {
                panic!("{deleted}");
            };
            match kind {
                "Service" => self
                    .services
                    .set_service(&ServiceName::new(namespace, name), None),
                "EndpointSlice" => self
                    .services
                    .set_slice(&SliceName::new(namespace, name), None),
                "ServiceCIDR" => drop(self.more.remove(name)),
                "Node" => {}
                other => panic!("{other}"),
            }
        }
        for raw in &stage.objects {
            self.object(raw);
        }
        let mut config = self.services.config().clone();
        config.service_networks = self.base.clone();
        config.service_networks.extend(self.more.values().flatten());
        self.services.configure(config);
    }

    fn object(&mut self, raw: &Value) {
        let name = raw["metadata"]["name"].as_str().unwrap();
        let namespace = raw["metadata"]["namespace"].as_str().unwrap_or("");
        match raw["kind"].as_str().unwrap() {
            "Service" => {
                let parsed = object::service(&parse::<Service>(raw));
                self.services
                    .set_service(&ServiceName::new(namespace, name), parsed.object);
            }
            "EndpointSlice" => {
                let parsed = object::slice(&parse::<EndpointSlice>(raw));
                self.services
                    .set_slice(&SliceName::new(namespace, name), parsed.object);
            }
            "ServiceCIDR" => {
                let parsed = object::service_networks(&parse::<ServiceCIDR>(raw));
                self.more
                    .insert(name.to_owned(), parsed.object.unwrap_or_default());
            }
            "Node" if name == self.services.config().node => {
                let mut config = self.services.config().clone();
                config.zone = object::zone(&parse::<Node>(raw));
                self.services.configure(config);
            }
            "Node" => {}
            other => panic!("{other}"),
        }
    }
}

fn parse<T: DeserializeOwned>(raw: &Value) -> T {
    serde_json::from_value(raw.clone()).unwrap_or_else(|error| panic!("{error}: {raw}"))
}

#[test]
fn endpoints_and_health_checks_are_as_a_user_may_rely_on() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for path in files() {
        let file = read(&path);
        let mut stand = Stand::new(&file);
        for stage in &file.stages {
            stand.enter(stage);
            stand.services.compile();
            stand.services.committed();
            let place = format!("{}: {}", file.name, stage.name);
            for row in &stage.endpoints {
                rows += 1;
                wrong.extend(compare(&stand.services, row).map(|text| format!("{place}: {text}")));
            }
            if let Some(want) = &stage.health {
                rows += want.len();
                let mut want = want.clone();
                want.sort();
                let served = stand.services.health().into_iter();
                let mut have: Vec<Health> = served
                    .map(|(port, health)| Health {
                        service: health.service.to_string(),
                        port,
                        ready: health.ready,
                    })
                    .collect();
                have.sort();
                if have != want {
                    wrong.push(format!("{place}: {have:?} instead of {want:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 80, "only {rows} rows were found");
}

fn compare(services: &Services, row: &Choice) -> Option<String> {
    let (namespace, name) = row.service.split_once('/').unwrap();
    let have = services.endpoints(&ServiceName::new(namespace, name), &row.port);
    let have = have.unwrap_or_default();
    let pairs = [(&row.cluster, have.cluster), (&row.local, have.local)];
    let mut wrong = String::new();
    for (want, have) in pairs {
        let Some(want) = want else { continue };
        let sorted = |list: &Vec<SocketAddr>| {
            let mut list = list.clone();
            list.sort();
            list
        };
        let (want, have) = (sorted(want), sorted(&have.unwrap_or_default()));
        if want != have {
            wrong.push_str(&format!(
                "{}:{} {have:?} instead of {want:?}; ",
                row.service, row.port
            ));
        }
    }
    (!wrong.is_empty()).then_some(wrong)
}

#[test]
fn flows_are_as_a_user_may_rely_on() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for path in files() {
        let file = read(&path);
        let mut stand = Stand::new(&file);
        for stage in &file.stages {
            stand.enter(stage);
            stand.services.compile();
            stand.services.committed();
            let table = table(&stand.services);
            for flow in &stage.flows {
                rows += 1;
                let judged = judge(&table, &file.node.addresses, flow);
                let place = format!("{}: {}: {}", file.name, stage.name, flow.name);
                wrong.extend(judged.map(|text| format!("{place}: {text}")));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {rows}\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(rows > 250, "only {rows} rows were found");
}

/// A node whose way out has an address of its own, so that a new source is always another one.
pub fn host(addresses: &[IpAddr]) -> Host {
    let way_out: [IpNet; 2] = ["198.18.0.1/32", "2001:2::1/128"].map(|net| net.parse().unwrap());
    let mut host = Host::new().with_link(2, "eth0", 0, way_out);
    for everywhere in ["0.0.0.0/0", "::/0"] {
        host = host.with_route(everywhere.parse().unwrap(), Route::Link(2));
    }
    host.local
        .extend(addresses.iter().copied().map(IpNet::from));
    host
}

pub fn send(table: &Table, node: &[IpAddr], flow: &Flow) -> Traced {
    Tracer::new(table).flow(&host(node), &arrival(node, flow))
}

/// The first packet of a flow.
pub fn arrival(node: &[IpAddr], flow: &Flow) -> Arrival {
    let protocol = match flow.protocol.as_str() {
        "TCP" => l4proto::TCP,
        "UDP" => l4proto::UDP,
        "SCTP" => l4proto::SCTP,
        other => panic!("{other}"),
    };
    let from = SocketAddr::new(flow.from, 40_000);
    let packet = Packet::new(protocol, from, SocketAddr::new(flow.to, flow.port));
    let of_node = node.contains(&flow.from) || flow.from.is_loopback();
    if of_node {
        Arrival::of_node(packet)
    } else {
        Arrival::by(2, packet)
    }
}

/// Every way of a flow's first packet, step by step.
pub fn traces(table: &Table, file: &File, flow: &Flow) -> String {
    let node = &file.node.addresses;
    trace::story(&Tracer::new(table).trace(&host(node), &arrival(node, flow)))
}

/// What is wrong with a flow of a file, if something is.
pub fn wrong(table: &Table, file: &File, flow: &Flow) -> Option<String> {
    judge(table, &file.node.addresses, flow)
}

fn judge(table: &Table, node: &[IpAddr], flow: &Flow) -> Option<String> {
    let have = send(table, node, flow);
    let to = SocketAddr::new(flow.to, flow.port);
    let nowhere = have.reached.is_empty() && have.unknown.is_empty();
    let agrees = match &flow.expect {
        Value::String(word) => match word.as_str() {
            "untouched" => have.is_untouched(to),
            "reject" => nowhere && !have.dropped && !have.rejected.is_empty(),
            "drop" => nowhere && have.dropped && have.rejected.is_empty(),
            other => panic!("{other}"),
        },
        expect => reaches(&have, flow, expect),
    };
    (!agrees).then(|| format!("{have:?} instead of {}", flow.expect))
}

fn reaches(have: &Traced, flow: &Flow, expect: &Value) -> bool {
    let list = |value: &Value| -> BTreeSet<SocketAddr> {
        let texts = value.as_array().unwrap().iter();
        texts
            .map(|text| text.as_str().unwrap().parse().unwrap())
            .collect()
    };
    let endpoints = list(&expect["endpoints"]);
    let masqueraded = match &expect["masquerade"] {
        Value::Bool(true) => endpoints.clone(),
        Value::Bool(false) | Value::Null => BTreeSet::new(),
        some => list(some),
    };
    let affinity = expect["affinity"].as_u64();
    let remembered =
        |how: &weft_nft::trace::Reached| how.remembered.map_or(0, |time| time.as_secs());
    have.reached.keys().copied().collect::<BTreeSet<_>>() == endpoints
        && have.rejected.is_empty()
        && !have.dropped
        && !have.unroutable
        && have.unknown.is_empty()
        && have.masqueraded(flow.from) == masqueraded
        && affinity
            .is_none_or(|seconds| have.reached.values().all(|how| remembered(how) == seconds))
}
