//! The guest's memory as the front-end hands it over.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::FileType;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use super::MEMORY_REGIONS_MAX;
use super::message::Region;

/// Guest memory that stays mapped for whoever holds it.
pub(crate) type Guest = Arc<GuestMemoryMmap<()>>;

/// Why a region was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// The file is shorter than the region, or none whose length can be told.
    #[error("a memory region is longer than its file")]
    Short,
    /// The file cannot be mapped.
    #[error("a memory region cannot be mapped")]
    Map(#[source] vm_memory::mmap::MmapRegionError),
    /// The region reaches beyond the address space, or into another region.
    #[error("a memory region lies where no region can be")]
    Placed,
    /// [`MEMORY_REGIONS_MAX`] is reached.
    #[error("more than {MEMORY_REGIONS_MAX} memory regions")]
    TooMany,
    /// There is no such region to remove.
    #[error("no such memory region")]
    Unknown,
    /// The number of files is not the number of regions.
    #[error("a memory region without its file")]
    FileMissing,
}

/// The regions and how the front-end addresses them.
#[derive(Default)]
pub(crate) struct Memory {
    guest: Guest,
    regions: Vec<Region>,
}

impl Memory {
    /// What requests read and write.
    pub(crate) fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Takes all regions anew.
    pub(crate) fn set(
        &mut self,
        regions: Vec<Region>,
        files: Vec<OwnedFd>,
    ) -> Result<(), MemoryError> {
        if regions.len() != files.len() {
            return Err(MemoryError::FileMissing);
        }
        let mut memory = Self::default();
        for (region, file) in regions.into_iter().zip(files) {
            memory.add(region, file)?;
        }
        *self = memory;
        Ok(())
    }

    /// Takes one more region.
    pub(crate) fn add(&mut self, region: Region, file: OwnedFd) -> Result<(), MemoryError> {
        if self.regions.len() >= MEMORY_REGIONS_MAX {
            return Err(MemoryError::TooMany);
        }
        if region.user_address.checked_add(region.size).is_none() {
            return Err(MemoryError::Placed);
        }
        let size = usize::try_from(region.size).map_err(|_| MemoryError::Placed)?;
        if !holds(&file, region.file_offset, region.size) {
            return Err(MemoryError::Short);
        }
        let file = FileOffset::new(File::from(file), region.file_offset);
        let mapping = MmapRegion::from_file(file, size).map_err(MemoryError::Map)?;
        let placed = GuestRegionMmap::new(mapping, GuestAddress(region.guest_address));
        let placed = Arc::new(placed.ok_or(MemoryError::Placed)?);
        let guest = self.guest.insert_region(placed).map_err(|_| MemoryError::Placed)?;
        self.guest = Arc::new(guest);
        self.regions.push(region);
        Ok(())
    }

    /// Gives a region up. Requests under way keep it mapped.
    pub(crate) fn remove(&mut self, region: &Region) -> Result<(), MemoryError> {
        let known = self.regions.iter().position(|other| {
            (other.guest_address, other.size, other.user_address)
                == (region.guest_address, region.size, region.user_address)
        });
        let index = known.ok_or(MemoryError::Unknown)?;
        let (guest, _) = self
            .guest
            .remove_region(GuestAddress(region.guest_address), region.size)
            .map_err(|_| MemoryError::Unknown)?;
        self.guest = Arc::new(guest);
        self.regions.remove(index);
        Ok(())
    }

    /// Where the guest sees what the front-end sees at `user_address`.
    pub(crate) fn translate(&self, user_address: u64) -> Option<GuestAddress> {
        self.regions.iter().find_map(|region| {
            let offset = user_address.checked_sub(region.user_address)?;
            let inside = offset < region.size;
            inside.then(|| region.guest_address.checked_add(offset).map(GuestAddress))?
        })
    }
}

/// Whether a file has these bytes. Touching mapped bytes beyond its end would end the process.
pub(crate) fn holds(file: &OwnedFd, offset: u64, size: u64) -> bool {
    let Ok(stat) = rustix::fs::fstat(file) else { return false };
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && offset.checked_add(size).is_some_and(|end| end <= length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    fn file(bytes: u64) -> OwnedFd {
        let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, bytes).unwrap();
        file
    }

    fn region(guest_address: u64, size: u64) -> Region {
        Region { guest_address, size, user_address: 0x7000_0000 + guest_address, file_offset: 0 }
    }

    #[test]
    fn regions_come_and_go() {
        let mut memory = Memory::default();
        memory
            .set(vec![region(0, 0x4000), region(0x8000, 0x1000)], vec![file(0x4000), file(0x1000)])
            .unwrap();
        assert_eq!(memory.translate(0x7000_8010), Some(GuestAddress(0x8010)));
        assert_eq!(memory.translate(0x7000_4000), None);
        assert_eq!(memory.translate(0x6fff_ffff), None);
        memory.remove(&region(0x8000, 0x1000)).unwrap();
        assert_eq!(memory.translate(0x7000_8010), None);
        assert!(matches!(memory.remove(&region(0x8000, 0x1000)), Err(MemoryError::Unknown)));
    }

    #[test]
    fn impossible_regions_are_refused() {
        let mut memory = Memory::default();
        memory.add(region(0, 0x4000), file(0x4000)).unwrap();
        let short = memory.add(region(0x10000, 0x2000), file(0x1000));
        assert!(matches!(short, Err(MemoryError::Short)), "the file is too short");
        let over = memory.add(region(0x3000, 0x2000), file(0x2000));
        assert!(matches!(over, Err(MemoryError::Placed)), "it overlaps");
        let beyond = Region { guest_address: u64::MAX - 10, ..region(0, 0x1000) };
        assert!(memory.add(beyond, file(0x1000)).is_err());
        assert!(memory.add(region(0x20000, 0), file(0x1000)).is_err(), "it is empty");
        assert_eq!(memory.translate(0x7000_0000), Some(GuestAddress(0)), "the first one stays");
    }
}
