//! Files of the local store: written once, durable, and read whole or by ranges.
//!
//! A large file is written past the page cache. Nobody reads a pack right after it was written, and
//! filling the cache with it costs more than sealing it, besides pushing out what guests do read.

use crate::folders::Folders;
use rustix::buffer::spare_capacity;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, pread};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What addresses, offsets and lengths of direct writes are multiples of, on every disk in use.
const DIRECT_ALIGNMENT: usize = 4096;
/// Files smaller than this are written through the page cache, where small writes are cheaper.
const DIRECT_BYTES_MIN: usize = 256 << 10;
/// Bytes of one direct write: enough to keep a disk busy, few enough to stay in a processor's cache
/// and that a guest's read, which comes after it, does not wait for long.
const DIRECT_WRITE_BYTES: usize = 256 << 10;

/// Makes files that have been begun in this process differ in name.
static STAGED: AtomicU64 = AtomicU64::new(0);

/// Creates the file `path` with these bytes; durable on return, and never there in part.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] without touching the file that is there, which is durable then too: it
/// may be what an earlier call stored and could not acknowledge. Otherwise what the file system says,
/// and then the file may be there whole or not at all.
pub(crate) fn create(folders: &Folders, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("an object lies in a folder");
    let (staged, staging) = folders.begin_in(folder, || begin(path))?;
    let published = write_durably(&staged, bytes).and_then(|()| std::fs::hard_link(&staging, path));
    let removed = std::fs::remove_file(&staging);
    match &published {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return published,
        _ => {}
    }
    removed?;
    folders.settle(folder)?;
    published
}

/// Removes a file, and the folders that are empty without it.
///
/// # Errors
/// What the file system says.
pub(crate) fn remove(folders: &Folders, path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    folders.remove_empty(path.parent().expect("an object lies in a folder"));
    Ok(())
}

/// Opens a file.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a folder too; otherwise what the file system says.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() { Err(ErrorKind::NotFound.into()) } else { Ok((file, metadata)) }
}

/// Reads a whole file.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let (file, metadata) = open(path)?;
    read_exactly(&file, 0..metadata.len())
}

/// Reads exactly `range`.
///
/// # Errors
/// [`ErrorKind::UnexpectedEof`] when the file ends before; otherwise what the file system says.
pub(crate) fn read_range(path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
    read_exactly(&File::open(path)?, range)
}

/// A new file beside the one to be, under a name that no object has.
fn begin(path: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{}", STAGED.fetch_add(1, Ordering::Relaxed)));
        let staging = PathBuf::from(name);
        match File::create_new(&staging) {
            Ok(file) => return Ok((file, staging)),
            // An earlier process left it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_durably(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() < DIRECT_BYTES_MIN || !write_directly(file, bytes)? {
        file.write_all(bytes)?;
    }
    file.sync_data()
}

/// Writes past the page cache. Returns whether the file system can do that; otherwise nothing was
/// written.
fn write_directly(file: &File, bytes: &[u8]) -> io::Result<bool> {
    match fcntl_setfl(file, OFlags::DIRECT) {
        Ok(()) => {}
        Err(Errno::INVAL) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let mut memory = vec![0; DIRECT_WRITE_BYTES + DIRECT_ALIGNMENT];
    let start = memory.as_ptr().align_offset(DIRECT_ALIGNMENT);
    let aligned = &mut memory[start..start + DIRECT_WRITE_BYTES];
    for (at, part) in (0u64..).step_by(DIRECT_WRITE_BYTES).zip(bytes.chunks(DIRECT_WRITE_BYTES)) {
        let padded = part.len().next_multiple_of(DIRECT_ALIGNMENT);
        aligned[..part.len()].copy_from_slice(part);
        aligned[part.len()..padded].fill(0);
        match file.write_all_at(&aligned[..padded], at) {
            Ok(()) => {}
            // A disk with larger sectors than any we know: as if it could not be done at all.
            Err(error) if at == 0 && error.kind() == ErrorKind::InvalidInput => {
                fcntl_setfl(file, OFlags::empty())?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    // The last write was padded.
    file.set_len(bytes.len() as u64)?;
    Ok(true)
}

fn read_exactly(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let length = range.end.checked_sub(range.start).ok_or(ErrorKind::UnexpectedEof)?;
    let length = usize::try_from(length).map_err(|_| ErrorKind::UnexpectedEof)?;
    // A length that nobody checked must not be allocated.
    if (length == 0 || length > crate::OBJECT_BYTES_MAX) && range.end > file.metadata()?.len() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = range.start + bytes.len() as u64;
        // Into memory that nothing was written to yet: a block is too long to be zeroed first.
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}
