//! Tokens of the EBS direct APIs: texts that prove themselves, so that nothing is kept for them.
//!
//! A token is base64 of {version, expiry, payload, tag}. The tag is HMAC-SHA-256, cut to 128 bits,
//! over what the token is for: its kind, the account it was given to, the region, the snapshot and,
//! for a block, the index. So a token works only for whom and for what it was made (spec 03,
//! "Rules").

use super::code::{Reason, invalid};
use crate::call::Call;
use crate::error::Error;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blockstore::snapshot::ContentId;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
const CONTENT_BYTES: usize = 17;
/// How long a block token works.
pub(crate) const BLOCK_TOKEN_SECONDS: i64 = 7 * 24 * 3600;
/// How long a page token works.
const PAGE_TOKEN_SECONDS: i64 = 3600;
/// The label of the service key.
const KEY_LABEL: &str = "ebs-direct-token-1";

/// Makes and reads the tokens of one call.
pub(crate) struct Tokens<'a> {
    call: &'a Call,
    key: hmac::Key,
}

impl<'a> Tokens<'a> {
    pub(crate) fn of(call: &'a Call) -> Self {
        let key = call.world.seal.service_key(KEY_LABEL);
        Self { call, key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()) }
    }

    /// The token for one block, as it is now.
    pub(crate) fn block(&self, snapshot: &str, index: u64, content: ContentId) -> String {
        self.make(
            "block",
            BLOCK_TOKEN_SECONDS,
            &[snapshot, &index.to_string()],
            &content.to_bytes(),
        )
    }

    /// What a block token stands for.
    pub(crate) fn read_block(
        &self,
        token: &str,
        snapshot: &str,
        index: u64,
    ) -> Result<ContentId, Error> {
        self.read::<CONTENT_BYTES>("block", token, &[snapshot, &index.to_string()])
            .map(|content| ContentId::from_bytes(&content))
            .ok_or_else(|| {
                invalid(Reason::InvalidBlockToken, "The block token is not valid or has expired.")
            })
    }

    /// The token for the page that begins at a block.
    pub(crate) fn page(&self, listing: &[&str], next: u64) -> String {
        self.make("page", PAGE_TOKEN_SECONDS, listing, &next.to_le_bytes())
    }

    /// Where a page begins.
    pub(crate) fn read_page(&self, token: &str, listing: &[&str]) -> Result<u64, Error> {
        self.read("page", token, listing).map(u64::from_le_bytes).ok_or_else(|| {
            invalid(Reason::InvalidPageToken, "The page token is not valid or has expired.")
        })
    }

    fn make(&self, kind: &str, seconds: i64, about: &[&str], payload: &[u8]) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.call.now.plus_seconds(seconds).0.to_le_bytes());
        bytes.extend_from_slice(payload);
        let tag = self.tag(kind, about, &bytes);
        bytes.extend_from_slice(&tag);
        STANDARD.encode(bytes)
    }

    fn read<const N: usize>(&self, kind: &str, token: &str, about: &[&str]) -> Option<[u8; N]> {
        let bytes = STANDARD.decode(token).ok()?;
        let (bytes, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        verify_slices_are_equal(tag, &self.tag(kind, about, bytes)).ok()?;
        let [version, rest @ ..] = bytes else { return None };
        let (expiry, payload) = rest.split_at_checked(8)?;
        let expiry = Timestamp(i64::from_le_bytes(expiry.try_into().ok()?));
        if *version != VERSION || self.call.now >= expiry {
            return None;
        }
        payload.try_into().ok()
    }

    fn tag(&self, kind: &str, about: &[&str], bytes: &[u8]) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.key);
        let (account, region) = (self.call.account().as_str(), self.call.region.as_str());
        // None of the parts can contain a zero byte, so they cannot run into each other.
        for part in [kind, account, region].into_iter().chain(about.iter().copied()) {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        context.update(&[0]);
        context.update(bytes);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench};
    use std::panic::AssertUnwindSafe;

    const SNAPSHOT: &str = "snap-0123456789abcdef0";

    /// A call in a world of its own.
    fn call() -> Call {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async { bench().await.root(&account(1), "us-east-1") })
    }

    fn content() -> ContentId {
        ContentId::from_bytes(&[7; CONTENT_BYTES])
    }

    fuzz::target!(
        /// No text but the one that was given is taken, and for nothing else.
        tokens_cannot_be_made_up,
        {
            let call = call();
            let tokens = Tokens::of(&call);
            vec![
                tokens.block(SNAPSHOT, 3, content()).into_bytes(),
                tokens.page(&["blocks", SNAPSHOT], 9).into_bytes(),
            ]
        },
        {
            let call = AssertUnwindSafe(call());
            move |bytes: &[u8]| {
                let Ok(text) = std::str::from_utf8(bytes) else { return };
                let tokens = Tokens::of(&call);
                if tokens.read_block(text, SNAPSHOT, 3).is_ok() {
                    assert_eq!(text, tokens.block(SNAPSHOT, 3, content()));
                }
                if tokens.read_page(text, &["blocks", SNAPSHOT]).is_ok() {
                    assert_eq!(text, tokens.page(&["blocks", SNAPSHOT], 9));
                }
                assert!(tokens.read_block(text, SNAPSHOT, 4).is_err());
                assert!(tokens.read_page(text, &["blocks", "another"]).is_err());
            }
        }
    );

    #[test]
    fn the_samples_are_taken() {
        let call = call();
        let tokens = Tokens::of(&call);
        assert!(tokens.read_block(&tokens.block(SNAPSHOT, 3, content()), SNAPSHOT, 3).is_ok());
        assert!(matches!(tokens.read_page(&tokens.page(&["l"], 9), &["l"]), Ok(9)));
    }
}
