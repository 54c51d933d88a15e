//! Tables in a real kernel: loaded by our encoder, read back by our decoder, listed by nft.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use weft_nft::decode::{Content, Object};
use weft_nft::{Change, Field, Rule, Statement, Table, diff, replace};

use crate::namespace::{self, Kernel, nft, nft_check};
use crate::{arbitrary, sample};

/// What nft prints of the sample: every kind of statement, comment and element once.
const LISTED: [&str; 22] = [
    "type iface_index . ipv4_addr comment \"link and address of each pod\"",
    "elements = { \"lo\" . 10.1.0.7 comment \"default/web-0\" }",
    "elements = { 10.0.0.0/8, 11.0.0.0/8 comment \"next to it\",",
    "192.0.2.9-192.0.2.77, 198.51.100.1,",
    "10.96.0.0/12 . 80-90 comment \"web\"",
    "elements = { tcp . 8080 comment \"default/web-0\" : 10.1.0.7 . 80 }",
    "\"eth0\" comment \"the uplink\" : goto refuse",
    "comment \"answers instead of silence\"",
    "ct state established,related accept",
    "ct status ! dnat ct direction original ct original ip daddr 192.0.2.1 ct original ip6 saddr != 2001:db8::9 accept",
    "iifname vmap @by-link",
    "ip daddr . tcp dport @services accept",
    "tcp dport { 80, 443 } ip saddr != 10.128.0.0/9 meta mark != 0x00004000 accept",
    "sctp dport != 1000-2000 return",
    "ip saddr @networks4 ip daddr != @networks4 oifname != \"lo\" masquerade fully-random",
    "reject with tcp reset",
    "reject with icmpx admin-prohibited comment \"the rest\"",
    "iifname \"weft*\" iif . ip saddr != @pods counter packets 0 bytes 0 drop comment \"not the pod's address\"",
    "udp dport 4789 ip6 saddr fd00:10::/48 notrack",
    "fib daddr type local meta nfproto ipv4 meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @host-ports4",
    "dnat ip6 to ip6 daddr . meta l4proto . th dport map @host-ports6",
    "ip6 daddr 2001:db8::53 tcp sport 53 dnat ip6 to [fd00:10::7]:53",
];

/// What nft prints of rules that carry a number from one look-up to the next.
const CARRIED: [&str; 10] = [
    "meta priority set ip daddr . meta l4proto . th dport map @counts4",
    "meta priority vmap @counts",
    "dnat ip to meta priority . numgen random mod 2 map @endpoints4",
    "dnat ip to meta priority . numgen random mod 2 offset 5 map @endpoints4",
    "meta priority set none",
    "ct label 3 ct label ! 127 meta priority set 1:2",
    "meta priority set meta priority . numgen random mod 1 map @slots",
    "update @clients4 { ip saddr . meta priority timeout 1h : meta priority }",
    "dnat ip to meta priority map @by-endpoint4",
    "update @seen6 { ip6 saddr timeout 1h }",
];

#[test]
fn the_sample_is_loaded_read_back_and_listed() {
    namespace::run(|| {
        let table = sample::table();
        let mut kernel = Kernel::open();
        kernel.apply(&replace(&table)).unwrap();
        assert_eq!(kernel.read("sample"), table);
        kernel.apply(&replace(&table)).unwrap();
        assert_eq!(kernel.read("sample"), table, "replaced by itself");

        must_list("sample", &LISTED);
        let (accepted, said) = nft_check(&table.to_string());
        assert!(accepted, "{said}");
    });
}

#[test]
fn numbers_carried_between_look_ups_are_loaded_read_back_and_listed() {
    namespace::run(|| {
        let table = sample::carrier();
        assert_eq!(table.faults(), []);
        let mut kernel = Kernel::open();
        kernel.apply(&replace(&table)).unwrap();
        assert_eq!(kernel.read("carrier"), table);

        must_list("carrier", &CARRIED);
    });
}

/// Lists a table with nft, of which these words must be in it. Versions of nft break lines differently.
fn must_list(table: &str, expected: &[&str]) {
    let (listed, text) = nft(&["list", "table", "inet", table]);
    assert!(listed, "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in expected {
        assert!(words.contains(line), "{line:?} is missing from {text}");
    }
}

#[test]
fn nft_lists_the_sample_as_json() {
    namespace::run(|| {
        let table = sample::table();
        Kernel::open().apply(&replace(&table)).unwrap();
        let (listed, json) = nft(&["-j", "list", "table", "inet", "sample"]);
        assert!(listed, "{}", json.as_str());
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        let objects = parsed["nftables"].as_array().unwrap();
        let of_kind = |kind: &str| {
            objects
                .iter()
                .filter(|object| object[kind].is_object())
                .count()
        };
        let rules: usize = table.chains.values().map(|chain| chain.rules.len()).sum();
        assert_eq!(of_kind("rule"), rules);
        assert_eq!(of_kind("chain"), table.chains.len());
        assert_eq!(of_kind("set") + of_kind("map"), table.sets.len());
        let masquerade = objects
            .iter()
            .filter(|object| object["rule"]["chain"] == "leave");
        let flags = masquerade.map(|rule| &rule["rule"]["expr"][3]["masquerade"]["flags"]);
        let flags: Vec<_> = flags.collect();
        assert_eq!(flags[0], "fully-random");
    });
}

#[test]
fn nft_reads_the_text_to_the_same_table() {
    namespace::run(|| {
        let table = sample::table();
        let file = format!("{}/sample.nft", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&file, table.to_string()).unwrap();
        let (loaded, said) = nft(&["-f", &file]);
        assert!(loaded, "{said}");
        let mut ours = Kernel::open();
        let by_nft = ours.read("sample");
        assert_eq!(by_nft.sets.len(), table.sets.len());
        for (name, set) in &table.sets {
            assert_eq!(by_nft.sets[name], *set, "set {name}");
        }
        let (_, by_nft) = nft(&["list", "table", "inet", "sample"]);
        ours.apply(&replace(&table)).unwrap();
        let (_, by_us) = nft(&["list", "table", "inet", "sample"]);
        assert_eq!(by_nft, by_us);
    });
}

#[test]
fn differences_of_random_tables_are_taken_by_the_kernel() {
    namespace::run(|| {
        let state = std::cell::RefCell::new((Kernel::open(), Table::default()));
        let mut runner = TestRunner::new(Config {
            cases: 150,
            failure_persistence: None,
            ..Config::default()
        });
        // Each case goes on from what the one before left: a walk through random tables.
        let walk = runner.run(&arbitrary::table("t"), |want| {
            let (kernel, have) = &mut *state.borrow_mut();
            for batch in diff(have, &want) {
                let applied = kernel.apply(&batch);
                prop_assert_eq!(applied, Ok(()), "{:#?}", batch);
            }
            *have = kernel.read("t");
            prop_assert_eq!(&*have, &want);
            let (listed, text) = nft(&["list", "table", "inet", "t"]);
            prop_assert!(listed, "{}", text);
            Ok(())
        });
        if let Err(error) = walk {
            panic!("{error}");
        }
    });
}

#[test]
fn nft_takes_the_text_of_random_tables() {
    namespace::run(|| {
        let mut runner = TestRunner::new(Config {
            cases: 60,
            failure_persistence: None,
            ..Config::default()
        });
        let texts = runner.run(&arbitrary::table("t"), |mut table| {
            for chain in table.chains.values_mut() {
                chain.rules.retain(|rule| !has_random(rule));
            }
            let (accepted, said) = nft_check(&table.to_string());
            prop_assert!(accepted, "{}\n{}", said, table);
            Ok(())
        });
        if let Err(error) = texts {
            panic!("{error}");
        }
    });
}

/// nft lists a rule with a random number in a key, and reads it as text only for a map whose type is not named
/// but told by an example (`typeof`), which is not in the model.
fn has_random(rule: &Rule) -> bool {
    let mut fields = rule.statements.iter().flat_map(Statement::fields);
    fields.any(|field| matches!(field, Field::Random { .. }))
}

#[test]
fn a_refusal_names_the_change() {
    namespace::run(|| {
        let mut kernel = Kernel::open();
        kernel.apply(&replace(&sample::table())).unwrap();
        let mut batch = replace(&sample::table());
        batch.changes = vec![
            Change::FlushChain {
                name: "reroute".into(),
            },
            Change::DeleteChain {
                name: "refuse".into(),
            },
        ];
        let (change, refusal) = kernel.apply(&batch).unwrap_err();
        assert_eq!(change.as_deref(), Some("delete chain refuse"));
        assert_eq!(refusal.errno, 16, "EBUSY: {refusal}");
        assert_eq!(kernel.read("sample"), sample::table(), "nothing changed");
    });
}

#[test]
fn a_foreign_rule_shows_as_a_difference_that_removes_it() {
    namespace::run(|| {
        let table = sample::table();
        let mut kernel = Kernel::open();
        kernel.apply(&replace(&table)).unwrap();
        let (added, said) = nft(&[
            "insert", "rule", "inet", "sample", "forward", "limit", "rate", "3/second", "drop",
        ]);
        assert!(added, "{said}");
        let (added, said) = nft(&["add", "set", "inet", "sample", "odd", "{ type arp_op; }"]);
        assert!(!added || said.is_empty(), "{said}");
        let found = kernel.read("sample");
        let first = &found.chains["forward"].rules[0].statements;
        assert_eq!(*first, [Statement::Unknown("limit".to_owned())]);
        for batch in diff(&found, &table) {
            kernel.apply(&batch).unwrap();
        }
        assert_eq!(kernel.read("sample"), table);
    });
}

#[test]
fn notifications_say_which_table_they_concern_and_who_did_it() {
    namespace::run(|| {
        let mut kernel = Kernel::open();
        let mut listener = Kernel::listen();
        let before = kernel.generation();
        kernel.apply(&replace(&sample::table())).unwrap();
        assert!(nft(&["add", "table", "ip", "sample"]).0);
        assert!(nft(&["flush", "chain", "inet", "sample", "forward"]).0);

        let heard = listener.heard();
        let ours = heard.iter().filter(|message| message.concerns("sample"));
        assert!(ours.count() > 30);
        assert!(!heard.iter().any(|message| message.concerns("other")));
        let foreign =
            |content: &Content| matches!(content, Content::New(Object::Foreign { family: 2, .. }));
        assert!(heard.iter().any(|message| foreign(&message.content)));
        let deleted = heard.iter().filter(|message| {
            matches!(&message.content, Content::Deleted(Object::Rule(rule)) if rule.chain == "forward")
        });
        let rules = sample::table().chains["forward"].rules.len();
        assert_eq!(deleted.count(), rules);
        let Some(Content::New(Object::Generation { id, name, process })) =
            heard.last().map(|message| &message.content)
        else {
            panic!("no generation at the end: {:?}", heard.last());
        };
        assert_eq!(*id, before + 3);
        assert_eq!(name.as_deref(), Some("nft"));
        assert!(process.is_some());
    });
}
