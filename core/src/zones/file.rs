//! Zone files (RFC 1035, 5) in, records out, with the line of what cannot be used.
//!
//! `$INCLUDE` is refused: a zone file of ours has no folder.

use thiserror::Error;

use super::name::{Name, NameError};
use super::record::{self, DataError, RecordType};
use super::text::{self, Entry, TextError, Token};
use super::user::{Content, Record};

/// What of a zone file cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {fault}")]
pub struct FileError {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be cut into words.
    #[error(transparent)]
    Text(TextError),
    /// Something that is no name stands where one should.
    #[error("{text:?} is no domain name: {source}")]
    Name {
        /// What stands there.
        text: String,
        /// The rule.
        source: NameError,
    },
    /// The first record has no owner.
    #[error("the first record has no owner")]
    Owner,
    /// No time to live is known.
    #[error("no time to live: write $TTL, or one on the record")]
    Ttl,
    /// A time to live that is none.
    #[error("{0:?} is no time to live of 0 to 2147483647 seconds")]
    BadTtl(String),
    /// A class that is not IN.
    #[error("class {0}: zones are of class IN")]
    Class(String),
    /// No type that is known.
    #[error("{0:?} is no record type")]
    Kind(String),
    /// A directive that is not known here.
    #[error("{0} is not known here; $ORIGIN and $TTL are")]
    Directive(String),
    /// Data that the type does not allow.
    #[error("{owner} {kind}: {source}")]
    Data {
        /// The record's owner.
        owner: Name,
        /// The record's type.
        kind: RecordType,
        /// The rule.
        source: DataError,
    },
}

/// Reads a zone file. `default_ttl` holds until the file says `$TTL`.
///
/// # Errors
/// The first line that cannot be used.
pub fn parse(
    text: &str,
    origin: &Name,
    default_ttl: Option<u32>,
) -> Result<Vec<Record>, FileError> {
    let entries = text::entries(text).map_err(|(line, error)| FileError {
        line,
        fault: Fault::Text(error),
    })?;
    let mut reader = Reader {
        origin: origin.clone(),
        default_ttl,
        last_ttl: None,
        owner: None,
        records: Vec::new(),
    };
    for entry in entries {
        let line = entry.line;
        reader
            .entry(&entry)
            .map_err(|fault| FileError { line, fault })?;
    }
    Ok(reader.records)
}

struct Reader {
    origin: Name,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    owner: Option<Name>,
    records: Vec<Record>,
}

impl Reader {
    fn entry(&mut self, entry: &Entry) -> Result<(), Fault> {
        let mut tokens = entry.tokens.as_slice();
        if let Some(directive) = tokens[0].lossy().strip_prefix('$') {
            return self.directive(directive, &tokens[1..]);
        }
        if !entry.indented {
            self.owner = Some(self.name(&tokens[0])?);
            tokens = &tokens[1..];
        }
        let owner = self.owner.clone().ok_or(Fault::Owner)?;
        let (ttl, kind, data) = self.head(tokens)?;
        let data = record::parse_data(kind, data, Some(&self.origin));
        let data = data.map_err(|source| Fault::Data {
            owner: owner.clone(),
            kind,
            source,
        })?;
        let content = Content::Data { kind, data };
        self.records.push(Record {
            owner,
            ttl,
            content,
        });
        Ok(())
    }

    fn directive(&mut self, directive: &str, tokens: &[Token]) -> Result<(), Fault> {
        let first = tokens
            .first()
            .ok_or_else(|| Fault::Directive(format!("${directive} alone")))?;
        match directive.to_ascii_uppercase().as_str() {
            "ORIGIN" => self.origin = self.name(first)?,
            "TTL" => self.default_ttl = Some(ttl(first)?),
            other => return Err(Fault::Directive(format!("${other}"))),
        }
        Ok(())
    }

    fn name(&self, token: &Token) -> Result<Name, Fault> {
        let text = token.name_text();
        Name::parse(&text, Some(&self.origin)).map_err(|source| Fault::Name { text, source })
    }

    /// Time to live and class, in either order and both optional; then the type.
    fn head<'t>(
        &mut self,
        mut tokens: &'t [Token],
    ) -> Result<(u32, RecordType, &'t [Token]), Fault> {
        let mut own = None;
        loop {
            let (first, rest) = tokens.split_first().ok_or(Fault::Kind(String::new()))?;
            let word = first.lossy();
            match word.to_ascii_uppercase().as_str() {
                "IN" => {}
                "CH" | "HS" | "CS" | "NONE" => return Err(Fault::Class(word)),
                _ if own.is_none() && word.starts_with(|first: char| first.is_ascii_digit()) => {
                    own = Some(ttl(first)?)
                }
                _ => {
                    let kind = RecordType::parse(&word).ok_or(Fault::Kind(word))?;
                    let ttl = own
                        .or(self.default_ttl)
                        .or(self.last_ttl)
                        .ok_or(Fault::Ttl)?;
                    self.last_ttl = Some(ttl);
                    return Ok((ttl, kind, rest));
                }
            }
            tokens = rest;
        }
    }
}

fn ttl(token: &Token) -> Result<u32, Fault> {
    let text = token.lossy();
    record::seconds(&text).ok_or(Fault::BadTtl(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> Result<Vec<Record>, FileError> {
        parse(text, &Name::absolute("example.").expect("a name"), None)
    }

    fn fault(text: &str) -> String {
        zone(text).expect_err("a fault").to_string()
    }

    #[test]
    fn owners_and_times_to_live_carry_over() {
        let records = zone(
            "$TTL 60\na IN A 192.0.2.1\n  5 IN A 192.0.2.2\n$ORIGIN b.example.\n@ IN 7 A 192.0.2.3\n",
        );
        let records = records.expect("records");
        let seen: Vec<_> = records
            .iter()
            .map(|record| (record.owner.to_string(), record.ttl))
            .collect();
        let wanted = [("a.example.", 60), ("a.example.", 5), ("b.example.", 7)];
        assert_eq!(seen, wanted.map(|(owner, ttl)| (owner.to_owned(), ttl)));
    }

    #[test]
    fn faults_name_their_line_record_and_rule() {
        assert_eq!(
            fault("$TTL 60\n\na A 1.2.3\n"),
            "line 3: a.example. A: \"1.2.3\" is not an IPv4 address"
        );
        assert_eq!(
            fault("a A 192.0.2.1\n"),
            "line 1: no time to live: write $TTL, or one on the record"
        );
        assert_eq!(
            fault("a 2147483648 A 192.0.2.1\n"),
            "line 1: \"2147483648\" is no time to live of 0 to 2147483647 seconds"
        );
        assert_eq!(
            fault("a 5 CH A 192.0.2.1\n"),
            "line 1: class CH: zones are of class IN"
        );
        assert_eq!(
            fault("$INCLUDE x\n"),
            "line 1: $INCLUDE is not known here; $ORIGIN and $TTL are"
        );
        assert_eq!(
            fault(" 5 A 192.0.2.1\n"),
            "line 1: the first record has no owner"
        );
        assert_eq!(
            fault("a..b 5 A 192.0.2.1\n"),
            "line 1: \"a..b\" is no domain name: a label is empty"
        );
        assert_eq!(fault("a 5 NOPE x\n"), "line 1: \"NOPE\" is no record type");
    }
}
