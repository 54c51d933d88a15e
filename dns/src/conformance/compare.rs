//! Compares an answer with what a case expects, by the rules of tests/conformance/README.md.

use weft_core::zones::name::{Name, is_at_or_below, labels};
use weft_core::zones::record::{RecordType, parse_data};
use weft_core::zones::text::{Token, tokens};

use super::query::{Reply, Row, cased};
use super::{Authority, Case};

/// A row of a file: what stands for anything is none.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub owner: Vec<u8>,
    pub kind: RecordType,
    pub ttl: Option<u32>,
    pub data: Vec<u8>,
    priority: bool,
    weight: bool,
}

/// Reads a row: owner, time to live or a star, class, type, data.
pub(super) fn record(text: &str) -> Result<Wanted, String> {
    let fault = |what: &str| format!("{text:?}: {what}");
    let mut words = tokens(text).map_err(|error| fault(&error.to_string()))?;
    if words.len() < 5 || !words[2].is("IN") {
        return Err(fault("a row is OWNER TTL IN TYPE DATA"));
    }
    let owner = cased(&words[0].name_text()).ok_or_else(|| fault("no owner"))?;
    let ttl = words[1].lossy().parse().ok();
    let kind = RecordType::parse(&words[3].lossy()).ok_or_else(|| fault("no type"))?;
    let mut any = |index: usize| {
        let star = kind == RecordType::SRV && words[index].is("*");
        if star {
            words[index] = Token::plain("0");
        }
        star
    };
    let (priority, weight) = (any(4), kind == RecordType::SRV && any(5));
    let data = parse_data(kind, &words[4..], Some(&Name::root()))
        .map_err(|error| fault(&error.to_string()))?;
    Ok(Wanted {
        owner,
        kind,
        ttl,
        data: data.into(),
        priority,
        weight,
    })
}

/// What was expected and what was got instead; none where they agree.
pub(super) fn compare(
    apexes: &[Name],
    case: &Case,
    reply: Option<&Reply>,
) -> Option<(String, String)> {
    let Some(reply) = reply else {
        return Some(("an answer".to_owned(), "none".to_owned()));
    };
    let code = code(reply.code);
    if code != case.expect.rcode {
        return Some((case.expect.rcode.clone(), code));
    }
    if let Some(truncated) = case
        .expect
        .truncated
        .filter(|&truncated| truncated != reply.truncated)
    {
        return Some((
            format!("truncated: {truncated}"),
            format!("truncated: {}", reply.truncated),
        ));
    }
    let question = cased(case.query.name()).unwrap_or_default();
    let section = |name: &str, index: usize, rows: Option<&Vec<String>>| {
        rows.and_then(|rows| rows_differ(name, &question, rows, &reply.sections[index], index == 0))
    };
    section("answer", 0, case.expect.answer.as_ref())
        .or_else(|| match &case.expect.authority {
            None => None,
            Some(Authority::Records(rows)) => section("authority", 1, Some(rows)),
            Some(Authority::Soa(super::Soa::Soa)) => start(apexes, &question, &reply.sections[1]),
        })
        .or_else(|| section("additional", 2, case.expect.additional.as_ref()))
}

/// `authority: soa`: one SOA record of the zone that the question falls in.
fn start(apexes: &[Name], question: &[u8], rows: &[Row]) -> Option<(String, String)> {
    let lower = question.to_ascii_lowercase();
    let zones = apexes
        .iter()
        .filter(|zone| is_at_or_below(&lower, zone.wire()));
    let zone = zones.max_by_key(|zone| zone.wire().len())?;
    let fits =
        |row: &Row| row.kind == RecordType::SOA && row.owner.eq_ignore_ascii_case(zone.wire());
    match rows {
        [row] if fits(row) => None,
        _ => Some((
            format!("authority: one SOA of {zone}"),
            show("authority", rows),
        )),
    }
}

fn rows_differ(
    name: &str,
    question: &[u8],
    wanted: &[String],
    got: &[Row],
    answer: bool,
) -> Option<(String, String)> {
    let expected = || format!("{name}: {wanted:?}");
    let differ = || Some((expected(), show(name, got)));
    let mut left: Vec<&Row> = got.iter().collect();
    for text in wanted {
        let row = match record(text) {
            Ok(row) => row,
            Err(fault) => return Some((fault, show(name, got))),
        };
        match left
            .iter()
            .position(|other| fits(&row, other, question, answer))
        {
            Some(index) => drop(left.remove(index)),
            None => return differ(),
        }
    }
    if !left.is_empty() || (answer && !aliases_come_first(question, got)) {
        return differ();
    }
    None
}

fn fits(wanted: &Wanted, got: &Row, question: &[u8], answer: bool) -> bool {
    let same = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
    let exact = answer && same(&wanted.owner, question);
    let owner = if exact {
        wanted.owner == got.owner
    } else {
        same(&wanted.owner, &got.owner)
    };
    if !owner || wanted.kind != got.kind {
        return false;
    }
    if wanted.kind == RecordType::SOA {
        return true;
    }
    let ttl = wanted.ttl.is_none() || wanted.ttl == got.ttl;
    ttl && data(wanted, &got.data)
}

/// Names in data match in any case; so does other data of these types, which holds no text.
fn data(wanted: &Wanted, got: &[u8]) -> bool {
    let mut got = got.to_vec();
    if wanted.kind == RecordType::SRV && got.len() > 4 {
        if wanted.priority {
            got[..2].fill(0);
        }
        if wanted.weight {
            got[2..4].fill(0);
        }
    }
    match wanted.kind.names() {
        Some((before, _)) => {
            let end = |data: &[u8]| {
                before
                    + labels(&data[before..])
                        .map(|label| label.len() + 1)
                        .sum::<usize>()
            };
            let (a, b) = (end(&wanted.data), end(&got));
            wanted.data[..a].eq_ignore_ascii_case(&got[..b]) && wanted.data[a..] == got[b..]
        }
        None => wanted.data == got,
    }
}

/// A CNAME stands before what it points to.
fn aliases_come_first(question: &[u8], rows: &[Row]) -> bool {
    let mut reached = vec![question.to_ascii_lowercase()];
    rows.iter().all(|row| {
        let owner = row.owner.to_ascii_lowercase();
        let known = row.kind == RecordType::DNAME || reached.contains(&owner);
        if row.kind == RecordType::CNAME {
            reached.push(row.data.to_ascii_lowercase());
        }
        known
    })
}

fn code(code: u16) -> String {
    let names = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN",
    ];
    match names.get(usize::from(code)) {
        Some(name) => (*name).to_owned(),
        None if code == 16 => "BADVERS".to_owned(),
        None => format!("RCODE{code}"),
    }
}

fn show(name: &str, rows: &[Row]) -> String {
    let texts: Vec<_> = rows.iter().map(text).collect();
    format!("{name}: {texts:?}")
}

fn text(row: &Row) -> String {
    let ttl = row.ttl.map_or("*".to_owned(), |ttl| ttl.to_string());
    let record = super::slow::record(&row.owner, row.kind, 0, &row.data);
    let data = record
        .map(|record| record.data.to_string())
        .unwrap_or_default();
    format!(
        "{} {ttl} IN {} {data}",
        Name::from_wire(&row.owner),
        row.kind
    )
}
