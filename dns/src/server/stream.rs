//! Streams (RFC 7766): messages with a length before them; several questions may be on their way at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::Served;
use crate::message::Transport;
use crate::metrics::Counters;

/// Streams that are open at once.
const STREAMS: usize = 2048;
/// Questions of one stream that are answered at once.
const IN_FLIGHT: usize = 32;
/// How long a stream may be silent (RFC 7766, 6.2.3: a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How long a client may take to accept an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes streams, for ever.
pub async fn serve(served: Arc<Served>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(STREAMS));
    let counters = served.metrics.counters();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, client) = match listener.accept().await {
            Ok(taken) => taken,
            Err(error) => {
                // Out of descriptors, most likely: some streams have to end first.
                tracing::debug!(%error, "failed to take a stream");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (served, counters) = (Arc::clone(&served), Arc::clone(&counters));
        tokio::spawn(async move {
            served.metrics.streams.fetch_add(1, Ordering::Relaxed);
            let _ = stream.set_nodelay(true);
            converse(&served, &counters, stream, client).await;
            served.metrics.streams.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

/// Answers what one client asks until it ends, is silent, or sends what is no message.
pub async fn converse<S>(
    served: &Arc<Served>,
    counters: &Arc<Counters>,
    stream: S,
    client: SocketAddr,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (answers, mut ready) = mpsc::channel::<Vec<u8>>(IN_FLIGHT);
    let write = async {
        while let Some(answer) = ready.recv().await {
            let Ok(length) = u16::try_from(answer.len()) else {
                continue;
            };
            let mut framed = Vec::with_capacity(answer.len() + 2);
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(&answer);
            if !matches!(
                timeout(PATIENCE, writer.write_all(&framed)).await,
                Ok(Ok(()))
            ) {
                return;
            }
        }
        let _ = timeout(PATIENCE, writer.shutdown()).await;
    };
    let read = async {
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        while let Some(packet) = message(&mut reader).await {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                break;
            };
            let (served, counters, answers) =
                (Arc::clone(served), Arc::clone(counters), answers.clone());
            tokio::spawn(async move {
                if let Some(answer) = served
                    .answer(&counters, &packet, client_ip(client), Transport::Stream)
                    .await
                {
                    let _ = answers.send(answer).await;
                }
                drop(permit);
            });
        }
        drop(answers);
    };
    tokio::join!(read, write);
}

/// The client's address; one of IPv4 in an IPv6 socket is one of IPv4.
fn client_ip(client: SocketAddr) -> IpAddr {
    client.ip().to_canonical()
}

/// The next message; none at the end of the stream.
async fn message(reader: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    timeout(IDLE, reader.read_exact(&mut length))
        .await
        .ok()?
        .ok()?;
    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
    timeout(PATIENCE, reader.read_exact(&mut packet))
        .await
        .ok()?
        .ok()?;
    Some(packet)
}
