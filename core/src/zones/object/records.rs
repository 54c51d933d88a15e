//! Records, delegations and zone files of an authoritative zone.

use weft_crds::{AuthoritativeBody, ZoneDelegation, ZoneRecord, ZoneSource};

use super::{Fault, Reader};
use crate::zones::file;
use crate::zones::input;
use crate::zones::name::Name;
use crate::zones::record::{self, DataError, RecordType};
use crate::zones::text;
use crate::zones::user::{Content, Record, Strictness, UserZone};

/// Refresh, retry and expire of SOA records, in seconds: those of the built-in zones.
const TIMES: [u32; 3] = [7200, 1800, 86_400];

impl Reader<'_> {
    /// Reads the records of a zone; the whole of it or nothing.
    pub(super) fn records(&self, body: &AuthoritativeBody) -> Result<UserZone, Vec<Fault>> {
        let path = format!("{}.authoritative", self.path);
        let (mut records, mut faults) = (Vec::new(), Vec::new());
        match self.start(&path, body) {
            Ok(start) => records.push(start),
            Err(fault) => faults.push(fault),
        }
        for (index, record) in body.records.iter().enumerate() {
            let field = format!("{path}.records[{index}]");
            match self.record(&field, record, body.default_ttl) {
                Ok(more) => records.extend(more),
                Err(fault) => faults.push(fault),
            }
        }
        for (index, delegation) in body.delegations.iter().enumerate() {
            let field = format!("{path}.delegations[{index}]");
            match self.delegation(&field, delegation, body.default_ttl) {
                Ok(more) => records.extend(more),
                Err(fault) => faults.push(fault),
            }
        }
        for (index, source) in body.sources.iter().enumerate() {
            let field = format!("{path}.sources[{index}]");
            match self.source(&field, source, body.default_ttl) {
                Ok(more) => records.extend(more),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        self.name_server(&mut records);
        UserZone::build(self.apex.clone(), records, Strictness::Object).map_err(|errors| {
            let fault = |source| match self.view {
                None => Fault::Zone(source),
                Some(view) => Fault::ViewZone {
                    view: view.to_owned(),
                    source,
                },
            };
            errors.into_iter().map(fault).collect()
        })
    }

    /// The SOA record.
    fn start(&self, path: &str, body: &AuthoritativeBody) -> Result<Record, Fault> {
        let server = match &body.primary_ns {
            Some(text) => self.absolute(&format!("{path}.primaryNS"), text)?,
            None => self.surroundings.primary_ns.clone(),
        };
        let field = format!("{path}.mbox");
        let mailbox = match &body.mbox {
            Some(text) => self.absolute(&field, text)?,
            None => Name::parse("hostmaster", Some(self.apex))
                .map_err(|source| Fault::name(&field, "hostmaster", source))?,
        };
        let mut data = [server.wire(), mailbox.wire()].concat();
        data.extend_from_slice(&self.serial.to_be_bytes());
        for number in TIMES.into_iter().chain([body.negative_ttl]) {
            data.extend_from_slice(&number.to_be_bytes());
        }
        Ok(self.data(self.apex.clone(), body.default_ttl, RecordType::SOA, data))
    }

    /// A zone without NS records of its own has the server of its SOA record (RFC 1034, 4.2.1: a zone has some).
    fn name_server(&self, records: &mut Vec<Record>) {
        let is = |record: &Record, wanted: RecordType| {
            record.owner == *self.apex
                && matches!(&record.content, Content::Data { kind, .. } if *kind == wanted)
        };
        if records.iter().any(|record| is(record, RecordType::NS)) {
            return;
        }
        let start = records
            .iter()
            .find(|record| is(record, RecordType::SOA))
            .cloned();
        let Some(Record {
            ttl,
            content: Content::Data { data, .. },
            ..
        }) = start
        else {
            return;
        };
        let mut length = 0;
        while data[length] > 0 {
            length += usize::from(data[length]) + 1;
        }
        let server = data[..=length].to_vec();
        records.push(self.data(self.apex.clone(), ttl, RecordType::NS, server));
    }

    fn record(
        &self,
        field: &str,
        record: &ZoneRecord,
        default_ttl: u32,
    ) -> Result<Vec<Record>, Fault> {
        let ZoneRecord {
            name,
            type_,
            ttl,
            values,
            service_ref,
        } = record;
        let owner = self.owner(&format!("{field}.name"), name)?;
        let ttl = ttl.unwrap_or(default_ttl);
        let whole = |content| {
            vec![Record {
                owner: owner.clone(),
                ttl,
                content,
            }]
        };
        if let Some(service) = service_ref {
            let key = input::key(&service.namespace, &service.name).ok_or_else(|| {
                let rule = format!(
                    "{}/{} is no namespace and name of a Service",
                    service.namespace, service.name
                );
                Fault::field(&format!("{field}.serviceRef"), rule)
            })?;
            return Ok(whole(Content::Service(key)));
        }
        let type_ = type_.as_deref().unwrap_or_default();
        let told = |rule: String| Fault::field(&format!("{field} ({owner} {type_})"), rule);
        if type_ == "ALIAS" {
            let [target] = values.as_slice() else {
                return Err(told(format!(
                    "there are {} values: an ALIAS has one target",
                    values.len()
                )));
            };
            return Ok(whole(Content::Alias(
                self.absolute(&format!("{field} ({owner} ALIAS)"), target)?,
            )));
        }
        let kind =
            RecordType::parse(type_).ok_or_else(|| told(format!("{type_:?} is no record type")))?;
        let data = |value: &String| {
            let data = data(kind, value).map_err(told)?;
            Ok(self.data(owner.clone(), ttl, kind, data))
        };
        values.iter().map(data).collect()
    }

    fn delegation(
        &self,
        field: &str,
        delegation: &ZoneDelegation,
        default_ttl: u32,
    ) -> Result<Vec<Record>, Fault> {
        let owner = self.owner(&format!("{field}.name"), &delegation.name)?;
        if owner == *self.apex {
            return Err(Fault::field(
                &format!("{field}.name"),
                "the zone itself cannot be delegated",
            ));
        }
        let ttl = delegation.ttl.unwrap_or(default_ttl);
        let mut records = Vec::new();
        for (index, server) in delegation.servers.iter().enumerate() {
            let field = format!("{field}.servers[{index}]");
            let name = self.absolute(&format!("{field}.name"), &server.name)?;
            if server.addresses.is_empty() && name.is_at_or_below(&owner) {
                let rule = format!("{name} is within {owner}: nobody finds it without addresses");
                return Err(Fault::field(&format!("{field}.addresses"), rule));
            }
            records.push(self.data(owner.clone(), ttl, RecordType::NS, name.wire().to_vec()));
            for text in &server.addresses {
                let address = text.parse().map_err(|_| {
                    let rule = format!("{text:?} is no IP address");
                    Fault::field(&format!("{field}.addresses"), rule)
                })?;
                let (kind, data) = match address {
                    std::net::IpAddr::V4(address) => (RecordType::A, address.octets().to_vec()),
                    std::net::IpAddr::V6(address) => (RecordType::AAAA, address.octets().to_vec()),
                };
                // Addresses of servers elsewhere are not ours to say.
                if name.is_at_or_below(self.apex) {
                    records.push(self.data(name.clone(), ttl, kind, data));
                }
            }
        }
        Ok(records)
    }

    fn source(
        &self,
        field: &str,
        source: &ZoneSource,
        default_ttl: u32,
    ) -> Result<Vec<Record>, Fault> {
        let name = &source.config_map_ref;
        let field = format!("{field}.configMapRef");
        let text = self.files.text(name).ok_or_else(|| Fault::Source {
            field: field.clone(),
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            key: name.key.clone(),
        })?;
        let records = file::parse(text, self.apex, Some(default_ttl)).map_err(|error| {
            let place = format!("{field} ({}/{} {})", name.namespace, name.name, name.key);
            Fault::field(&place, error.to_string())
        })?;
        let is_start = |record: &Record| {
            record.owner == *self.apex
                && matches!(&record.content, Content::Data { kind, .. } if *kind == RecordType::SOA)
        };
        Ok(records
            .into_iter()
            .filter(|record| !is_start(record))
            .collect())
    }

    fn owner(&self, field: &str, text: &str) -> Result<Name, Fault> {
        Name::parse(text, Some(self.apex)).map_err(|source| Fault::name(field, text, source))
    }

    fn data(&self, owner: Name, ttl: u32, kind: RecordType, data: Vec<u8>) -> Record {
        Record {
            owner,
            ttl,
            content: Content::Data {
                kind,
                data: data.into(),
            },
        }
    }
}

/// Reads one value: its data in wire form, or the rule that it breaks.
fn data(kind: RecordType, value: &str) -> Result<Vec<u8>, String> {
    if kind == RecordType::TXT && !value.starts_with('"') && !value.starts_with("\\#") {
        return plain_text(value).map_err(|error| error.to_string());
    }
    let tokens = text::tokens(value).map_err(|error| error.to_string())?;
    let data = record::parse_data(kind, &tokens, Some(&Name::root()));
    data.map(Vec::from).map_err(|error| error.to_string())
}

/// A text in pieces of 255 bytes (RFC 1035, 3.3.14).
fn plain_text(value: &str) -> Result<Vec<u8>, DataError> {
    let mut data = Vec::with_capacity(value.len() + value.len() / 255 + 1);
    if value.is_empty() {
        data.push(0);
    }
    for piece in value.as_bytes().chunks(255) {
        data.extend(u8::try_from(piece.len()));
        data.extend_from_slice(piece);
    }
    match data.len() {
        0..=65535 => Ok(data),
        length => Err(DataError::Long(length)),
    }
}
