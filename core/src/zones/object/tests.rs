//! Which zones can be used, and what is said of the others.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::zones::Zones;
use crate::zones::answer::{Outcome, Question, Rcode, Section, Sections};
use crate::zones::config::{Config, ConfigSpec};
use crate::zones::directory::ZoneInput;
use crate::zones::record::RecordType;

/// Zone files by key.
struct Texts(BTreeMap<String, String>);

impl Files for Texts {
    fn text(&self, name: &ConfigMapRef) -> Option<&str> {
        self.0.get(&name.key).map(String::as_str)
    }
}

fn read(spec: &str) -> Result<ZoneObject, Vec<String>> {
    let spec: DnsZoneSpec = serde_saphyr::from_str(spec).expect("a spec");
    let files = [
        ("good", "$TTL 60\n@ SOA a b 1 2 3 4 5\nftp A 192.0.2.7\n"),
        ("bad", "ftp 60 A 192.0.2.7\nftp 60 A seven\n"),
    ];
    let files = files.map(|(key, text)| (key.to_owned(), text.to_owned()));
    let surroundings = Surroundings {
        primary_ns: Name::absolute("ns.dns.cluster.local").expect("a name"),
        ourselves: [([10, 96, 0, 10], 53).into()].into(),
        cluster: vec![Name::absolute("cluster.local").expect("a name")],
    };
    parse("z", &spec, 7, &Texts(files.into()), &surroundings)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn zone(records: &str) -> Result<ZoneObject, Vec<String>> {
    read(&format!(
        "{{zone: corp.example, type: Authoritative, authoritative: {{records: {records}}}}}"
    ))
}

fn refused(spec: &str) -> String {
    read(spec).expect_err("refused").join("\n")
}

fn refused_record(record: &str) -> String {
    zone(&format!("[{record}]"))
        .expect_err("refused")
        .join("\n")
}

#[test]
fn a_zone_has_a_start_and_a_server_without_being_told() {
    let object = zone("[{name: www, type: A, values: [192.0.2.1, 192.0.2.2]}]").expect("a zone");
    assert_eq!(object.records, 4);
    assert_eq!(object.apex.to_string(), "corp.example.");
}

#[test]
fn networks_are_reverse_zones() {
    let name = |text: &str| apex(text).map(|name| name.to_string());
    assert_eq!(name("10.20.0.0/16").as_deref(), Ok("20.10.in-addr.arpa."));
    assert_eq!(
        name("192.0.2.1/32").as_deref(),
        Ok("1.2.0.192.in-addr.arpa.")
    );
    assert_eq!(
        name("2001:db8::/32").as_deref(),
        Ok("8.b.d.0.1.0.0.2.ip6.arpa.")
    );
    assert_eq!(name(".").as_deref(), Ok("."));
    for text in ["10.20.0.0/12", "0.0.0.0/0", "10.0.0.1/8", "2001:db8::/33"] {
        assert!(name(text).is_err(), "{text}");
    }
}

#[test]
fn each_record_is_named_with_the_rule_that_it_breaks() {
    let table = [
        (
            "{name: www, type: A, values: [1.2.3]}",
            "spec.authoritative.records[0] (www.corp.example. A): \"1.2.3\" is not an IPv4 address",
        ),
        (
            "{name: www..a, type: A, values: [192.0.2.1]}",
            "spec.authoritative.records[0].name: \"www..a\" is no domain name: a label is empty",
        ),
        (
            "{name: www, type: MX, values: [mail]}",
            "spec.authoritative.records[0] (www.corp.example. MX): \"mail\" is not a preference",
        ),
        (
            "{name: a, type: ALIAS, values: [b, c]}",
            "spec.authoritative.records[0] (a.corp.example. ALIAS): there are 2 values: an ALIAS has one target",
        ),
        (
            "{name: a, type: TYPE99999, values: [b]}",
            "spec.authoritative.records[0] (a.corp.example. TYPE99999): \"TYPE99999\" is no record type",
        ),
        (
            "{name: www.example.org., type: A, values: [192.0.2.1]}",
            "www.example.org. A: the record is outside zone corp.example.",
        ),
        (
            "{name: a.*.b, type: A, values: [192.0.2.1]}",
            "a.*.b.corp.example.: a star is a name's first label or none (RFC 4592)",
        ),
        (
            "{name: a, type: A, ttl: 2147483648, values: [192.0.2.1]}",
            "a.corp.example. A: ttl 2147483648 is above 2147483647 (RFC 2181, 8)",
        ),
        (
            "{name: a, serviceRef: {namespace: \"\", name: b}}",
            "spec.authoritative.records[0].serviceRef: /b is no namespace and name of a Service",
        ),
    ];
    for (record, message) in table {
        assert_eq!(refused_record(record), message);
    }
    let long = format!("{{name: a, type: TXT, values: [{}]}}", "x".repeat(65_536));
    let message = refused_record(&long);
    assert!(
        message.ends_with("the data has 65794 bytes; a record holds at most 65535"),
        "{message}"
    );
}

#[test]
fn every_fault_is_told_at_once() {
    let records = "[{name: a, type: A, values: [x]}, {name: b, type: A, values: [y]}]";
    assert_eq!(zone(records).expect_err("refused").len(), 2);
    let records = "[{name: a, type: A, values: [192.0.2.1]}, {name: a, type: CNAME, values: [b]}, {name: c, type: CNAME, values: [c.corp.example]}]";
    assert_eq!(
        zone(records).expect_err("refused"),
        [
            "a.corp.example. CNAME: an alias stands alone, and there is A beside it (RFC 1034, 3.6.2)",
            "c.corp.example. CNAME: the aliases lead back to where they began",
        ]
    );
}

#[test]
fn texts_are_taken_as_they_stand_or_in_quotes() {
    for (value, count) in [
        ("v=spf1 include:example.org -all", 1),
        ("'\"one\" \"two\"'", 1),
        ("''", 1),
    ] {
        let object = zone(&format!("[{{name: a, type: TXT, values: [{value}]}}]"));
        assert_eq!(object.expect("a zone").records, count + 2, "{value}");
    }
    assert!(
        refused_record("{name: a, type: TXT, values: ['\"one']}")
            .ends_with("a quote is not closed")
    );
}

#[test]
fn zone_files_are_part_of_the_zone() {
    let from = |key: &str| {
        format!(
            "{{zone: corp.example, type: Authoritative, authoritative: {{sources: [{{configMapRef: {{namespace: n, name: m, key: {key}}}}}]}}}}"
        )
    };
    let object = read(&from("good")).expect("a zone");
    assert_eq!(object.records, 3, "the file's own SOA record is left out");
    assert_eq!(
        refused(&from("bad")),
        "spec.authoritative.sources[0].configMapRef (n/m bad): line 2: ftp.corp.example. A: \"seven\" is not an IPv4 address"
    );
    assert!(refused(&from("none")).contains("there is no entry none in a ConfigMap n/m"));
}

#[test]
fn a_part_is_delegated_with_the_addresses_that_it_needs() {
    let delegated = |server: &str| {
        read(&format!(
            "{{zone: corp.example, type: Authoritative, authoritative: {{delegations: [{{name: sub, servers: [{server}]}}]}}}}"
        ))
    };
    assert_eq!(
        delegated("{name: ns.sub.corp.example, addresses: [192.0.2.1]}")
            .expect("a zone")
            .records,
        4
    );
    assert_eq!(
        delegated("{name: ns.example.org, addresses: [192.0.2.1]}")
            .expect("a zone")
            .records,
        3
    );
    let message = delegated("{name: ns.sub.corp.example}").expect_err("refused");
    assert!(message[0].ends_with("nobody finds it without addresses"));
}

#[test]
fn nobody_asks_himself() {
    let forward = |address: &str| {
        format!(
            "{{zone: corp.example, type: Forward, forward: {{upstreams: [{{address: {address}}}]}}}}"
        )
    };
    assert!(read(&forward("192.0.2.53")).is_ok());
    assert_eq!(
        refused(&forward("10.96.0.10")),
        "spec.forward.upstreams[0].address: 10.96.0.10:53 is the cluster's own DNS, which would ask itself"
    );
    assert!(
        read(&forward("10.96.0.10, port: 5353")).is_ok(),
        "another server there"
    );
    assert!(refused(&forward("0.0.0.0")).ends_with("nobody can be asked at 0.0.0.0"));
}

#[test]
fn the_cluster_keeps_its_names_unless_it_is_told_otherwise() {
    let rule = "policy: {rules: [{names: [a.svc.cluster.local], action: Block}]}";
    let zone = |more: &str| format!("{{zone: svc.cluster.local, type: Policy, {more}{rule}}}");
    assert!(refused(&zone("")).contains("svc.cluster.local. is within cluster.local."));
    assert!(read(&zone("allowClusterDomain: true, ")).is_ok());
}

#[test]
fn views_are_read_with_their_names() {
    let spec = "{zone: corp.example, type: Authoritative, authoritative: {}, views: [
        {name: office, match: {cidrs: [192.0.2.0/24]}, authoritative: {records: [{name: '@', type: CNAME, values: [a]}]}}]}";
    let message = refused(spec);
    assert!(
        message.starts_with("view office: corp.example. CNAME: an alias stands alone"),
        "{message}"
    );
}

#[test]
fn rules_stay_within_their_zone() {
    let policy =
        |rule: &str| format!("{{zone: corp.example, type: Policy, policy: {{rules: [{rule}]}}}}");
    assert!(
        refused(&policy("{names: [a.example.org], action: Block}"))
            .ends_with("names[0]: a.example.org. is outside zone corp.example.")
    );
    let star = "{names: [a.corp.example], action: Rewrite, target: '*.b.example'}";
    assert!(refused(&policy(star)).contains("keeps what a star stands for"));
    let star = "{names: ['*.a.corp.example'], action: Rewrite, target: '*.b.example'}";
    assert!(read(&policy(star)).is_ok());
}

/// Counts the answer's records of a type.
struct Count(RecordType, usize);

impl Sections for Count {
    fn put(&mut self, section: Section, _: &[u8], kind: RecordType, _: u32, _: &[u8]) -> bool {
        self.1 += usize::from(section == Section::Answer && kind == self.0);
        true
    }

    fn clear(&mut self) {
        self.1 = 0;
    }
}

/// Records that mostly can be used, and some that cannot.
fn any_records() -> impl Strategy<Value = Vec<(String, &'static str, String)>> {
    let label = || prop::sample::select(vec!["a", "b", "*", "a.b", "*.b", "@", "x..y", "b.*.a"]);
    let value = prop_oneof![
        Just(("A", "192.0.2.1".to_owned())),
        Just(("A", "192.0.2".to_owned())),
        Just(("AAAA", "2001:db8::1".to_owned())),
        label().prop_map(|name| ("CNAME", format!("{name}.corp.example"))),
        label().prop_map(|name| ("DNAME", format!("{name}.example.org"))),
        label().prop_map(|name| ("MX", format!("10 {name}.corp.example"))),
        label().prop_map(|name| ("ALIAS", format!("{name}.corp.example"))),
        "[ -~]{0,20}".prop_map(|text| ("TXT", text)),
        "[ -~]{0,20}".prop_map(|text| ("SVCB", text)),
        "[ -~]{0,20}".prop_map(|text| ("TYPE65280", text)),
    ];
    prop::collection::vec(
        (label(), value).prop_map(|(name, (kind, value))| (name.to_owned(), kind, value)),
        0..6,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Nothing that is written makes the compiler fall over; and of a zone that can be used each record answers, unless
    /// something above it is elsewhere.
    #[test]
    fn each_record_of_a_zone_that_can_be_used_answers(records in any_records()) {
        let listed: Vec<_> = records
            .iter()
            .map(|(name, kind, value)| serde_json::json!({"name": name, "type": kind, "values": [value]}))
            .collect();
        let spec = serde_json::json!({
            "zone": "corp.example", "type": "Authoritative", "authoritative": {"records": listed},
        });
        let mut zones = Zones::new(Config::parse(&ConfigSpec::default()).expect("defaults")).expect("zones");
        let mut objects = zones.objects([]);
        let spec = serde_json::from_value(spec).expect("a spec");
        objects.set_zone("z", Some(ZoneInput { spec, serial: None }));
        zones.set_directory(objects.compile());
        if objects.is_empty() {
            prop_assert!(objects.refused().all(|(_, faults)| !faults.is_empty()));
            return Ok(());
        }
        let redirected = records.iter().any(|(_, kind, _)| *kind == "DNAME");
        for (name, kind, _) in records.iter().filter(|(_, kind, _)| *kind != "ALIAS") {
            let apex = Name::absolute("corp.example").expect("a name");
            let owner = Name::parse(name, Some(&apex)).expect("a name");
            let kind = RecordType::parse(kind).expect("a type");
            let question = Question { name: owner.wire(), lower: owner.wire(), kind, rotation: 0, client: None };
            let mut count = Count(kind, 0);
            let outcome = zones.answer(&question, &mut count);
            let answered = count.1 > 0 && matches!(outcome, Outcome::Done { rcode: Rcode::NoError, .. } | Outcome::Ask(_));
            prop_assert!(answered || redirected, "{owner} {kind}");
        }
    }
}
