//! What the operations of STS share: credentials as replies show them.

use awsproto::Shape;
use base::{Secret, Timestamp};
use identity::session::Session;

/// Temporary credentials.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct Credentials {
    access_key_id: String,
    #[shape(sensitive)]
    secret_access_key: Secret<String>,
    #[shape(sensitive)]
    session_token: Secret<String>,
    expiration: Timestamp,
}

impl From<Session> for Credentials {
    fn from(session: Session) -> Self {
        Self {
            access_key_id: session.access_key_id,
            secret_access_key: session.secret,
            session_token: Secret::new(session.token),
            expiration: session.expires_at,
        }
    }
}
