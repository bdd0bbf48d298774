//! The statements of one transaction.

use crate::error::{Error, Result};
use crate::job::Access;
use crate::portable;
use crate::value::{Param, Row};

/// The most rows one query may return; longer lists are paged by key.
pub const ROWS_MAX: usize = 100_000;

/// What an engine offers to a transaction.
pub(crate) trait Session {
    fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64>;
    fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>>;
    /// One statement of a schema, written in the portable subset.
    fn define(&mut self, sql: &str) -> Result<()>;
}

/// A running transaction.
///
/// After a failed statement every further one answers [`Error::Aborted`] and nothing is kept, on
/// every engine, because PostgreSQL works so. Use `ON CONFLICT DO NOTHING` and the number of rows
/// where "exists already" is an expected answer.
pub struct Tx<'s> {
    session: &'s mut dyn Session,
    access: Access,
    marks: Marks,
}

/// What became of the statements so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Marks {
    failed: bool,
    conflict: bool,
}

impl<'s> Tx<'s> {
    pub(crate) fn new(session: &'s mut dyn Session, access: Access) -> Self {
        Self { session, access, marks: Marks::default() }
    }

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// As the engine answers; [`Error::ReadOnly`] inside [`crate::Db::read`].
    pub fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64> {
        if self.access == Access::Read {
            return Err(Error::ReadOnly);
        }
        self.attempt(sql, params, |session| session.execute(sql, params))
    }

    /// Runs a query and returns all its rows, at most [`ROWS_MAX`].
    ///
    /// # Errors
    /// As the engine answers.
    pub fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        self.attempt(sql, params, |session| session.query(sql, params))
    }

    /// Runs a query for at most one row. A query that can find more needs its own `LIMIT 1`.
    ///
    /// # Errors
    /// As the engine answers.
    pub fn query_opt(&mut self, sql: &str, params: &[Param]) -> Result<Option<Row>> {
        let mut rows = self.query(sql, params)?;
        debug_assert!(rows.len() <= 1, "a query for one row found {}: {sql}", rows.len());
        Ok(if rows.is_empty() { None } else { Some(rows.swap_remove(0)) })
    }

    /// Runs `f` with a session before this one's, made from it.
    pub(crate) fn behind<T>(
        &mut self,
        run: impl FnOnce(&mut dyn Session, Access) -> (T, Marks),
    ) -> T {
        let (outcome, marks) = run(&mut *self.session, self.access);
        self.marks = marks;
        outcome
    }

    pub(crate) fn marks(&self) -> Marks {
        self.marks
    }

    pub(crate) fn define(&mut self, sql: &str) -> Result<()> {
        self.attempt(sql, &[], |session| session.define(sql))
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.marks.failed
    }

    /// Whether a statement failed because of a concurrent transaction, so that running again can help.
    pub(crate) fn has_conflict(&self) -> bool {
        self.marks.conflict
    }

    fn attempt<T>(
        &mut self,
        sql: &str,
        params: &[Param],
        run: impl FnOnce(&mut dyn Session) -> Result<T>,
    ) -> Result<T> {
        if self.marks.failed {
            return Err(Error::Aborted);
        }
        let result = admit(sql, params).and_then(|()| run(self.session));
        if let Err(error) = &result {
            self.marks = Marks { failed: true, conflict: *error == Error::Serialization };
        }
        result
    }
}

/// Refuses what one engine would take and the other would not.
fn admit(sql: &str, params: &[Param]) -> Result<()> {
    if params.iter().any(|p| matches!(p, Param::Text(text) if text.contains('\0'))) {
        return Err(Error::NulInText);
    }
    if cfg!(debug_assertions)
        && let Some(violation) = portable::check(sql).into_iter().next()
    {
        return Err(Error::NotPortable { detail: violation.to_string() });
    }
    Ok(())
}
