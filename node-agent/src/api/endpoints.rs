//! The API server's addresses and which one is in use; the next one follows when it fails.

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Request;
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};

use super::Error;

/// Addresses in the order given. With none, requests go where they say.
#[derive(Debug, Default)]
pub struct Endpoints {
    addresses: Vec<Authority>,
    present: AtomicUsize,
}

impl Endpoints {
    /// Takes addresses of the form host:port.
    ///
    /// # Errors
    /// Where one is something else.
    pub fn new(addresses: &[String]) -> Result<Self, Error> {
        let parse = |text: &String| {
            let authority: Authority = text.parse().map_err(|_| Error::Address(text.clone()))?;
            match authority.port() {
                Some(_) if !text.contains('@') => Ok(authority),
                _ => Err(Error::Address(text.clone())),
            }
        };
        let addresses = addresses.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            addresses,
            present: AtomicUsize::new(0),
        })
    }

    /// The first one.
    pub fn first(&self) -> &str {
        self.addresses.first().map_or("", Authority::as_str)
    }

    /// Directs a request to the present address; the answer goes to [`Endpoints::failed`].
    pub fn apply<B>(&self, request: &mut Request<B>) -> usize {
        let present = self.present.load(Ordering::Relaxed);
        if let Some(address) = self.addresses.get(present) {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(Scheme::HTTPS);
            parts.authority = Some(address.clone());
            parts
                .path_and_query
                .get_or_insert(PathAndQuery::from_static("/"));
            // Scheme, authority and path are all there, which is all that a URI needs.
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        }
        present
    }

    /// A request to this address failed: the next one follows, unless somebody else moved on already.
    pub fn failed(&self, tried: usize) {
        if self.addresses.len() > 1 {
            let next = (tried + 1) % self.addresses.len();
            let moved =
                self.present
                    .compare_exchange(tried, next, Ordering::Relaxed, Ordering::Relaxed);
            if moved.is_ok() {
                tracing::info!(
                    from = self.addresses[tried].as_str(),
                    to = self.addresses[next].as_str(),
                    "API server failed; trying the next address"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(addresses: &[&str]) -> Result<Endpoints, Error> {
        Endpoints::new(
            &addresses
                .iter()
                .map(|address| (*address).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    fn target(endpoints: &Endpoints) -> (usize, String) {
        let mut request = Request::builder()
            .uri("https://first/api/v1/nodes?watch=true")
            .body(())
            .unwrap();
        let tried = endpoints.apply(&mut request);
        (tried, request.uri().to_string())
    }

    #[test]
    fn each_failure_moves_one_address_on_and_around() {
        let endpoints = endpoints(&["192.0.2.1:6443", "[2001:db8::1]:6443"]).unwrap();
        assert_eq!(
            target(&endpoints),
            (
                0,
                "https://192.0.2.1:6443/api/v1/nodes?watch=true".to_owned()
            )
        );
        endpoints.failed(0);
        endpoints.failed(0);
        assert_eq!(
            target(&endpoints),
            (
                1,
                "https://[2001:db8::1]:6443/api/v1/nodes?watch=true".to_owned()
            )
        );
        endpoints.failed(1);
        assert_eq!(target(&endpoints).0, 0);
    }

    #[test]
    fn without_addresses_requests_go_where_they_say() {
        assert_eq!(
            target(&Endpoints::default()).1,
            "https://first/api/v1/nodes?watch=true"
        );
    }

    #[test]
    fn what_is_not_host_and_port_is_refused_by_name() {
        for wrong in [
            "192.0.2.1",
            "https://192.0.2.1:6443",
            "2001:db8::1:6443",
            "user@host:1",
            "",
        ] {
            let error = endpoints(&[wrong]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{wrong:?}")) && error.contains("host:port"),
                "{error}"
            );
        }
    }
}
