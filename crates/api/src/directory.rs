//! Who exists, as the key service asks: key policies and grants name principals (spec 20, A.4).

use base::AccountId;
use identity::{account, directory};
use meta::Tx;

/// The accounts, users and roles of this server.
pub(crate) struct People;

impl kms::Directory for People {
    fn account_exists(&self, tx: &mut Tx<'_>, account: &AccountId) -> meta::Result<bool> {
        account::find(tx, account).map(|found| found.is_some()).map_err(of_rows)
    }

    fn unique_id(&self, tx: &mut Tx<'_>, arn: &str) -> meta::Result<Option<String>> {
        directory::unique_id(tx, arn).map_err(of_rows)
    }

    fn arn_of(&self, tx: &mut Tx<'_>, unique_id: &str) -> meta::Result<Option<String>> {
        directory::arn_of(tx, unique_id).map_err(of_rows)
    }
}

/// A look-up fails only with the rows.
fn of_rows(error: identity::Error) -> meta::Error {
    match error {
        identity::Error::Store(error) => error,
        other => meta::Error::Corrupt { detail: other.to_string() },
    }
}
