//! What other configurations of a cluster DNS become, by the program itself.

use std::process::Command;

use weft_crds::{DnsZoneSpec, PolicyAction, UpstreamProtocol};

/// A Corefile that has one of each.
const COREFILE: &str = r#"
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    rewrite name exact old.example.org www.corp.example
    rewrite stop name suffix .team.example .team.svc.cluster.local
    rewrite name regex (.*)-x\.example {1}.example
    hosts {
       192.0.2.1 a.example b.example
       192.0.2.2 a.example
       ttl 60
       no_reverse
       fallthrough
    }
    template ANY ANY ads.example {
       rcode NXDOMAIN
    }
    template IN A fixed.example {
       answer "{{ .Name }} 30 IN A 192.0.2.9"
    }
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods verified
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
    dnssec
}
corp.example:53 {
    forward . 192.0.2.53 tls://192.0.2.54 {
       tls_servername dns.example
       policy sequential
       except a.corp.example
       max_concurrent 50
    }
    cache {
       success 1000 60
       denial 1000 10
       prefetch 5
       serve_stale
    }
}
"#;

/// Standard output, standard error, exit code.
fn import(arguments: &[&str], text: &str) -> (String, i32) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("input");
    std::fs::write(&path, text).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-weft"))
        .args(arguments)
        .arg(&path)
        .output()
        .expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    (text, output.status.code().expect("a code"))
}

/// Names and specs of the zones in what was printed.
fn zones(text: &str) -> Vec<(String, DnsZoneSpec)> {
    let documents = text.split("---\n").skip(1);
    documents
        .map(|document| {
            let value: serde_json::Value = serde_saphyr::from_str(document).expect("YAML");
            assert_eq!(value["kind"], "DnsZone");
            let name = value["metadata"]["name"].as_str().expect("a name");
            let spec = serde_json::from_value(value["spec"].clone()).expect("a spec");
            (name.to_owned(), spec)
        })
        .collect()
}

#[test]
fn a_corefile_becomes_zones_and_says_what_it_could_not_become() {
    let (text, code) = import(&["import", "corefile"], COREFILE);
    assert_eq!(code, 1, "not all was translated");
    let lost: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# not translated: "))
        .collect();
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost[0].starts_with("rewrite name regex"), "{lost:?}");
    assert!(lost[1].starts_with("plugin dnssec of ."), "{lost:?}");
    for value in ["pods: verified", "ttl: 30", "- in-addr.arpa"] {
        assert!(text.contains(value), "{value} is among the chart's values");
    }
    let zones = zones(&text);
    let names: Vec<&str> = zones.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["rules", "corp-example"]);
    let rules = &zones[0].1.policy.as_ref().expect("rules").rules;
    let said: Vec<_> = rules
        .iter()
        .map(|rule| {
            (
                rule.action,
                rule.names.join(" "),
                rule.addresses.join(" "),
                rule.target.clone(),
            )
        })
        .collect();
    let rule = |action, names: &str, addresses: &str, target: Option<&str>| {
        (
            action,
            names.to_owned(),
            addresses.to_owned(),
            target.map(str::to_owned),
        )
    };
    assert_eq!(
        said,
        [
            rule(
                PolicyAction::Rewrite,
                "old.example.org",
                "",
                Some("www.corp.example")
            ),
            rule(
                PolicyAction::Rewrite,
                "*.team.example",
                "",
                Some("*.team.svc.cluster.local")
            ),
            rule(PolicyAction::Override, "b.example", "192.0.2.1", None),
            rule(
                PolicyAction::Override,
                "a.example",
                "192.0.2.1 192.0.2.2",
                None
            ),
            rule(PolicyAction::Block, "ads.example *.ads.example", "", None),
            rule(
                PolicyAction::Override,
                "fixed.example *.fixed.example",
                "192.0.2.9",
                None
            ),
        ]
    );
    let forward = zones[1].1.forward.as_ref().expect("a body");
    assert_eq!(forward.upstreams.len(), 2);
    assert_eq!(forward.upstreams[1].protocol, UpstreamProtocol::TLS);
    assert_eq!((forward.max_concurrent, forward.except.len()), (50, 1));
    assert_eq!(
        (forward.cache.max_ttl, forward.cache.max_negative_ttl),
        (60, 10)
    );
    assert_eq!(
        (forward.cache.prefetch, forward.cache.serve_stale.as_str()),
        (true, "1h")
    );
}

#[test]
fn what_is_translated_whole_says_so() {
    let (text, code) = import(
        &["import", "kube-dns"],
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: kube-dns}\ndata:\n  stubDomains: |\n    {\"acme.local\": [\"192.0.2.4\"]}\n",
    );
    assert_eq!((code, zones(&text).len()), (0, 1));
    let (text, code) = import(
        &["import", "corefile"],
        ".:53 {\n  forward . 192.0.2.1\n}\n",
    );
    assert_eq!((code, zones(&text).len()), (0, 1));
}

#[test]
fn zone_files_beside_the_corefile_are_sources_of_their_zones() {
    let map = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: coredns, namespace: kube-system}\ndata:\n  Corefile: |\n    corp.example {\n      file /etc/coredns/corp.db\n    }\n    gone.example {\n      file /etc/coredns/gone.db\n    }\n  corp.db: |\n    www 60 IN A 192.0.2.1\n";
    let (text, code) = import(&["import", "corefile"], map);
    let zones = zones(&text);
    assert_eq!((code, zones.len()), (1, 1), "{text}");
    let body = zones[0].1.authoritative.as_ref().expect("a body");
    let source = &body.sources[0].config_map_ref;
    let place = (&*source.namespace, &*source.name, &*source.key);
    assert_eq!(place, ("kube-system", "coredns", "corp.db"));
    assert!(text.contains("# not translated: file /etc/coredns/gone.db of gone.example"));
    assert!(text.contains("kubectl label configmap coredns -n kube-system weftnet.dev/zone-file="));
}

#[test]
fn what_is_no_configuration_is_an_error() {
    for (kind, text) in [("corefile", ".:53 {\n"), ("kube-dns", "no")] {
        let (printed, code) = import(&["import", kind], text);
        assert_eq!((printed.as_str(), code), ("", 2), "{kind}");
    }
}
