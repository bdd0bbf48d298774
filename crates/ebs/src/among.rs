//! Rows of several volumes in one query.

use base::VolumeId;
use meta::{Param, Row, Tx};

/// Ids in one query.
const IDS_MAX: usize = 128;

/// Runs a query for the rows of some volumes, each of which is named once. In `sql`, `{ids}` stands for
/// their ids; `first` are the parameters before them. Lists are filled up to a power of two with their
/// last id, so that there are few statements to prepare.
pub(crate) fn query(
    tx: &mut Tx<'_>,
    sql: &str,
    first: &[Param],
    ids: &[VolumeId],
) -> meta::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for part in ids.chunks(IDS_MAX) {
        let count = part.len().next_power_of_two();
        let filled = part.iter().chain(part.last().into_iter().cycle()).take(count);
        let params: Vec<Param> = first.iter().cloned().chain(filled.map(Param::from)).collect();
        let numbers = (first.len() + 1)..=params.len();
        let numbers: Vec<String> = numbers.map(|number| format!("${number}")).collect();
        rows.extend(tx.query(&sql.replace("{ids}", &numbers.join(", ")), &params)?);
    }
    Ok(rows)
}
