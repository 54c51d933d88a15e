//! Differences: what they lead to, and what stands in them.

use proptest::prelude::*;
use weft_nft::{
    ApplyError, Batch, Change, Element, Field, Key, Policy, Rule, Set, Statement, Table,
    TableFlags, Type, Value, Verdict, diff, replace,
};

use crate::{arbitrary, sample};

fn apply_all(table: &Table, batches: &[Batch]) -> Table {
    let mut table = table.clone();
    for batch in batches {
        table.apply(batch).unwrap();
    }
    table
}

proptest! {
    #[test]
    fn the_difference_of_two_tables_turns_one_into_the_other(
        have in arbitrary::table("t"),
        want in arbitrary::table("t"),
    ) {
        let batches = diff(&have, &want);
        prop_assert_eq!(apply_all(&have, &batches), want);
    }

    #[test]
    fn a_table_is_made_deleted_and_replaced_by_one_batch(
        have in arbitrary::table("t"),
        want in arbitrary::table("t"),
    ) {
        let none = Table::default();
        let made = diff(&none, &want);
        prop_assert_eq!(made.len(), 1);
        prop_assert_eq!(apply_all(&none, &made), want.clone());
        prop_assert_eq!(apply_all(&want, &diff(&want, &none)), none.clone());
        prop_assert_eq!(apply_all(&have, &[replace(&want)]), want.clone());
        prop_assert_eq!(apply_all(&none, &[replace(&want)]), want);
    }

    #[test]
    fn equal_tables_do_not_differ(table in arbitrary::table("t")) {
        prop_assert_eq!(diff(&table, &table.clone()), vec![]);
    }
}

/// The kinds of change in each batch, with what they are about.
fn outline(batches: &[Batch]) -> Vec<Vec<String>> {
    let line = |change: &Change| match change {
        Change::AddTable { .. } => "+table".to_owned(),
        Change::DeleteTable => "-table".to_owned(),
        Change::AddSet { name, .. } => format!("+set {name}"),
        Change::DeleteSet { name } => format!("-set {name}"),
        Change::AddChain { name, .. } => format!("+chain {name}"),
        Change::FlushChain { name } => format!("~chain {name}"),
        Change::DeleteChain { name } => format!("-chain {name}"),
        Change::AddRule { chain, .. } => format!("+rule {chain}"),
        Change::AddElements { set, elements, .. } => format!("+{} in {set}", elements.len()),
        Change::DeleteElements { set, keys, .. } => format!("-{} in {set}", keys.len()),
    };
    let batch = |batch: &Batch| batch.changes.iter().map(line).collect();
    batches.iter().map(batch).collect()
}

#[test]
fn a_new_element_is_one_change() {
    let have = sample::table();
    let mut want = have.clone();
    let key = Key::of([Value::IfaceIndex(2), sample::address("10.1.0.8")]);
    let pods = want.sets.get_mut("pods").unwrap();
    pods.elements.insert(key, Element::default());
    assert_eq!(outline(&diff(&have, &want)), [["+1 in pods"]]);
    assert_eq!(outline(&diff(&want, &have)), [["-1 in pods"]]);
}

#[test]
fn a_changed_element_goes_and_comes_back_in_one_batch() {
    let have = sample::table();
    let mut want = have.clone();
    let map = want.sets.get_mut("host-ports4").unwrap();
    for element in map.elements.values_mut() {
        element.comment = Some("default/web-1".to_owned());
    }
    let expected = [["-1 in host-ports4", "+1 in host-ports4"]];
    assert_eq!(outline(&diff(&have, &want)), expected);
}

#[test]
fn a_changed_rule_replaces_its_chain_in_one_batch() {
    let have = sample::table();
    let mut want = have.clone();
    let chain = want.chains.get_mut("leave").unwrap();
    chain.rules.pop();
    let expected = [["~chain leave", "+rule leave"]];
    assert_eq!(outline(&diff(&have, &want)), expected);
}

#[test]
fn a_changed_policy_is_one_change() {
    let have = sample::table();
    let mut want = have.clone();
    let chain = want.chains.get_mut("forward").unwrap();
    chain.base.as_mut().unwrap().policy = Policy::Accept;
    assert_eq!(outline(&diff(&have, &want)), [["+chain forward"]]);
}

#[test]
fn what_is_used_no_more_goes_after_its_use() {
    let have = sample::table();
    let mut want = have.clone();
    want.chains.get_mut("forward").unwrap().rules.truncate(2);
    want.chains.remove("refuse");
    want.sets.remove("by-link");
    let expected = vec![
        vec!["~chain forward", "+rule forward", "+rule forward"],
        vec!["~chain refuse", "-set by-link", "-chain refuse"],
    ];
    assert_eq!(outline(&diff(&have, &want)), expected);
}

/// Two maps of each family, the first leading to the second.
fn stacked() -> Table {
    let mut table = Table::new("t", TableFlags::default());
    for (name, kind, text) in [
        ("b-first4", Type::Ipv4Addr, "10.0.0.1"),
        ("a-second4", Type::Ipv4Addr, "10.0.0.1"),
        ("b-first6", Type::Ipv6Addr, "fd00::1"),
        ("a-second6", Type::Ipv6Addr, "fd00::1"),
    ] {
        let element = (sample::address(text).into(), Element::default());
        let set = Set::new([kind]).with_elements([element]);
        table.sets.insert(name.to_owned(), set);
    }
    let lookup = |field, set: &str| Statement::in_set([field], set);
    let chain = weft_nft::Chain::base(
        weft_nft::ChainKind::Filter,
        weft_nft::Hook::Forward,
        0,
        Policy::Accept,
    )
    .with_rules([
        Rule::new([
            lookup(Field::IpDaddr, "b-first4"),
            lookup(Field::IpDaddr, "a-second4"),
        ]),
        Rule::new([
            lookup(Field::Ip6Daddr, "b-first6"),
            lookup(Field::Ip6Daddr, "a-second6"),
        ]),
    ]);
    table.chains.insert("c".to_owned(), chain);
    table
}

#[test]
fn elements_go_in_the_order_in_which_packets_look_them_up() {
    let have = stacked();
    let mut want = have.clone();
    for set in want.sets.values_mut() {
        set.elements.clear();
    }
    let expected = [
        ["-1 in b-first4", "-1 in b-first6"],
        ["-1 in a-second4", "-1 in a-second6"],
    ];
    assert_eq!(outline(&diff(&have, &want)), expected);
}

#[test]
fn a_set_of_another_type_is_made_anew_with_its_users_in_one_batch() {
    let have = sample::table();
    let mut want = have.clone();
    let set = want.sets.get_mut("networks6").unwrap();
    set.comment = Some("pods of all nodes".to_owned());
    let expected = [[
        "~chain leave",
        "-set networks6",
        "+set networks6",
        "+rule leave",
        "+rule leave",
        "+1 in networks6",
    ]];
    assert_eq!(outline(&diff(&have, &want)), expected);
}

#[test]
fn an_orphan_is_adopted_and_other_flags_make_the_table_anew() {
    let with = |owner, persist| Table::new("t", TableFlags { owner, persist });
    let adopt = diff(&with(false, true), &with(true, true));
    assert_eq!(outline(&adopt), [["+table"]]);
    let anew = diff(&with(false, false), &with(true, true));
    assert_eq!(outline(&anew), [["+table", "-table", "+table"]]);
}

#[test]
fn a_renamed_table_is_deleted_and_made() {
    let have = Table::new("old", TableFlags::default());
    let want = Table::new("new", TableFlags::default());
    let batches = diff(&have, &want);
    assert_eq!(outline(&batches), [["-table"], ["+table"]]);
    assert_eq!(apply_all(&have, &batches), want);
}

#[test]
fn apply_refuses_what_the_kernel_would() {
    let table = sample::table();
    let refused = |change: Change| {
        let batch = Batch {
            table: "sample".to_owned(),
            changes: vec![change],
        };
        let mut changed = table.clone();
        let error = changed.apply(&batch).unwrap_err();
        assert_eq!(changed, table, "a refused batch changes nothing");
        error
    };
    let name = || "refuse".to_owned();
    let in_use = refused(Change::DeleteChain { name: name() });
    assert_eq!(in_use, ApplyError::InUse("chain refuse".to_owned()));
    let in_use = refused(Change::DeleteSet {
        name: "pods".into(),
    });
    assert_eq!(in_use, ApplyError::InUse("set pods".to_owned()));
    let missing = refused(Change::AddRule {
        chain: name(),
        rule: Rule::new([Statement::Verdict(Verdict::Jump("nowhere".into()))]),
    });
    assert_eq!(missing, ApplyError::Missing("chain nowhere".to_owned()));
    let exists = refused(Change::AddSet {
        name: "pods".into(),
        set: Set::new([Type::Mark]),
    });
    assert_eq!(exists, ApplyError::Exists("set pods".to_owned()));
}
