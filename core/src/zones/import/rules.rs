//! From the plugins `hosts`, `rewrite` and `template` to the rules of a zone of type Policy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_crds::{BlockAnswer, DnsZoneSpec, PolicyAction, PolicyBody, PolicyRule, ZoneType};

use super::Imported;
use super::corefile::Plugin;
use super::plugins::{plain, spec};

/// Rules that one object holds (`spec.policy.rules`).
const AT_ONCE: usize = 256;

/// The rules of one served name.
pub struct Rules<'a> {
    zone: &'a str,
    cluster: &'a [String],
    rules: Vec<PolicyRule>,
}

impl<'a> Rules<'a> {
    /// None yet.
    pub fn new(zone: &'a str, cluster: &'a [String]) -> Self {
        Self {
            zone,
            cluster,
            rules: Vec::new(),
        }
    }

    /// Makes zones of them.
    pub fn finish(self, imported: &mut Imported) {
        let name = match self.zone {
            "." => "rules".to_owned(),
            zone => format!("{zone}-rules"),
        };
        for rules in self.rules.chunks(AT_ONCE) {
            let in_cluster = rules.iter().flat_map(|rule| &rule.names).any(|name| {
                let mut zones = self.cluster.iter().filter(|zone| *zone != ".");
                zones.any(|zone| name.ends_with(zone.as_str()) && !zone.ends_with(".arpa"))
            });
            let spec = DnsZoneSpec {
                policy: Some(PolicyBody {
                    rules: rules.to_vec(),
                }),
                allow_cluster_domain: in_cluster,
                ..spec(self.zone, ZoneType::Policy)
            };
            imported.push(&name, spec);
        }
    }

    fn push(&mut self, names: Vec<String>, action: PolicyAction, ttl: u32) -> &mut PolicyRule {
        let index = self.rules.len();
        self.rules.push(PolicyRule {
            names,
            action,
            answer: None,
            addresses: Vec::new(),
            target: None,
            ttl,
        });
        &mut self.rules[index]
    }

    /// `hosts`: names by address, those with the same addresses in one rule.
    pub fn hosts(&mut self, plugin: &Plugin, imported: &mut Imported) {
        if let Some(path) = plugin.arguments.first().filter(|path| path.contains('/')) {
            imported.lost.push(format!(
                "hosts {path}: write its lines into the Corefile first"
            ));
        }
        let ttl = plugin.property("ttl").and_then(<[String]>::first);
        let ttl = ttl.and_then(|ttl| ttl.parse().ok()).unwrap_or(3600);
        let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in &plugin.properties {
            let Ok(address) = line[0].parse::<IpAddr>() else {
                continue;
            };
            for name in &line[1..] {
                let name = plain(name).to_ascii_lowercase();
                by_name.entry(name).or_default().push(address.to_string());
            }
        }
        let mut by_addresses: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for (name, addresses) in by_name {
            by_addresses.entry(addresses).or_default().push(name);
        }
        for (addresses, names) in by_addresses {
            self.push(names, PolicyAction::Override, ttl).addresses = addresses;
        }
        if plugin.property("fallthrough").is_none() {
            imported.notes.push(format!(
                "hosts of {} without fallthrough: names that are not listed are asked of other zones here",
                self.zone
            ));
        }
        if plugin.property("no_reverse").is_none() {
            imported.notes.push(format!(
                "hosts of {}: addresses have no names here; a zone of a network, such as 192.0.2.0/24, gives them some",
                self.zone
            ));
        }
    }

    /// `rewrite name`, of a whole name or of its end.
    pub fn rewrite(&mut self, plugin: &Plugin, imported: &mut Imported) {
        let words: Vec<&str> = plugin.arguments.iter().map(String::as_str).collect();
        let words = match words.as_slice() {
            ["stop" | "continue", rest @ ..] => rest,
            all => all,
        };
        let (from, to, below) = match words {
            ["name", "exact", from, to, ..] => (*from, *to, false),
            ["name", "suffix", from, to, ..] => (*from, *to, true),
            [
                "name",
                "regex" | "prefix" | "substring" | "exact" | "suffix",
                ..,
            ] => {
                return self.lose(plugin, imported);
            }
            ["name", from, to, ..] => (*from, *to, false),
            // The form of a block: its first line is the rule.
            _ => match plugin.properties.first() {
                Some(line) if words.is_empty() => {
                    let inner = Plugin {
                        name: plugin.name.clone(),
                        arguments: line.clone(),
                        properties: Vec::new(),
                    };
                    return self.rewrite(&inner, imported);
                }
                _ => return self.lose(plugin, imported),
            },
        };
        let end = |name: &str| plain(name.trim_start_matches('.')).to_ascii_lowercase();
        let (names, target) = if below {
            let from = end(from);
            (vec![format!("*.{from}")], format!("*.{}", end(to)))
        } else {
            (vec![end(from)], end(to))
        };
        self.push(names, PolicyAction::Rewrite, 60).target = Some(target);
    }

    /// `template` of one answer for all names of a zone.
    pub fn template(&mut self, plugin: &Plugin, imported: &mut Imported) {
        let [class, kind, zones @ ..] = plugin.arguments.as_slice() else {
            return self.lose(plugin, imported);
        };
        let matches_all = plugin
            .property("match")
            .is_none_or(|patterns| patterns == [".*"]);
        if !matches!(class.as_str(), "IN" | "ANY") || !matches_all {
            return self.lose(plugin, imported);
        }
        let zones: Vec<&str> = if zones.is_empty() {
            vec![self.zone]
        } else {
            zones.iter().map(|zone| plain(zone)).collect()
        };
        let names = zones.iter().flat_map(|zone| match *zone {
            "." => vec!["*.".to_owned()],
            zone => vec![zone.to_owned(), format!("*.{zone}")],
        });
        let names: Vec<String> = names.collect();
        let answers: Vec<Vec<&str>> = plugin
            .properties
            .iter()
            .filter(|line| line[0] == "answer")
            .map(|line| {
                line[1..]
                    .iter()
                    .flat_map(|word| word.split_whitespace())
                    .collect()
            })
            .collect();
        let code = plugin.property("rcode").and_then(<[String]>::first);
        match (answers.as_slice(), code.map(String::as_str)) {
            ([], Some("NXDOMAIN")) if kind == "ANY" => {
                self.push(names, PolicyAction::Block, 60).answer = Some(BlockAnswer::NXDomain);
            }
            ([], Some("REFUSED")) if kind == "ANY" => {
                self.push(names, PolicyAction::Block, 60).answer = Some(BlockAnswer::Refused);
            }
            ([], Some("NOERROR") | None) if kind == "ANY" => {
                self.push(names, PolicyAction::Block, 60).answer = Some(BlockAnswer::NoData);
            }
            ([answer], None | Some("NOERROR")) => match fixed(answer) {
                Some((ttl, address)) => {
                    self.push(names, PolicyAction::Override, ttl).addresses =
                        vec![address.to_string()];
                }
                None => self.lose(plugin, imported),
            },
            _ => self.lose(plugin, imported),
        }
    }

    fn lose(&self, plugin: &Plugin, imported: &mut Imported) {
        imported.lost.push(format!(
            "{} {} of {}: no rule says this",
            plugin.name,
            plugin.arguments.join(" "),
            self.zone
        ));
    }
}

/// Time to live and address of an answer such as `{{ .Name }} 60 IN A 192.0.2.1`.
fn fixed(words: &[&str]) -> Option<(u32, IpAddr)> {
    match words {
        ["{{", ".Name", "}}", ttl, "IN", "A" | "AAAA", address]
        | ["{{.Name}}", ttl, "IN", "A" | "AAAA", address] => {
            Some((ttl.parse().ok()?, address.parse().ok()?))
        }
        _ => None,
    }
}
