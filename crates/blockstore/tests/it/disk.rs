//! A disk in memory for tests of damage.

use blockstore::live::Disk;
use blockstore::page::PAGE_BYTES;
use std::io;
use std::sync::Mutex;

/// A disk in memory whose bytes the test may change.
#[derive(Default)]
pub(crate) struct Bytes(pub(crate) Mutex<Vec<u8>>);

impl Bytes {
    pub(crate) fn copy(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap().clone()))
    }

    pub(crate) fn swap_pages(&self, first: usize, second: usize) {
        let mut bytes = self.0.lock().unwrap();
        for at in 0..PAGE_BYTES {
            bytes.swap(first * PAGE_BYTES + at, second * PAGE_BYTES + at);
        }
    }
}

impl Disk for Bytes {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock().unwrap();
        let held = bytes.get(offset as usize..).unwrap_or_default();
        let held = &held[..held.len().min(target.len())];
        target[..held.len()].copy_from_slice(held);
        target[held.len()..].fill(0);
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let end = offset as usize + source.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(source);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let end = bytes.len().min((offset + length) as usize);
        if (offset as usize) < end {
            bytes[offset as usize..end].fill(0);
        }
        Ok(())
    }
}
