//! What is served, written down on the node's disk, so that a server that starts while the API server is away serves it at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_core::zones::directory::{GoodZone, NodeIdentity, PodIdentity};
use weft_core::zones::input::{ServiceInput, SliceInput};

use crate::error::Error;
use crate::state::Space;

const FILE: &str = "snapshot.json";
const DRAFT: &str = "snapshot.json.new";

/// Everything that names are made of.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    /// Seconds since 1970 when it was true.
    pub time: u64,
    /// Namespaces.
    pub namespaces: BTreeMap<Box<str>, Space>,
    /// Services by `namespace/name`.
    pub services: BTreeMap<Box<str>, ServiceInput>,
    /// Slices by `namespace/name`.
    pub slices: BTreeMap<Box<str>, SliceInput>,
    /// The version of each zone of a user that is served.
    #[serde(default)]
    pub zones: BTreeMap<Box<str>, GoodZone>,
    /// Pods, where a zone is not for everybody.
    #[serde(default)]
    pub people: BTreeMap<Box<str>, PodIdentity>,
    /// Nodes, where a zone is for some.
    #[serde(default)]
    pub nodes: BTreeMap<Box<str>, NodeIdentity>,
}

impl Saved {
    /// Reads what the last process wrote; none where it wrote nothing, or something that cannot be read.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        let path = folder.join(FILE);
        let file = File::open(&path).ok()?;
        match serde_json::from_reader(BufReader::new(file)) {
            Ok(saved) => Some(saved),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the snapshot on disk cannot be read; starting without it");
                None
            }
        }
    }

    /// Writes it beside the one before and then takes its place, so that there is always a whole one.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let (path, draft) = (folder.join(FILE), folder.join(DRAFT));
        let failed = |path: &PathBuf| {
            let path = path.clone();
            move |source: std::io::Error| Error::File { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(&draft))?;
        let file = File::create(&draft).map_err(failed(&draft))?;
        let mut writer = BufWriter::new(file);
        serde_json::to_writer(&mut writer, self)
            .map_err(std::io::Error::from)
            .map_err(failed(&draft))?;
        writer.flush().map_err(failed(&draft))?;
        writer.get_ref().sync_all().map_err(failed(&draft))?;
        std::fs::rename(&draft, &path).map_err(failed(&path))
    }
}

#[cfg(test)]
mod tests {
    use weft_core::zones::directory::ZoneInput;
    use weft_core::zones::input::{Face, UnitKey, key};

    use super::*;

    fn saved() -> Saved {
        let service = ServiceInput {
            face: Face::Headless,
            ports: Box::default(),
            external: Box::default(),
            external_name: None,
        };
        let slice = SliceInput {
            service: UnitKey {
                imported: false,
                key: key("ns", "web").expect("a key"),
            },
            ports: Box::default(),
            addresses: Box::new([[192, 0, 2, 1].into()]),
            labels: b"\x03web".as_slice().into(),
            cluster: None,
        };
        let space = Space {
            exposed: true,
            labels: [("team".to_owned(), "a".to_owned())].into(),
        };
        let spec = serde_json::json!({
            "zone": "corp.example", "type": "Authoritative", "authoritative": {"records": [
                {"name": "www", "type": "A", "values": ["192.0.2.1"]},
            ]},
        });
        let input = ZoneInput {
            spec: serde_json::from_value(spec).expect("a zone"),
            serial: Some(7),
        };
        let files = [("ns/files".into(), [("a".to_owned(), "b".to_owned())].into())];
        let zone = GoodZone {
            input,
            files: files.into(),
        };
        Saved {
            time: 7,
            namespaces: [("ns".into(), space)].into(),
            services: [("ns/web".into(), service)].into(),
            slices: [("ns/web-1".into(), slice)].into(),
            zones: [("corp".into(), zone)].into(),
            people: [("ns/uid".into(), PodIdentity::default())].into(),
            nodes: [("n1".into(), NodeIdentity::default())].into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Saved::read(folder.path()), None);
        saved().write(folder.path()).expect("written");
        assert_eq!(Saved::read(folder.path()), Some(saved()));
    }

    #[test]
    fn what_is_damaged_is_left_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(FILE), "{\"time\": 7, \"zon").expect("written");
        assert_eq!(Saved::read(folder.path()), None);
    }
}
