//! The files of `suite: policy`.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_core::policy::conformance::{self, Step};

/// Every file of the suite.
pub fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/policy");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name != "README.md"));
    files.sort();
    files
}

/// The steps of a file.
pub fn steps(file: &Path) -> Vec<Step> {
    let bytes = std::fs::read(file).unwrap();
    let text = if file.extension().is_some_and(|end| end == "gz") {
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(bytes.as_slice());
        decoder.read_to_string(&mut text).unwrap();
        text
    } else {
        String::from_utf8(bytes).unwrap()
    };
    let value: Value = if text.trim_start().starts_with(['{', '[']) {
        serde_json::from_str(&text).unwrap()
    } else {
        serde_saphyr::from_str(&text).unwrap()
    };
    conformance::steps(&value).unwrap()
}
