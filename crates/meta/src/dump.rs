//! All rows of a schema, out and in: for backups, the same on every engine.
//!
//! What tables there are is read from the migrations themselves, so a table that is added is part of every
//! later backup without another line of code. Rows are read in the order of their primary key, a page at a time.

use crate::error::{Error, Result};
use crate::migrate::Migration;
use crate::portable::{self, Token};
use crate::tx::Tx;
use crate::value::Param;

/// Rows of one page.
pub const PAGE_ROWS: u32 = 500;

/// A table as its migrations leave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<String>,
    /// Positions of the primary key among the columns, in the key's order.
    pub key: Vec<usize>,
}

/// The tables that migrations make.
///
/// # Errors
/// [`Error::Sql`] for a statement that changes a table in a way that is not understood here.
pub fn tables(migrations: &[Migration]) -> Result<Vec<Table>> {
    let mut tables: Vec<Table> = Vec::new();
    for statement in migrations.iter().flat_map(|migration| portable::statements(migration.sql)) {
        let tokens: Vec<Token<'_>> = portable::tokens(statement).collect();
        let words = |expected: &[&str]| {
            expected.iter().zip(&tokens).all(|(word, token)| token.is_word(word))
                && tokens.len() > expected.len()
        };
        let odd = || Error::Sql { detail: format!("not understood: {statement}") };
        if words(&["CREATE", "TABLE"]) {
            tables.push(created(&tokens[2..]).ok_or_else(odd)?);
        } else if words(&["DROP", "TABLE"]) {
            tables.retain(|table| table.name != tokens[2].text);
        } else if words(&["ALTER", "TABLE"]) {
            let named = |table: &&mut Table| table.name == tokens[2].text;
            let table = tables.iter_mut().find(named).ok_or_else(odd)?;
            match &tokens[3..] {
                [add, column, name, ..] if add.is_word("ADD") && column.is_word("COLUMN") => {
                    table.columns.push(name.text.to_owned());
                }
                _ => return Err(odd()),
            }
        }
    }
    Ok(tables)
}

/// `name ( column TYPE …, PRIMARY KEY (column, …) )`.
fn created(tokens: &[Token<'_>]) -> Option<Table> {
    let name = tokens.first()?.text.to_owned();
    let (mut columns, mut key) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for (at, pair) in tokens.windows(2).enumerate() {
        let (token, next) = (pair[0], pair[1]);
        match token.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        let begins = depth == 1 && matches!(token.text, "(" | ",");
        if token.is_word("PRIMARY") && next.is_word("KEY") {
            if tokens.get(at + 2).is_some_and(|token| token.is_symbol("(")) {
                let list = tokens[at + 3..].iter().take_while(|token| !token.is_symbol(")"));
                key = list.filter(|token| !token.is_symbol(",")).map(|token| token.text).collect();
            } else {
                // `column TYPE PRIMARY KEY`.
                key = vec![*columns.last()?];
            }
        } else if begins
            && !["PRIMARY", "UNIQUE", "CHECK", "CONSTRAINT"].iter().any(|word| next.is_word(word))
        {
            columns.push(next.text);
        }
    }
    let position = |name: &&str| columns.iter().position(|column| column == name);
    let key: Option<Vec<usize>> = key.iter().map(position).collect();
    let key = key.filter(|key| !key.is_empty())?;
    Some(Table { name, columns: columns.into_iter().map(str::to_owned).collect(), key })
}

impl Table {
    /// The rows behind the one given, in the order of the key; at most [`PAGE_ROWS`].
    ///
    /// # Errors
    /// As the engine answers.
    pub fn page(&self, tx: &mut Tx<'_>, after: Option<&[Param]>) -> Result<Vec<Vec<Param>>> {
        let columns = self.columns.join(", ");
        let names: Vec<&str> = self.key.iter().map(|at| self.columns[*at].as_str()).collect();
        let order = names.join(", ");
        let from = &self.name;
        let rows = match after {
            None => tx.query(
                &format!("SELECT {columns} FROM {from} ORDER BY {order} LIMIT {PAGE_ROWS}"),
                &[],
            )?,
            Some(row) => {
                let behind = behind(&names);
                let key: Vec<Param> = self.key.iter().map(|at| row[*at].clone()).collect();
                tx.query(
                    &format!(
                        "SELECT {columns} FROM {from} WHERE {behind} ORDER BY {order} LIMIT {PAGE_ROWS}"
                    ),
                    &key,
                )?
            }
        };
        Ok(rows.into_iter().map(|row| row.columns().to_vec()).collect())
    }

    /// Writes a row that is not there yet.
    ///
    /// # Errors
    /// As the engine answers.
    pub fn insert(&self, tx: &mut Tx<'_>, row: &[Param]) -> Result<()> {
        let columns = self.columns.join(", ");
        let values: Vec<String> = (1..=self.columns.len()).map(|n| format!("${n}")).collect();
        let sql = format!("INSERT INTO {} ({columns}) VALUES ({})", self.name, values.join(", "));
        tx.execute(&sql, row).map(drop)
    }

    /// Whether there is no row.
    ///
    /// # Errors
    /// As the engine answers.
    pub fn is_empty(&self, tx: &mut Tx<'_>) -> Result<bool> {
        let sql = format!("SELECT {} FROM {} LIMIT 1", self.columns[self.key[0]], self.name);
        Ok(tx.query_opt(&sql, &[])?.is_none())
    }
}

/// `(a > $1 OR (a = $1 AND (b > $2)))`: the key after this one, in words that every engine plans by the index.
fn behind(names: &[&str]) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate().rev() {
        let parameter = at + 1;
        text = match text.as_str() {
            "" => format!("{name} > ${parameter}"),
            rest => {
                format!("{name} >= ${parameter} AND ({name} > ${parameter} OR ({rest}))")
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, params};

    const MIGRATIONS: &[Migration] = &[
        Migration {
            name: "t-001",
            sql: "CREATE TABLE t (a TEXT NOT NULL, b BIGINT NOT NULL, c BYTES, PRIMARY KEY (a, b));
                  CREATE INDEX t_by_b ON t (b);
                  CREATE TABLE u (id TEXT PRIMARY KEY, n BIGINT)",
        },
        Migration { name: "t-002", sql: "ALTER TABLE t ADD COLUMN d TEXT" },
    ];

    #[test]
    fn tables_are_what_the_migrations_say() {
        let found = tables(MIGRATIONS).unwrap();
        let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(found[0].columns, names(&["a", "b", "c", "d"]));
        assert_eq!((found[0].key.as_slice(), found[1].key.as_slice()), (&[0, 1][..], &[0][..]));
        assert_eq!(found[1].columns, names(&["id", "n"]));
        let odd = [Migration { name: "t-003", sql: "ALTER TABLE t RENAME TO v" }];
        assert!(tables(&[MIGRATIONS, &odd].concat()).is_err());
    }

    #[test]
    fn rows_go_out_and_in() {
        let (from, to) = (Db::memory().unwrap(), Db::memory().unwrap());
        from.migrate_blocking(MIGRATIONS).unwrap();
        to.migrate_blocking(MIGRATIONS).unwrap();
        from.write_blocking(|tx| {
            for n in 0..1203_i64 {
                let account = format!("a{}", n % 3);
                let data = (n % 2 == 0).then(|| vec![7_u8; 3]);
                tx.execute(
                    "INSERT INTO t (a, b, c, d) VALUES ($1, $2, $3, $4)",
                    params![account, n, data, "x"],
                )?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
        let table = tables(MIGRATIONS).unwrap().remove(0);
        let read = {
            let table = table.clone();
            move |tx: &mut Tx<'_>| {
                let mut all: Vec<Vec<Param>> = Vec::new();
                loop {
                    let page = table.page(tx, all.last().map(Vec::as_slice))?;
                    if page.is_empty() {
                        return Ok::<_, Error>(all);
                    }
                    all.extend(page);
                }
            }
        };
        let rows = from.read_blocking(read.clone()).unwrap();
        assert_eq!(rows.len(), 1203);
        let copied = rows.clone();
        to.write_blocking(move |tx| {
            assert!(table.is_empty(tx)?);
            copied.iter().try_for_each(|row| table.insert(tx, row))?;
            assert!(!table.is_empty(tx)?);
            Ok::<_, Error>(())
        })
        .unwrap();
        assert_eq!(to.read_blocking(read).unwrap(), rows);
    }
}
