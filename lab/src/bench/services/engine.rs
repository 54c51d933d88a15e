//! Compilation and the nf_tables socket, driven as the agent's engine drives them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weft_core::services::object::{ServicePort, SliceEndpoint, SlicePort};
use weft_core::services::{
    Changes, Config, ServiceName, ServiceObject, Services, SliceName, SliceObject,
};
use weft_core::view::{Family, Protocol};
use weft_kernel::nft::NftSocket;
use weft_nft::{Batch, Change, Table};

use crate::conformance::services::node::static_part;
use crate::scenario::number::Random;

/// How many Services, with how many endpoints each.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    services: usize,
    endpoints: usize,
}

impl Load {
    /// So many.
    pub fn new(services: usize, endpoints: usize) -> Self {
        Self {
            services,
            endpoints,
        }
    }
}

/// What one change cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From the event to the last commit.
    pub whole: Duration,
    /// Of that, commits.
    pub kernel: Duration,
    /// Changes that were sent, and what frames each batch.
    pub messages: usize,
}

/// Services of one node and their table.
pub struct Engine {
    services: Services,
    socket: NftSocket,
    table: Table,
    load: Load,
    dumps: u64,
}

impl Engine {
    /// Loads Services, and one at `frontend` that leads to the outside world's echo.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(frontend: SocketAddr, load: Load) -> Result<Self> {
        Ok(Self::timed(frontend, load)?.0)
    }

    /// The same; and how many seconds it took from the objects to the last commit.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn timed(frontend: SocketAddr, load: Load) -> Result<(Self, f64)> {
        let mut engine = Self::empty(load)?;
        let objects = objects(frontend, load);
        let begin = Instant::now();
        for (service, slice, of_slice) in objects {
            engine
                .services
                .set_service(&of_slice.service, Some(service));
            engine.services.set_slice(&slice, Some(of_slice));
        }
        engine.commit()?;
        let seconds = begin.elapsed().as_secs_f64();
        engine.dumps = engine.socket.dumps();
        Ok((engine, seconds))
    }

    /// MiB of memory that a loaded state takes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn memory(frontend: SocketAddr, load: Load) -> Result<f64> {
        let before = crate::bench::anonymous();
        let mut engine = Self::empty(load)?;
        for (service, slice, of_slice) in objects(frontend, load) {
            engine
                .services
                .set_service(&of_slice.service, Some(service));
            engine.services.set_slice(&slice, Some(of_slice));
        }
        engine.commit()?;
        let after = crate::bench::anonymous();
        drop(engine);
        Ok(after - before)
    }

    /// One endpoint of one Service becomes another.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn change(&mut self, random: &mut Random) -> Result<Cost> {
        let number = 1 + (random.share() * (self.load.services - 1) as f64) as usize;
        let other = 1 + (random.share() * 250.0) as u8;
        let mut slice = slice_of(number, self.load.endpoints);
        slice.endpoints[0].address = IpAddr::V4(Ipv4Addr::new(10, 255, other, 1));
        let name = SliceName::new("bench", &format!("many-{number}-1"));
        let begin = Instant::now();
        self.services.set_slice(&name, Some(slice));
        let mut cost = self.commit()?;
        cost.whole = begin.elapsed();
        Ok(cost)
    }

    /// Dumps asked for since the load.
    pub fn dumps(&self) -> u64 {
        self.socket.dumps() - self.dumps
    }

    fn empty(load: Load) -> Result<Self> {
        let services = Services::new(Config {
            node: "node-2".to_owned(),
            pod_networks: vec!["10.244.0.0/16".parse()?],
            service_networks: vec!["10.96.0.0/12".parse()?],
            ..Config::default()
        });
        let mut socket = NftSocket::open()?;
        let table = static_part(&services.frame());
        let clear = Batch {
            table: table.name.clone(),
            changes: vec![Change::AddTable { flags: None }, Change::DeleteTable],
        };
        socket.commit(&clear)?;
        commit(&mut socket, &weft_nft::replace(&table))?;
        Ok(Self {
            services,
            socket,
            table,
            load,
            dumps: 0,
        })
    }

    /// In the order that [`Changes`] asks for.
    fn commit(&mut self) -> Result<Cost> {
        let mut cost = Cost::default();
        let Changes {
            before,
            batches,
            after,
            stale: _,
        } = self.services.compile();
        self.frame(before, &mut cost)?;
        for batch in batches {
            self.sent(&batch, &mut cost)?;
        }
        self.services.committed();
        self.frame(after, &mut cost)?;
        Ok(cost)
    }

    fn frame(&mut self, frame: Option<weft_core::services::Frame>, cost: &mut Cost) -> Result<()> {
        let Some(frame) = frame else { return Ok(()) };
        let want = static_part(&frame);
        for batch in weft_nft::diff(&self.table, &want) {
            self.sent(&batch, cost)?;
        }
        self.table = want;
        Ok(())
    }

    fn sent(&mut self, batch: &Batch, cost: &mut Cost) -> Result<()> {
        let begin = Instant::now();
        commit(&mut self.socket, batch)?;
        cost.kernel += begin.elapsed();
        cost.messages += batch.changes.len() + 2;
        Ok(())
    }
}

fn commit(socket: &mut NftSocket, batch: &Batch) -> Result<()> {
    let batch = crate::conformance::packets::ownerless(batch);
    socket.commit(&batch).context("the kernel refused a batch")
}

fn objects(
    frontend: SocketAddr,
    load: Load,
) -> impl Iterator<Item = (ServiceObject, SliceName, SliceObject)> {
    let many = (1..load.services).map(move |number| {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 100, 0, 0)) + number as u32);
        let name = SliceName::new("bench", &format!("many-{number}-1"));
        let slice = slice_of(number, load.endpoints);
        (service(IpAddr::V4(address), 80), name, slice)
    });
    let measured = SliceObject {
        family: Family::V4,
        service: ServiceName::new("bench", "measured"),
        ports: [slice_port(super::connections::ECHO.port())].into(),
        endpoints: [endpoint(super::connections::ECHO.ip())].into(),
    };
    let first = (
        service(frontend.ip(), frontend.port()),
        SliceName::new("bench", "measured-1"),
        measured,
    );
    std::iter::once(first).chain(many)
}

fn slice_of(number: usize, endpoints: usize) -> SliceObject {
    let first = u32::from(Ipv4Addr::new(10, 128, 0, 0)) + (number * endpoints) as u32;
    let addresses = (0..endpoints as u32).map(|n| IpAddr::V4(Ipv4Addr::from(first + n)));
    SliceObject {
        family: Family::V4,
        service: ServiceName::new("bench", &format!("many-{number}")),
        ports: [slice_port(8080)].into(),
        endpoints: addresses.map(endpoint).collect(),
    }
}

fn service(address: IpAddr, port: u16) -> ServiceObject {
    ServiceObject {
        created: 0,
        cluster_ips: [address].into(),
        external_ips: [].into(),
        load_balancer_ips: [].into(),
        source_ranges: [].into(),
        ports: [ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        }]
        .into(),
        internal_local: false,
        external_local: false,
        affinity: None,
        health_check_node_port: None,
    }
}

fn slice_port(port: u16) -> SlicePort {
    SlicePort {
        name: "".into(),
        protocol: Protocol::Tcp,
        port,
    }
}

fn endpoint(address: IpAddr) -> SliceEndpoint {
    SliceEndpoint {
        address,
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        for_zones: [].into(),
        for_nodes: [].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::packets::namespace::Namespace;

    /// Needs root. Messages and dumps of one change, among so many Services.
    fn change_among(services: usize) -> (Vec<usize>, u64) {
        let namespace = Namespace::new("bench").unwrap();
        let work = move || {
            let frontend = "10.96.77.77:7070".parse().unwrap();
            let mut engine = Engine::new(frontend, Load::new(services, 2)).unwrap();
            let mut random = Random::new(3);
            let mut changes: Vec<usize> = (0..40)
                .map(|_| engine.change(&mut random).unwrap().messages)
                .collect();
            changes.sort_unstable();
            changes.dedup();
            (changes, engine.dumps())
        };
        namespace.run(work).unwrap()
    }

    #[test]
    fn a_change_among_many_services_is_as_many_messages_as_among_few_and_asks_for_nothing() {
        let (few, many) = (change_among(20), change_among(2000));
        assert_eq!(few.1 + many.1, 0);
        assert!(few.0.last() <= Some(&16), "{few:?}");
        assert_eq!(few.0.last(), many.0.last(), "{few:?} {many:?}");
    }
}
