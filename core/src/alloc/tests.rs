//! Tables and properties of block allocation.

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(300);

/// A view that reads like what it is: `pool(…)`, `node(…)`, `block(…)`.
fn view() -> AllocView {
    AllocView {
        node_grace: GRACE,
        ..AllocView::default()
    }
}

impl AllocView {
    fn pool(mut self, name: &str, cidrs: &[(&str, u8)], prealloc: u32) -> Self {
        let pool = AllocPool {
            accepted: true,
            cidrs: cidrs
                .iter()
                .map(|(cidr, block_size)| AllocCidr {
                    cidr: cidr.parse().unwrap(),
                    block_size: *block_size,
                    reserved: Vec::new(),
                })
                .collect(),
            nodes: self.nodes.keys().cloned().collect(),
            priority: 0,
            prealloc,
        };
        self.pools.insert(name.to_owned(), pool);
        self
    }

    fn nodes(mut self, names: &[&str]) -> Self {
        for name in names {
            self.nodes.insert((*name).to_owned(), AllocNode::default());
        }
        self
    }

    fn block(mut self, cidr: &str, pool: &str, node: &str) -> Self {
        let created = NewBlock {
            cidr: cidr.parse().unwrap(),
            name: block_name(cidr.parse().unwrap()),
            pool: pool.to_owned(),
            node: node.to_owned(),
        };
        self.create(&created);
        self
    }

    fn create(&mut self, block: &NewBlock) {
        let number = self.blocks.len() + 1;
        let stored = AllocBlock {
            cidr: block.cidr,
            pool: block.pool.clone(),
            node: block.node.clone(),
            draining: false,
            uid: format!("uid-{}-{number}", block.name),
            resource_version: number.to_string(),
            created: 1,
        };
        let before = self.blocks.insert(block.name.clone(), stored);
        assert!(before.is_none(), "{} was granted twice", block.name);
    }

    /// What the agent of a node reports: free and waiting of one pool, and the use of all its blocks.
    fn report(mut self, node: &str, pool: &str, free: u64, waiting: u64, occupied: u64) -> Self {
        let blocks = self
            .blocks
            .values()
            .filter(|block| block.node == node)
            .map(|block| {
                let usage = AllocUse {
                    occupied,
                    released: block.draining && occupied == 0,
                };
                (block.uid.clone(), usage)
            })
            .collect();
        let demand = AllocDemand { free, waiting };
        let pools = Family::ALL
            .into_iter()
            .map(|family| ((pool.to_owned(), family), demand));
        self.nodes.get_mut(node).unwrap().report = Some(AllocReport {
            pools: pools.collect(),
            blocks,
        });
        self
    }

    fn gone(mut self, node: &str, gone: Duration) -> Self {
        self.nodes.get_mut(node).unwrap().gone = Some(gone);
        self
    }

    fn draining(mut self, cidr: &str) -> Self {
        let name = block_name(cidr.parse().unwrap());
        self.blocks.get_mut(&name).unwrap().draining = true;
        self
    }

    /// The API after a plan: what was created, drained and deleted.
    fn after(&self, plan: &AllocPlan) -> Self {
        let mut after = self.clone();
        for delete in &plan.delete {
            after.blocks.remove(&delete.block.name);
        }
        for drain in &plan.drain {
            after.blocks.get_mut(&drain.block.name).unwrap().draining = true;
        }
        for block in &plan.create {
            after.create(block);
        }
        after
    }
}

fn created(plan: &AllocPlan) -> Vec<String> {
    plan.create
        .iter()
        .map(|block| format!("{} {}", block.cidr, block.node))
        .collect()
}

fn drained(plan: &AllocPlan) -> Vec<(String, DrainReason)> {
    plan.drain
        .iter()
        .map(|drain| (drain.block.name.clone(), drain.reason))
        .collect()
}

#[test]
fn a_node_without_a_report_gets_its_first_blocks_at_once() {
    let view = view()
        .nodes(&["a", "b"])
        .pool("p", &[("10.0.0.0/24", 26), ("fd00::/112", 122)], 16);
    let plan = plan_blocks(&view);
    assert_eq!(
        created(&plan),
        [
            "10.0.0.0/26 a",
            "10.0.0.64/26 b",
            "fd00::/122 a",
            "fd00::40/122 b"
        ]
    );
    let again = plan_blocks(&view.after(&plan));
    assert_eq!(again, AllocPlan::default());
}

#[test]
fn a_node_gets_as_many_blocks_as_prealloc_needs() {
    let view = view().nodes(&["a"]).pool("p", &[("10.0.0.0/24", 26)], 128);
    assert_eq!(
        created(&plan_blocks(&view)),
        ["10.0.0.0/26 a", "10.0.0.64/26 a"]
    );
}

#[test]
fn demand_grows_with_waiting_pods_and_shrinks_with_free_addresses() {
    let base = || {
        view()
            .nodes(&["a"])
            .pool("p", &[("10.0.0.0/24", 26)], 16)
            .block("10.0.0.0/26", "p", "a")
    };
    for (free, waiting, blocks) in [
        (64, 0, 0),
        (16, 0, 0),
        (15, 0, 1),
        (0, 0, 1),
        (0, 60, 2),
        (20, 4, 0),
    ] {
        let plan = plan_blocks(&base().report("a", "p", free, waiting, 64 - free));
        assert_eq!(plan.create.len(), blocks, "free {free}, waiting {waiting}");
    }
}

#[test]
fn a_block_that_the_report_does_not_know_yet_counts_as_free() {
    let view = view()
        .nodes(&["a"])
        .pool("p", &[("10.0.0.0/24", 26)], 16)
        .block("10.0.0.0/26", "p", "a")
        .report("a", "p", 0, 0, 64)
        .block("10.0.0.64/26", "p", "a");
    assert!(plan_blocks(&view).create.is_empty());
}

#[test]
fn blocks_of_other_sizes_pools_and_owners_are_in_the_way() {
    let view = view()
        .nodes(&["a"])
        .pool("p", &[("10.0.0.0/24", 26)], 16)
        .block("10.0.0.16/28", "elsewhere", "x")
        .block("10.0.0.64/27", "p", "a")
        .report("a", "p", 0, 0, 32);
    let mut view = view;
    view.taken.insert("10.0.0.130/32".parse().unwrap());
    assert_eq!(created(&plan_blocks(&view)), ["10.0.0.192/26 a"]);
}

#[test]
fn reserved_blocks_are_passed_over_and_half_reserved_ones_count_half() {
    let mut view = view().nodes(&["a"]).pool("p", &[("10.0.0.0/24", 26)], 48);
    let entry = &mut view.pools.get_mut("p").unwrap().cidrs[0];
    entry.reserved = ["10.0.0.0/26", "10.0.0.64/27"]
        .map(|cidr| cidr.parse().unwrap())
        .to_vec();
    assert_eq!(
        created(&plan_blocks(&view)),
        ["10.0.0.64/26 a", "10.0.0.128/26 a"]
    );
}

#[test]
fn an_exhausted_pool_names_the_nodes_that_wait() {
    let view = view()
        .nodes(&["a", "b", "c"])
        .pool("p", &[("10.0.0.0/26", 26)], 16)
        .block("10.0.0.0/26", "p", "b")
        .report("b", "p", 0, 3, 64);
    let plan = plan_blocks(&view);
    assert!(plan.create.is_empty());
    let short = |node: &str, waiting| ShortNode {
        node: node.to_owned(),
        waiting,
    };
    let nodes = vec![short("b", 3), short("a", 0), short("c", 0)];
    let finding = AllocFinding::Exhausted {
        pool: "p".to_owned(),
        family: Family::V4,
        nodes,
    };
    assert_eq!(plan.findings, [finding]);
}

#[test]
fn the_last_blocks_go_to_those_who_wait_then_to_those_with_nothing() {
    let view = view()
        .nodes(&["a", "b", "c"])
        .pool("p", &[("10.0.0.0/24", 26)], 16)
        .block("10.0.0.0/26", "p", "a")
        .block("10.0.0.64/26", "p", "c")
        .report("a", "p", 0, 0, 64)
        .report("c", "p", 0, 1, 64);
    assert_eq!(
        created(&plan_blocks(&view)),
        ["10.0.0.128/26 c", "10.0.0.192/26 b"]
    );
}

#[test]
fn the_pool_of_higher_priority_is_served_first() {
    let mut view = view()
        .nodes(&["a"])
        .pool("first", &[("10.0.0.0/26", 26)], 16)
        .pool("second", &[("10.0.0.0/26", 26)], 16);
    view.pools.get_mut("second").unwrap().priority = 1;
    let plan = plan_blocks(&view);
    assert_eq!(plan.create[0].pool, "second");
    assert_eq!(plan.create.len(), 1);
}

#[test]
fn blocks_that_no_entry_covers_are_drained_and_those_of_a_rejected_pool_stay() {
    let base = || {
        view()
            .nodes(&["a"])
            .pool("p", &[("10.0.0.0/24", 26)], 16)
            .block("10.0.0.0/26", "p", "a")
            .block("10.9.0.0/26", "p", "a")
            .block("10.8.0.0/26", "vanished", "a")
    };
    let expected = [
        ("v4-0a080000-26".to_owned(), DrainReason::NotCovered),
        ("v4-0a090000-26".to_owned(), DrainReason::NotCovered),
    ];
    assert_eq!(drained(&plan_blocks(&base())), expected);
    let mut rejected = base();
    rejected.pools.get_mut("p").unwrap().accepted = false;
    assert_eq!(drained(&plan_blocks(&rejected)), expected);
    assert!(plan_blocks(&rejected).create.is_empty());
}

#[test]
fn blocks_of_a_node_that_is_not_selected_any_more_are_drained() {
    let mut view = view()
        .nodes(&["a", "b"])
        .pool("p", &[("10.0.0.0/24", 26)], 16)
        .block("10.0.0.0/26", "p", "a")
        .block("10.0.0.64/26", "p", "b");
    view.pools.get_mut("p").unwrap().nodes.remove("b");
    let expected = [("v4-0a000040-26".to_owned(), DrainReason::NotSelected)];
    assert_eq!(drained(&plan_blocks(&view)), expected);
}

#[test]
fn the_younger_of_overlapping_blocks_is_drained_and_found() {
    let view = view()
        .nodes(&["a", "b"])
        .pool("p", &[("10.0.0.0/24", 26)], 1)
        .block("10.0.0.0/26", "p", "a")
        .block("10.0.0.0/28", "p", "b");
    let plan = plan_blocks(&view);
    let younger = "v4-0a000000-28".to_owned();
    assert_eq!(drained(&plan), [(younger.clone(), DrainReason::Overlapped)]);
    let finding = AllocFinding::Overlap {
        block: younger,
        older: "v4-0a000000-26".to_owned(),
    };
    assert_eq!(plan.findings, [finding]);
    assert_eq!(
        created(&plan),
        ["10.0.0.64/26 b"],
        "b has nothing that it may use"
    );
}

#[test]
fn a_block_that_only_a_draining_one_overlaps_stays() {
    let view = view()
        .nodes(&["a", "b"])
        .pool("p", &[("10.0.0.0/24", 26)], 1)
        .block("10.0.0.0/26", "p", "a")
        .block("10.0.0.0/28", "p", "b")
        .draining("10.0.0.0/26");
    let plan = plan_blocks(&view);
    assert_eq!(drained(&plan), []);
    assert_eq!(
        created(&plan),
        ["10.0.0.64/26 a", "10.0.0.128/26 b"],
        "neither has anything that it may use"
    );
}

#[test]
fn surplus_goes_one_block_at_a_time_and_never_swings() {
    let mut view = view()
        .nodes(&["a"])
        .pool("p", &[("10.0.0.0/22", 26)], 16)
        .block("10.0.0.0/26", "p", "a")
        .block("10.0.0.64/26", "p", "a")
        .block("10.0.0.128/26", "p", "a")
        .block("10.0.0.192/26", "p", "a");
    let mut blocks = Vec::new();
    for _ in 0..8 {
        let active = view.blocks.values().filter(|block| !block.draining).count() as u64;
        view = view.report("a", "p", active * 64, 0, 0);
        let plan = plan_blocks(&view);
        assert!(plan.create.is_empty(), "it swings");
        assert!(plan.drain.len() <= 1);
        view = view.after(&plan);
        blocks.push(view.blocks.len());
    }
    // The highest go first. Two stay: with one less than prealloc and two blocks' worth nothing goes.
    assert_eq!(
        view.blocks.keys().collect::<Vec<_>>(),
        ["v4-0a000000-26", "v4-0a000040-26"]
    );
    assert_eq!(blocks.last(), Some(&2), "{blocks:?}");
}

#[test]
fn a_block_in_use_is_never_surplus() {
    let view = view()
        .nodes(&["a"])
        .pool("p", &[("10.0.0.0/22", 26)], 0)
        .block("10.0.0.0/26", "p", "a")
        .block("10.0.0.64/26", "p", "a")
        .block("10.0.0.128/26", "p", "a")
        .report("a", "p", 189, 0, 1);
    assert_eq!(plan_blocks(&view), AllocPlan::default());
}

#[test]
fn blocks_of_a_vanished_node_are_drained_then_deleted_after_the_grace_period() {
    let base = |gone| {
        view()
            .nodes(&["a"])
            .pool("p", &[("10.0.0.0/24", 26)], 16)
            .block("10.0.0.0/26", "p", "a")
            .gone("a", gone)
    };
    assert_eq!(
        plan_blocks(&base(GRACE - Duration::from_secs(1))),
        AllocPlan::default()
    );
    let first = plan_blocks(&base(GRACE));
    assert_eq!(
        drained(&first),
        [("v4-0a000000-26".to_owned(), DrainReason::NodeGone)]
    );
    assert!(first.delete.is_empty() && first.create.is_empty());
    let second = plan_blocks(&base(GRACE).after(&first));
    assert_eq!(second.delete.len(), 1);
    assert_eq!(second.delete[0].reason, DeleteReason::NodeGone);
}

#[test]
fn a_block_is_deleted_when_its_own_agent_reported_that_very_block_released() {
    let base = view()
        .nodes(&["a"])
        .pool("p", &[("10.1.0.0/24", 26)], 0)
        .block("10.0.0.0/26", "p", "a")
        .draining("10.0.0.0/26");
    assert!(
        plan_blocks(&base).delete.is_empty(),
        "nobody has released it"
    );
    assert!(
        plan_blocks(&base.clone().report("a", "p", 0, 0, 1))
            .delete
            .is_empty(),
        "an address is in use"
    );
    let released = base.report("a", "p", 0, 0, 0);
    assert_eq!(
        plan_blocks(&released).delete[0].reason,
        DeleteReason::Released
    );
    let mut successor = released.clone();
    successor.blocks.get_mut("v4-0a000000-26").unwrap().uid = "another".to_owned();
    assert!(
        plan_blocks(&successor).delete.is_empty(),
        "the report is about its predecessor"
    );
    let mut active = released;
    active.blocks.get_mut("v4-0a000000-26").unwrap().draining = false;
    assert!(plan_blocks(&active).delete.is_empty(), "it is not Draining");
}

#[test]
fn a_thousand_nodes_and_huge_pools_are_planned_from_gap_to_gap() {
    let names: Vec<String> = (0..1000).map(|number| format!("n{number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let view = view()
        .nodes(&names)
        .pool("p", &[("10.0.0.0/8", 26), ("fd00::/48", 122)], 128);
    let plan = plan_blocks(&view);
    assert_eq!(plan.create.len(), 4000);
    let after = view.after(&plan);
    assert_eq!(plan_blocks(&after), AllocPlan::default());
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

prop_compose! {
    /// A network of 10.0.0.0/24 with a prefix length from a range.
    fn network(lengths: std::ops::RangeInclusive<u8>)(last in 0_u8..=255, length in lengths) -> IpNet {
        let address = std::net::Ipv4Addr::new(10, 0, 0, last);
        IpNet::new(address.into(), length).unwrap().trunc()
    }
}

prop_compose! {
    fn any_view()(
        pools in prop::collection::vec((network(24..=27), 27_u8..=30, 0_u32..20, 0_i32..2, any::<bool>()), 1..4),
        reserved in prop::collection::vec(network(28..=32), 0..3),
        taken in prop::collection::vec(network(29..=32), 0..3),
        blocks in prop::collection::btree_map(network(27..=30), (0_usize..4, 0_usize..5, any::<bool>(), 0_i64..3), 0..8),
        reports in prop::collection::vec(prop::option::of((0_u64..40, 0_u64..4, 0_u64..2, any::<bool>())), 4),
        gone in prop::collection::vec(any::<bool>(), 4),
    ) -> AllocView {
        let mut view = view().nodes(&["n0", "n1", "n2", "n3"]);
        for (number, (cidr, block_size, prealloc, priority, accepted)) in pools.iter().enumerate() {
            let name = format!("p{number}");
            view = view.pool(&name, &[(&cidr.to_string(), (*block_size).max(cidr.prefix_len()))], *prealloc);
            let pool = view.pools.get_mut(&name).unwrap();
            pool.priority = *priority;
            pool.accepted = *accepted;
            pool.cidrs[0].reserved = reserved.iter().filter(|part| cidr.contains(*part)).copied().collect();
        }
        view.taken = taken.into_iter().collect();
        for (cidr, (pool, node, draining, created)) in blocks {
            view = view.block(&cidr.to_string(), &format!("p{pool}"), &format!("n{node}"));
            let block = view.blocks.get_mut(&block_name(cidr)).unwrap();
            block.draining = draining;
            block.created = created;
        }
        for (number, report) in reports.into_iter().enumerate() {
            let name = format!("n{number}");
            if let Some((free, waiting, occupied, released)) = report {
                view = view.report(&name, "p0", free, waiting, occupied);
                let report = view.nodes.get_mut(&name).unwrap().report.as_mut().unwrap();
                for usage in report.blocks.values_mut() {
                    usage.released = usage.released && released;
                }
            }
            if gone[number] {
                view = view.gone(&name, if number % 2 == 0 { GRACE } else { Duration::ZERO });
            }
        }
        view
    }
}

proptest! {
    #[test]
    fn what_is_granted_is_free_aligned_and_asked_for(view in any_view()) {
        let plan = plan_blocks(&view);
        for (number, block) in plan.create.iter().enumerate() {
            let pool = &view.pools[&block.pool];
            prop_assert!(pool.accepted && pool.nodes.contains(&block.node));
            prop_assert!(view.nodes[&block.node].gone.is_none());
            let entry = pool.cidrs.iter().find(|entry| entry.cidr.contains(&block.cidr));
            prop_assert_eq!(entry.map(|entry| entry.block_size), Some(block.cidr.prefix_len()));
            prop_assert_eq!(block.cidr, block.cidr.trunc());
            let others = view.blocks.values().map(|other| other.cidr)
                .chain(view.taken.iter().copied())
                .chain(plan.create[..number].iter().map(|other| other.cidr));
            for other in others {
                prop_assert!(!overlap(&block.cidr, &other), "{} overlaps {}", block.cidr, other);
            }
            let wholly_reserved = entry.is_some_and(|entry| {
                IpNet::aggregate(&entry.reserved).iter().any(|part| part.contains(&block.cidr))
            });
            prop_assert!(!wholly_reserved, "{} is reserved", block.cidr);
        }
    }

    #[test]
    fn only_what_may_go_goes(view in any_view()) {
        let plan = plan_blocks(&view);
        for drain in &plan.drain {
            prop_assert!(!view.blocks[&drain.block.name].draining);
        }
        for delete in &plan.delete {
            let block = &view.blocks[&delete.block.name];
            prop_assert!(block.draining);
            let node = &view.nodes[&block.node];
            let gone = node.gone.is_some_and(|gone| gone >= GRACE);
            let released = node.report.as_ref()
                .and_then(|report| report.blocks.get(&block.uid))
                .is_some_and(|usage| usage.released);
            prop_assert!(gone || released);
        }
    }

    #[test]
    fn a_plan_that_was_carried_out_asks_for_nothing_more(view in any_view()) {
        let plan = plan_blocks(&view);
        let mut after = view.after(&plan);
        // What was freed by deletions may be granted next; then it must be quiet.
        for _ in 0..6 {
            after = after.after(&plan_blocks(&after));
        }
        let last = plan_blocks(&after);
        prop_assert!(last.create.is_empty() && last.drain.is_empty() && last.delete.is_empty(), "{last:?}");
    }

    #[test]
    fn the_order_in_which_things_came_to_be_known_does_not_matter(view in any_view()) {
        let names: Vec<&String> = view.blocks.keys().rev().collect();
        let ages = |names: &[&String]| {
            let ages: Vec<_> = names.iter().map(|name| view.blocks[*name].age(name)).collect();
            overlapped(ages).into_keys().map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let forward: Vec<&String> = view.blocks.keys().collect();
        prop_assert_eq!(ages(&forward), ages(&names));
        let mut shuffled = view.clone();
        shuffled.taken = view.taken.iter().rev().copied().collect();
        prop_assert_eq!(plan_blocks(&shuffled), plan_blocks(&view));
    }

    #[test]
    fn of_two_overlapping_blocks_exactly_one_may_be_used(view in any_view()) {
        let younger = plan_blocks(&view).findings.into_iter().filter_map(|finding| match finding {
            AllocFinding::Overlap { block, .. } => Some(block),
            AllocFinding::Exhausted { .. } => None,
        }).collect::<BTreeSet<_>>();
        for (a, one) in &view.blocks {
            for (b, other) in view.blocks.iter().filter(|(b, _)| *b > a) {
                if overlap(&one.cidr, &other.cidr) {
                    prop_assert!(younger.contains(a) || younger.contains(b));
                }
            }
        }
        // The oldest of all is never in anybody's way.
        let oldest = view.blocks.iter().min_by(|(a, x), (b, y)| x.age(a).compare(&y.age(b)));
        prop_assert!(oldest.is_none_or(|(name, _)| !younger.contains(name)));
    }
}
