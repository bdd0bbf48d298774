//! Login profiles in requests and replies, and hashing of passwords beside the requests' threads.

use super::{Subject, Whose};
use crate::{Call, Error};
use awsproto::{Shape, code};
use base::{Secret, Timestamp};
use identity::Entity;
use identity::login::{self, PasswordHash, Reset};

/// A login profile.
#[derive(Shape)]
#[shape(output, omitted(MaxSigninSessionDuration))]
pub(crate) struct LoginProfile {
    user_name: String,
    create_date: Timestamp,
    password_reset_required: bool,
}

impl LoginProfile {
    pub(crate) fn new(user: &Entity, profile: &login::LoginProfile) -> Self {
        Self {
            user_name: user.name.clone(),
            create_date: profile.created_at,
            password_reset_required: profile.reset == Reset::Required,
        }
    }
}

/// The user a request names, or the caller itself. A root has no login profile here.
pub(crate) async fn named_or_own_user(
    call: &Call,
    user_name: Option<String>,
) -> Result<Subject, Error> {
    match Whose::resolve(call, user_name).await? {
        Whose::User(user) => Ok(*user),
        Whose::Root(_) => {
            let message = "Must specify userName when calling with root credentials";
            Err(Error::new(code::VALIDATION_ERROR, message))
        }
    }
}

/// What a request says about changing the password; nothing means no.
pub(crate) fn reset(required: Option<bool>) -> Reset {
    if required == Some(true) { Reset::Required } else { Reset::NotRequired }
}

/// Hashes a password where it holds up no other request.
pub(crate) async fn hash(call: &Call, password: Secret<String>) -> Result<PasswordHash, Error> {
    let identity = call.world.identity.clone();
    tokio::task::spawn_blocking(move || identity.hash_password(&password))
        .await
        .map_err(Error::internal)
}

/// Whether a password is the one that is kept.
pub(crate) async fn is_password(
    kept: PasswordHash,
    password: Secret<String>,
) -> Result<bool, Error> {
    tokio::task::spawn_blocking(move || kept.is_of(&password)).await.map_err(Error::internal)
}
