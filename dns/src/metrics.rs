//! What the server counts, and its text for Prometheus.
//!
//! Serving threads count for themselves, so that counting costs no cache line that another thread writes; the sums are
//! made when somebody asks.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weft_core::zones::record::RecordType;

/// Types that are counted by name; the last stands for all others.
const TYPES: [(&str, u16); 8] = [
    ("A", 1),
    ("AAAA", 28),
    ("SRV", 33),
    ("PTR", 12),
    ("TXT", 16),
    ("HTTPS", 65),
    ("SOA", 6),
    ("other", 0),
];
/// Codes that are counted by name; the last stands for all others.
const CODES: [&str; 8] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "other",
];
const PATHS: [&str; 2] = ["fast", "slow"];
const TRANSPORTS: [&str; 2] = ["udp", "stream"];

/// What one thread counts.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    answers: [[[AtomicU64; CODES.len()]; TYPES.len()]; PATHS.len() * TRANSPORTS.len()],
    dropped: AtomicU64,
    truncated: AtomicU64,
}

impl Counters {
    /// An answer went out.
    pub fn answered(&self, slow: bool, stream: bool, packet: &[u8], answer: &[u8]) {
        let kind = kind_of(packet);
        let place = TYPES
            .iter()
            .position(|(_, number)| *number == kind.0)
            .unwrap_or(TYPES.len() - 1);
        let code =
            usize::from(answer.get(3).copied().unwrap_or_default() & 15).min(CODES.len() - 1);
        self.answers[usize::from(slow) * 2 + usize::from(stream)][place][code]
            .fetch_add(1, Ordering::Relaxed);
        if answer.get(2).is_some_and(|flags| flags & 2 != 0) {
            self.truncated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message got no answer.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// The type in a message; zero where there is none.
fn kind_of(packet: &[u8]) -> RecordType {
    let mut at = 12;
    while let Some(&length) = packet.get(at).filter(|&&length| length > 0) {
        at += usize::from(length) + 1;
    }
    let bytes = packet
        .get(at + 1..at + 3)
        .and_then(|bytes| bytes.first_chunk());
    RecordType(bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes)))
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    threads: std::sync::Mutex<Vec<Arc<Counters>>>,
    /// Questions that the slow path gave up because too many waited.
    pub shed: AtomicU64,
    /// Questions asked of others.
    pub upstream_asked: AtomicU64,
    /// Questions that no other answered.
    pub upstream_failed: AtomicU64,
    /// Upstreams that are out of service because they ask us.
    pub upstream_loops: AtomicU64,
    /// Answers from the cache.
    pub cache_hits: AtomicU64,
    /// Questions that the cache did not know.
    pub cache_misses: AtomicU64,
    /// Answers from the cache whose time was over.
    pub cache_stale: AtomicU64,
    /// Answers in the cache.
    pub cache_size: AtomicU64,
    /// Streams that are open.
    pub streams: AtomicU64,
    /// Watches that had to begin anew.
    pub watch_restarts: AtomicU64,
    /// Lists that were empty all of a sudden and are not believed yet.
    pub held_lists: AtomicU64,
    /// Times that answers were put in force.
    pub published: AtomicU64,
    /// Microseconds from events to answers, all together.
    pub programming_micros: AtomicU64,
    /// The longest of them.
    pub programming_worst_micros: AtomicU64,
    /// Services that have names.
    pub services: AtomicU64,
    /// Endpoints that they have.
    pub endpoints: AtomicU64,
    /// Zones of users that are served.
    pub zones: AtomicU64,
    /// Zones of users whose last version cannot be used.
    pub zones_refused: AtomicU64,
    /// Classes of clients that see zones of their own.
    pub client_classes: AtomicU64,
    /// Seconds since 1970 of what is served.
    pub snapshot_time: AtomicU64,
    /// One: what is served comes from the disk.
    pub from_disk: AtomicU64,
}

impl Metrics {
    /// Counters for one more thread.
    pub fn counters(&self) -> Arc<Counters> {
        let counters = Arc::<Counters>::default();
        let mut threads = self
            .threads
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        threads.push(Arc::clone(&counters));
        counters
    }

    /// The text for Prometheus.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(8192);
        self.answers(&mut text);
        for (name, kind, help, value) in self.plain() {
            let value = value.load(Ordering::Relaxed);
            let _ = writeln!(
                text,
                "# HELP weft_dns_{name} {help}\n# TYPE weft_dns_{name} {kind}\nweft_dns_{name} {value}"
            );
        }
        text
    }

    fn answers(&self, text: &mut String) {
        let threads = self
            .threads
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        text.push_str("# HELP weft_dns_answers_total Answers by path, transport, type and code.\n# TYPE weft_dns_answers_total counter\n");
        let (mut dropped, mut truncated) = (0, 0);
        for (way, _) in [(); 4].iter().enumerate() {
            for (place, (kind, _)) in TYPES.iter().enumerate() {
                for (at, code) in CODES.iter().enumerate() {
                    let sum: u64 = threads
                        .iter()
                        .map(|thread| thread.answers[way][place][at].load(Ordering::Relaxed))
                        .sum();
                    if sum > 0 {
                        let (path, transport) = (PATHS[way / 2], TRANSPORTS[way % 2]);
                        let _ = writeln!(
                            text,
                            "weft_dns_answers_total{{path=\"{path}\",transport=\"{transport}\",type=\"{kind}\",code=\"{code}\"}} {sum}"
                        );
                    }
                }
            }
        }
        for thread in threads.iter() {
            dropped += thread.dropped.load(Ordering::Relaxed);
            truncated += thread.truncated.load(Ordering::Relaxed);
        }
        let _ = writeln!(
            text,
            "# HELP weft_dns_dropped_total Messages that got no answer.\n# TYPE weft_dns_dropped_total counter\nweft_dns_dropped_total {dropped}"
        );
        let _ = writeln!(
            text,
            "# HELP weft_dns_truncated_total Answers that did not fit.\n# TYPE weft_dns_truncated_total counter\nweft_dns_truncated_total {truncated}"
        );
    }

    fn plain(&self) -> [(&'static str, &'static str, &'static str, &AtomicU64); 21] {
        [
            (
                "shed_total",
                "counter",
                "Questions that the slow path gave up because too many waited.",
                &self.shed,
            ),
            (
                "upstream_asked_total",
                "counter",
                "Questions asked of others.",
                &self.upstream_asked,
            ),
            (
                "upstream_failed_total",
                "counter",
                "Questions that no other answered.",
                &self.upstream_failed,
            ),
            (
                "upstream_loops_total",
                "counter",
                "Upstreams found to ask us.",
                &self.upstream_loops,
            ),
            (
                "cache_hits_total",
                "counter",
                "Answers from the cache.",
                &self.cache_hits,
            ),
            (
                "cache_misses_total",
                "counter",
                "Questions that the cache did not know.",
                &self.cache_misses,
            ),
            (
                "cache_stale_total",
                "counter",
                "Answers from the cache whose time was over.",
                &self.cache_stale,
            ),
            (
                "cache_entries",
                "gauge",
                "Answers in the cache.",
                &self.cache_size,
            ),
            ("streams", "gauge", "Streams that are open.", &self.streams),
            (
                "watch_restarts_total",
                "counter",
                "Watches that had to begin anew.",
                &self.watch_restarts,
            ),
            (
                "held_lists_total",
                "counter",
                "Lists that were empty all of a sudden.",
                &self.held_lists,
            ),
            (
                "published_total",
                "counter",
                "Times that answers were put in force.",
                &self.published,
            ),
            (
                "programming_microseconds_total",
                "counter",
                "Time from events to answers.",
                &self.programming_micros,
            ),
            (
                "programming_worst_microseconds",
                "gauge",
                "Longest time from an event to answers.",
                &self.programming_worst_micros,
            ),
            (
                "services",
                "gauge",
                "Services that have names.",
                &self.services,
            ),
            (
                "endpoints",
                "gauge",
                "Endpoints of services.",
                &self.endpoints,
            ),
            (
                "zones",
                "gauge",
                "Zones of users that are served.",
                &self.zones,
            ),
            (
                "zones_refused",
                "gauge",
                "Zones of users whose last version cannot be used.",
                &self.zones_refused,
            ),
            (
                "client_classes",
                "gauge",
                "Classes of clients, each with a table of zones; 1 where everybody is alike.",
                &self.client_classes,
            ),
            (
                "snapshot_timestamp_seconds",
                "gauge",
                "When what is served was true.",
                &self.snapshot_time,
            ),
            (
                "from_disk",
                "gauge",
                "1 where what is served comes from the disk.",
                &self.from_disk,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_summed() {
        let metrics = Metrics::default();
        let packet = b"\0\0\0\0\0\0\0\0\0\0\0\0\x01a\0\0\x1c\0\x01";
        for _ in 0..2 {
            metrics
                .counters()
                .answered(false, false, packet, &[0, 0, 2, 3]);
        }
        metrics.counters().dropped();
        let text = metrics.encode();
        assert!(
            text.contains("{path=\"fast\",transport=\"udp\",type=\"AAAA\",code=\"NXDOMAIN\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("\nweft_dns_dropped_total 1\n"));
        assert!(text.contains("\nweft_dns_truncated_total 2\n"));
    }
}
