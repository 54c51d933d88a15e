//! Data of SVCB and HTTPS records (RFC 9460, 2.1 and appendix A).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{DataError, Fields};

/// Names of parameters by number (RFC 9460, 14.3.2; RFC 9461; RFC 9540).
const KEYS: [(&str, u16); 8] = [
    ("mandatory", 0),
    ("alpn", 1),
    ("no-default-alpn", 2),
    ("port", 3),
    ("ipv4hint", 4),
    ("ech", 5),
    ("ipv6hint", 6),
    ("dohpath", 7),
];

impl Fields<'_> {
    pub(super) fn binding(&mut self) -> Result<(), DataError> {
        self.short("a priority")?;
        self.name()?;
        let mut parameters = BTreeMap::new();
        for token in self.tokens.by_ref() {
            let bytes = token.bytes();
            let cut = bytes
                .iter()
                .position(|&byte| byte == b'=')
                .unwrap_or(bytes.len());
            let key = String::from_utf8_lossy(&bytes[..cut]).into_owned();
            let number =
                number(&key).ok_or_else(|| field(&key, "a service parameter (RFC 9460)"))?;
            let value = value(number, bytes.get(cut + 1..).unwrap_or_default())?;
            if parameters.insert(number, value).is_some() {
                return Err(field(&key, "given once"));
            }
        }
        for (number, value) in parameters {
            let length = u16::try_from(value.len()).map_err(|_| DataError::Long(value.len()))?;
            self.put(&number.to_be_bytes());
            self.put(&length.to_be_bytes());
            self.put(&value);
        }
        Ok(())
    }
}

fn field(text: &str, what: &'static str) -> DataError {
    DataError::Field {
        text: text.to_owned(),
        what,
    }
}

fn number(key: &str) -> Option<u16> {
    let named = KEYS.iter().find(|(name, _)| *name == key);
    named
        .map(|&(_, number)| number)
        .or_else(|| key.strip_prefix("key")?.parse().ok())
}

fn value(number: u16, text: &[u8]) -> Result<Vec<u8>, DataError> {
    let lossy = String::from_utf8_lossy(text).into_owned();
    let items = || lossy.split(',').filter(|item| !item.is_empty());
    match number {
        0 => {
            let mut keys = Vec::new();
            for item in items() {
                keys.push(self::number(item).ok_or_else(|| field(item, "a service parameter"))?);
            }
            keys.sort_unstable();
            Ok(keys.iter().flat_map(|key| key.to_be_bytes()).collect())
        }
        1 => {
            let mut out = Vec::new();
            for item in items() {
                let length = u8::try_from(item.len())
                    .map_err(|_| field(item, "a protocol of at most 255 bytes"))?;
                out.push(length);
                out.extend_from_slice(item.as_bytes());
            }
            Ok(out)
        }
        2 if !text.is_empty() => Err(field(&lossy, "empty")),
        3 => {
            let port: u16 = lossy.parse().map_err(|_| field(&lossy, "a port"))?;
            Ok(port.to_be_bytes().to_vec())
        }
        4 => {
            let mut out = Vec::new();
            for item in items() {
                let address: Ipv4Addr = item.parse().map_err(|_| field(item, "an IPv4 address"))?;
                out.extend_from_slice(&address.octets());
            }
            Ok(out)
        }
        6 => {
            let mut out = Vec::new();
            for item in items() {
                let address: Ipv6Addr = item.parse().map_err(|_| field(item, "an IPv6 address"))?;
                out.extend_from_slice(&address.octets());
            }
            Ok(out)
        }
        5 => base64(text).ok_or_else(|| field(&lossy, "base64")),
        _ => Ok(text.to_vec()),
    }
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks(4) {
        let [a, b, c, d] = *group else { return None };
        let padding = usize::from(c == b'=') + usize::from(d == b'=');
        let mut bits = 0_u32;
        for byte in [a, b, c, d] {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => 0,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(out)
}
