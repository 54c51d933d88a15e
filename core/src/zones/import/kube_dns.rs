//! The ConfigMap of kube-dns: stub domains and servers for the rest.

use std::collections::BTreeMap;

use weft_crds::{DnsZoneSpec, ForwardPolicy};

use super::{ImportError, Imported, plugins};

/// Translates the entries `stubDomains` and `upstreamNameservers` (Kubernetes, "Customizing DNS Service").
///
/// # Errors
/// An entry that is no JSON.
pub fn translate(entries: &BTreeMap<String, String>) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    if let Some(text) = entries.get("stubDomains") {
        let stubs: BTreeMap<String, Vec<String>> =
            read("stubDomains", "a JSON object of lists", text)?;
        for (zone, servers) in stubs {
            forward(&mut imported, &zone, &servers);
        }
    }
    if let Some(text) = entries.get("upstreamNameservers") {
        let servers: Vec<String> = read("upstreamNameservers", "a JSON list", text)?;
        forward(&mut imported, ".", &servers);
    }
    if entries.contains_key("federations") {
        imported
            .lost
            .push("federations: Kubernetes has none any more".to_owned());
    }
    Ok(imported)
}

fn read<T: serde::de::DeserializeOwned>(
    entry: &'static str,
    wanted: &'static str,
    text: &str,
) -> Result<T, ImportError> {
    serde_json::from_str(text).map_err(|source| ImportError::Json {
        entry,
        wanted,
        source,
    })
}

fn forward(imported: &mut Imported, zone: &str, servers: &[String]) {
    let made = plugins::upstreams(servers, None, false, &mut imported.lost);
    if made.is_empty() {
        imported
            .lost
            .push(format!("zone {zone}: none of its servers can be asked"));
        return;
    }
    let spec: DnsZoneSpec = plugins::forward_spec(zone, made, ForwardPolicy::Sequential);
    imported.push(zone, spec);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stub_domains_and_servers_are_zones_that_forward() {
        let entries = [
            (
                "stubDomains",
                r#"{"acme.local": ["192.0.2.4"], "b.example": ["dns.example"]}"#,
            ),
            (
                "upstreamNameservers",
                r#"["192.0.2.8:5353", "2001:db8::53"]"#,
            ),
        ];
        let entries = entries.map(|(key, text)| (key.to_owned(), text.to_owned()));
        let imported = translate(&entries.into()).expect("translated");
        let zones: Vec<_> = imported
            .zones
            .iter()
            .map(|(name, spec)| {
                let forward = spec.forward.as_ref().expect("a body");
                let upstreams = forward.upstreams.iter();
                let servers: Vec<_> = upstreams
                    .map(|upstream| (upstream.address.as_str(), upstream.port))
                    .collect();
                (name.as_str(), spec.zone.as_str(), servers)
            })
            .collect();
        let expected = vec![
            ("acme-local", "acme.local", vec![("192.0.2.4", None)]),
            (
                "root",
                ".",
                vec![("192.0.2.8", Some(5353)), ("2001:db8::53", None)],
            ),
        ];
        assert_eq!(zones, expected);
        assert_eq!(imported.lost.len(), 2);
        assert!(imported.lost[0].contains("dns.example"));
    }
}
