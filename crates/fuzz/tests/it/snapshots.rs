//! What is read from object stores.

use blockstore::snapshot::fuzzing;
use fuzz::target;

target!(
    /// Leaves, inner nodes, root records, roots, checkpoints, pack footers and names.
    items,
    fuzzing::samples(),
    fuzzing::decode
);

target!(
    /// Tables of frames.
    frame_tables,
    vec![fuzzing::frame_table_sample()],
    fuzzing::decode_frame_table
);

target!(
    /// Directories and headers of packs.
    directories,
    fuzzing::directory_samples(),
    fuzzing::decode_directory
);

target!(
    /// Ledgers of condemned packs.
    ledgers,
    vec![fuzzing::ledger_sample()],
    fuzzing::decode_ledger
);
