//! Reading a row's columns in the order its table lists them.

use crate::error::{Error, Result};
use meta::{FromColumn, Row};

/// Walks along a row, so that a table's columns are named once and read in that order.
pub(crate) struct Columns<'a> {
    row: &'a Row,
    next: usize,
    table: &'static str,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(table: &'static str, row: &'a Row) -> Self {
        Self { row, next: 0, table }
    }

    /// The next column.
    pub(crate) fn take<T: FromColumn>(&mut self) -> Result<T> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// The next column, understood by `read`.
    pub(crate) fn read<T>(
        &mut self,
        column: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T> {
        let text: String = self.take()?;
        read(&text).ok_or(self.corrupt(column))
    }

    /// The error for a row whose columns contradict each other.
    pub(crate) fn corrupt(&self, column: &'static str) -> Error {
        Error::Corrupt { table: self.table, column }
    }
}
