//! What KMS tells about keys by itself: records in the trail, events on the bus (spec 20, D.1 and D.2).

use base::{Rng, Timestamp};
use events::event::Envelope;
use events::{Category, Record, Resource, ServiceEvent, UserIdentity};
use kms::Key;
use kms::multi_region::MultiRegionRole;
use kms::rotation::Rotated;
use meta::Tx;
use serde_json::{Map, Value, json};

/// When something happened, and where ids come from.
pub(crate) struct Moment<'a> {
    pub(crate) at: Timestamp,
    pub(crate) rng: &'a dyn Rng,
}

/// A key is gone.
pub(crate) fn destroyed(tx: &mut Tx<'_>, key: &Key, moment: &Moment<'_>) -> kms::Result<()> {
    record(tx, key, moment, "DeleteKey", json!({ "keyId": key.id }))?;
    notify(tx, key, moment, "KMS CMK Deletion")
}

/// Imported material has expired.
pub(crate) fn expired(tx: &mut Tx<'_>, key: &Key, moment: &Moment<'_>) -> kms::Result<()> {
    record(tx, key, moment, "DeleteExpiredKeyMaterial", json!({ "keyId": key.id }))?;
    notify(tx, key, moment, "KMS Imported Key Material Expiration")
}

/// A key has new material, and so have its replicas.
pub(crate) fn rotated(tx: &mut Tx<'_>, rotated: &Rotated, moment: &Moment<'_>) -> kms::Result<()> {
    for key in [&rotated.key].into_iter().chain(&rotated.replicas) {
        let mut details = json!({
            "keyId": key.id,
            "rotationType": rotated.kind.as_str(),
            "keyOrigin": key.origin.as_str(),
            "currentKeyMaterialId": rotated.current.to_string(),
        });
        if let Some(previous) = key.current_material_id() {
            details["previousKeyMaterialId"] = json!(previous.to_string());
        }
        if let Some(role) = key.multi_region {
            details["multiRegionKeyType"] = json!(role.as_str());
        }
        record(tx, key, moment, "RotateKey", details)?;
        notify(tx, key, moment, "KMS CMK Rotation")?;
    }
    if rotated.replicas.is_empty() {
        return Ok(());
    }
    synchronized(tx, &rotated.key, moment)
}

/// Shared properties of a multi-Region key were taken to its relatives.
pub(crate) fn synchronized(tx: &mut Tx<'_>, key: &Key, moment: &Moment<'_>) -> kms::Result<()> {
    // The record names the primary key, in its region.
    let family = kms::multi_region::family(tx, key)?;
    let primary = family.into_iter().find(|key| key.multi_region == Some(MultiRegionRole::Primary));
    match primary {
        Some(key) => {
            record(tx, &key, moment, "SynchronizeMultiRegionKey", json!({ "keyId": key.id }))
        }
        None => Ok(()),
    }
}

/// A replica is made: the record in its own region. ReplicateKey's is in that of the primary key.
pub(crate) fn replicated(tx: &mut Tx<'_>, key: &Key, moment: &Moment<'_>) -> kms::Result<()> {
    record(tx, key, moment, "CreateKey", json!({ "keyId": key.id }))
}

fn record(
    tx: &mut Tx<'_>,
    key: &Key,
    moment: &Moment<'_>,
    name: &str,
    details: Value,
) -> kms::Result<()> {
    let call = events::Call {
        event_id: base::id::uuid(moment.rng),
        time: moment.at,
        region: key.region.clone(),
        recipient: key.account.clone(),
        identity: UserIdentity::internal(&key.account),
        event_source: "kms.amazonaws.com".to_owned(),
        event_name: name.to_owned(),
        source_ip: String::new(),
        user_agent: String::new(),
        request_id: String::new(),
        read_only: false,
        category: Category::Management,
    };
    let record = Record::service_event(call, details).with_resources(vec![Resource {
        account_id: key.account.clone(),
        kind: "AWS::KMS::Key".to_owned(),
        arn: key.arn().to_string(),
    }]);
    events::append(tx, &record).map_err(store)
}

fn notify(tx: &mut Tx<'_>, key: &Key, moment: &Moment<'_>, detail_type: &str) -> kms::Result<()> {
    let envelope = Envelope {
        event_id: base::id::uuid(moment.rng),
        account: key.account.clone(),
        region: key.region.clone(),
        time: moment.at,
    };
    let detail = Map::from_iter([("key-id".to_owned(), json!(key.id))]);
    let arn = key.arn().to_string();
    let event = ServiceEvent::new(envelope, "aws.kms", detail_type, vec![arn], detail);
    events::put_event(tx, &event).map_err(store)
}

fn store(error: events::Error) -> kms::Error {
    kms::Error::Store(match error {
        events::Error::Rows(error) => error,
        other => meta::Error::Corrupt { detail: other.to_string() },
    })
}
