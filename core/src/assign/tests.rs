//! Assignment, release and rest of addresses, from tables and random sequences.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::view::{BlockView, HostView};

fn key(number: usize) -> AttachmentKey {
    AttachmentKey {
        container_id: format!("sandbox-{number:04}"),
        ifname: "eth0".to_owned(),
    }
}

fn pool(cidrs: &[&str]) -> PoolView {
    PoolView {
        overlay: "default".to_owned(),
        assignable: true,
        priority: 0,
        cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        reserved: Vec::new(),
        prealloc: 16,
        cooldown_seconds: 30,
        masquerade: true,
        masquerade_except: Vec::new(),
    }
}

fn block(pool: &str, cidr: &str, node: &str) -> (String, BlockView) {
    let block = BlockView {
        uid: format!("uid of {cidr}"),
        pool: pool.to_owned(),
        cidr: cidr.parse().unwrap(),
        node: node.to_owned(),
        draining: false,
    };
    (cidr.to_owned(), block)
}

fn view<const P: usize, const B: usize>(
    pools: [(&str, PoolView); P],
    blocks: [(String, BlockView); B],
) -> NodeView {
    NodeView {
        node: "n1".to_owned(),
        pools: pools.map(|(name, pool)| (name.to_owned(), pool)).into(),
        blocks: blocks.into(),
        host: HostView {
            ipv6: true,
            ..HostView::default()
        },
        ..NodeView::default()
    }
}

fn book(view: &NodeView) -> AddressBook {
    let mut book = AddressBook::default();
    book.configure(view);
    book
}

fn addresses(leases: &[Lease]) -> Vec<String> {
    leases
        .iter()
        .map(|lease| lease.address.to_string())
        .collect()
}

#[test]
fn each_family_with_a_pool_gives_one_address() {
    let view = view(
        [("a", pool(&["10.64.0.0/16", "fd00:64::/112"]))],
        [
            block("a", "10.64.1.0/26", "n1"),
            block("a", "fd00:64::40/122", "n1"),
            block("a", "10.64.2.0/26", "n2"),
        ],
    );
    let mut book = book(&view);
    let leases = book.assign(0, &key(1)).unwrap();
    assert_eq!(addresses(&leases), ["10.64.1.0", "fd00:64::40"]);
    assert_eq!(
        book.assign(5, &key(1)).unwrap(),
        leases,
        "the same request again"
    );
    let second = book.assign(0, &key(2)).unwrap();
    assert_eq!(addresses(&second), ["10.64.1.1", "fd00:64::41"]);
}

#[test]
fn without_ipv6_in_the_kernel_pods_get_ipv4_alone() {
    let mut view = view(
        [("a", pool(&["10.64.0.0/16", "fd00:64::/112"]))],
        [
            block("a", "10.64.1.0/26", "n1"),
            block("a", "fd00:64::40/122", "n1"),
        ],
    );
    view.host.ipv6 = false;
    assert_eq!(
        addresses(&book(&view).assign(0, &key(1)).unwrap()),
        ["10.64.1.0"]
    );
}

#[test]
fn every_address_is_given_out_but_reserved_ones() {
    let mut reserved = pool(&["10.64.0.0/29"]);
    reserved.reserved = vec!["10.64.0.2/31".parse().unwrap()];
    let view = view([("a", reserved)], [block("a", "10.64.0.0/29", "n1")]);
    let mut book = book(&view);
    let given: Vec<String> = (0..6)
        .flat_map(|number| addresses(&book.assign(0, &key(number)).unwrap()))
        .collect();
    assert_eq!(
        given,
        [
            "10.64.0.0",
            "10.64.0.1",
            "10.64.0.4",
            "10.64.0.5",
            "10.64.0.6",
            "10.64.0.7"
        ]
    );
    assert!(book.assign(0, &key(9)).is_err());
}

#[test]
fn the_higher_priority_comes_first_and_names_decide_a_tie() {
    let mut low = pool(&["10.1.0.0/24"]);
    low.priority = -1;
    let view = view(
        [
            ("a-low", low),
            ("b", pool(&["10.2.0.0/24"])),
            ("c", pool(&["10.3.0.0/24"])),
        ],
        [
            block("a-low", "10.1.0.64/26", "n1"),
            block("b", "10.2.0.64/32", "n1"),
            block("c", "10.3.0.64/32", "n1"),
        ],
    );
    let mut book = book(&view);
    let pools: Vec<String> = (0..3)
        .map(|number| book.assign(0, &key(number)).unwrap()[0].pool.clone())
        .collect();
    assert_eq!(pools, ["b", "c", "a-low"]);
}

#[test]
fn refusals_name_the_pool_and_the_next_step() {
    let mut empty = AddressBook::default();
    assert_eq!(empty.assign(0, &key(1)), Err(AssignError::NoPool));
    let mut without = book(&view([("a", pool(&["10.64.0.0/16"]))], []));
    let error = without.assign(0, &key(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this node holds no IPv4 block of IPPool a yet; the operator has been asked for one: if this lasts, look at the conditions of that IPPool"
    );
    let view = view(
        [("a", pool(&["10.64.0.0/16", "fd00:64::/112"]))],
        [
            block("a", "10.64.1.0/26", "n1"),
            block("a", "fd00:64::41/128", "n1"),
        ],
    );
    let mut book = book(&view);
    book.assign(0, &key(1)).unwrap();
    let error = book.assign(0, &key(2)).unwrap_err();
    assert_eq!(error.code(), "WEFT-1503");
    assert_eq!(
        error.to_string(),
        "IPPool a has no free IPv6 address on this node (1 in use, 0 resting); the operator has been asked for a block: if this lasts, add a network to the pool"
    );
    let usage = book.pool_usage(0);
    assert_eq!(
        (usage[0].allocated, usage[0].free, usage[0].waiting),
        (1, 63, 0),
        "nothing half done"
    );
    assert_eq!(
        (usage[1].allocated, usage[1].free, usage[1].waiting),
        (1, 0, 1)
    );
    assert!(book.has_waiting(60) && !book.has_waiting(61));
}

#[test]
fn a_released_address_rests_and_then_comes_last() {
    let view = view(
        [("a", pool(&["10.64.0.0/16"]))],
        [block("a", "10.64.1.0/30", "n1")],
    );
    let mut book = book(&view);
    for number in 0..4 {
        book.assign(0, &key(number)).unwrap();
    }
    for number in [2, 0] {
        let resting = book.release(100 + number as u64, &key(number));
        assert_eq!(resting[0].until, 130 + number as u64);
    }
    assert!(
        book.assign(130, &key(5)).is_err(),
        "30 seconds are not over before 131"
    );
    assert_eq!(
        addresses(&book.assign(131, &key(5)).unwrap()),
        ["10.64.1.0"]
    );
    assert!(book.assign(131, &key(6)).is_err());
    assert_eq!(
        addresses(&book.assign(133, &key(6)).unwrap()),
        ["10.64.1.2"]
    );
    assert_eq!(book.release(140, &key(7)), [], "unknown is nothing");
}

#[test]
fn without_cool_down_an_address_is_free_at_once_but_others_come_first() {
    let mut quick = pool(&["10.64.0.0/16"]);
    quick.cooldown_seconds = 0;
    let view = view([("a", quick)], [block("a", "10.64.1.0/31", "n1")]);
    let mut book = book(&view);
    assert_eq!(addresses(&book.assign(7, &key(0)).unwrap()), ["10.64.1.0"]);
    book.release(7, &key(0));
    assert_eq!(addresses(&book.assign(7, &key(1)).unwrap()), ["10.64.1.1"]);
    assert_eq!(addresses(&book.assign(7, &key(2)).unwrap()), ["10.64.1.0"]);
}

#[test]
fn a_draining_block_gives_nothing_and_is_released_when_all_has_come_back() {
    let mut view = view(
        [("a", pool(&["10.64.0.0/16"]))],
        [block("a", "10.64.1.0/26", "n1")],
    );
    let mut book = book(&view);
    book.assign(0, &key(1)).unwrap();
    view.blocks.get_mut("10.64.1.0/26").unwrap().draining = true;
    book.configure(&view);
    assert!(book.assign(0, &key(2)).is_err());
    let usage = |book: &AddressBook| book.block_usage()[0].clone();
    assert_eq!((usage(&book).allocated, usage(&book).released), (1, false));
    book.release(10, &key(1));
    assert_eq!(
        (usage(&book).cooling, usage(&book).released),
        (1, false),
        "still resting"
    );
    book.expire(41);
    assert!(usage(&book).released);
}

#[test]
fn addresses_outlive_a_block_that_vanishes_and_comes_back() {
    let with = view(
        [("a", pool(&["10.64.0.0/16"]))],
        [block("a", "10.64.1.0/31", "n1")],
    );
    let without = view([("a", pool(&["10.64.0.0/16"]))], []);
    let mut book = book(&with);
    let leases = book.assign(0, &key(1)).unwrap();
    book.configure(&without);
    assert_eq!(book.of(&key(1)), Some(leases.as_slice()));
    assert_eq!(book.pool_usage(0)[0].allocated, 1);
    book.configure(&with);
    assert_eq!(addresses(&book.assign(0, &key(2)).unwrap()), ["10.64.1.1"]);
    assert!(book.assign(0, &key(3)).is_err());
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let lease = |address: &str| Lease {
        address: address.parse().unwrap(),
        pool: "a".to_owned(),
    };
    let rest = |address: &str, until| Resting {
        address: address.parse().unwrap(),
        pool: "a".to_owned(),
        until,
    };
    let mut book = AddressBook::default();
    book.restore(&key(1), vec![lease("10.64.1.0")]).unwrap();
    book.restore(&key(1), vec![lease("10.64.1.0")]).unwrap();
    assert_eq!(
        book.restore(&key(2), vec![lease("10.64.1.0")])
            .unwrap_err()
            .to_string(),
        "the record gives 10.64.1.0 to sandbox-0002/eth0 and to sandbox-0001/eth0 too"
    );
    assert!(book.restore(&key(1), vec![lease("10.64.1.1")]).is_err());
    assert!(book.restore_resting(0, rest("10.64.1.0", 5)).is_err());
    book.restore_resting(0, rest("10.64.1.2", u64::MAX))
        .unwrap();
    assert_eq!(
        book.restore(&key(3), vec![lease("10.64.1.2")])
            .unwrap_err()
            .to_string(),
        "the record gives 10.64.1.2 to sandbox-0003/eth0 and says that it rests"
    );
    assert_eq!(book.resting().next().unwrap().until, MAX_COOLDOWN_SECONDS);
}

#[derive(Clone, Debug)]
enum Step {
    Assign(usize),
    Release(usize),
    Wait(u64),
    Drain(usize),
    Vanish(usize),
    Return(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..40).prop_map(Step::Assign),
        6 => (0_usize..40).prop_map(Step::Release),
        3 => (0_u64..20).prop_map(Step::Wait),
        1 => (0_usize..4).prop_map(Step::Drain),
        1 => (0_usize..4).prop_map(Step::Vanish),
        1 => (0_usize..4).prop_map(Step::Return),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..120)
}

const BLOCKS: [&str; 4] = [
    "10.64.0.0/29",
    "10.64.0.8/29",
    "fd00:64::/125",
    "fd00:64::8/125",
];

/// What must be true of a book, by a naive model.
#[derive(Default)]
struct Model {
    leases: BTreeMap<AttachmentKey, Vec<Lease>>,
    resting: BTreeMap<IpAddr, u64>,
}

impl Model {
    fn check(&self, book: &AddressBook, view: &NodeView, now: u64) {
        let leases: BTreeMap<AttachmentKey, Vec<Lease>> = book
            .leases()
            .map(|(key, leases)| (key.clone(), leases.to_vec()))
            .collect();
        assert_eq!(leases, self.leases);
        let all: Vec<IpAddr> = leases
            .values()
            .flatten()
            .map(|lease| lease.address)
            .collect();
        let distinct: BTreeSet<IpAddr> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len(), "an address was given twice");
        let usable = Usable::of(view.pools.get("a"));
        for usage in book.block_usage() {
            let cidr: IpNet = usage.name.parse().unwrap();
            let taken = distinct
                .iter()
                .filter(|address| cidr.contains(*address))
                .count() as u64;
            assert_eq!(usage.allocated, taken, "{}", usage.name);
        }
        for usage in book.pool_usage(now) {
            let family = |address: &IpAddr| Family::of(*address).as_str() == usage.family;
            let open = view.blocks.values().filter(|block| !block.draining);
            let capacity = open
                .clone()
                .flat_map(|block| {
                    block
                        .cidr
                        .hosts()
                        .chain([block.cidr.network(), block.cidr.broadcast()])
                })
                .collect::<BTreeSet<IpAddr>>()
                .into_iter()
                .filter(|address| family(address) && usable.contains(*address))
                .filter(|address| {
                    !distinct.contains(address) && !book.resting.contains_key(address)
                })
                .count() as u64;
            assert_eq!(
                usage.free, capacity,
                "an address was lost or made up: {usage:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_address_is_given_twice_lost_or_used_before_it_has_rested(steps in steps()) {
        let pool = PoolView { cooldown_seconds: 10, ..pool(&["10.64.0.0/28", "fd00:64::/124"]) };
        let all = view([("a", pool)], BLOCKS.map(|cidr| block("a", cidr, "n1")));
        let mut view = all.clone();
        let mut book = book(&view);
        let mut model = Model::default();
        let mut now = 1000;
        for step in steps {
            match step {
                Step::Assign(number) => {
                    if let Ok(leases) = book.assign(now, &key(number)) {
                        prop_assert_eq!(leases.len(), 2);
                        let new = !model.leases.contains_key(&key(number));
                        for lease in leases.iter().filter(|_| new) {
                            let until = model.resting.remove(&lease.address);
                            prop_assert!(until.is_none_or(|until| now > until), "{lease:?} had not rested");
                            let block = view.blocks.values().find(|block| block.cidr.contains(&lease.address));
                            prop_assert!(block.is_some_and(|block| !block.draining));
                        }
                        model.leases.insert(key(number), leases);
                    }
                }
                Step::Release(number) => {
                    let resting = book.release(now, &key(number));
                    let leases = model.leases.remove(&key(number)).unwrap_or_default();
                    prop_assert_eq!(resting.len(), leases.len());
                    model.resting.extend(resting.into_iter().map(|rest| (rest.address, rest.until)));
                }
                Step::Wait(seconds) => {
                    now += seconds;
                    book.expire(now);
                }
                Step::Drain(number) => {
                    if let Some(block) = view.blocks.get_mut(BLOCKS[number]) {
                        block.draining = true;
                    }
                    book.configure(&view);
                }
                Step::Vanish(number) => {
                    view.blocks.remove(BLOCKS[number]);
                    book.configure(&view);
                }
                Step::Return(number) => {
                    let name = BLOCKS[number].to_owned();
                    view.blocks.entry(name.clone()).or_insert_with(|| all.blocks[&name].clone());
                    book.configure(&view);
                }
                Step::Restart => {
                    let mut again = AddressBook::default();
                    for (key, leases) in book.leases() {
                        again.restore(key, leases.to_vec()).unwrap();
                    }
                    again.configure(&view);
                    for rest in book.resting() {
                        again.restore_resting(now, rest.clone()).unwrap();
                    }
                    book = again;
                }
            }
            model.check(&book, &view, now);
        }
    }
}
