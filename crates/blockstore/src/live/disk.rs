//! What a volume lies on: bytes by offset, durable after a flush.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A flat, sparse address space. All methods take `&self`: several threads may read one disk.
pub trait Disk: Send + Sync {
    /// Fills `target` from `offset`. What was never written, also past the end, reads as zeros.
    ///
    /// # Errors
    /// When the medium cannot say what it holds.
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()>;

    /// Stores `source` at `offset`. Until the next [`Disk::flush`] returns, any subset of its
    /// sectors may be lost.
    ///
    /// # Errors
    /// When the medium refuses; the range then holds anything.
    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()>;

    /// Makes every earlier write durable.
    ///
    /// # Errors
    /// When that is not certain. Earlier writes may then be lost for good.
    fn flush(&self) -> io::Result<()>;

    /// Bytes up to the end of the last write.
    ///
    /// # Errors
    /// When the medium cannot say.
    fn len(&self) -> io::Result<u64>;

    /// Whether nothing was ever written.
    ///
    /// # Errors
    /// When the medium cannot say.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|length| length == 0)
    }

    /// Gives the space of a range back. It reads as zeros or as before, then and after a crash.
    ///
    /// # Errors
    /// When the medium refuses; nothing is lost but space.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;
}

/// A sparse file.
#[derive(Debug)]
pub struct FileDisk(File);

impl FileDisk {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::options().read(true).write(true).open(path).map(Self)
    }

    /// Creates a file that must not exist yet and makes its name durable.
    ///
    /// # Errors
    /// What the file system says, `AlreadyExists` among it.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self(file))
    }
}

impl Disk for FileDisk {
    fn read(&self, mut offset: u64, mut target: &mut [u8]) -> io::Result<()> {
        while !target.is_empty() {
            match self.0.read_at(target, offset) {
                Ok(0) => {
                    target.fill(0);
                    return Ok(());
                }
                Ok(count) => {
                    offset += count as u64;
                    target = &mut target[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        self.0.write_all_at(source, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.0, flags, offset, length)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwritten_and_punched_ranges_read_as_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FileDisk::create(&folder.path().join("disk")).unwrap();
        assert!(disk.is_empty().unwrap());
        disk.write(8192, &[7; 8192]).unwrap();
        disk.flush().unwrap();
        let mut bytes = [1; 16384];
        disk.read(4096, &mut bytes).unwrap();
        assert!(bytes[..4096].iter().all(|b| *b == 0));
        assert!(bytes[4096..12288].iter().all(|b| *b == 7));
        assert!(bytes[12288..].iter().all(|b| *b == 0));
        disk.punch(8192, 4096).unwrap();
        disk.read(8192, &mut bytes[..8192]).unwrap();
        assert!(bytes[..4096].iter().all(|b| *b == 0));
        assert!(bytes[4096..8192].iter().all(|b| *b == 7));
        assert_eq!(disk.len().unwrap(), 16384);
        assert!(FileDisk::create(&folder.path().join("disk")).is_err());
    }
}
