//! Random tables that the kernel takes: recipes of small numbers, cooked into tables.
//!
//! A recipe shrinks well; what it asks for and cannot have (a rule with a set that is not there) is
//! left out in cooking.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use weft_nft::{
    Chain, ChainKind, Class, DataType, Element, Field, Hook, Key, NatFamily, NatTarget, Operation,
    Operator, Part, Policy, Reject, Right, Rule, Set, SetFlags, Statement, Table, TableFlags, Type,
    Value, Verdict, ct_state, ct_status,
};

use crate::sample::{TRANSPORTS, address, network, port};

/// By number of the thing: a variant of its definition, and its content.
type Recipe = BTreeMap<u8, (u8, Vec<(u8, u8)>)>;

/// Any table of this name that the kernel takes.
pub fn table(name: &'static str) -> impl Strategy<Value = Table> {
    let things = |count| {
        let content = vec((0..RULES, 0..4_u8), 0..5);
        btree_map(0..count, (0..3_u8, content), 0..usize::from(count))
    };
    (things(SETS), things(CHAINS)).prop_map(move |(sets, chains)| cook(name, &sets, &chains))
}

const SETS: u8 = 15;
/// Kinds of rules.
const RULES: u8 = 20;
const CHAINS: u8 = 8;
/// Chains from this number on are regular.
const REGULAR: u8 = 4;

fn cook(name: &str, sets: &Recipe, chains: &Recipe) -> Table {
    let mut table = Table::new(name, TableFlags::default());
    for (number, (variant, _)) in chains {
        let chain = chain(*number, *variant);
        table.chains.insert(chain_name(*number), chain);
    }
    for (number, (variant, content)) in sets {
        let mut set = set(*number, *variant);
        // What is in a dynamic set is packets' doing.
        let content = content.iter().filter(|_| !set.flags.dynamic);
        for (key, data) in content {
            let element = element(*number, *data, &table);
            set.elements.insert(self::key(*number, *key), element);
        }
        table.sets.insert(set_name(*number), set);
    }
    for (number, (_, content)) in chains {
        let rules = content
            .iter()
            .filter_map(|what| rule(*number, *what, &table));
        let rules: Vec<Rule> = rules.collect();
        if let Some(chain) = table.chains.get_mut(&chain_name(*number)) {
            chain.rules = rules;
        }
    }
    table
}

fn set_name(number: u8) -> String {
    format!("set{number}")
}

fn chain_name(number: u8) -> String {
    format!("chain{number}")
}

fn set(number: u8, variant: u8) -> Set {
    let target = |kind| DataType::Values(vec![kind, Type::InetService]);
    let class = || DataType::Values(vec![Type::ClassId]);
    let mut set = match number {
        0 => Set::new([Type::IfaceIndex, Type::Ipv4Addr]),
        1 => Set::new([Type::Ipv4Addr]).with_intervals(),
        2 => Set::new([Type::Ipv6Addr]).with_intervals(),
        3 => Set::new([Type::Ipv4Addr, Type::InetService]).with_intervals(),
        4 => Set::map([Type::InetProto, Type::InetService], target(Type::Ipv4Addr)),
        5 => Set::map([Type::Ipv6Addr, Type::InetService], target(Type::Ipv6Addr)),
        6 => Set::map([Type::Ifname], DataType::Verdict),
        7 => Set::map(
            [Type::Mark, Type::IfaceIndex],
            DataType::Values(vec![Type::Mark]),
        ),
        8 => Set {
            flags: SetFlags {
                timeout: true,
                ..SetFlags::default()
            },
            timeout: Some(Duration::from_secs(3600)),
            size: Some(100),
            ..Set::new([Type::InetService])
        },
        9 => Set::map(
            [Type::Ipv4Addr, Type::InetProto, Type::InetService],
            class(),
        ),
        10 => Set::map([Type::ClassId], DataType::Verdict),
        11 => Set::map([Type::ClassId, Type::Mark], target(Type::Ipv4Addr)),
        12 => Set::map([Type::ClassId, Type::Mark], class()),
        13 => dynamic(Set::map([Type::Ipv4Addr, Type::ClassId], class())),
        _ => dynamic(Set::new([Type::Ipv6Addr])),
    };
    match variant {
        0 => {}
        1 => set.comment = Some("variant".to_owned()),
        _ => set.size = Some(500 + u32::from(number)),
    }
    set
}

/// The set as one that packets fill.
fn dynamic(set: Set) -> Set {
    Set {
        flags: SetFlags {
            timeout: true,
            dynamic: true,
            ..SetFlags::default()
        },
        timeout: Some(Duration::from_secs(60)),
        size: Some(1000),
        ..set
    }
}

fn key(number: u8, key: u8) -> Key {
    let v4 = |last: u8| Value::Ipv4(Ipv4Addr::new(10, 0, key, last));
    let v6 = |last: u16| Value::Ipv6(Ipv6Addr::new(0xfd00, 0, 0, u16::from(key), 0, 0, 0, last));
    let index = Value::IfaceIndex(u32::from(key) + 1);
    match number {
        0 => Key::of([index, v4(1)]),
        1 => Key(vec![match key % 3 {
            0 => Part::range(v4(0), v4(255)),
            1 => Part::range(v4(0), v4(9)),
            _ => Part::One(v4(255)),
        }]),
        2 => Key(vec![Part::range(v6(0), v6(u16::from(key)))]),
        3 => Key(vec![
            Part::range(v4(0), v4(key)),
            Part::range(port(80), port(80 + u16::from(key % 2))),
        ]),
        4 => Key::of([
            TRANSPORTS[usize::from(key % 3)].clone(),
            port(u16::from(key)),
        ]),
        5 => Key::of([v6(1), port(u16::from(key))]),
        6 => Value::Ifname(format!("weft{key}")).into(),
        7 => Key::of([Value::Mark(u32::from(key)), index]),
        9 => Key::of([
            v4(1),
            TRANSPORTS[usize::from(key % 3)].clone(),
            port(u16::from(key)),
        ]),
        10 => Value::ClassId(u32::from(key)).into(),
        11 | 12 => Key::of([
            Value::ClassId(0x7000_0000 | u32::from(key)),
            Value::Mark(u32::from(key % 4)),
        ]),
        _ => port(u16::from(key)).into(),
    }
}

fn element(number: u8, data: u8, table: &Table) -> Element {
    let mut element = match number {
        4 | 11 => Element::of([address("10.9.0.1"), port(u16::from(data))]),
        5 => Element::of([address("fd00::9"), port(u16::from(data))]),
        6 | 10 => Element::verdict(verdict(data, table)),
        7 => Element::of([Value::Mark(u32::from(data))]),
        9 | 12 => Element::of([Value::ClassId(0x7100_0000 | u32::from(data))]),
        _ => Element::default(),
    };
    if data == 3 {
        element.comment = Some("remark".to_owned());
    }
    element
}

/// A verdict that may lead to a regular chain, if that is there.
fn verdict(data: u8, table: &Table) -> Verdict {
    let chain = chain_name(REGULAR + data);
    match data {
        _ if !table.chains.contains_key(&chain) => Verdict::Drop,
        0 | 1 => Verdict::Jump(chain),
        _ => Verdict::Goto(chain),
    }
}

fn chain(number: u8, variant: u8) -> Chain {
    let policy = if variant == 1 {
        Policy::Drop
    } else {
        Policy::Accept
    };
    let mut chain = match number {
        0 => Chain::base(ChainKind::Filter, Hook::Forward, 0, policy),
        1 => Chain::base(ChainKind::Nat, Hook::Prerouting, -100, Policy::Accept),
        2 => Chain::base(ChainKind::Nat, Hook::Postrouting, 100, Policy::Accept),
        3 => Chain::base(ChainKind::Filter, Hook::Prerouting, -300, policy),
        _ => Chain::default(),
    };
    if variant == 2 {
        chain.comment = Some("variant".to_owned());
    }
    chain
}

fn rule(chain: u8, (what, with): (u8, u8), table: &Table) -> Option<Rule> {
    let has = |set: u8| {
        table
            .sets
            .contains_key(&set_name(set))
            .then(|| set_name(set))
    };
    let first = match what {
        0 => Statement::in_set([Field::Iif, Field::IpSaddr], has(0)?),
        1 => Statement::in_set([Field::IpDaddr], has(1)?),
        2 => Statement::not_in_set([Field::Ip6Saddr], has(2)?),
        3 => Statement::in_set([Field::IpSaddr, Field::TcpDport], has(3)?),
        4 if chain == 1 => return Some(dnat(has(4)?)),
        5 if chain == 1 => return Some(dnat6(has(5)?)),
        6 if chain < REGULAR => Statement::vmap([Field::Iifname], has(6)?),
        7 => Statement::in_set([Field::UdpDport], has(8)?),
        8 if chain == 2 => Statement::Masquerade {
            fully_random: with == 1,
        },
        9 => return jump(chain, with, table),
        10 if chain == 0 => Statement::Reject(Reject::TcpReset),
        11 => return Some(carry(has(9)?)),
        12 if chain < REGULAR => Statement::vmap([Field::Priority], has(10)?),
        13 if chain == 1 => return Some(choose(has(11)?, with)),
        14 => Statement::SetPriority(Class::Map {
            key: vec![Field::Priority, random(with)],
            map: has(12)?,
        }),
        15 => Statement::SetPriority(Class::Literal(u32::from(with) << 16 | 1)),
        16 => remember(has(13)?, with),
        17 => notice(has(14)?, with),
        18 if with == 3 => Statement::SetLabel(82),
        number => comparison(number, with),
    };
    let statements = match first {
        first @ (Statement::Vmap { .. } | Statement::Masquerade { .. } | Statement::Reject(_)) => {
            vec![first]
        }
        first => {
            let mut statements = checked(first);
            statements.push(Statement::Counter);
            statements.push(Statement::Verdict(Verdict::Return));
            statements
        }
    };
    let rule = Rule::new(statements);
    Some(match with {
        3 => rule.with_comment("remark"),
        _ => rule,
    })
}

/// A jump to a regular chain of a higher number, so that there is no loop.
fn jump(chain: u8, with: u8, table: &Table) -> Option<Rule> {
    let target = chain.max(REGULAR - 1) + 1 + with;
    let name = chain_name(target);
    table.chains.get(&name)?;
    let mut statements = checked(comparison(with, with));
    statements.push(Statement::jump(name));
    Some(Rule::new(statements))
}

/// A comparison with what nft 1.0.6 must know in front of it to read its text.
fn checked(comparison: Statement) -> Vec<Statement> {
    let of_transport = comparison
        .fields()
        .any(|field| matches!(field, Field::CtOriginalProtoSrc | Field::CtOriginalProtoDst));
    let check = of_transport.then(|| Statement::is_any(Field::L4proto, TRANSPORTS));
    check.into_iter().chain([comparison]).collect()
}

fn comparison(number: u8, with: u8) -> Statement {
    let ct = |bits| Value::CtState(bits);
    match (number + 5 * with) % 20 {
        0 => Statement::is(Field::CtState, ct(ct_state::NEW | ct_state::UNTRACKED)),
        1 => Statement::is_not(Field::CtStatus, Value::CtStatus(ct_status::SNAT)),
        2 => Statement::is_any(Field::TcpDport, [port(80), port(u16::from(with))]),
        3 => Statement::is(Field::Iifname, Value::Ifname("weft*".to_owned())),
        4 => Statement::is_not(Field::Oifname, Value::Ifname("lo".to_owned())),
        5 => Statement::is(Field::Iifgroup, Value::DevGroup(5)),
        6 => Statement::compare(
            Field::IpDaddr,
            Operator::Ne,
            Right::network(network("10.0.0.0/13")),
        ),
        7 => Statement::compare(
            Field::Ip6Daddr,
            Operator::Eq,
            Right::network(network("fd00::/63")),
        ),
        8 => Statement::compare(
            Field::UdpSport,
            Operator::Eq,
            Right::Range(port(5), port(500)),
        ),
        9 => Statement::is(Field::FibDaddrType, Value::FibLocal),
        10 => Statement::is(Field::Icmpv6Type, Value::Icmpv6Type(134)),
        11 => Statement::is(Field::CtOriginalIpDaddr, address("10.0.0.1")),
        12 => Statement::is(Field::CtDirection, Value::CtReply),
        13 => Statement::is(Field::Priority, Value::ClassId(0x7000_0000)),
        14 => Statement::is(Field::CtLabel, Value::CtLabel(3 + 40 * with)),
        15 => Statement::is_not(Field::CtLabel, Value::CtLabel(with)),
        16 => Statement::is(Field::CtProtocol, TRANSPORTS[1].clone()),
        17 => Statement::is_not(Field::CtOriginalProtoDst, port(53)),
        18 => Statement::is(Field::CtOriginalProtoSrc, port(53)),
        _ => Statement::is(Field::ThDport, port(9)),
    }
}

fn random(with: u8) -> Field {
    Field::Random {
        modulus: 1 + u32::from(with),
        offset: 5 * u32::from(with % 2),
    }
}

/// Carries what stands under a packet's destination.
fn carry(map: String) -> Rule {
    let key = vec![Field::IpDaddr, Field::L4proto, Field::ThDport];
    Rule::new([
        Statement::is_any(Field::L4proto, TRANSPORTS),
        Statement::SetPriority(Class::Map { key, map }),
    ])
}

/// Translates to one of several.
fn choose(map: String, with: u8) -> Rule {
    let key = vec![Field::Priority, random(with)];
    Rule::new([
        Statement::is_any(Field::L4proto, TRANSPORTS),
        Statement::Dnat {
            family: NatFamily::Ip,
            to: NatTarget::Map { key, map },
        },
    ])
}

/// Remembers what is carried under a packet's source.
fn remember(set: String, with: u8) -> Statement {
    Statement::Dynamic {
        operation: match with {
            0 => Operation::Add,
            _ => Operation::Update,
        },
        set,
        key: vec![Field::IpSaddr, Field::Priority],
        timeout: (with == 2).then_some(Duration::from_secs(3600)),
        data: Some(Field::Priority),
    }
}

/// Remembers or forgets a packet's source.
fn notice(set: String, with: u8) -> Statement {
    Statement::Dynamic {
        operation: match with {
            0 => Operation::Add,
            1 => Operation::Update,
            _ => Operation::Delete,
        },
        set,
        key: vec![Field::Ip6Saddr],
        timeout: (with == 1).then_some(Duration::from_secs(7)),
        data: None,
    }
}

fn dnat(map: String) -> Rule {
    let key = vec![Field::L4proto, Field::ThDport];
    Rule::new([
        Statement::is_any(Field::L4proto, TRANSPORTS),
        Statement::Dnat {
            family: NatFamily::Ip,
            to: NatTarget::Map { key, map },
        },
    ])
}

fn dnat6(map: String) -> Rule {
    let key = vec![Field::Ip6Daddr, Field::TcpDport];
    Rule::new([Statement::Dnat {
        family: NatFamily::Ip6,
        to: NatTarget::Map { key, map },
    }])
}
