//! Conformance files of `suite: dns` in, disagreements out.
//!
//! A file says what there is, what is asked and what is answered, in a form of its own
//! (tests/conformance/README.md). Every case is asked of the fast path and of the slow path; a caller may
//! have it asked through real sockets as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use weft_core::zones::Zones;
use weft_core::zones::cluster::Cluster;
use weft_core::zones::config::{Config, ConfigSpec};
use weft_core::zones::file;
use weft_core::zones::input::ServiceInput;
use weft_core::zones::name::Name;
use weft_core::zones::user::{Strictness, UserZone};

use crate::message::Transport;
use crate::slow;
use crate::upstream::{Fixed, Upstream};

mod compare;
mod query;

pub use query::{Path, Query, Reply};

/// One file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Suite {
    /// `dns`.
    pub suite: String,
    /// The file's own name.
    pub name: String,
    /// One sentence.
    #[serde(default)]
    pub about: String,
    /// Where the facts come from.
    #[serde(default)]
    pub source: String,
    #[serde(default)]
    server: Option<Server>,
    #[serde(default)]
    objects: Vec<Value>,
    #[serde(default)]
    zone_files: BTreeMap<String, String>,
    #[serde(default)]
    upstream: Option<World>,
    #[serde(default)]
    cases: Vec<Case>,
    #[serde(default)]
    stages: Vec<Stage>,
}

#[derive(Clone, Debug, Deserialize)]
struct Server {
    #[serde(default = "yes")]
    synced: bool,
    #[serde(flatten)]
    config: BTreeMap<String, Value>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct World {
    #[serde(default)]
    records: Vec<String>,
    #[serde(default)]
    servfail: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    #[serde(default)]
    deleted: Vec<String>,
    #[serde(default)]
    objects: Vec<Value>,
    #[serde(default)]
    cases: Vec<Case>,
}

/// One question and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// What is asked.
    pub query: Query,
    /// What is answered.
    pub expect: Expect,
    /// Why public tests expect something else.
    #[serde(default)]
    pub deviation: Option<String>,
}

impl Case {
    /// Whether it compares how much fits into a datagram.
    #[must_use]
    pub fn is_about_size(&self) -> bool {
        self.expect.truncated.is_some()
    }

    /// Over what it is asked: what it says, else UDP and TCP; one about size over UDP alone.
    #[must_use]
    pub fn transports(&self) -> Vec<Transport> {
        match self.query.transport() {
            Some(transport) => vec![transport],
            None if self.is_about_size() => vec![Transport::Udp],
            None => vec![Transport::Udp, Transport::Stream],
        }
    }

    /// Asks both paths within this process.
    #[must_use]
    pub fn ask_both(
        &self,
        served: &Served,
        runtime: &tokio::runtime::Runtime,
    ) -> Vec<(Path, Option<Reply>)> {
        let transports = self.transports().into_iter();
        transports
            .flat_map(|transport| self.query.ask_both(served, runtime, transport))
            .collect()
    }
}

/// What is answered; what is left out is not compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    rcode: String,
    #[serde(default)]
    answer: Option<Vec<String>>,
    #[serde(default)]
    authority: Option<Authority>,
    #[serde(default)]
    additional: Option<Vec<String>>,
    #[serde(default)]
    truncated: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Authority {
    Soa(Soa),
    Records(Vec<String>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Soa {
    Soa,
}

/// How a case disagrees on one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// How it was asked.
    pub path: String,
    /// What should have been.
    pub expected: String,
    /// What was.
    pub got: String,
}

/// A case, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The stage, if there are any, and the case.
    pub name: String,
    /// Empty where it agrees on every path.
    pub disagreements: Vec<Disagreement>,
}

/// What is served for one stage; handed to whoever asks through sockets.
#[derive(Clone)]
pub struct Served {
    /// The zones.
    pub zones: Arc<Zones>,
    /// The others.
    pub upstream: Arc<Upstream>,
    /// All names of built-in zones, external zones and zone files.
    apexes: Vec<Name>,
}

/// Judges a file. `ask` asks a question of what is served, on each path it knows.
///
/// # Errors
/// A file that says what cannot be.
pub fn judge(
    suite: &Suite,
    mut ask: impl FnMut(&Served, &Case) -> Vec<(Path, Option<Reply>)>,
) -> Result<Vec<Judged>, String> {
    let mut judged = Vec::new();
    let mut stand = Stand::new(suite)?;
    for object in &suite.objects {
        stand.apply(object)?;
    }
    judged.extend(stand.judge("", &suite.cases, &mut ask));
    for stage in &suite.stages {
        for deleted in &stage.deleted {
            stand.delete(deleted)?;
        }
        for object in &stage.objects {
            stand.apply(object)?;
        }
        judged.extend(stand.judge(&format!("{}: ", stage.name), &stage.cases, &mut ask));
    }
    Ok(judged)
}

/// The server's input, stage by stage.
struct Stand {
    cluster: Cluster,
    zones: Zones,
    upstream: Arc<Upstream>,
    apexes: Vec<Name>,
}

impl Stand {
    fn new(suite: &Suite) -> Result<Self, String> {
        let server = suite.server.clone();
        let values = server
            .as_ref()
            .map(|server| server.config.clone())
            .unwrap_or_default();
        let spec: ConfigSpec = serde_json::from_value(Value::Object(values.into_iter().collect()))
            .map_err(|error| format!("server: {error}"))?;
        let config = Config::parse(&spec).map_err(|error| format!("server: {error}"))?;
        let mut apexes: Vec<_> = config.zones.iter().map(|(name, _)| name.clone()).collect();
        let mut zones = Zones::new(config.clone()).map_err(|error| format!("server: {error}"))?;
        zones.synced = server.is_none_or(|server| server.synced);
        let mut users = Vec::new();
        for (origin, text) in &suite.zone_files {
            let zone = user_zone(origin, text)?;
            apexes.push(zone.apex.clone());
            users.push(Arc::new(zone));
        }
        zones.set_users(&users);
        Ok(Self {
            cluster: Cluster::new(config),
            zones,
            upstream: Arc::new(world(suite.upstream.as_ref())?),
            apexes,
        })
    }

    fn served(&mut self) -> Served {
        self.zones.set_data(self.cluster.compile());
        Served {
            zones: Arc::new(self.zones.clone()),
            upstream: Arc::clone(&self.upstream),
            apexes: self.apexes.clone(),
        }
    }

    fn judge(
        &mut self,
        stage: &str,
        cases: &[Case],
        ask: &mut impl FnMut(&Served, &Case) -> Vec<(Path, Option<Reply>)>,
    ) -> Vec<Judged> {
        let served = self.served();
        let judge = |case: &Case| {
            let disagree = |(path, reply): (Path, Option<Reply>)| {
                let (expected, got) = compare::compare(&served.apexes, case, reply.as_ref())?;
                let path = path.to_string();
                Some(Disagreement {
                    path,
                    expected,
                    got,
                })
            };
            Judged {
                name: format!("{stage}{}", case.name),
                disagreements: ask(&served, case)
                    .into_iter()
                    .filter_map(disagree)
                    .collect(),
            }
        };
        cases.iter().map(judge).collect()
    }

    fn apply(&mut self, object: &Value) -> Result<(), String> {
        let kind = object
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut object = object.clone();
        match kind {
            "Namespace" => self.cluster.apply_namespace(&typed(object)?),
            "Service" => self.cluster.apply_service(&typed(object)?),
            "EndpointSlice" => self.cluster.apply_slice(&typed(defaults(&mut object))?),
            "Pod" => self.cluster.apply_pod(&typed(object)?),
            "ServiceImport" => {
                let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
                self.cluster.set_import(
                    text("namespace"),
                    text("name"),
                    ServiceInput::import(&object),
                );
            }
            "Node" => {}
            other => return Err(format!("objects: kind {other:?} is not known")),
        }
        Ok(())
    }

    fn delete(&mut self, id: &str) -> Result<(), String> {
        let mut parts = id.splitn(3, '/');
        let mut part = || {
            parts
                .next()
                .ok_or_else(|| format!("deleted: {id:?} is not kind/namespace/name"))
        };
        let (kind, namespace, name) = (part()?, part()?, part()?);
        match kind {
            "Namespace" => self.cluster.set_namespace(name, None),
            "Service" => self.cluster.set_service(namespace, name, None),
            "ServiceImport" => self.cluster.set_import(namespace, name, None),
            "EndpointSlice" => self.cluster.set_slice(namespace, name, None),
            "Pod" => self.cluster.set_pod(namespace, name, &[]),
            "Node" => {}
            other => return Err(format!("deleted: kind {other:?} is not known")),
        }
        Ok(())
    }
}

/// Fields that the API requires and files leave out.
fn defaults(object: &mut Value) -> Value {
    let mut object = object.take();
    if object.get("endpoints").is_none_or(Value::is_null) {
        object["endpoints"] = Value::Array(Vec::new());
    }
    object
}

fn typed<T: serde::de::DeserializeOwned>(object: Value) -> Result<T, String> {
    serde_json::from_value(object).map_err(|error| format!("objects: {error}"))
}

fn user_zone(origin: &str, text: &str) -> Result<UserZone, String> {
    let fault = |fault: String| format!("zoneFiles: {origin}: {fault}");
    let apex = Name::absolute(origin).map_err(|error| fault(error.to_string()))?;
    let records = file::parse(text, &apex, None).map_err(|error| fault(error.to_string()))?;
    UserZone::build(apex, records, Strictness::File).map_err(|errors| {
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        fault(texts.join("; "))
    })
}

fn world(world: Option<&World>) -> Result<Upstream, String> {
    let Some(world) = world else {
        return Ok(Upstream::None);
    };
    let mut fixed = Fixed::default();
    for text in &world.records {
        let record = compare::record(text)?;
        let made = slow::record(
            &record.owner,
            record.kind,
            record.ttl.unwrap_or(60),
            &record.data,
        );
        fixed.records.extend(made);
    }
    for text in &world.servfail {
        let name = Name::absolute(text).map_err(|error| format!("servfail: {text:?}: {error}"))?;
        fixed.servfail.extend(slow::name(name.wire()));
    }
    Ok(Upstream::Fixed(fixed))
}
