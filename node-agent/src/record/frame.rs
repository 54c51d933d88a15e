//! The record's bytes: JSON text sequences (RFC 7464) with a checksum in each.
//!
//! A frame is 0x1E, CRC-32 as eight hexadecimal digits, a blank, JSON, a line feed. JSON has neither
//! 0x1E nor line feeds of its own, so a reader finds the next frame behind any damage, and can tell a
//! torn end, behind which nothing whole follows, from damage in the middle.

use std::io;

use serde::{Deserialize, Serialize};

use super::{Entry, RecordError};

const MARK: u8 = 0x1e;
const END: u8 = b'\n';
/// Checksum and blank.
const PREFIX: usize = 9;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    format: u32,
    node_uid: String,
}

/// What a record's bytes say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// The header was there; without it nothing was ever written.
    pub(super) header_is_whole: bool,
    /// The format, 0 without a header.
    pub(super) format: u32,
    /// The node that it belongs to.
    pub(super) node_uid: String,
    /// All entries of whole frames.
    pub(super) entries: Vec<Entry>,
    /// Whole frames after the header.
    pub(super) frames: usize,
    /// Bytes up to the end of the last whole frame.
    pub(super) good_length: usize,
}

/// The first frame of a record.
pub(super) fn header(format: u32, node_uid: &str) -> io::Result<Vec<u8>> {
    frame(&Header {
        format,
        node_uid: node_uid.to_owned(),
    })
}

/// A batch of entries: one frame, so that it counts as a whole or not at all.
pub(super) fn entries(batch: &[Entry]) -> io::Result<Vec<u8>> {
    frame(&batch)
}

/// Reads a record's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Read, RecordError> {
    let mut read = Read::default();
    let damaged = |offset| RecordError::Damaged {
        offset,
        length: bytes.len(),
    };
    while read.good_length < bytes.len() {
        let offset = read.good_length;
        let Some((json, length)) = whole_frame(&bytes[offset..]) else {
            // A record without its header holds nothing, unless whole frames follow.
            return if whole_frame_follows(&bytes[offset..]) {
                Err(damaged(offset))
            } else {
                Ok(read)
            };
        };
        if !read.header_is_whole {
            let header: Header = serde_json::from_slice(json).map_err(|_| damaged(offset))?;
            read.format = header.format;
            read.node_uid = header.node_uid;
            read.header_is_whole = true;
            if read.format > super::FORMAT {
                return Ok(read);
            }
        } else {
            let batch: Vec<Entry> = serde_json::from_slice(json).map_err(|_| damaged(offset))?;
            read.entries.extend(batch);
            read.frames += 1;
        }
        read.good_length += length;
    }
    Ok(read)
}

fn frame<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let mut bytes = vec![MARK];
    bytes.extend(format!("{:08x} ", crc32fast::hash(&json)).bytes());
    bytes.extend(json);
    bytes.push(END);
    Ok(bytes)
}

/// The JSON of the frame that begins here, and the frame's length.
fn whole_frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let body = bytes.strip_prefix(&[MARK])?;
    let (json, length) = whole_body(body)?;
    Some((json, length + 1))
}

fn whole_body(body: &[u8]) -> Option<(&[u8], usize)> {
    let end = body.iter().position(|byte| *byte == END)?;
    let json = body.get(PREFIX..end)?;
    let prefix = std::str::from_utf8(&body[..PREFIX]).ok()?;
    let checksum = u32::from_str_radix(prefix.strip_suffix(' ')?, 16).ok()?;
    (checksum == crc32fast::hash(json)).then_some((json, end + 1))
}

/// Whether a whole frame begins anywhere behind the first byte; its mark may be what is damaged.
fn whole_frame_follows(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|at| match (bytes[at - 1], bytes[at]) {
        (_, MARK) => whole_frame(&bytes[at..]).is_some(),
        (END, _) => whole_body(&bytes[at + 1..]).is_some(),
        _ => false,
    })
}
