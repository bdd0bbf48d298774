//! The file system image that travels: ext4 with a few files, made and read without mounting.

use crate::exit::Failure;
use arcbox_ext4::{Formatter, Reader};
use base::Rng;
use std::path::Path;

/// Bytes of the image, and of the volume it is written to.
pub(crate) const IMAGE_BYTES: u64 = base::GIB;
const BLOCK_BYTES: u32 = 4096;
/// A regular file that its owner may write and everybody read.
const MODE_FILE: u16 = 0x8000 | 0o644;

/// A file of the image.
pub(crate) struct File {
    pub(crate) path: &'static str,
    pub(crate) content: Vec<u8>,
}

/// The files: a letter, a table, and something that does not compress.
pub(crate) fn files(rng: &dyn Rng) -> Vec<File> {
    let letter = "What is written here is read in one account, and later in another.\n";
    let table: String =
        (1..=20_000).map(|n| format!("{n},invoice-{n:06},{}\n", n * 7919 % 100_000)).collect();
    let mut noise = vec![0u8; 48 << 20];
    rng.fill(&mut noise);
    vec![
        File { path: "/letter.txt", content: letter.as_bytes().to_vec() },
        File { path: "/ledger.csv", content: table.into_bytes() },
        File { path: "/archive.bin", content: noise },
    ]
}

/// Writes the image.
pub(crate) fn create(path: &Path, files: &[File]) -> Result<(), Failure> {
    let failed = |error| Failure::failed(format!("cannot make {}: {error}", path.display()));
    let mut image = Formatter::new(path, BLOCK_BYTES, IMAGE_BYTES).map_err(failed)?;
    for file in files {
        let mut content = file.content.as_slice();
        image
            .create(file.path, MODE_FILE, None, None, Some(&mut content), None, None, None)
            .map_err(failed)?;
    }
    image.close().map_err(failed)
}

/// Reads every file back from an image and compares it with what was written.
pub(crate) fn verify(path: &Path, files: &[File]) -> Result<(), Failure> {
    let failed = |error| Failure::failed(format!("cannot read {}: {error}", path.display()));
    let mut image = Reader::new(path).map_err(failed)?;
    for file in files {
        let found = image.read_file(file.path, 0, None).map_err(failed)?;
        if found != file.content {
            return Err(Failure::failed(format!("{} came back changed", file.path)));
        }
    }
    Ok(())
}
