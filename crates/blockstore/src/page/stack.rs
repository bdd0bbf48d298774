//! What calls that handle keys leave behind on the stack.

use zeroize::Zeroize;

/// More than the calls that handle a key use of the stack.
const SCRUBBED_BYTES: usize = 16 * 1024;

/// Overwrites what calls that have returned left on this thread's stack.
#[inline(never)]
pub(super) fn scrub_stack() {
    let mut below = [0u8; SCRUBBED_BYTES];
    // Written as a wipe, which the compiler may not leave out.
    below.zeroize();
    std::hint::black_box(&below);
}
