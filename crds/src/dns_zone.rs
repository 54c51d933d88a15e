//! `DnsZone`: names that users add to the cluster's DNS, whom others are asked for, and what is blocked.
//!
//! `type` says which body holds: records of our own, servers to forward to, or rules. `visibility` and `views` decide by
//! who asks: that is split horizon.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dns_zone_body::{AuthoritativeBody, ForwardBody, PolicyBody};

/// What a user asks of a zone.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "weftnet.dev",
    doc = "A zone of the cluster's DNS: records, servers to forward to, or rules; for everybody or for some.",
    version = "v1alpha1",
    kind = "DnsZone",
    plural = "dnszones",
    singular = "dnszone",
    shortname = "dz",
    category = "weft",
    status = "DnsZoneStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Zone","type":"string","jsonPath":".spec.zone"}"#,
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Serial","type":"integer","jsonPath":".status.serial"}"#,
    printcolumn = r#"{"name":"Records","type":"integer","jsonPath":".status.records"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new("has(self.authoritative) == (self.type == 'Authoritative') && has(self.forward) == (self.type == 'Forward') && has(self.policy) == (self.type == 'Policy')").message("a zone has the body of its type and no other: authoritative for Authoritative, forward for Forward, policy for Policy"),
    validation = Rule::new("!has(self.views) || self.views.all(v, has(v.authoritative) == (self.type == 'Authoritative') && has(v.forward) == (self.type == 'Forward') && has(v.policy) == (self.type == 'Policy'))").message("a view has the body of its zone's type and no other"),
    validation = Rule::new("!has(self.onMiss) || self.type == 'Authoritative'").message("onMiss is for type Authoritative: the others know no missing names")
)]
#[serde(rename_all = "camelCase")]
pub struct DnsZoneSpec {
    /// The zone's name in lower case, such as `corp.example`, or a network, such as `10.20.0.0/16`, for its reverse zone.
    #[schemars(length(max = 254))]
    #[x_kube(validation = Rule::new("isCIDR(self) || self == '.' || self.matches('^([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?[.])*[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?[.]?$')").message("spec.zone must be a domain name in lower case, such as corp.example, or a network in CIDR form for its reverse zone"))]
    #[x_kube(validation = Rule::new("!isCIDR(self) || (cidr(self) == cidr(self).masked() && cidr(self).prefixLength() > 0 && cidr(self).prefixLength() % (cidr(self).ip().family() == 4 ? 8 : 4) == 0)").message("a network that is a reverse zone has no host bits and ends between labels: at 8, 16, 24 or 32 bits for IPv4, at a multiple of 4 for IPv6"))]
    pub zone: String,
    /// Which body holds.
    #[serde(rename = "type")]
    pub type_: ZoneType,
    /// Of zones with one name for one client the higher number answers; a tie is decided by name.
    #[serde(default)]
    pub priority: i32,
    /// Who sees the zone. Absent: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<ZoneAudience>,
    /// Type Authoritative: what a name in the zone that is not there answers. Absent: NXDomain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_miss: Option<OnMiss>,
    /// The zone may answer for names of the cluster's own domain, which are Kubernetes' otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_cluster_domain: bool,
    /// Type Authoritative: its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authoritative: Option<AuthoritativeBody>,
    /// Type Forward: who is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<ForwardBody>,
    /// Type Policy: its rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyBody>,
    /// Other bodies for some clients. The most specific match holds; of equals, the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    #[schemars(length(max = 16))]
    pub views: Vec<ZoneView>,
}

/// What a zone is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneType {
    /// Records of our own.
    Authoritative,
    /// Others are asked.
    Forward,
    /// Names are blocked, overridden, rewritten or let through, before any zone is asked.
    Policy,
}

/// What a name answers that an authoritative zone does not have.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMiss {
    /// It does not exist.
    #[default]
    NXDomain,
    /// What the node's resolvers say.
    Forward,
    /// What the next zone says: one of the same name, else one with a shorter name, else the node's resolvers.
    NextZone,
}

/// Clients: those in `cidrs`, and those that all of the selectors given match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.namespaces) || has(self.pods) || has(self.nodes) || (has(self.cidrs) && size(self.cidrs) > 0)").message("an audience names somebody: write namespaces, pods, nodes or cidrs, or leave it out for everybody")
)]
#[serde(rename_all = "camelCase")]
pub struct ZoneAudience {
    /// Labels of the pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Labels of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<LabelSelector>,
    /// Labels of the node: of the pod's, or of the one that asks itself where neither pods nor namespaces are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// Networks of clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each of cidrs must be a network in CIDR form, such as 10.0.0.0/8"))]
    pub cidrs: Vec<String>,
}

/// Another body for some clients.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ZoneView {
    /// The view's name, in messages and metrics.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Whose it is.
    #[serde(rename = "match")]
    pub match_: ZoneAudience,
    /// Type Authoritative: its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authoritative: Option<AuthoritativeBody>,
    /// Type Forward: who is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<ForwardBody>,
    /// Type Policy: its rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyBody>,
}

/// What became of a zone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DnsZoneStatus {
    /// The serial number of the version that was accepted last; the same on all servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
    /// A digest of that version: what the serial number stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Records of that version, those of its views and of zone files included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u32>,
    /// Zones of the same name for the same clients, which answer in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// Accepted and Ready; Stalled while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
