//! The few file operations that the record is made of, each a step at which a machine may stop.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// Files of one folder. The crash tests put an implementation between that stops at a given step.
pub trait Storage: Debug + Send {
    /// A file's bytes, or `None` if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Makes a file with these bytes, in place of one of that name.
    ///
    /// # Errors
    /// What the file system says.
    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Adds bytes to the end of a file.
    ///
    /// # Errors
    /// What the file system says.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Waits until a file's bytes are on disk.
    ///
    /// # Errors
    /// What the file system says.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of one of that name.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Waits until the folder's names are on disk.
    ///
    /// # Errors
    /// What the file system says.
    fn sync_folder(&mut self) -> io::Result<()>;
}

/// Real files of a folder.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    /// The file that was last written to, kept open.
    open: Option<(String, File)>,
}

impl Files {
    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        Ok(Self { folder, open: None })
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let file = match self.open.take() {
            Some((open, file)) if open == name => file,
            _ => OpenOptions::new()
                .append(true)
                .open(self.folder.join(name))?,
        };
        Ok(&mut self.open.insert((name.to_owned(), file)).1)
    }
}

impl Storage for Files {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.open = None;
        let path = self.folder.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        // An open file would go on under its new name, or as one without any.
        self.open = None;
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}
