//! What AWS-LC has in C and its safe interface lacks: Ed25519ph, ML-DSA over a μ, and ML-KEM from a seed (RFD 27).
//!
//! The functions are safe for any bytes. They take slices and arrays, whose lengths go to the library or are checked by
//! the compiler, and give bytes of their own. Nothing of the library's outlives a call except a [`Key`], which owns
//! what it points to. The library wipes what it frees.
#![expect(unsafe_code, reason = "AWS-LC offers these algorithms in C only")]

use aws_lc_sys::{
    CBS, ED25519_keypair_from_seed, ED25519ph_sign, ED25519ph_verify, EVP_PKEY, EVP_PKEY_CTX,
    EVP_PKEY_CTX_free, EVP_PKEY_CTX_new, EVP_PKEY_KEM, EVP_PKEY_PQDSA, EVP_PKEY_free,
    EVP_PKEY_get_raw_private_key, EVP_PKEY_id, EVP_PKEY_sign, EVP_PKEY_sign_init, EVP_PKEY_verify,
    EVP_PKEY_verify_init, EVP_parse_private_key,
};
use base::Secret;
use std::ffi::c_int;
use std::ptr::{NonNull, null, null_mut};

/// Bytes of an Ed25519 seed and of an Ed25519 public key.
pub(super) const ED25519_KEY_LEN: usize = 32;
/// Bytes of an Ed25519 signature.
pub(super) const ED25519_SIGNATURE_LEN: usize = 64;
/// Bytes of the μ of ML-DSA (FIPS 204, 6.2).
pub(super) const MU_LEN: usize = 64;

/// The library's answer to a call that says whether it worked.
fn done(answer: c_int) -> Option<()> {
    (answer == 1).then_some(())
}

/// Signs a message with Ed25519ph (RFC 8032, 5.1) and an empty context; the message is hashed here.
pub(super) fn sign_ed25519ph(
    seed: &[u8; ED25519_KEY_LEN],
    message: &[u8],
) -> Option<[u8; ED25519_SIGNATURE_LEN]> {
    // The seed and then the public key, which is made here: signing with one that is not the seed's gives the key away.
    let mut private = Secret::new([0; 2 * ED25519_KEY_LEN]);
    let mut public = [0; ED25519_KEY_LEN];
    // SAFETY: the three pointers are to arrays of the 32, 64 and 32 bytes that the call writes, writes and reads.
    unsafe {
        ED25519_keypair_from_seed(
            public.as_mut_ptr(),
            private.expose_mut().as_mut_ptr(),
            seed.as_ptr(),
        );
    }
    let mut signature = [0; ED25519_SIGNATURE_LEN];
    // SAFETY: the call writes 64 bytes and reads a private key of 64; both are arrays of that length. The message is
    // a live slice of the length given with it. A context of no bytes is not read.
    let answer = unsafe {
        ED25519ph_sign(
            signature.as_mut_ptr(),
            message.as_ptr(),
            message.len(),
            private.expose().as_ptr(),
            null(),
            0,
        )
    };
    done(answer).map(|()| signature)
}

/// Whether a signature is Ed25519ph's, with an empty context.
pub(super) fn verifies_ed25519ph(
    public: &[u8; ED25519_KEY_LEN],
    message: &[u8],
    signature: &[u8; ED25519_SIGNATURE_LEN],
) -> bool {
    // SAFETY: the call reads a signature of 64 bytes and a public key of 32; both are arrays of that length. The
    // message is a live slice of the length given with it. A context of no bytes is not read.
    let answer = unsafe {
        ED25519ph_verify(
            message.as_ptr(),
            message.len(),
            signature.as_ptr(),
            public.as_ptr(),
            null(),
            0,
        )
    };
    done(answer).is_some()
}

/// A private key of the library's.
struct Key(NonNull<EVP_PKEY>);

impl Key {
    /// Reads a PKCS #8 document, if it holds a key of this type and nothing follows it.
    fn parse(of_type: c_int, pkcs8: &[u8]) -> Option<Self> {
        let mut rest = CBS { data: pkcs8.as_ptr(), len: pkcs8.len() };
        // SAFETY: `rest` describes a live slice. The call moves it forward within the slice, keeps no pointer into it,
        // and gives null or a key of which the caller has the only reference.
        let key = NonNull::new(unsafe { EVP_parse_private_key(&mut rest) }).map(Self)?;
        // SAFETY: the key is live until `key` is dropped.
        let found = unsafe { EVP_PKEY_id(key.0.as_ptr()) };
        (found == of_type && rest.len == 0).then_some(key)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: this is the reference that was given to `parse`, and it is given up once.
        unsafe { EVP_PKEY_free(self.0.as_ptr()) }
    }
}

/// One use of a key.
struct Context(NonNull<EVP_PKEY_CTX>);

impl Context {
    fn new(key: &Key) -> Option<Self> {
        // SAFETY: the key is live; the call takes a reference of its own to it, and gives null or a context that is
        // the caller's. No engine is named.
        NonNull::new(unsafe { EVP_PKEY_CTX_new(key.0.as_ptr(), null_mut()) }).map(Self)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context was given to `new`, and is freed once.
        unsafe { EVP_PKEY_CTX_free(self.0.as_ptr()) }
    }
}

/// An ML-DSA key that signs and verifies a μ: for that type of key the library's calls "sign" and "verify" take one
/// in the digest's place, and those that take messages are others.
pub(super) struct MlDsa(Key);

impl MlDsa {
    pub(super) fn parse(pkcs8: &[u8]) -> Option<Self> {
        Key::parse(EVP_PKEY_PQDSA, pkcs8).map(Self)
    }

    pub(super) fn sign(&self, mu: &[u8; MU_LEN]) -> Option<Vec<u8>> {
        let context = Context::new(&self.0)?;
        let context = context.0.as_ptr();
        // SAFETY: the context is live.
        done(unsafe { EVP_PKEY_sign_init(context) })?;
        let mut length = 0;
        // SAFETY: the context is live and was made ready to sign. Without a place for the signature the call only says
        // how long it is.
        let answer =
            unsafe { EVP_PKEY_sign(context, null_mut(), &mut length, mu.as_ptr(), MU_LEN) };
        done(answer)?;
        let mut signature = vec![0; length];
        // SAFETY: as above; the call writes at most `length` bytes, which the vector has, and reads the 64 of the μ.
        let answer = unsafe {
            EVP_PKEY_sign(context, signature.as_mut_ptr(), &mut length, mu.as_ptr(), MU_LEN)
        };
        done(answer)?;
        signature.truncate(length);
        Some(signature)
    }

    pub(super) fn verifies(&self, mu: &[u8; MU_LEN], signature: &[u8]) -> bool {
        let Some(context) = Context::new(&self.0) else { return false };
        let context = context.0.as_ptr();
        // SAFETY: the context is live.
        let ready = done(unsafe { EVP_PKEY_verify_init(context) });
        ready.is_some_and(|()| {
            // SAFETY: the context is live and was made ready to verify. Signature and μ are live, of the lengths given.
            let answer = unsafe {
                EVP_PKEY_verify(context, signature.as_ptr(), signature.len(), mu.as_ptr(), MU_LEN)
            };
            done(answer).is_some()
        })
    }
}

/// The expanded key (FIPS 203, 7.1) of an ML-KEM key whose PKCS #8 document has the seed (RFC 9935, 6).
pub(super) fn expand_ml_kem(pkcs8: &[u8]) -> Option<Secret<Vec<u8>>> {
    let key = Key::parse(EVP_PKEY_KEM, pkcs8)?;
    let mut length = 0;
    // SAFETY: the key is live. Without a place for the bytes the call only says how many there are.
    done(unsafe { EVP_PKEY_get_raw_private_key(key.0.as_ptr(), null_mut(), &mut length) })?;
    let mut expanded = Secret::new(vec![0; length]);
    let target = expanded.expose_mut().as_mut_ptr();
    // SAFETY: the key is live; the call writes at most `length` bytes, which the vector has.
    done(unsafe { EVP_PKEY_get_raw_private_key(key.0.as_ptr(), target, &mut length) })?;
    (length == expanded.expose().len()).then_some(expanded)
}
