//! Servers to forward to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weft_crds::{ForwardBody, ForwardCache, ForwardUpstream, UpstreamProtocol};

use super::{Fault, Reader, duration};
use crate::zones::forward::{CachePlan, Forward, ForwardServer};

impl Reader<'_> {
    /// Reads whom a zone asks; the whole of it or nothing.
    pub(super) fn forward(&self, body: &ForwardBody) -> Result<Forward, Vec<Fault>> {
        let ForwardBody {
            upstreams,
            policy,
            timeout,
            except,
            max_concurrent,
            cache,
        } = body;
        let path = format!("{}.forward", self.path);
        let mut faults = Vec::new();
        let mut servers = Vec::new();
        for (index, upstream) in upstreams.iter().enumerate() {
            match self.server(&format!("{path}.upstreams[{index}]"), upstream) {
                Ok(server) => servers.push(server),
                Err(fault) => faults.push(fault),
            }
        }
        if upstreams.is_empty() {
            faults.push(Fault::field(&format!("{path}.upstreams"), "there is none"));
        }
        let mut excepted = Vec::new();
        for (index, text) in except.iter().enumerate() {
            match self.absolute(&format!("{path}.except[{index}]"), text) {
                Ok(name) => excepted.push(name),
                Err(fault) => faults.push(fault),
            }
        }
        let timeout = self.duration(&format!("{path}.timeout"), timeout, &mut faults);
        let cache = self.cache(&format!("{path}.cache"), cache, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Forward {
            key: self.key.as_str().into(),
            apex: self.apex.clone(),
            upstreams: servers,
            policy: *policy,
            timeout,
            except: excepted,
            max_concurrent: usize::try_from(*max_concurrent).unwrap_or(usize::MAX),
            cache,
        })
    }

    fn server(&self, field: &str, upstream: &ForwardUpstream) -> Result<ForwardServer, Fault> {
        let ForwardUpstream {
            address,
            port,
            protocol,
            server_name,
            ca_bundle,
            path,
        } = upstream;
        let at = format!("{field}.address");
        let ip: IpAddr = address
            .parse()
            .map_err(|_| Fault::field(&at, format!("{address:?} is no IP address")))?;
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(Fault::field(&at, format!("nobody can be asked at {ip}")));
        }
        let encrypted = matches!(protocol, UpstreamProtocol::TLS | UpstreamProtocol::HTTPS);
        if encrypted && server_name.is_none() {
            return Err(Fault::field(
                &format!("{field}.serverName"),
                "it is missing: the name that the server's certificate is for",
            ));
        }
        let default = match protocol {
            UpstreamProtocol::UDP | UpstreamProtocol::TCP => 53,
            UpstreamProtocol::TLS => 853,
            UpstreamProtocol::HTTPS => 443,
        };
        let address = SocketAddr::new(ip, port.unwrap_or(default));
        if self.surroundings.ourselves.contains(&address) {
            return Err(Fault::Loop { field: at, address });
        }
        Ok(ForwardServer {
            address,
            protocol: *protocol,
            server_name: server_name.clone(),
            ca_bundle: ca_bundle.clone(),
            path: path.clone(),
        })
    }

    fn cache(&self, field: &str, cache: &ForwardCache, faults: &mut Vec<Fault>) -> CachePlan {
        let ForwardCache {
            size,
            max_ttl,
            max_negative_ttl,
            serve_stale,
            prefetch,
        } = cache;
        CachePlan {
            size: usize::try_from(*size).unwrap_or(usize::MAX),
            max_ttl: *max_ttl,
            max_negative_ttl: *max_negative_ttl,
            serve_stale: self.duration(&format!("{field}.serveStale"), serve_stale, faults),
            prefetch: *prefetch,
        }
    }

    fn duration(&self, field: &str, text: &str, faults: &mut Vec<Fault>) -> Duration {
        duration::parse(text).unwrap_or_else(|| {
            let rule = format!("{text:?} is no duration, such as 2s");
            faults.push(Fault::field(field, rule));
            Duration::ZERO
        })
    }
}
