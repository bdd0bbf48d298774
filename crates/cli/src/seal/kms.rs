//! A KMS elsewhere as the keeper of the root of trust: signed Encrypt and Decrypt calls.
//!
//! The key's policy there can hold this to one purpose: every call has the encryption context
//! `strongroom:purpose` = `seal1` and `strongroom:root` = the id in `seal.json`.

use crate::attach::HttpPolicy;
use crate::attach::endpoint::Endpoint;
use crate::attach::signed::{CallError, Credentials, SignedApi};
use base::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kms::seal::RemoteKms;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const TARGET: &str = "TrentService";
/// How long a call may take in all. A server that starts waits for it.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How to reach a KMS.
pub(super) struct Reach {
    pub(super) endpoint: Option<String>,
    pub(super) credentials: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
}

/// A KMS at an endpoint, with credentials.
pub(super) struct KmsEndpoint {
    url: String,
    api: SignedApi,
}

impl fmt::Debug for KmsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KmsEndpoint").field(&self.url).finish()
    }
}

/// The region in a key's ARN.
pub(super) fn region_of(key: &str) -> Result<&str, String> {
    let parts: Vec<&str> = key.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, "kms", region, account, resource]
            if !region.is_empty() && !account.is_empty() && resource.starts_with("key/") =>
        {
            Ok(region)
        }
        _ => Err(format!("kms: '{key}' is no ARN of a key (arn:aws:kms:REGION:ACCOUNT:key/ID)")),
    }
}

impl KmsEndpoint {
    pub(super) fn new(key: &str, at: &Reach) -> Result<Self, String> {
        let region = region_of(key)?;
        let url = match &at.endpoint {
            Some(url) => url.clone(),
            None => format!("https://kms.{region}.amazonaws.com"),
        };
        let endpoint = Endpoint::new(&url, at.ca.as_deref(), HttpPolicy::Loopback);
        let endpoint = endpoint.map_err(|failure| failure.to_string())?;
        let credentials = match &at.credentials {
            Some(file) => Credentials::read(file).map_err(|failure| failure.to_string())?,
            None => Credentials::from_environment().ok_or(
                "kms: name a file of credentials, or set AWS_ACCESS_KEY_ID and \
                        AWS_SECRET_ACCESS_KEY",
            )?,
        };
        let api = SignedApi::new(endpoint, credentials.in_region(region));
        Ok(Self { url, api })
    }

    /// Calls from a thread of its own: this one may belong to the runtime that is being started.
    fn call(&self, operation: &str, input: &Value) -> Result<Secret<Vec<u8>>, String> {
        let call = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(async {
                let reply = self.api.call("kms", TARGET, operation, input);
                match tokio::time::timeout(CALL_TIMEOUT, reply).await {
                    Ok(Ok(reply)) => Ok(Secret::new(reply)),
                    Ok(Err(CallError::Unreachable(error))) => {
                        Err(format!("{} cannot be reached: {error}", self.url))
                    }
                    Ok(Err(CallError::Refused { code, message, .. })) => {
                        Err(format!("{} refuses {operation}: {code}: {message}", self.url))
                    }
                    Err(_) => Err(format!("{} does not answer", self.url)),
                }
            })
        };
        std::thread::scope(|scope| scope.spawn(call).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn context(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into()
}

impl RemoteKms for KmsEndpoint {
    fn encrypt(
        &self,
        key: &str,
        pairs: &[(String, String)],
        plaintext: &Secret<Vec<u8>>,
    ) -> Result<Vec<u8>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Encrypted {
            ciphertext_blob: String,
        }
        let input = json!({
            "KeyId": key,
            "Plaintext": STANDARD.encode(plaintext.expose()),
            "EncryptionContext": context(pairs),
        });
        let reply = self.call("Encrypt", &input)?;
        let unreadable = |error: &dyn fmt::Display| format!("{}: unreadable: {error}", self.url);
        let encrypted: Encrypted =
            serde_json::from_slice(reply.expose()).map_err(|error| unreadable(&error))?;
        STANDARD.decode(encrypted.ciphertext_blob).map_err(|error| unreadable(&error))
    }

    fn decrypt(
        &self,
        key: &str,
        pairs: &[(String, String)],
        ciphertext: &[u8],
    ) -> Result<Secret<Vec<u8>>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Decrypted {
            #[serde(deserialize_with = "crate::attach::signed::secret")]
            plaintext: Secret<String>,
        }
        let input = json!({
            "KeyId": key,
            "CiphertextBlob": STANDARD.encode(ciphertext),
            "EncryptionContext": context(pairs),
        });
        let reply = self.call("Decrypt", &input)?;
        let unreadable = |error: &dyn fmt::Display| format!("{}: unreadable: {error}", self.url);
        let decrypted: Decrypted =
            serde_json::from_slice(reply.expose()).map_err(|error| unreadable(&error))?;
        let text = STANDARD.decode(decrypted.plaintext.expose());
        text.map(Secret::new).map_err(|error| unreadable(&error))
    }
}
