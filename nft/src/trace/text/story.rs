//! All ways of a packet in one text: what they share is told once, and then one after the other.

use std::collections::VecDeque;
use std::fmt::Write;

use super::super::Trace;

/// The lines of one way that are not told yet.
type Way = VecDeque<String>;

/// Tells all traces of one packet. Where ways part, each begins with `*`.
#[must_use]
pub fn story(traces: &[Trace<'_>]) -> String {
    let mut text = String::new();
    let ways = traces.iter().map(|trace| {
        let lines = trace.lines().into_iter();
        lines.chain([trace.ending()]).collect::<Way>()
    });
    let ways: Vec<Way> = ways.collect();
    if let Some(trace) = traces.first() {
        text.push_str(&trace.beginning());
        text.push('\n');
    }
    tell(&mut text, "  ", ways);
    text
}

fn tell(text: &mut String, indent: &str, mut ways: Vec<Way>) {
    while let Some(line) = shared(&ways) {
        let _ = writeln!(text, "{indent}{line}");
        for way in &mut ways {
            way.pop_front();
        }
    }
    let deeper = format!("{indent}  ");
    for mut group in parted(ways) {
        let first = group.first().and_then(|way| way.front()).cloned();
        let Some(first) = first else { continue };
        let _ = writeln!(text, "{indent}* {first}");
        for way in &mut group {
            way.pop_front();
        }
        tell(text, &deeper, group);
    }
}

/// The line that all ways have next, if they do.
fn shared(ways: &[Way]) -> Option<String> {
    let next = ways.first()?.front()?;
    let same = ways.iter().all(|way| way.front() == Some(next));
    same.then(|| next.clone())
}

/// The ways by their next lines, in order of appearance.
fn parted(ways: Vec<Way>) -> Vec<Vec<Way>> {
    let mut groups: Vec<Vec<Way>> = Vec::new();
    for way in ways {
        let same = |group: &&mut Vec<Way>| {
            group
                .first()
                .is_some_and(|first| first.front() == way.front())
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(way),
            None => groups.push(vec![way]),
        }
    }
    groups
}
