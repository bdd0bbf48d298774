//! Signed calls of JSON operations.

use super::endpoint::{Endpoint, HttpReply};
use crate::exit::{EXIT_NO_SERVER, Failure};
use base::{Clock, Secret, SystemClock};
use iam::sigv4::{Parts, Signer};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// What `strongroom admin host create --remote --json` prints, or an account's; a session token may
/// stand beside it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Credentials {
    access_key_id: String,
    #[serde(deserialize_with = "secret")]
    secret_access_key: Secret<String>,
    session_token: Option<String>,
    #[serde(default)]
    region: String,
}

/// Reads a text that must not be shown.
pub(crate) fn secret<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Secret<String>, D::Error> {
    String::deserialize(from).map(Secret::new)
}

impl Credentials {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let problem = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("the credentials in {}: {error}", path.display()))
        };
        let text = Secret::new(std::fs::read_to_string(path).map_err(|error| problem(&error))?);
        serde_json::from_str(text.expose()).map_err(|error| problem(&error))
    }

    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, as every AWS client reads them.
    pub(crate) fn from_environment() -> Option<Self> {
        let text = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
        Some(Self {
            access_key_id: text("AWS_ACCESS_KEY_ID")?,
            secret_access_key: Secret::new(text("AWS_SECRET_ACCESS_KEY")?),
            session_token: text("AWS_SESSION_TOKEN"),
            region: String::new(),
        })
    }

    /// For calls that are signed for the region these were made for.
    pub(crate) fn read_with_region(path: &Path) -> Result<Self, Failure> {
        let read = Self::read(path)?;
        if read.region.is_empty() {
            let path = path.display();
            return Err(Failure::failed(format!(
                "the credentials in {path} name no Region; `strongroom admin host create --remote --json` \
                 prints one"
            )));
        }
        Ok(read)
    }

    /// The same for another region.
    pub(crate) fn in_region(self, region: &str) -> Self {
        Self { region: region.to_owned(), ..self }
    }
}

/// A server and the credentials to call it with.
pub(crate) struct SignedApi {
    pub(super) endpoint: Endpoint,
    credentials: Credentials,
}

/// Why a call gave no reply.
pub(crate) enum CallError {
    Unreachable(std::io::Error),
    Refused { code: String, message: String, status: u16 },
}

impl CallError {
    /// In words for the person at the terminal.
    pub(super) fn failure(self, what: &str) -> Failure {
        match self {
            Self::Unreachable(error) => Failure::new(
                EXIT_NO_SERVER,
                format!("{what}: the server cannot be reached: {error}"),
            ),
            Self::Refused { code, status, .. } if code.is_empty() => Failure::failed(format!(
                "{what} failed with HTTP status {status}, and not in the words of a Strongroom server: \
                 is the endpoint one?"
            )),
            Self::Refused { code, message, .. } => {
                Failure::failed(format!("{what} was refused: {code}: {message}"))
            }
        }
    }
}

impl SignedApi {
    pub(crate) fn new(endpoint: Endpoint, credentials: Credentials) -> Self {
        Self { endpoint, credentials }
    }

    /// Calls an operation and gives the body of its reply.
    pub(crate) async fn call(
        &self,
        service: &str,
        target: &str,
        operation: &str,
        input: &Value,
    ) -> Result<Vec<u8>, CallError> {
        let body = Secret::new(input.to_string());
        let bytes = body.expose().as_bytes();
        let mut headers = vec![
            ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
            ("host".to_owned(), self.endpoint.authority().to_owned()),
            ("x-amz-target".to_owned(), format!("{target}.{operation}")),
        ];
        let signer = Signer {
            access_key_id: &self.credentials.access_key_id,
            secret: &self.credentials.secret_access_key,
            token: self.credentials.session_token.as_deref(),
            region: &self.credentials.region,
            service,
        };
        let parts = Parts { method: "POST", path: "/", query: "", headers: &headers, body: bytes };
        let signature = signer.headers(&parts, SystemClock.now());
        headers.extend(signature);
        let mut head = "POST / HTTP/1.1\r\n".to_owned();
        for (name, value) in &headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", bytes.len()));
        let reply = self.endpoint.exchange(&head, bytes).await.map_err(CallError::Unreachable)?;
        match reply.status {
            200..300 => Ok(reply.body),
            _ => Err(refused(&reply)),
        }
    }
}

fn refused(reply: &HttpReply) -> CallError {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let text = |names: &[&str]| {
        names.iter().find_map(|name| body[*name].as_str()).unwrap_or_default().to_owned()
    };
    let (code, message) = (text(&["__type"]), text(&["message", "Message"]));
    CallError::Refused { code, message, status: reply.status }
}
