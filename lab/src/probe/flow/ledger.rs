//! The account of one flow at its receiver: turns arrivals, in whatever order, into losses,
//! duplicates, reordering and gaps.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::packet::Packet;

/// What was received of one flow. Lost is only what lies below the highest number that came: what
/// was sent after it is known by the sender alone.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Which flow.
    pub flow: u64,
    /// Different numbers that came.
    pub received: u64,
    /// The highest number that came, plus one.
    pub upto: u64,
    /// Numbers below `upto` that never came.
    pub lost: u64,
    /// Packets whose number had come before.
    pub duplicates: u64,
    /// Packets whose number was below one that had come before.
    pub reordered: u64,
    /// The longest silence between two arrivals, in microseconds.
    pub longest_gap_us: u64,
    /// Packets of any flow that this receiver itself was too slow for. They look lost and are not the network's.
    pub overrun: u64,
    /// Runs of lost numbers, at most 100.
    pub gaps: Vec<Gap>,
    /// Every source address and port seen.
    pub sources: Vec<SocketAddr>,
}

/// A run of numbers that never came.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Gap {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// When the number before it was sent, nanoseconds since 1970; 0 when none came before.
    pub after_ns: u64,
}

/// The account while it is being kept.
#[derive(Debug, Default)]
pub struct Ledger {
    flow: u64,
    /// Per number, when it was sent; 0: not come.
    sent: Vec<u64>,
    received: u64,
    duplicates: u64,
    reordered: u64,
    last_arrival_ns: u64,
    longest_gap_ns: u64,
    sources: BTreeSet<SocketAddr>,
}

/// Beyond this a number is no number of ours but damage: 10,000 a second for two hours.
const MOST: u64 = 72_000_000;

impl Ledger {
    /// An empty account.
    pub fn new(flow: u64) -> Self {
        Self {
            flow,
            ..Self::default()
        }
    }

    /// Enters one arrival; `arrived` in nanoseconds.
    pub fn enter(&mut self, packet: &Packet, source: SocketAddr, arrived: u64) {
        self.sources.insert(source);
        if self.last_arrival_ns != 0 {
            let gap = arrived.saturating_sub(self.last_arrival_ns);
            self.longest_gap_ns = self.longest_gap_ns.max(gap);
        }
        self.last_arrival_ns = self.last_arrival_ns.max(arrived);
        let Ok(index) = usize::try_from(packet.number.min(MOST)) else {
            return;
        };
        if index < self.sent.len() {
            if self.sent[index] != 0 {
                self.duplicates += 1;
                return;
            }
            self.reordered += 1;
        } else {
            self.sent.resize(index + 1, 0);
        }
        self.sent[index] = packet.sent.max(1);
        self.received += 1;
    }

    /// Closes the account.
    pub fn close(&self, overrun: u64) -> Received {
        let upto = self.sent.len() as u64;
        Received {
            flow: self.flow,
            received: self.received,
            upto,
            lost: upto - self.received,
            duplicates: self.duplicates,
            reordered: self.reordered,
            longest_gap_us: self.longest_gap_ns / 1000,
            overrun,
            gaps: self.gaps(),
            sources: self.sources.iter().copied().collect(),
        }
    }

    fn gaps(&self) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        let mut before = 0;
        for (number, sent) in (0_u64..).zip(&self.sent) {
            if *sent != 0 {
                before = *sent;
                continue;
            }
            if let Some(gap) = gaps.last_mut().filter(|gap| gap.to + 1 == number) {
                gap.to = number;
            } else if gaps.len() == 100 {
                break;
            } else {
                gaps.push(Gap {
                    from: number,
                    to: number,
                    after_ns: before,
                });
            }
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(numbers: &[u64]) -> Received {
        let mut ledger = Ledger::new(1);
        let source = "10.0.0.1:5".parse().unwrap();
        for (index, number) in numbers.iter().enumerate() {
            let arrived = 1_000_000_000 + index as u64 * 1_000_000;
            ledger.enter(
                &Packet {
                    flow: 1,
                    number: *number,
                    sent: number + 100,
                },
                source,
                arrived,
            );
        }
        ledger.close(0)
    }

    #[test]
    fn a_complete_flow_has_no_loss() {
        let all = account(&[0, 1, 2, 3]);
        assert_eq!(
            (all.received, all.lost, all.duplicates, all.reordered),
            (4, 0, 0, 0)
        );
        assert_eq!((all.longest_gap_us, all.gaps.len()), (1000, 0));
    }

    #[test]
    fn a_missing_run_is_one_gap_with_its_time() {
        let some = account(&[0, 1, 5, 7]);
        assert_eq!((some.upto, some.received, some.lost), (8, 4, 4));
        assert_eq!(
            some.gaps[0],
            Gap {
                from: 2,
                to: 4,
                after_ns: 101
            }
        );
        assert_eq!(
            some.gaps[1],
            Gap {
                from: 6,
                to: 6,
                after_ns: 105
            }
        );
    }

    #[test]
    fn late_and_doubled_packets_are_told_apart() {
        let odd = account(&[0, 2, 1, 2]);
        assert_eq!((odd.lost, odd.reordered, odd.duplicates), (0, 1, 1));
    }

    #[test]
    fn the_first_numbers_may_be_the_lost_ones() {
        let late = account(&[3]);
        assert_eq!(late.lost, 3);
        assert_eq!(
            late.gaps,
            [Gap {
                from: 0,
                to: 2,
                after_ns: 0
            }]
        );
    }
}
