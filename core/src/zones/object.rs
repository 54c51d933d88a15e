//! One DnsZone as a user wrote it in, what it answers out; or every fault that it has.
//!
//! The operator says the faults in conditions, the servers compile what has none: both call this.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;
use weft_crds::{
    AuthoritativeBody, ConfigMapRef, DnsZoneSpec, ForwardBody, OnMiss, PolicyBody, ZoneType,
};

use super::audience::Audience;
use super::forward::Forward;
use super::name::{Name, NameError};
use super::policy::Policy;
use super::user::{UserZone, ZoneError};

mod duration;
mod forward;
mod policy;
mod records;

/// What a zone is compiled with, beside itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The server that SOA records name where a zone does not say: `ns.dns` in the cluster's domain.
    pub primary_ns: Name,
    /// Where the cluster's DNS is asked.
    pub ourselves: BTreeSet<SocketAddr>,
    /// The cluster's own zones.
    pub cluster: Vec<Name>,
}

/// Text of an entry of a ConfigMap, if it is there.
pub trait Files {
    /// The text.
    fn text(&self, name: &ConfigMapRef) -> Option<&str>;
}

/// A zone that can be served.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneObject {
    /// Its name.
    pub apex: Name,
    /// Of zones with one name the higher number answers.
    pub priority: i32,
    /// Who sees it; none: everybody.
    pub visibility: Option<Audience>,
    /// It may answer for names of the cluster's own domain.
    pub in_cluster_domain: bool,
    /// What a name answers that it does not have.
    pub on_miss: OnMiss,
    /// What it is for those without a view.
    pub body: Body,
    /// What it is for others.
    pub views: Vec<(Audience, Body)>,
    /// Records, those of views included.
    pub records: usize,
}

/// What a zone answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Records.
    Authoritative(Arc<UserZone>),
    /// What others say.
    Forward(Arc<Forward>),
    /// Rules.
    Policy(Arc<Policy>),
}

/// Why a zone cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// Something that is no name stands where one should.
    #[error("{field}: {text:?} is no domain name: {source}")]
    Name {
        /// Where.
        field: String,
        /// What stands there.
        text: String,
        /// The rule.
        source: NameError,
    },
    /// A field that breaks a rule.
    #[error("{field}: {rule}")]
    Field {
        /// Where.
        field: String,
        /// What is there, and what should be.
        rule: String,
    },
    /// Records that break a rule.
    #[error("{0}")]
    Zone(#[from] ZoneError),
    /// The same, of a view.
    #[error("view {view}: {source}")]
    ViewZone {
        /// The view.
        view: String,
        /// The rule.
        source: ZoneError,
    },
    /// A zone file that is not there.
    #[error(
        "{field}: there is no entry {key} in a ConfigMap {namespace}/{name} that bears the label weftnet.dev/zone-file"
    )]
    Source {
        /// Where it is named.
        field: String,
        /// The ConfigMap's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The entry.
        key: String,
    },
    /// We would ask ourselves.
    #[error("{field}: {address} is the cluster's own DNS, which would ask itself")]
    Loop {
        /// Where.
        field: String,
        /// The address.
        address: SocketAddr,
    },
}

impl Fault {
    pub(super) fn name(field: &str, text: &str, source: NameError) -> Self {
        Self::Name {
            field: field.to_owned(),
            text: text.to_owned(),
            source,
        }
    }

    pub(super) fn field(field: &str, rule: impl Into<String>) -> Self {
        Self::Field {
            field: field.to_owned(),
            rule: rule.into(),
        }
    }
}

/// Where a body stands, and what it is read with.
struct Reader<'a> {
    /// The object's name, with the view's behind a slash.
    key: String,
    /// The view; none: the zone itself.
    view: Option<&'a str>,
    /// Such as `spec` or `spec.views[0]`.
    path: String,
    apex: &'a Name,
    serial: u32,
    in_cluster_domain: bool,
    files: &'a dyn Files,
    surroundings: &'a Surroundings,
}

/// Bodies as they stand in the spec.
type Bodies<'a> = (
    Option<&'a AuthoritativeBody>,
    Option<&'a ForwardBody>,
    Option<&'a PolicyBody>,
);

/// Reads a zone; the whole of it or nothing. `name` is the object's, `serial` the serial number of its SOA record.
///
/// # Errors
/// Every fault.
pub fn parse(
    name: &str,
    spec: &DnsZoneSpec,
    serial: u32,
    files: &dyn Files,
    surroundings: &Surroundings,
) -> Result<ZoneObject, Vec<Fault>> {
    let apex = apex(&spec.zone).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    let ours = surroundings
        .cluster
        .iter()
        .find(|zone| apex.is_at_or_below(zone));
    if let Some(zone) = ours.filter(|_| !spec.allow_cluster_domain) {
        let rule = format!(
            "{apex} is within {zone}, which is the cluster's own: set spec.allowClusterDomain to answer for it"
        );
        faults.push(Fault::field("spec.zone", rule));
    }
    let mut reader = Reader {
        key: name.to_owned(),
        view: None,
        path: "spec".to_owned(),
        apex: &apex,
        serial,
        in_cluster_domain: spec.allow_cluster_domain,
        files,
        surroundings,
    };
    let visibility = spec.visibility.as_ref().map(Audience::parse).transpose();
    let visibility = visibility.unwrap_or_else(|rule| {
        faults.push(Fault::field("spec.visibility", rule));
        None
    });
    let bodies = (
        spec.authoritative.as_ref(),
        spec.forward.as_ref(),
        spec.policy.as_ref(),
    );
    let (body, mut records) = reader.body(spec.type_, bodies, &mut faults);
    let mut views = Vec::new();
    for (index, view) in spec.views.iter().enumerate() {
        reader.key = format!("{name}/{}", view.name);
        reader.view = Some(&view.name);
        reader.path = format!("spec.views[{index}]");
        let audience = Audience::parse(&view.match_)
            .map_err(|rule| Fault::field(&format!("{}.match", reader.path), rule));
        let bodies = (
            view.authoritative.as_ref(),
            view.forward.as_ref(),
            view.policy.as_ref(),
        );
        let (body, more) = reader.body(spec.type_, bodies, &mut faults);
        records += more;
        match audience {
            Ok(audience) => views.extend(body.map(|body| (audience, body))),
            Err(fault) => faults.push(fault),
        }
    }
    match body {
        Some(body) if faults.is_empty() => Ok(ZoneObject {
            apex,
            priority: spec.priority,
            visibility,
            in_cluster_domain: spec.allow_cluster_domain,
            on_miss: spec.on_miss.unwrap_or_default(),
            body,
            views,
            records,
        }),
        _ => Err(faults),
    }
}

/// The name of a zone: as it stands, or that of a network's reverse zone (RFC 1035, 3.5; RFC 3596, 2.5).
///
/// # Errors
/// Neither a name nor a network that ends between labels.
pub fn apex(text: &str) -> Result<Name, Fault> {
    let Ok(network) = text.parse::<IpNet>() else {
        return Name::absolute(text).map_err(|source| Fault::name("spec.zone", text, source));
    };
    let (bits, labels) = match network {
        IpNet::V4(_) => (8, 4),
        IpNet::V6(_) => (4, 32),
    };
    let length = network.prefix_len();
    if length == 0 || length % bits != 0 || network.trunc() != network {
        let rule = format!(
            "{text} is no reverse zone: a network without host bits, of a multiple of {bits} bits, is one"
        );
        return Err(Fault::field("spec.zone", rule));
    }
    let mut name = Name::reverse(network.addr());
    for _ in length / bits..labels {
        name = name.parent().unwrap_or_else(Name::root);
    }
    Ok(name)
}

impl Reader<'_> {
    /// Reads the body of the zone's type, and counts its records.
    fn body(
        &self,
        type_: ZoneType,
        (authoritative, forward, policy): Bodies<'_>,
        faults: &mut Vec<Fault>,
    ) -> (Option<Body>, usize) {
        let missing = |field: &str| {
            let field = format!("{}.{field}", self.path);
            vec![Fault::field(&field, "it is missing")]
        };
        let body = match type_ {
            ZoneType::Authoritative => authoritative
                .ok_or_else(|| missing("authoritative"))
                .and_then(|body| self.records(body))
                .map(|zone| Body::Authoritative(Arc::new(zone))),
            ZoneType::Forward => forward
                .ok_or_else(|| missing("forward"))
                .and_then(|body| self.forward(body))
                .map(|forward| Body::Forward(Arc::new(forward))),
            ZoneType::Policy => policy
                .ok_or_else(|| missing("policy"))
                .and_then(|body| self.policy(body))
                .map(|policy| Body::Policy(Arc::new(policy))),
        };
        match body {
            Ok(body) => {
                let records = match &body {
                    Body::Authoritative(zone) => zone.records(),
                    Body::Forward(_) | Body::Policy(_) => 0,
                };
                (Some(body), records)
            }
            Err(more) => {
                faults.extend(more);
                (None, 0)
            }
        }
    }

    /// Reads an absolute name, with or without its last dot.
    fn absolute(&self, field: &str, text: &str) -> Result<Name, Fault> {
        Name::absolute(text).map_err(|source| Fault::name(field, text, source))
    }
}

#[cfg(test)]
mod tests;
