//! Where segments lie: files of a directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What keeps segments by number.
pub trait Media: Send {
    /// Bytes of a segment. A longer batch has one of its own.
    fn segment_bytes(&self) -> u64;
    /// The numbers of the segments there are, in any order.
    ///
    /// # Errors
    /// As the system answers.
    fn list(&mut self) -> io::Result<Vec<u64>>;
    /// A segment's bytes; what was never written may be anything.
    ///
    /// # Errors
    /// As the system answers.
    fn read(&mut self, number: u64) -> io::Result<Vec<u8>>;
    /// Makes a segment whose name outlives a power cut, and makes later calls work on it.
    ///
    /// # Errors
    /// As the system answers.
    fn create(&mut self, number: u64) -> io::Result<()>;
    /// Writes into the segment made last. Durable after [`Media::sync`] only.
    ///
    /// # Errors
    /// As the system answers; part of the bytes may be written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written into the segment made last durable.
    ///
    /// # Errors
    /// As the system answers; what was written may then be durable, or lost, or in part.
    fn sync(&mut self) -> io::Result<()>;
    /// Removes a segment. It may be there again after a power cut.
    ///
    /// # Errors
    /// As the system answers.
    fn remove(&mut self, number: u64) -> io::Result<()>;
}

/// Segments in a directory: `0000000000000001.trail`.
pub struct Files {
    directory: PathBuf,
    current: Option<File>,
    size: u64,
    /// Files, numbered from 0, whose blocks are written already, so that filling them changes no metadata.
    spares: usize,
}

/// Used segments that are kept: as many as are given back at once on a busy server.
const SPARES_MAX: usize = 4;
const SPARE: &str = "spare";
const ENDING: &str = ".trail";
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Files {
    /// Segments of `size` bytes in a directory, made for its owner only.
    ///
    /// # Errors
    /// As the system answers.
    pub fn open(directory: &Path, size: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // They may be of another size.
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(SPARE)) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { directory: directory.to_owned(), current: None, size, spares: 0 })
    }

    fn spare(&self, number: usize) -> PathBuf {
        self.directory.join(format!("{SPARE}-{number}"))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:016x}{ENDING}"))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

impl Media for Files {
    fn segment_bytes(&self) -> u64 {
        self.size
    }

    fn list(&mut self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            numbers.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
        }
        Ok(numbers)
    }

    fn read(&mut self, number: u64) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(number))
    }

    fn create(&mut self, number: u64) -> io::Result<()> {
        let path = self.path(number);
        if let Some(last) = self.spares.checked_sub(1) {
            std::fs::rename(self.spare(last), &path)?;
            self.spares = last;
            self.current = Some(OpenOptions::new().write(true).open(&path)?);
        } else {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            let mut left = self.size;
            while left > 0 {
                let part = ZEROS.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                file.write_all(&ZEROS[..part])?;
                left -= part as u64;
            }
            file.sync_all()?;
            self.current = Some(file);
        }
        self.sync_names()
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.current.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.current.as_ref().ok_or(io::ErrorKind::NotFound)?.sync_data()
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        if self.spares == SPARES_MAX {
            return std::fs::remove_file(self.path(number));
        }
        std::fs::rename(self.path(number), self.spare(self.spares))?;
        self.spares += 1;
        Ok(())
    }
}
