//! Login profiles: the password of a user. Only a hash of it is kept.

use crate::Identity;
use crate::entity::Entity;
use crate::error::{Error, Result};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base::{Secret, Timestamp};
use meta::{Tx, params};

/// The shortest password (IAM guide, "Default password policy").
pub const PASSWORD_CHARS_MIN: usize = 8;
/// The longest password.
pub const PASSWORD_CHARS_MAX: usize = 128;
/// How many of upper case, lower case, digits and signs a password needs, of the four.
const KINDS_MIN: usize = 3;

/// The layout of a kept hash: `1 | memory KiB, u32 | passes, u32 | salt, 16 | Argon2id tag, 32`,
/// numbers little-endian. The cost stands with the hash, so that it can be raised for new ones.
const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 32;
const HASH_BYTES: usize = 1 + 4 + 4 + SALT_BYTES + TAG_BYTES;

/// What a new hash costs: 19 MiB and two passes on one lane (OWASP, "Password Storage").
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// The most that a kept hash may ask for, so that a damaged row cannot take the machine's memory.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 64;

/// A password as it is kept.
#[derive(Clone)]
pub struct PasswordHash([u8; HASH_BYTES]);

/// Whether a user has to choose another password when it next signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Yes.
    Required,
    /// No.
    NotRequired,
}

/// A login profile without its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginProfile {
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether the password has to be changed.
    pub reset: Reset,
}

/// Checks a new password against the default policy of an account.
///
/// # Errors
/// [`Error::PasswordPolicyViolation`]. The text never repeats the password.
pub fn check_password(user_name: &str, password: &Secret<String>) -> Result<()> {
    let text = password.expose();
    let count = text.chars().count();
    let violated =
        |message: &str| Err(Error::PasswordPolicyViolation { message: message.to_owned() });
    if count < PASSWORD_CHARS_MIN {
        return violated("Password should have a minimum length of 8");
    }
    if count > PASSWORD_CHARS_MAX {
        return violated("Password should have a maximum length of 128");
    }
    if !text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}')) {
        return violated("Password contains characters outside of U+0020 to U+00FF");
    }
    let kinds: [fn(char) -> bool; 4] = [
        |c| c.is_ascii_uppercase(),
        |c| c.is_ascii_lowercase(),
        |c| c.is_ascii_digit(),
        |c| !c.is_ascii_alphanumeric(),
    ];
    if kinds.iter().filter(|kind| text.chars().any(**kind)).count() < KINDS_MIN {
        return violated(
            "Password should have at least three of: uppercase letters, lowercase letters, numbers, \
             symbols",
        );
    }
    if text.eq_ignore_ascii_case(user_name) {
        return violated("Password should not be the name of the user");
    }
    Ok(())
}

impl Identity {
    /// Hashes a password. Takes tens of milliseconds of a core and 19 MiB; never inside a transaction.
    pub fn hash_password(&self, password: &Secret<String>) -> PasswordHash {
        let mut salt = [0; SALT_BYTES];
        self.rng().fill(&mut salt);
        PasswordHash::with_salt(password, &salt)
    }

    /// Gives a user a password.
    ///
    /// # Errors
    /// [`Error::EntityAlreadyExists`] when it has one.
    pub fn create_login_profile(
        &self,
        tx: &mut Tx<'_>,
        user: &Entity,
        hash: &PasswordHash,
        reset: Reset,
    ) -> Result<LoginProfile> {
        let profile = LoginProfile { created_at: self.now(), reset };
        let inserted = tx.execute(
            "INSERT INTO iam_login_profiles (account_id, user_id, hash, reset_required, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            params![
                &user.account,
                &user.unique_id,
                hash.0.to_vec(),
                reset == Reset::Required,
                profile.created_at
            ],
        )?;
        if inserted == 0 {
            let message = format!("Login Profile for user {} already exists.", user.name);
            return Err(Error::EntityAlreadyExists { message });
        }
        Ok(profile)
    }
}

fn not_found(user: &Entity) -> Error {
    Error::missing(format!("Login Profile for User {} cannot be found.", user.name))
}

/// The login profile of a user.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find(tx: &mut Tx<'_>, user: &Entity) -> Result<LoginProfile> {
    Ok(find_with_hash(tx, user)?.0)
}

/// The login profile of a user and its password as it is kept.
///
/// # Errors
/// [`Error::NoSuchEntity`]; [`Error::RowDamaged`].
pub fn find_with_hash(tx: &mut Tx<'_>, user: &Entity) -> Result<(LoginProfile, PasswordHash)> {
    let row = tx.query_opt(
        "SELECT hash, reset_required, created_at FROM iam_login_profiles \
         WHERE account_id = $1 AND user_id = $2",
        params![&user.account, &user.unique_id],
    )?;
    let row = row.ok_or_else(|| not_found(user))?;
    let reset = if row.get::<bool>(1)? { Reset::Required } else { Reset::NotRequired };
    let hash = row.get::<Vec<u8>>(0)?.try_into();
    let hash = hash.map_err(|_| Error::damaged(format!("the password of {}", user.arn())))?;
    Ok((LoginProfile { created_at: row.get(2)?, reset }, PasswordHash(hash)))
}

/// Changes the password, or whether it has to be changed, or both.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn update(
    tx: &mut Tx<'_>,
    user: &Entity,
    hash: Option<&PasswordHash>,
    reset: Option<Reset>,
) -> Result<()> {
    let (profile, kept) = find_with_hash(tx, user)?;
    let hash = hash.unwrap_or(&kept);
    let reset = reset.unwrap_or(profile.reset);
    tx.execute(
        "UPDATE iam_login_profiles SET hash = $1, reset_required = $2 \
         WHERE account_id = $3 AND user_id = $4",
        params![hash.0.to_vec(), reset == Reset::Required, &user.account, &user.unique_id],
    )?;
    Ok(())
}

/// Takes the password from a user.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn delete(tx: &mut Tx<'_>, user: &Entity) -> Result<()> {
    let deleted = tx.execute(
        "DELETE FROM iam_login_profiles WHERE account_id = $1 AND user_id = $2",
        params![&user.account, &user.unique_id],
    )?;
    if deleted == 0 { Err(not_found(user)) } else { Ok(()) }
}

impl PasswordHash {
    fn with_salt(password: &Secret<String>, salt: &[u8; SALT_BYTES]) -> Self {
        let tag = stretch(password, salt, MEMORY_KIB, PASSES).expect("the cost is a legal one");
        let mut bytes = [0; HASH_BYTES];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&MEMORY_KIB.to_le_bytes());
        bytes[5..9].copy_from_slice(&PASSES.to_le_bytes());
        bytes[9..9 + SALT_BYTES].copy_from_slice(salt);
        bytes[9 + SALT_BYTES..].copy_from_slice(&tag);
        Self(bytes)
    }

    /// Whether this is the password. As costly as hashing; a damaged hash is nobody's password.
    pub fn is_of(&self, password: &Secret<String>) -> bool {
        let number = |at: usize| {
            u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes are four bytes"))
        };
        let (memory_kib, passes) = (number(1), number(5));
        if self.0[0] != VERSION || memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX {
            return false;
        }
        let (salt, tag) = self.0[9..].split_at(SALT_BYTES);
        let computed = stretch(password, salt, memory_kib, passes);
        computed.is_some_and(|computed| verify_slices_are_equal(&computed, tag).is_ok())
    }
}

/// Argon2id of a password; `None` for a cost that the function does not take.
fn stretch(
    password: &Secret<String>,
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
) -> Option<[u8; TAG_BYTES]> {
    let params = argon2::Params::new(memory_kib, passes, 1, Some(TAG_BYTES)).ok()?;
    let mut tag = [0; TAG_BYTES];
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(password.expose().as_bytes(), salt, &mut tag)
        .ok()?;
    Some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    /// The layout as it stands on disks.
    #[test]
    fn a_kept_hash_stays_readable() {
        let frozen = "01004c00000200000007070707070707070707070707070707\
                      8642c6f84857c6f2af3131c7a97c849a933f231e3e6fa105a7b6431dfb952895";
        let made = PasswordHash::with_salt(&secret("correct Horse 7"), &[7; SALT_BYTES]);
        assert_eq!(hex::encode(made.0), frozen);
        assert!(made.is_of(&secret("correct Horse 7")));
        assert!(!made.is_of(&secret("correct Horse 8")));
        let mut damaged = made.clone();
        damaged.0[0] = 2;
        assert!(!damaged.is_of(&secret("correct Horse 7")));
        damaged.0 = [0xff; HASH_BYTES];
        damaged.0[0] = VERSION;
        assert!(!damaged.is_of(&secret("correct Horse 7")));
    }

    #[test]
    fn passwords_have_a_length_and_three_kinds_of_characters() {
        for good in ["Abcdef12", "abc def-1", "ABCDEF-1", "Abcdefg é"] {
            check_password("amy", &secret(good)).unwrap();
        }
        let long = "aA1".repeat(43);
        for bad in ["Abcde12", "abcdefgh1", "12345678", "Abcdef12\u{2028}", &long] {
            let refused = check_password("amy", &secret(bad)).unwrap_err();
            assert!(!refused.to_string().contains(bad), "{refused}");
        }
        assert!(check_password("amy-Smith-1", &secret("Amy-Smith-1")).is_err());
    }
}
