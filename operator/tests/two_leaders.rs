//! Two operators that both lead, each with its own old view: one cuts blocks of one size from a
//! pool, the other smaller ones from a pool that overlaps it. Never has an address two owners.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use weft_core::alloc::{BlockRef, DrainBlock, DrainReason};
use weft_crds::{BlockState, IPPool, Overlay};
use weft_operator::apply::Applier;
use weft_operator::compile::compile;
use weft_operator::diff::{Change, diff};
use weft_operator::snapshot::Snapshot;
use weft_operator::stores::{Stores, WatchOptions};

use crate::agents::{self, Character, Ledger};
use crate::api_server::{ApiServer, create_node, eventually, from};

const NODES: usize = 4;

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn two_leaders_never_grant_an_address_twice() {
    let ledger = run(false, |ledger| {
        ledger.assigned >= 2_000 && ledger.released.len() >= 15 && ledger.refused.len() >= 3
    })
    .await;
    assert!(
        ledger.twice.is_empty(),
        "addresses with two owners: {:?}",
        ledger.twice
    );
}

#[tokio::test]
#[ignore = "needs etcd and kube-apiserver: WEFT_TEST_BIN names their folder"]
async fn the_ledger_notices_agents_that_use_overlapped_blocks() {
    let ledger = run(true, |ledger| !ledger.twice.is_empty()).await;
    assert!(!ledger.twice.is_empty());
}

async fn run(careless: bool, enough: impl Fn(&Ledger) -> bool) -> Ledger {
    let server = ApiServer::start().await;
    let client = server.client();
    for node in 0..NODES {
        create_node(
            &client,
            &format!("n{node}"),
            &format!("192.0.2.{}", node + 1),
        )
        .await;
    }
    let overlays: Api<Overlay> = Api::all(client.clone());
    let overlay: Overlay = from(json!({"metadata": {"name": "default"}, "spec": {}}));
    overlays
        .create(&PostParams::default(), &overlay)
        .await
        .expect("the Overlay is taken");
    let pools: Api<IPPool> = Api::all(client.clone());
    for (name, cidr, size) in [("a", "10.0.0.0/24", 28), ("b", "10.0.0.0/25", 30)] {
        let pool: IPPool = from(json!({
            "metadata": {"name": name},
            "spec": {"cidrs": [{"cidr": cidr, "blockSize": size}], "prealloc": 4},
        }));
        pools
            .create(&PostParams::default(), &pool)
            .await
            .expect("the IPPool is taken");
    }

    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut tasks = JoinSet::new();
    for node in 0..NODES {
        let character = Character {
            node: format!("n{node}"),
            delay: Duration::from_millis(40 * node as u64),
            careless,
        };
        tasks.spawn(agents::run(server.client(), character, Arc::clone(&ledger)));
    }
    tasks.spawn(operator(server.client(), "a", Duration::ZERO));
    tasks.spawn(operator(server.client(), "b", Duration::from_millis(150)));
    eventually("enough was assigned, refused and released", async || {
        let ledger = ledger.lock().expect("the ledger");
        enough(&ledger) || (!careless && !ledger.twice.is_empty())
    })
    .await;
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    Arc::try_unwrap(ledger)
        .expect("all tasks have ended")
        .into_inner()
        .expect("the ledger")
}

/// An operator that leads without asking anybody. In every second round its view is so old that
/// there is nothing in it of the other pool and its blocks, so it grants what overlaps them. And as
/// users do, it changes its mind: every tenth round it drains its oldest block.
async fn operator(client: Client, pool: &'static str, delay: Duration) {
    let bell = Arc::new(Notify::new());
    let mut watches = JoinSet::new();
    let stores = Stores::start(&client, &bell, WatchOptions { delay }, &mut watches);
    stores.synced().await;
    let applier = Applier::new(client, pool);
    for round in 0_usize.. {
        let mut snapshot = stores.snapshot().expect("the stores have synced");
        snapshot.node_grace = Duration::from_secs(3600);
        snapshot.agent_grace = Duration::from_secs(3600);
        if round % 2 == 0 {
            snapshot.pools.retain(|name, _| name == pool);
            snapshot.blocks.retain(|_, block| block.spec.pool == pool);
        }
        let mut changes = diff(&compile(&snapshot), &snapshot);
        changes.retain(|change| {
            matches!(
                change,
                Change::Finalizers { .. }
                    | Change::CreateBlock(_)
                    | Change::DrainBlock(_)
                    | Change::DeleteBlock(_)
            )
        });
        if round % 10 == 0 {
            changes.extend(drain_oldest(&snapshot, pool));
        }
        for change in changes {
            applier
                .apply(&change)
                .await
                .expect("the API server takes it");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn drain_oldest(snapshot: &Snapshot, pool: &str) -> Option<Change> {
    let (name, block) = snapshot
        .blocks
        .iter()
        .filter(|(_, block)| block.spec.pool == pool && block.spec.state == BlockState::Active)
        .min_by_key(|(_, block)| block.creation_timestamp())?;
    Some(Change::DrainBlock(DrainBlock {
        block: BlockRef {
            name: name.clone(),
            uid: block.uid().unwrap_or_default(),
            resource_version: block.resource_version().unwrap_or_default(),
            node: block.spec.node.clone(),
        },
        reason: DrainReason::NotSelected,
    }))
}
