//! Streams within TLS: DNS over TLS (RFC 7858) and DNS over HTTPS (RFC 8484), with a certificate that is read anew when it is renewed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Served, https, stream};
use crate::error::Error;
use crate::metrics::Counters;

/// Streams that are open at once, of each kind.
const STREAMS: usize = 1024;
/// How long a client may take to agree on keys.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the files are looked at.
const RENEWAL: Duration = Duration::from_secs(30);

/// What is spoken within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Messages with a length before them.
    Dot,
    /// Messages in requests.
    Doh,
}

impl Speech {
    /// What clients call it (RFC 7301; IANA "TLS ALPN Protocol IDs").
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Dot => vec![b"dot".to_vec()],
            Self::Doh => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate and those that lead to an authority, in PEM form.
    pub certificate: PathBuf,
    /// Its key, in PEM form.
    pub key: PathBuf,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// One of them cannot be read, or they do not belong together.
    pub fn read(&self, speech: Speech) -> Result<ServerConfig, Error> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| Error::Values {
            path: path.into(),
            fault: error.to_string(),
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(&self.certificate, &error))?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| failed(&self.key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&self.certificate, &error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| failed(&self.certificate, &error))?;
        config.alpn_protocols = speech.alpn();
        Ok(config)
    }
}

/// Takes streams, for ever.
pub async fn serve(
    served: Arc<Served>,
    listener: TcpListener,
    files: Files,
    speech: Speech,
    config: ServerConfig,
) {
    let config = ArcSwap::from_pointee(config);
    let room = Arc::new(Semaphore::new(STREAMS));
    let counters = served.metrics.counters();
    let mut look = tokio::time::interval(RENEWAL);
    look.reset();
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            _ = look.tick() => {
                renew(&config, &files, speech);
                continue;
            }
        };
        let Ok((plain, client)) = taken else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Too many: this one is given up, so that those that are open go on.
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let acceptor = TlsAcceptor::from(config.load_full());
        let (served, counters) = (Arc::clone(&served), Arc::clone(&counters));
        tokio::spawn(async move {
            let _ = plain.set_nodelay(true);
            if let Ok(Ok(encrypted)) = timeout(PATIENCE, acceptor.accept(plain)).await {
                converse(served, counters, encrypted, client, speech).await;
            }
            drop(permit);
        });
    }
}

async fn converse(
    served: Arc<Served>,
    counters: Arc<Counters>,
    encrypted: TlsStream<TcpStream>,
    client: SocketAddr,
    speech: Speech,
) {
    match speech {
        Speech::Dot => stream::converse(&served, &counters, encrypted, client).await,
        Speech::Doh => https::converse(served, counters, encrypted, client).await,
    }
}

/// Takes the files' new content; what cannot be read leaves the old one in force.
fn renew(config: &ArcSwap<ServerConfig>, files: &Files, speech: Speech) {
    match files.read(speech) {
        Ok(fresh) => config.store(Arc::new(fresh)),
        Err(error) => {
            tracing::warn!(%error, "the certificate cannot be read; the one before stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &Files) {
        let made = rcgen::generate_simple_self_signed(vec!["dns.example".to_owned()])
            .expect("a certificate");
        std::fs::write(&files.certificate, made.cert.pem()).expect("written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        assert!(files.read(Speech::Dot).is_err(), "there is none yet");
        write(&files);
        let config = ArcSwap::from_pointee(files.read(Speech::Dot).expect("read"));
        let first = config.load_full();
        write(&files);
        renew(&config, &files, Speech::Dot);
        let second = config.load_full();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&files.key, "no key").expect("written");
        renew(&config, &files, Speech::Dot);
        assert!(Arc::ptr_eq(&second, &config.load_full()));
    }
}
