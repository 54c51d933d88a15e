//! The bodies of a `DnsZone`: records, servers to forward to, rules.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Records of our own.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AuthoritativeBody {
    /// Seconds that records without a `ttl` of their own may be kept.
    #[serde(default = "default_ttl", rename = "defaultTTL")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 2147483647").message("defaultTTL must be from 0 to 2147483647 seconds (RFC 2181, 8)"))]
    pub default_ttl: u32,
    /// Seconds that it may be remembered that a name is not there (RFC 2308).
    #[serde(default = "default_negative_ttl", rename = "negativeTTL")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 2147483647").message("negativeTTL must be from 0 to 2147483647 seconds (RFC 2181, 8)"))]
    pub negative_ttl: u32,
    /// The server that the SOA record names. Absent: `ns.dns` in the cluster's domain.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "primaryNS")]
    #[schemars(length(max = 254))]
    pub primary_ns: Option<String>,
    /// The mailbox that the SOA record names, as a domain name. Absent: `hostmaster` in the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 254))]
    pub mbox: Option<String>,
    /// Records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2000))]
    pub records: Vec<ZoneRecord>,
    /// Parts of the zone that other servers answer for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub delegations: Vec<ZoneDelegation>,
    /// Zone files, whose records are the zone's too. An SOA record in them is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub sources: Vec<ZoneSource>,
}

/// Records of one name and type, or the addresses of a Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.serviceRef) ? !has(self.type) && !has(self.values) : has(self.type) && has(self.values) && size(self.values) > 0").message("a record has type and values, or serviceRef for the addresses of a Service")
)]
#[serde(rename_all = "camelCase")]
pub struct ZoneRecord {
    /// The name, below the zone unless it ends in a dot; `@` is the zone itself, `*` any name that is not there.
    #[schemars(length(min = 1, max = 254))]
    pub name: String,
    /// A, AAAA, ALIAS, CAA, CNAME, DNAME, DS, HTTPS, MX, NAPTR, NS, PTR, SRV, SSHFP, SVCB, TLSA, TXT or `TYPEnnn` (RFC 3597).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 9))]
    #[x_kube(validation = Rule::new("self in ['A', 'AAAA', 'ALIAS', 'CAA', 'CNAME', 'DNAME', 'DS', 'HTTPS', 'MX', 'NAPTR', 'NS', 'PTR', 'SRV', 'SSHFP', 'SVCB', 'TLSA', 'TXT'] || self.matches('^TYPE[0-9]{1,5}$')").message("type must be one of A, AAAA, ALIAS, CAA, CNAME, DNAME, DS, HTTPS, MX, NAPTR, NS, PTR, SRV, SSHFP, SVCB, TLSA, TXT, or TYPE and a number"))]
    pub type_: Option<String>,
    /// Seconds that others may keep it. Absent: the zone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 2147483647").message("ttl must be from 0 to 2147483647 seconds (RFC 2181, 8)"))]
    pub ttl: Option<u32>,
    /// Data as in a zone file; names in it are absolute, with or without their last dot. A TXT value that does not begin with a quote is the text itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub values: Vec<String>,
    /// The Service whose addresses the name has, as they come and go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_ref: Option<ServiceRef>,
}

/// Names a Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ServiceRef {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// A part of the zone that other servers answer for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ZoneDelegation {
    /// The part's name, below the zone unless it ends in a dot.
    #[schemars(length(min = 1, max = 254))]
    pub name: String,
    /// Its servers.
    #[schemars(length(min = 1, max = 15))]
    pub servers: Vec<DelegationServer>,
    /// Seconds that others may keep it. Absent: the zone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 2147483647").message("ttl must be from 0 to 2147483647 seconds (RFC 2181, 8)"))]
    pub ttl: Option<u32>,
}

/// A server of a delegated part.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DelegationServer {
    /// Its name, absolute, with or without the last dot.
    #[schemars(length(min = 1, max = 254))]
    pub name: String,
    /// Its addresses, needed where the name is within the zone (glue).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))").message("each of addresses must be an IP address"))]
    pub addresses: Vec<String>,
}

/// Where more records are.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ZoneSource {
    /// A zone file (RFC 1035, 5) in a ConfigMap that bears the label `weftnet.dev/zone-file`.
    pub config_map_ref: ConfigMapRef,
}

/// Names an entry of a ConfigMap.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ConfigMapRef {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The entry.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Who is asked for the names of a zone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ForwardBody {
    /// The servers.
    #[schemars(length(min = 1, max = 15))]
    pub upstreams: Vec<ForwardUpstream>,
    /// In which order they are asked. One that fails is passed over for a while.
    #[serde(default)]
    pub policy: ForwardPolicy,
    /// How long one server may take, such as `2s`.
    #[serde(default = "default_timeout")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(ms|s|m))+$') && duration(self) >= duration('10ms') && duration(self) <= duration('30s')").message("timeout must be a duration from 10ms to 30s, such as 2s"))]
    #[schemars(length(max = 16))]
    pub timeout: String,
    /// Names at or below these are not the zone's: the next zone answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 254)))]
    pub except: Vec<String>,
    /// Questions that may be on their way at once; more answer SERVFAIL.
    #[serde(default = "default_max_concurrent")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("maxConcurrent must be from 1 to 65535"))]
    pub max_concurrent: u32,
    /// What is remembered of their answers.
    #[serde(default)]
    pub cache: ForwardCache,
}

/// A server that is asked.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("!(self.protocol in ['TLS', 'HTTPS']) || has(self.serverName)").message("serverName is missing: TLS and HTTPS need the name that the server's certificate is for"),
    validation = Rule::new("(self.protocol in ['TLS', 'HTTPS']) || (!has(self.serverName) && !has(self.caBundle))").message("serverName and caBundle are for protocols TLS and HTTPS"),
    validation = Rule::new("self.protocol == 'HTTPS' || !has(self.path)").message("path is for protocol HTTPS")
)]
#[serde(rename_all = "camelCase")]
pub struct ForwardUpstream {
    /// An IP address.
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message("address must be an IP address: a server that is named cannot be found before DNS works"))]
    pub address: String,
    /// The port. Absent: 53 for UDP and TCP, 853 for TLS, 443 for HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("port must be from 1 to 65535"))]
    pub port: Option<u16>,
    /// How it is asked.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// TLS and HTTPS: the name that its certificate is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,
    /// TLS and HTTPS: who may have signed the certificate, in PEM form. Absent: public authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub ca_bundle: Option<String>,
    /// HTTPS: the path. Absent: `/dns-query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("path must begin with a slash, such as /dns-query"))]
    pub path: Option<String>,
}

/// How a server is asked.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// UDP, and TCP for answers that do not fit.
    #[default]
    UDP,
    /// TCP alone (RFC 7766).
    TCP,
    /// TLS (RFC 7858).
    TLS,
    /// HTTPS (RFC 8484).
    HTTPS,
}

/// In which order servers are asked.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardPolicy {
    /// In the order given.
    #[default]
    Sequential,
    /// Any first.
    Random,
    /// Each in turn first.
    RoundRobin,
    /// The quickest first.
    Fastest,
}

/// What is remembered of others' answers. Each view has a cache of its own.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ForwardCache {
    /// Answers that are kept; 0: none.
    #[serde(default = "default_cache_size")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 1000000").message("cache.size must be from 0 to 1000000 answers"))]
    pub size: u32,
    /// Seconds that an answer is kept, at most.
    #[serde(default = "default_max_ttl", rename = "maxTTL")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 604800").message("cache.maxTTL must be from 0 to 604800 seconds"))]
    pub max_ttl: u32,
    /// Seconds that it is remembered that a name is not there, at most.
    #[serde(default = "default_max_negative_ttl", rename = "maxNegativeTTL")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 604800").message("cache.maxNegativeTTL must be from 0 to 604800 seconds"))]
    pub max_negative_ttl: u32,
    /// How long an answer is given out after its time where no server answers (RFC 8767); `0s`: not at all.
    #[serde(default = "default_serve_stale")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) <= duration('168h')").message("cache.serveStale must be a duration from 0s to 168h, such as 24h"))]
    #[schemars(length(max = 16))]
    pub serve_stale: String,
    /// Answers that are asked for often are asked for anew before their time is over.
    #[serde(default = "default_prefetch")]
    pub prefetch: bool,
}

/// Rules, of which the one with the most specific name holds; of equals, the first.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBody {
    /// The rules.
    #[schemars(length(min = 1, max = 256))]
    pub rules: Vec<PolicyRule>,
}

/// What becomes of questions for some names.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.addresses) == (self.action == 'Override')").message("addresses are what action Override answers, and no other action has them"),
    validation = Rule::new("has(self.target) == (self.action == 'Rewrite')").message("target is what action Rewrite asks for, and no other action has one"),
    validation = Rule::new("!has(self.answer) || self.action == 'Block'").message("answer is for action Block")
)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// Names, absolute and within the zone; `*.example.org` is every name below `example.org`.
    #[schemars(length(min = 1, max = 2000), inner(length(max = 255)))]
    pub names: Vec<String>,
    /// What is done.
    pub action: PolicyAction,
    /// Block: what is answered. Absent: NXDomain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<BlockAnswer>,
    /// Override: the addresses that are answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))").message("each of addresses must be an IP address"))]
    pub addresses: Vec<String>,
    /// Rewrite: the name that is asked for in place of the one that was asked; `*.example.net` keeps what the star of the rule stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub target: Option<String>,
    /// Override: seconds that others may keep it.
    #[serde(default = "default_rule_ttl")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 2147483647").message("ttl must be from 0 to 2147483647 seconds (RFC 2181, 8)"))]
    pub ttl: u32,
}

/// What is done with a question.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// It goes its way: no further rule holds.
    Allow,
    /// It is answered with nothing.
    Block,
    /// It is answered with addresses.
    Override,
    /// Another name is asked for, and its records are given out under the name that was asked.
    Rewrite,
}

/// What a blocked name answers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockAnswer {
    /// It does not exist.
    #[default]
    NXDomain,
    /// It exists and has nothing.
    NoData,
    /// The question is refused.
    Refused,
}

impl Default for ForwardCache {
    fn default() -> Self {
        Self {
            size: default_cache_size(),
            max_ttl: default_max_ttl(),
            max_negative_ttl: default_max_negative_ttl(),
            serve_stale: default_serve_stale(),
            prefetch: default_prefetch(),
        }
    }
}

fn default_ttl() -> u32 {
    300
}

fn default_negative_ttl() -> u32 {
    60
}

fn default_timeout() -> String {
    "2s".to_owned()
}

fn default_max_concurrent() -> u32 {
    1000
}

fn default_cache_size() -> u32 {
    10_000
}

fn default_max_ttl() -> u32 {
    3600
}

fn default_max_negative_ttl() -> u32 {
    1800
}

fn default_serve_stale() -> String {
    "24h".to_owned()
}

fn default_prefetch() -> bool {
    true
}

fn default_rule_ttl() -> u32 {
    60
}
