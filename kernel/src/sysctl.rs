//! Sysctls below a directory: read first, written only where they differ.
//!
//! The directory is `/proc/sys/net` of the host's network namespace, which a container sees by way of a
//! hostPath; its own is read-only.

use std::io;
use std::path::{Component, Path, PathBuf};

/// A sysctl that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Path below the directory, such as `ipv4/ip_forward`.
    pub name: String,
    /// The value that was there.
    pub before: String,
    /// The value that is there now.
    pub after: String,
}

/// A sysctl could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name leads out of the directory, or is none.
    #[error(
        "{0:?} is not the name of a sysctl: write it like \"ipv4/ip_forward\", without \".\" and \"..\""
    )]
    Name(String),
    /// The file could not be read.
    #[error("failed to read sysctl {name}: {source}")]
    Read {
        /// Path below the directory.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("failed to write {value:?} to sysctl {name}: {source}")]
    Write {
        /// Path below the directory.
        name: String,
        /// What was to be written.
        value: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Whether this kernel, or the interface that the name speaks of, does not have the sysctl.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::Name(_) => false,
            Self::Read { source, .. } | Self::Write { source, .. } => {
                source.kind() == io::ErrorKind::NotFound
            }
        }
    }
}

/// Reads one value.
///
/// # Errors
/// When the name is none, or the file cannot be read.
pub fn read(root: &Path, name: &str) -> Result<String, Error> {
    let path = path(root, name)?;
    let name = || name.to_owned();
    let value = std::fs::read_to_string(path).map_err(|source| Error::Read {
        name: name(),
        source,
    })?;
    Ok(normal(&value))
}

/// Makes all values what they should be, in their order; says what was written, and what could not be.
#[must_use]
pub fn apply<'a>(
    root: &Path,
    wanted: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> (Vec<Written>, Vec<Error>) {
    let (mut written, mut errors) = (Vec::new(), Vec::new());
    for (name, value) in wanted {
        match set(root, name, value) {
            Ok(change) => written.extend(change),
            Err(error) => errors.push(error),
        }
    }
    (written, errors)
}

/// Makes one value what it should be; `None` if it was.
///
/// # Errors
/// When the name is none, or the file cannot be read or written.
pub fn set(root: &Path, name: &str, value: &str) -> Result<Option<Written>, Error> {
    let before = read(root, name)?;
    if before == normal(value) {
        return Ok(None);
    }
    let failed = |source| Error::Write {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    };
    std::fs::write(path(root, name)?, value).map_err(failed)?;
    Ok(Some(Written {
        name: name.to_owned(),
        before,
        after: normal(value),
    }))
}

fn path(root: &Path, name: &str) -> Result<PathBuf, Error> {
    let relative = Path::new(name);
    let plain = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if name.is_empty() || !plain || name.contains('\0') {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(root.join(relative))
}

/// Values of several words are separated by tabs when read; blanks do as well when written.
fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}
