//! Grant tokens: proof that its bearer saw the answer of CreateGrant. They name the grant and nothing else.

use crate::error::{Error, Result};
use crate::service::Kms;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 1;
const GRANT_ID_LEN: usize = 32;
/// Makes every token of a grant another one.
const SALT_LEN: usize = 16;
const TEXT_LEN: usize = 1 + GRANT_ID_LEN + SALT_LEN;

impl Kms {
    /// A new token for a grant.
    pub(super) fn grant_token(&self, grant_id: &str) -> String {
        let mut token = vec![VERSION];
        token.extend_from_slice(&hex::decode(grant_id).expect("grant ids are hexadecimal"));
        let mut salt = [0; SALT_LEN];
        self.rng().fill(&mut salt);
        token.extend_from_slice(&salt);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.grant_token_key());
        let tag = hmac::sign(&key, &token);
        token.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The id of the grant a token was made for; whether the grant still exists is another question.
    ///
    /// # Errors
    /// [`Error::InvalidGrantToken`] when the token was not made here.
    pub fn grant_of_token(&self, token: &str) -> Result<String> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Error::InvalidGrantToken)?;
        let (text, tag) = bytes.split_at_checked(TEXT_LEN).ok_or(Error::InvalidGrantToken)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.grant_token_key());
        hmac::verify(&key, text, tag).map_err(|_| Error::InvalidGrantToken)?;
        if text[0] != VERSION {
            return Err(Error::InvalidGrantToken);
        }
        Ok(hex::encode(&text[1..=GRANT_ID_LEN]))
    }
}
