//! Agents without a kernel: each believes its own, old view of the blocks, assigns and releases
//! addresses, and reports. A ledger that all share notices an address with two owners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use ipnet::IpNet;
use kube::api::{Patch, PatchParams};
use kube::runtime::{reflector, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use weft_core::alloc::{BlockAge, overlapped};
use weft_crds::{BlockState, IPBlock, NodeReport};

/// Who has which address, and what happened so far.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Owner by address.
    pub owners: BTreeMap<IpAddr, String>,
    /// Addresses assigned so far.
    pub assigned: usize,
    /// Blocks that some agent refused because an older one overlaps.
    pub refused: BTreeSet<String>,
    /// Blocks given up so far, by UID.
    pub released: BTreeSet<String>,
    /// Addresses that two nodes had at once.
    pub twice: Vec<(IpAddr, String, String)>,
}

/// What an agent is like.
#[derive(Clone, Debug)]
pub struct Character {
    /// Its node.
    pub node: String,
    /// Every event of its watch is held back for so long.
    pub delay: Duration,
    /// It uses blocks that an older one overlaps.
    pub careless: bool,
}

/// Runs one agent until the task is dropped.
pub async fn run(client: Client, character: Character, ledger: Arc<Mutex<Ledger>>) {
    let (store, mut writer) = reflector::store::<IPBlock>();
    let api: Api<IPBlock> = Api::all(client.clone());
    let delay = character.delay;
    let follow = async move {
        let mut stream = std::pin::pin!(watcher(api, watcher::Config::default()));
        while let Some(event) = stream.next().await {
            tokio::time::sleep(delay).await;
            if let Ok(event) = event {
                writer.apply_watcher_event(&event);
            }
        }
    };
    let act = async {
        store.wait_until_ready().await.expect("the watch syncs");
        let mut agent = Agent {
            character,
            mine: BTreeMap::new(),
            released: BTreeSet::new(),
            round: 0,
        };
        loop {
            let report = agent.round(&store.state(), &ledger);
            agent.report(&client, report).await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    tokio::join!(follow, act);
}

struct Agent {
    character: Character,
    /// Addresses in use, each with the UID of its block.
    mine: BTreeMap<IpAddr, String>,
    /// UIDs of blocks given up: for good, whatever an old view still says.
    released: BTreeSet<String>,
    round: usize,
}

impl Agent {
    fn round(&mut self, blocks: &[Arc<IPBlock>], ledger: &Mutex<Ledger>) -> serde_json::Value {
        self.round += 1;
        let mut ledger = ledger.lock().expect("the ledger");
        let younger = younger(blocks);
        ledger.refused.extend(younger.iter().cloned());
        let node = self.character.node.clone();
        let (mut used, mut free) = (Vec::new(), BTreeMap::new());
        for block in blocks.iter().filter(|block| block.spec.node == node) {
            let uid = block.uid().unwrap_or_default();
            let refused = younger.contains(&block.name_any()) && !self.character.careless;
            let active = block.spec.state == BlockState::Active && !self.released.contains(&uid);
            if active && !refused {
                *free.entry(block.spec.pool.clone()).or_insert(0) +=
                    self.assign(block, &uid, &mut ledger);
            }
            self.give_back(&uid, block.spec.state == BlockState::Draining, &mut ledger);
            let allocated = self.mine.values().filter(|owner| **owner == uid).count();
            if block.spec.state == BlockState::Draining
                && allocated == 0
                && self.released.insert(uid.clone())
            {
                ledger.released.insert(uid.clone());
            }
            used.push(json!({
                "name": block.name_any(), "uid": uid, "allocated": allocated, "cooling": 0,
                "released": self.released.contains(&uid),
            }));
        }
        let pools: Vec<_> = free
            .into_iter()
            .map(|(pool, free)| json!({"pool": pool, "family": "IPv4", "allocated": 0, "free": free, "cooling": 0, "waiting": 2}))
            .collect();
        json!({"time": self.round.to_string(), "pools": pools, "blocks": used})
    }

    /// One more address of a block; how many are left.
    fn assign(&mut self, block: &IPBlock, uid: &str, ledger: &mut Ledger) -> usize {
        let cidr: IpNet = block.spec.cidr.parse().expect("a network");
        let mut left: Vec<IpAddr> = all(cidr)
            .filter(|address| !self.mine.contains_key(address))
            .collect();
        if let Some(address) = (!left.is_empty()).then(|| left.remove(self.round % left.len())) {
            let node = &self.character.node;
            if let Some(other) = ledger.owners.insert(address, node.clone()) {
                ledger.twice.push((address, other, node.clone()));
            }
            ledger.assigned += 1;
            self.mine.insert(address, uid.to_owned());
        }
        left.len()
    }

    /// Pods come and go: an address in three rounds, all of a block that is being drained.
    fn give_back(&mut self, uid: &str, all: bool, ledger: &mut Ledger) {
        let of_block: Vec<IpAddr> = self
            .mine
            .iter()
            .filter(|(_, block)| *block == uid)
            .map(|(address, _)| *address)
            .collect();
        let count = if all {
            of_block.len()
        } else {
            usize::from(self.round.is_multiple_of(3))
        };
        for address in of_block.into_iter().take(count) {
            self.mine.remove(&address);
            if ledger.owners.get(&address) == Some(&self.character.node) {
                ledger.owners.remove(&address);
            }
        }
    }

    async fn report(&self, client: &Client, spec: serde_json::Value) {
        let api: Api<NodeReport> = Api::all(client.clone());
        let node = &self.character.node;
        let patch = json!({
            "apiVersion": "weftnet.dev/v1alpha1", "kind": "NodeReport",
            "metadata": {"name": node}, "spec": spec,
        });
        let params = PatchParams::apply("weft-agent").force();
        api.patch(node, &params, &Patch::Apply(patch))
            .await
            .expect("the report is taken");
    }
}

fn younger(blocks: &[Arc<IPBlock>]) -> BTreeSet<String> {
    let named: Vec<(String, String, &IPBlock)> = blocks
        .iter()
        .map(|block| {
            (
                block.name_any(),
                block.resource_version().unwrap_or_default(),
                block.as_ref(),
            )
        })
        .collect();
    overlapped(named.iter().map(|(name, version, block)| {
        BlockAge {
            name,
            cidr: block.spec.cidr.parse().expect("a network"),
            created: block
                .creation_timestamp()
                .map_or(0, |time| time.0.as_second()),
            draining: block.spec.state == BlockState::Draining,
            resource_version: version,
        }
    }))
    .into_keys()
    .map(str::to_owned)
    .collect()
}

fn all(cidr: IpNet) -> impl Iterator<Item = IpAddr> {
    let IpNet::V4(cidr) = cidr else {
        panic!("these tests use IPv4");
    };
    let first = u32::from(cidr.network());
    let last = u32::from(cidr.broadcast());
    (first..=last).map(|address| IpAddr::V4(address.into()))
}
