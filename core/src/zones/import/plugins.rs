//! From plugins of CoreDNS to zones. What a plugin does that a zone cannot say is said to be lost.

use std::net::{IpAddr, SocketAddr};

use weft_crds::{
    AuthoritativeBody, ConfigMapRef, DnsZoneSpec, ForwardBody, ForwardCache, ForwardPolicy,
    ForwardUpstream, OnMiss, UpstreamProtocol, ZoneSource, ZoneType,
};

use super::corefile::{Plugin, ServerBlock};
use super::{Imported, rules};

/// Plugins whose work every server does, or whose work is the chart's.
const BUILT_IN: [&str; 18] = [
    "any",
    "bind",
    "bufsize",
    "cancel",
    "debug",
    "errors",
    "health",
    "lameduck",
    "loadbalance",
    "log",
    "loop",
    "metadata",
    "minimal",
    "nsid",
    "pprof",
    "prometheus",
    "ready",
    "reload",
];

/// Where a ConfigMap with a Corefile is, for zone files beside it.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its entries.
    pub keys: Vec<String>,
}

/// Translates server blocks.
#[must_use]
pub fn translate(blocks: &[ServerBlock], origin: &Origin) -> Imported {
    let mut imported = Imported::default();
    let cluster: Vec<String> = blocks
        .iter()
        .flat_map(|block| &block.plugins)
        .filter(|plugin| plugin.name == "kubernetes")
        .flat_map(|plugin| plugin.arguments.iter().map(|zone| plain(zone).to_owned()))
        .collect();
    for block in blocks {
        if block.zones.iter().any(|zone| zone.starts_with('(')) {
            imported.lost.push(format!(
                "snippet {}: write out what it stands for",
                block.zones.join(" ")
            ));
            continue;
        }
        for zone in &block.zones {
            let Some(name) = served_name(zone, &mut imported) else {
                continue;
            };
            let mut rules = rules::Rules::new(&name, &cluster);
            for plugin in &block.plugins {
                one(plugin, block, &name, origin, &mut rules, &mut imported);
            }
            rules.finish(&mut imported);
        }
    }
    imported
}

/// The name in front of a port.
fn served_name(text: &str, imported: &mut Imported) -> Option<String> {
    let rest = match text.split_once("://") {
        Some(("dns", rest)) => rest,
        Some((scheme, _)) => {
            imported.notes.push(format!(
                "{text}: {scheme} is served by flags of the server, --listen-tls and --listen-https"
            ));
            return None;
        }
        None => text,
    };
    let (name, port) = rest.rsplit_once(':').unwrap_or((rest, "53"));
    if port != "53" {
        imported.notes.push(format!(
            "{text}: zones are served at port 53, not at {port}"
        ));
    }
    Some(plain(name).to_owned())
}

/// A name without its last dot; the root as a dot.
pub(super) fn plain(name: &str) -> &str {
    match name.trim_end_matches('.') {
        "" => ".",
        rest => rest,
    }
}

fn one(
    plugin: &Plugin,
    block: &ServerBlock,
    zone: &str,
    origin: &Origin,
    rules: &mut rules::Rules<'_>,
    imported: &mut Imported,
) {
    match plugin.name.as_str() {
        "kubernetes" => kubernetes(plugin, imported),
        "forward" | "proxy" => forward(plugin, block, zone, imported),
        "file" | "auto" => file(plugin, zone, origin, imported),
        "hosts" => rules.hosts(plugin, imported),
        "rewrite" => rules.rewrite(plugin, imported),
        "template" => rules.template(plugin, imported),
        // Part of the zone that forwards.
        "cache" => {}
        name if BUILT_IN.contains(&name) => {}
        name => imported
            .lost
            .push(format!("plugin {name} of {zone}: there is nothing like it")),
    }
}

/// Names of the cluster are the chart's.
fn kubernetes(plugin: &Plugin, imported: &mut Imported) {
    let zones: Vec<&str> = plugin.arguments.iter().map(|zone| plain(zone)).collect();
    let own: Vec<&&str> = zones
        .iter()
        .filter(|zone| !zone.ends_with(".arpa"))
        .collect();
    if let Some(domain) = own.first().filter(|domain| ***domain != "cluster.local") {
        imported.values.insert("clusterDomain", (**domain).into());
    }
    for property in &plugin.properties {
        let values = &property[1..];
        let number = values.first().and_then(|value| value.parse::<u32>().ok());
        let (key, value): (&str, serde_json::Value) = match property[0].as_str() {
            "ttl" if number.is_some() => ("ttl", number.into()),
            "pods" if !values.is_empty() => ("pods", values[0].as_str().into()),
            "endpoint_pod_names" => ("endpointPodNames", true.into()),
            "namespaces" => ("namespaces", values.into()),
            "ignore" => ("ignoreEmptyServices", true.into()),
            "fallthrough" if values.is_empty() => ("fallthrough", zones.clone().into()),
            "fallthrough" => {
                let listed: Vec<&str> = values.iter().map(|zone| plain(zone)).collect();
                ("fallthrough", listed.into())
            }
            "endpoint" | "tls" | "kubeconfig" => continue,
            other => {
                imported
                    .lost
                    .push(format!("kubernetes {other}: the chart has no such value"));
                continue;
            }
        };
        imported.values.insert(key, value);
    }
}

fn forward(plugin: &Plugin, block: &ServerBlock, zone: &str, imported: &mut Imported) {
    let Some((from, servers)) = plugin.arguments.split_first() else {
        imported
            .lost
            .push(format!("forward of {zone}: nobody is named"));
        return;
    };
    let from = match plain(from) {
        "." => zone,
        other => other,
    };
    if servers.iter().any(|server| server.starts_with('/')) {
        if from == "." {
            imported.notes.push(
                "forward . to a file: names outside are asked of the node's servers without a zone that says so".to_owned(),
            );
        } else {
            imported
                .lost
                .push(format!("forward {from} to a file: name the servers in it"));
        }
        return;
    }
    let server_name = plugin
        .property("tls_servername")
        .and_then(<[String]>::first);
    let tcp = plugin.property("force_tcp").is_some();
    let made = upstreams(servers, server_name, tcp, &mut imported.lost);
    if made.is_empty() {
        imported
            .lost
            .push(format!("forward {from}: none of its servers can be asked"));
        return;
    }
    if plugin
        .property("tls")
        .is_some_and(|files| !files.is_empty())
    {
        imported.notes.push(format!(
            "forward {from}: put the authority's certificate into caBundle; certificates of clients are not sent"
        ));
    }
    let policy = plugin.property("policy").and_then(<[String]>::first);
    let policy = match policy.map(String::as_str) {
        Some("round_robin") => ForwardPolicy::RoundRobin,
        Some("sequential") => ForwardPolicy::Sequential,
        _ => ForwardPolicy::Random,
    };
    let mut spec = forward_spec(from, made, policy);
    if let Some(body) = &mut spec.forward {
        let except = plugin.property("except").unwrap_or_default();
        body.except = except.iter().map(|name| plain(name).to_owned()).collect();
        let limit = plugin
            .property("max_concurrent")
            .and_then(<[String]>::first);
        if let Some(limit) = limit
            .and_then(|limit| limit.parse().ok())
            .filter(|limit| *limit > 0)
        {
            body.max_concurrent = limit;
        }
        if let Some(cache) = block.plugins.iter().find(|plugin| plugin.name == "cache") {
            body.cache = remembered(cache);
        }
    }
    imported.push(from, spec);
}

/// What `cache` says.
fn remembered(plugin: &Plugin) -> ForwardCache {
    let seconds = |text: Option<&String>| text.and_then(|text| text.parse::<u32>().ok());
    let ttl = seconds(plugin.arguments.first());
    let of = |name: &str| seconds(plugin.property(name).and_then(|values| values.get(1)));
    let mut cache = ForwardCache::default();
    cache.max_ttl = of("success").or(ttl).unwrap_or(cache.max_ttl);
    cache.max_negative_ttl = of("denial").or(ttl).unwrap_or(cache.max_negative_ttl);
    cache.prefetch = plugin.property("prefetch").is_some();
    cache.serve_stale = match plugin.property("serve_stale") {
        None => "0s".to_owned(),
        Some(values) => values.first().map_or("1h".to_owned(), Clone::clone),
    };
    cache
}

/// A zone that forwards.
pub(super) fn forward_spec(
    zone: &str,
    upstreams: Vec<ForwardUpstream>,
    policy: ForwardPolicy,
) -> DnsZoneSpec {
    DnsZoneSpec {
        forward: Some(ForwardBody {
            upstreams,
            policy,
            timeout: "2s".to_owned(),
            except: Vec::new(),
            max_concurrent: 1000,
            cache: ForwardCache::default(),
        }),
        ..spec(zone, ZoneType::Forward)
    }
}

/// A zone without a body.
pub(super) fn spec(zone: &str, type_: ZoneType) -> DnsZoneSpec {
    DnsZoneSpec {
        zone: plain(zone).to_ascii_lowercase(),
        type_,
        priority: 0,
        visibility: None,
        on_miss: None,
        allow_cluster_domain: false,
        authoritative: None,
        forward: None,
        policy: None,
        views: Vec::new(),
    }
}

/// Servers such as `192.0.2.1`, `[2001:db8::1]:5353` or `tls://192.0.2.1`.
pub(super) fn upstreams(
    servers: &[String],
    server_name: Option<&String>,
    tcp: bool,
    lost: &mut Vec<String>,
) -> Vec<ForwardUpstream> {
    let mut made = Vec::new();
    for text in servers {
        let (scheme, rest) = text.split_once("://").unwrap_or(("dns", text));
        let protocol = match scheme {
            "dns" if tcp => UpstreamProtocol::TCP,
            "dns" => UpstreamProtocol::UDP,
            "tls" => UpstreamProtocol::TLS,
            _ => {
                lost.push(format!("server {text}: {scheme} is not spoken"));
                continue;
            }
        };
        let whole = rest.parse::<SocketAddr>();
        let place = whole.map(|address| (address.ip(), Some(address.port())));
        let alone = || rest.trim_matches(['[', ']']).parse::<IpAddr>();
        let Ok((address, port)) = place.or_else(|_| alone().map(|address| (address, None))) else {
            lost.push(format!(
                "server {text}: a server has an address, because names cannot be found before DNS works"
            ));
            continue;
        };
        if protocol == UpstreamProtocol::TLS && server_name.is_none() {
            lost.push(format!(
                "server {text}: TLS needs the name of its certificate (tls_servername)"
            ));
            continue;
        }
        made.push(ForwardUpstream {
            address: address.to_string(),
            port,
            protocol,
            server_name: server_name
                .filter(|_| protocol == UpstreamProtocol::TLS)
                .cloned(),
            ca_bundle: None,
            path: None,
        });
    }
    made
}

/// Zone files that are entries of the same ConfigMap.
fn file(plugin: &Plugin, zone: &str, origin: &Origin, imported: &mut Imported) {
    let path = plugin
        .arguments
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let key = path.rsplit('/').next().unwrap_or_default();
    if plugin.name == "auto" || !origin.keys.iter().any(|other| other == key) {
        imported.lost.push(format!(
            "{} {path} of {zone}: put the zone file into a ConfigMap and name it in authoritative.sources",
            plugin.name
        ));
        return;
    }
    let listed = &plugin.arguments[1..];
    let zones: Vec<&str> = if listed.is_empty() {
        vec![zone]
    } else {
        listed.iter().map(String::as_str).collect()
    };
    for zone in zones {
        let source = ZoneSource {
            config_map_ref: ConfigMapRef {
                namespace: origin.namespace.clone(),
                name: origin.name.clone(),
                key: key.to_owned(),
            },
        };
        let falls_through = plugin.property("fallthrough").is_some();
        let spec = DnsZoneSpec {
            authoritative: Some(AuthoritativeBody {
                default_ttl: 300,
                negative_ttl: 60,
                primary_ns: None,
                mbox: None,
                records: Vec::new(),
                delegations: Vec::new(),
                sources: vec![source],
            }),
            on_miss: falls_through.then_some(OnMiss::NextZone),
            ..spec(zone, ZoneType::Authoritative)
        };
        imported.push(plain(zone), spec);
    }
    imported.notes.push(format!(
        "label the ConfigMap: kubectl label configmap {} -n {} weftnet.dev/zone-file=",
        origin.name, origin.namespace
    ));
}
