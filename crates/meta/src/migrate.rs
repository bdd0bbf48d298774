//! Schema changes, applied once each and remembered by name.
//!
//! Not `refinery`: it numbers migrations in one sequence, where here every crate brings its own
//! named list, and it wants to own a driver's connection, which the seam of this crate hides.

use crate::error::{Error, Result};
use crate::tx::Tx;
use crate::{Db, params, portable};

/// One change of the schema: statements of the portable subset separated by semicolons.
///
/// Applied in one transaction and never edited afterwards; add another one instead. The name is
/// `<crate>-<number>-<what>`, for example `kms-001-keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Unique among all crates.
    pub name: &'static str,
    /// `CREATE TABLE`, `CREATE INDEX`, `ALTER TABLE`.
    pub sql: &'static str,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS meta_migrations (name TEXT NOT NULL, sql TEXT NOT NULL, PRIMARY KEY (name))";

/// Another server may be migrating at the same moment; then what it did is looked at again.
const ATTEMPTS_MAX: usize = 5;

impl Db {
    /// Applies the migrations that this database has not seen, in the order given.
    ///
    /// # Errors
    /// [`Error::MigrationChanged`] when one was edited after it had been applied; otherwise as the engine answers.
    pub async fn migrate(&self, migrations: &[Migration]) -> Result<()> {
        for step in steps(migrations) {
            self.learn_tables(step.sql());
            let mut attempt = 1;
            while let Err(error) = self.write(move |tx| step.apply(tx)).await {
                give_up_or_retry(error, &mut attempt)?;
            }
        }
        Ok(())
    }

    /// [`Db::migrate`] from a thread that runs no async tasks.
    ///
    /// # Errors
    /// As [`Db::migrate`].
    pub fn migrate_blocking(&self, migrations: &[Migration]) -> Result<()> {
        for step in steps(migrations) {
            self.learn_tables(step.sql());
            let mut attempt = 1;
            while let Err(error) = self.write_blocking(move |tx| step.apply(tx)) {
                give_up_or_retry(error, &mut attempt)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Step {
    Prepare,
    Apply(Migration),
}

fn steps(migrations: &[Migration]) -> impl Iterator<Item = Step> {
    [Step::Prepare].into_iter().chain(migrations.iter().copied().map(Step::Apply))
}

impl Step {
    fn sql(self) -> &'static str {
        match self {
            Self::Prepare => TABLE,
            Self::Apply(migration) => migration.sql,
        }
    }

    fn apply(self, tx: &mut Tx<'_>) -> Result<()> {
        let Self::Apply(Migration { name, sql }) = self else {
            return tx.define(TABLE);
        };
        let known =
            tx.query_opt("SELECT sql FROM meta_migrations WHERE name = $1", params![name])?;
        if let Some(row) = known {
            return match row.get::<String>(0)? == sql {
                true => Ok(()),
                false => Err(Error::MigrationChanged { name: name.to_owned() }),
            };
        }
        for statement in portable::statements(sql) {
            tx.define(statement)?;
        }
        tx.execute("INSERT INTO meta_migrations (name, sql) VALUES ($1, $2)", params![name, sql])?;
        Ok(())
    }
}

fn give_up_or_retry(error: Error, attempt: &mut usize) -> Result<()> {
    let raced =
        matches!(error, Error::UniqueViolation { .. } | Error::Serialization | Error::Sql { .. });
    if !raced || *attempt == ATTEMPTS_MAX {
        return Err(error);
    }
    *attempt += 1;
    Ok(())
}
