//! Fuzz targets of every parser that meets bytes from outside. Not shipped.
//!
//! The targets are the tests in `tests/it`, and those declared with [`target!`] beside what other
//! crates hide. Each takes any bytes, and has two ways to use them: as they are, and as a script of
//! edits to something valid ([`edited`]), which gets further than noise. Inputs worth keeping lie beside
//! the source of the target, in `__fuzz__/<target>/corpus`, and are tried first.
//!
//! - `cargo test -p fuzz` runs the corpus and [`RUNS`] random inputs of each target, in seconds.
//! - `cargo xtask fuzz --minutes 10 policies` runs one for long, guided by coverage; without a name, each of
//!   them. It needs a C++ compiler. What it learns becomes part of the corpus, and a failing input is kept
//!   beside it, in `crashes`, and is from then on part of every run.

pub use bolero;

/// Random inputs of one target in an ordinary test run.
pub const RUNS: usize = 2_000;
/// Longest random input. Shorter than most samples, which edits are made to.
pub const INPUT_BYTES_MAX: usize = 512;
/// Edits stop here, so that copies of copies do not fill the memory.
const EDITED_BYTES_MAX: usize = 256 * 1024;
/// A folder that targets write their samples to, as inputs to begin with.
const SAMPLES: &str = "STRONGROOM_FUZZ_SAMPLES";
/// The longest sample that is an input to begin with; longer ones are only edited.
const SAMPLE_BYTES_MAX: usize = 8 * 1024;
/// Numbers at which lengths and counts tend to break.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0xffff_ffff_ffff_ffff];

/// `base` with the edits that `script` says: four bytes each, any bytes are a script.
pub fn edited(base: &[u8], script: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for step in script.chunks_exact(4) {
        if bytes.len() > EDITED_BYTES_MAX {
            break;
        }
        let [operation, high, low, argument] = *step else { break };
        let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
        let span = usize::from(argument).min(bytes.len() - at);
        match operation % 7 {
            0 => bytes.insert(at, argument),
            1 => drop(bytes.drain(at..at + span)),
            2 => bytes.truncate(at),
            3 => {
                let copy = bytes[at..at + span].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let edge = EDGES[usize::from(argument) % EDGES.len()].to_le_bytes();
                let width = [1, 2, 4, 8][usize::from(argument) / EDGES.len() % 4];
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&edge[..end - at]);
            }
            5 if at < bytes.len() => bytes[at] ^= 1 << (argument % 8),
            _ if at < bytes.len() => bytes[at] = argument,
            _ => bytes.push(argument),
        }
    }
    bytes
}

/// One of `samples` with edits: which one, how many and which edits the input says. Few edits are as
/// likely as many.
pub fn edited_sample(samples: &[Vec<u8>], input: &[u8]) -> Option<Vec<u8>> {
    let ([high, low, amount], script) = input.split_first_chunk()?;
    let chosen = usize::from(u16::from_be_bytes([*high, *low]));
    let sample = samples.get(chosen.checked_rem(samples.len())?)?;
    let length = script.len().min(4 << (amount % 7));
    Some(edited(sample, &script[..length]))
}

/// Writes a target's samples to the folder that guided runs begin with, if there is one.
pub fn offer(samples: &[Vec<u8>]) {
    let Some(folder) = std::env::var_os(SAMPLES).map(std::path::PathBuf::from) else { return };
    for (number, sample) in samples.iter().enumerate() {
        if sample.len() <= SAMPLE_BYTES_MAX {
            let path = folder.join(format!("sample-{number}"));
            std::fs::write(path, sample).expect("the folder is there");
        }
    }
}

/// Declares a target: a name, samples, and a check that sees the samples, any bytes, and edited
/// samples.
#[macro_export]
macro_rules! target {
    ($(#[$doc:meta])* $name:ident, $samples:expr, $check:expr) => {
        $(#[$doc])*
        #[test]
        fn $name() {
            let samples: Vec<Vec<u8>> = $samples;
            let check = $check;
            samples.iter().for_each(|sample| check(sample));
            $crate::offer(&samples);
            $crate::bolero::check!()
                .with_iterations($crate::RUNS)
                .with_max_len($crate::INPUT_BYTES_MAX)
                .for_each(|input: &[u8]| {
                    check(input);
                    if let Some(edited) = $crate::edited_sample(&samples, input) {
                        check(&edited);
                    }
                });
        }
    };
}
