//! What the person who runs the server does to the root of trust and to domain keys, and that it was done: such acts belong to no
//! tenant, and are recorded in the trail of the operator's account.

use crate::error::Error;
use crate::world::World;
use base::{AccountId, Clock, Region, Rng};
use events::{Category, Record, UserIdentity};
use kms::rewrap::Progress;
use meta::Tx;
use serde_json::Value;

/// Under which account what belongs to no tenant is filed; no tenant has this id.
const OPERATOR: &str = "000000000000";
/// The source of the operator's records.
const SOURCE: &str = "strongroom.operator";

/// The account of the person who runs the server.
pub fn operator() -> AccountId {
    AccountId::parse(OPERATOR).expect("twelve digits")
}

/// Records an act of the operator in the transaction that does it.
///
/// # Errors
/// As the database answers.
pub fn note_operator(
    tx: &mut Tx<'_>,
    (clock, rng): (&dyn Clock, &dyn Rng),
    region: &Region,
    name: &str,
    details: Value,
) -> events::Result<()> {
    let account = operator();
    let call = events::Call {
        event_id: base::id::uuid(rng),
        time: clock.now(),
        region: region.clone(),
        identity: UserIdentity::internal(&account),
        recipient: account,
        event_source: SOURCE.to_owned(),
        event_name: name.to_owned(),
        source_ip: String::new(),
        user_agent: String::new(),
        request_id: String::new(),
        read_only: false,
        category: Category::Management,
    };
    events::append(tx, &Record::service_event(call, details))
}

impl World {
    /// Records an act of the operator that is not a transaction.
    ///
    /// # Errors
    /// When the rows cannot be written.
    pub async fn note_operator(
        &self,
        region: &Region,
        name: &'static str,
        details: Value,
    ) -> Result<(), Error> {
        let (clock, rng) = (self.clock.clone(), self.rng.clone());
        let region = region.clone();
        let noted = self
            .db
            .write(move |tx| note_operator(tx, (&*clock, &*rng), &region, name, details.clone()));
        noted.await.map_err(Error::internal)
    }

    /// The region under which acts that concern every region are recorded: the first one served.
    pub fn first_region(&self) -> Region {
        self.regions.iter().next().cloned().expect("a server serves a region")
    }

    /// Makes the next domain key of a region; what is sealed under older ones is moved by
    /// [`World::rewrap_step`].
    ///
    /// # Errors
    /// When the region is not served, or the rows cannot be written.
    pub async fn rotate_domain_key(&self, region: &Region) -> Result<u32, kms::StartError> {
        self.kms.rotate_domain_key(&self.db, region).await
    }

    /// Moves one more batch of a region's key material to its newest domain key; `None` when nothing is to be
    /// moved.
    ///
    /// # Errors
    /// When the rows cannot be read or written.
    pub async fn rewrap_step(&self, region: &Region) -> Result<Option<Progress>, kms::Error> {
        let (kms, region) = (self.kms.clone(), region.clone());
        self.db.write(move |tx| kms.rewrap_step(tx, &region)).await
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::encrypt::Encrypt;
    use crate::testing::{account, bench, region, run};
    use serde_json::json;

    #[tokio::test]
    async fn keys_are_used_on_through_a_rotation_of_the_domain_key() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let key = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let east = region("us-east-1");
        assert_eq!(bench.world.rotate_domain_key(&east).await.expect("served"), 2);
        let input = json!({"KeyId": key["KeyMetadata"]["KeyId"], "Plaintext": "text"});
        run::<Encrypt>(&call, input.clone()).await.expect("allowed");
        let step = bench.world.rewrap_step(&east).await.expect("rows").expect("a move");
        assert_eq!((step.rewrapped, step.finished), (1, true));
        assert_eq!(bench.world.rewrap_step(&east).await.expect("rows"), None);
        run::<Encrypt>(&call, input).await.expect("allowed");
    }

    #[tokio::test]
    async fn acts_of_the_operator_are_found_in_the_trail() {
        let bench = bench().await;
        let east = region("us-east-1");
        let details = json!({"reason": "drill"});
        bench.world.note_operator(&east, "AcceptRollback", details).await.expect("rows");
        let lookup = events::Lookup {
            account: super::operator(),
            region: east,
            filter: None,
            start: None,
            end: None,
            now: bench.world.clock.now(),
            max: 10,
            after: None,
        };
        let page = bench.world.db.read(move |tx| events::lookup(tx, &lookup)).await;
        let records = page.expect("rows").records;
        assert_eq!(records.len(), 1);
        assert!(records[0].record.contains("AcceptRollback"));
        assert!(records[0].record.contains("drill"));
    }
}
