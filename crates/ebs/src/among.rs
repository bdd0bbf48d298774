//! Rows of several resources in one query.

use meta::{Param, Row, Tx};
use std::collections::BTreeSet;
use std::fmt::Display;

/// Ids in one query.
const IDS_MAX: usize = 128;

/// Runs a query for the rows of some resources, each once however often its id is given. In `sql`, `{ids}`
/// stands for their ids; `first` are the parameters before them. Lists are filled up to a power of two with
/// their last id, so that there are few statements to prepare.
pub(crate) fn query<I: Ord + Display>(
    tx: &mut Tx<'_>,
    sql: &str,
    first: &[Param],
    ids: &[I],
) -> meta::Result<Vec<Row>> {
    let ids: Vec<&I> = ids.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut rows = Vec::new();
    for part in ids.chunks(IDS_MAX) {
        let count = part.len().next_power_of_two();
        let filled = part.iter().chain(part.last().into_iter().cycle()).take(count);
        let ids = filled.map(|id| Param::from(id.to_string()));
        let params: Vec<Param> = first.iter().cloned().chain(ids).collect();
        let numbers = (first.len() + 1)..=params.len();
        let numbers: Vec<String> = numbers.map(|number| format!("${number}")).collect();
        rows.extend(tx.query(&sql.replace("{ids}", &numbers.join(", ")), &params)?);
    }
    Ok(rows)
}
