//! Domain keys: one or more per region, sealed under the root key, each sealing that region's key material.
//!
//! Made in a transaction of its own before anything is sealed under it, and loaded only from what that transaction
//! committed: a domain key that is used but was rolled back would take every key made under it along.

use crate::error::{Error, Result};
use crate::locked::Locked;
use crate::material;
use crate::primitive::{KEY_LEN, push_field};
use crate::seal::Root;
use crate::service::StartError;
use base::{Clock, Region, Rng};
use meta::{Db, params};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of the first domain key of a region.
const FIRST: u32 = 1;

/// The unwrapped domain keys of every region served.
pub(crate) struct DomainKeys(BTreeMap<Region, BTreeMap<u32, Locked<KEY_LEN>>>);

struct WrappedKey {
    number: u32,
    root_id: Vec<u8>,
    wrapped: Vec<u8>,
}

impl DomainKeys {
    pub(crate) async fn open(
        db: &Db,
        root: Arc<Root>,
        regions: Vec<Region>,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> Result<Self, StartError> {
        let mut keys = BTreeMap::new();
        for region in regions {
            create_first_if_missing(db, &root, &region, clock, rng).await?;
            let mut of_region = BTreeMap::new();
            for WrappedKey { number, root_id, wrapped } in load(db, &region).await? {
                if root_id != root.id() {
                    return Err(StartError::OtherRoot { region });
                }
                let key = root
                    .unwrap(&additional_data(&root, &region, number), &wrapped)
                    .map_err(|_| StartError::DomainKeyDamaged { region: region.clone(), number })?;
                of_region.insert(number, key);
            }
            keys.insert(region, of_region);
        }
        Ok(Self(keys))
    }

    /// The key new material is sealed under.
    pub(crate) fn newest(&self, region: &Region) -> Result<(u32, &[u8; KEY_LEN])> {
        let newest = self.0.get(region).and_then(|keys| keys.last_key_value());
        let missing = || Error::DomainKeyMissing { region: region.clone(), number: FIRST };
        newest.map(|(number, key)| (*number, key.expose())).ok_or_else(missing)
    }

    /// The key older material was sealed under.
    pub(crate) fn numbered(&self, region: &Region, number: u32) -> Result<&[u8; KEY_LEN]> {
        let key = self.0.get(region).and_then(|keys| keys.get(&number));
        let missing = || Error::DomainKeyMissing { region: region.clone(), number };
        key.map(Locked::expose).ok_or_else(missing)
    }
}

async fn create_first_if_missing(
    db: &Db,
    root: &Arc<Root>,
    region: &Region,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Rng>,
) -> meta::Result<()> {
    let (root, region) = (Arc::clone(root), region.clone());
    let (clock, rng) = (Arc::clone(clock), Arc::clone(rng));
    db.write(move |tx| {
        let exists = tx.query_opt(
            "SELECT number FROM kms_domain_keys WHERE region = $1 ORDER BY number LIMIT 1",
            params![&region],
        )?;
        if exists.is_some() {
            return Ok(());
        }
        let key = material::generate(&*rng);
        let wrapped = root.wrap(&additional_data(&root, &region, FIRST), &key, &*rng);
        // Another server may have been quicker; its key is the one loaded afterwards.
        tx.execute(
            "INSERT INTO kms_domain_keys (region, number, root_id, wrapped, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            params![&region, FIRST, root.id().to_vec(), wrapped, clock.now()],
        )?;
        Ok(())
    })
    .await
}

async fn load(db: &Db, region: &Region) -> meta::Result<Vec<WrappedKey>> {
    let region = region.clone();
    db.read(move |tx| {
        tx.query(
            "SELECT number, root_id, wrapped FROM kms_domain_keys WHERE region = $1 ORDER BY number",
            params![&region],
        )?
        .iter()
        .map(|row| {
            Ok(WrappedKey { number: row.get(0)?, root_id: row.get(1)?, wrapped: row.get(2)? })
        })
        .collect()
    })
    .await
}

fn additional_data(root: &Root, region: &Region, number: u32) -> Vec<u8> {
    let mut aad = b"dk1".to_vec();
    push_field(&mut aad, root.id());
    push_field(&mut aad, region.as_str().as_bytes());
    push_field(&mut aad, &number.to_be_bytes());
    aad
}
