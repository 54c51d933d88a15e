//! Whom zones ask: for each zone and view servers and a cache of its own, kept while what the user wrote stays.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_resolver::TlsConfig;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
use hickory_resolver::net::NetError;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use weft_core::zones::forward::{Forward, ForwardServer};
use weft_core::zones::record::RecordType;
use weft_crds::UpstreamProtocol;

use crate::forward::{Ahead, Forwarder, Peer};
use crate::metrics::Metrics;
use crate::upstream::Reply;

/// Servers by the key of whom they are asked for.
#[derive(Debug)]
pub struct Forwards {
    known: ArcSwap<HashMap<Box<str>, Known>>,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Debug)]
struct Known {
    plan: Arc<Forward>,
    forwarder: Arc<Forwarder>,
}

impl Forwards {
    /// None yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            known: ArcSwap::default(),
            metrics,
        }
    }

    /// Puts these in force. What stays the same keeps its cache and what it knows of its servers.
    pub fn set<'a>(&self, wanted: impl Iterator<Item = &'a Arc<Forward>>) {
        let before = self.known.load();
        let mut known = HashMap::new();
        for plan in wanted {
            let same = before.get(&plan.key).filter(|known| known.plan == *plan);
            let made = match same {
                Some(known) => Ok(known.clone()),
                None => self.make(plan),
            };
            match made {
                Ok(made) => {
                    known.insert(plan.key.clone(), made);
                }
                Err(error) => {
                    tracing::warn!(zone = &*plan.key, %error, "whom the zone asks cannot be used");
                }
            }
        }
        self.known.store(Arc::new(known));
    }

    fn make(&self, plan: &Arc<Forward>) -> Result<Known, NetError> {
        let peers = plan.upstreams.iter().map(peer);
        let peers = peers.collect::<Result<_, _>>()?;
        let ahead = Ahead {
            policy: plan.policy,
            timeout: plan.timeout,
            max_concurrent: plan.max_concurrent,
            cache: plan.cache.clone(),
            probe_zone: plan.apex.to_string(),
        };
        let forwarder = Arc::new(Forwarder::with(peers, ahead, Arc::clone(&self.metrics)));
        tokio::spawn(Arc::clone(&forwarder).watch_for_rings());
        Ok(Known {
            plan: Arc::clone(plan),
            forwarder,
        })
    }

    /// Takes a question that one of them makes to find a ring, whoever it came back by: views differ by who asks.
    #[must_use]
    pub fn caught(&self, name: &[u8]) -> Option<Reply> {
        let known = self.known.load();
        known
            .values()
            .find_map(|known| known.forwarder.caught(name))
    }

    /// Asks those of a zone and view; none where they cannot be used.
    pub async fn ask(&self, via: &Forward, name: &[u8], kind: RecordType) -> Option<Reply> {
        let forwarder = self.known.load().get(&via.key)?.forwarder.clone();
        Some(forwarder.ask(name, kind).await)
    }
}

fn peer(server: &ForwardServer) -> Result<Peer, NetError> {
    let ForwardServer {
        address,
        protocol,
        server_name,
        ca_bundle,
        path,
    } = server;
    let name: Arc<str> = server_name.as_deref().unwrap_or_default().into();
    let mut config = match protocol {
        UpstreamProtocol::UDP => NameServerConfig::udp_and_tcp(address.ip()),
        UpstreamProtocol::TCP => NameServerConfig::tcp(address.ip()),
        UpstreamProtocol::TLS => NameServerConfig::tls(address.ip(), name),
        UpstreamProtocol::HTTPS => {
            NameServerConfig::https(address.ip(), name, path.as_deref().map(Arc::from))
        }
    };
    for ConnectionConfig { port, .. } in &mut config.connections {
        *port = address.port();
    }
    let tls = match ca_bundle {
        Some(bundle) => trusting(bundle)?,
        None => TlsConfig::new()?,
    };
    Ok(Peer { config, tls })
}

/// Trusts those who signed with the keys of a bundle, and nobody else.
fn trusting(bundle: &str) -> Result<TlsConfig, NetError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        let certificate = certificate.map_err(|error| NetError::from(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| NetError::from(error.to_string()))?;
    }
    let mut tls = TlsConfig::new()?;
    let provider = Arc::clone(tls.config.crypto_provider());
    tls.config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| NetError::from(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(tls)
}
