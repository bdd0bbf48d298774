//! Domain keys: one or more per region, sealed under the root key, each sealing that region's key material.
//!
//! Made in a transaction of its own before anything is sealed under it, and loaded only from what that transaction
//! committed: a domain key that is used but was rolled back would take every key made under it along.

use crate::error::{Error, Result};
use crate::locked::Locked;
use crate::material;
use crate::primitive::{KEY_LEN, push_field};
use crate::rewrap;
use crate::seal::Root;
use crate::service::StartError;
use base::{Clock, Region, Rng, Timestamp};
use meta::{Db, Row, Tx, params};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Number of the first domain key of a region.
const FIRST: u32 = 1;

/// A domain key in protected memory. Whoever uses it holds it; rotation does not take it away.
pub(crate) type DomainKey = Arc<Locked<KEY_LEN>>;

/// The unwrapped domain keys of every region served.
pub(crate) struct DomainKeys {
    root: Arc<Root>,
    keys: RwLock<BTreeMap<Region, BTreeMap<u32, DomainKey>>>,
}

/// A domain key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Whose key material is sealed under it.
    pub region: Region,
    /// Its number; the highest of a region is the one in use.
    pub number: u32,
    /// When.
    pub at: Timestamp,
}

/// Every domain key there is, by region and number.
///
/// # Errors
/// As the database answers.
pub fn made(tx: &mut Tx<'_>) -> meta::Result<Vec<Made>> {
    let sql = "SELECT region, number, created_at FROM kms_domain_keys ORDER BY region, number";
    let read = |row: &Row| Ok(Made { region: row.get(0)?, number: row.get(1)?, at: row.get(2)? });
    tx.query(sql, params![])?.iter().map(read).collect()
}

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
        let opened = Self { root, keys: RwLock::default() };
        for region in regions {
            opened.create_first_if_missing(db, &region, clock, rng).await?;
            opened.load(db, &region).await?;
        }
        Ok(opened)
    }

    /// Unwraps all keys of a region.
    async fn load(&self, db: &Db, region: &Region) -> Result<(), StartError> {
        let wanted = region.clone();
        let wrapped = db.read(move |tx| read_all(tx, &wanted)).await?;
        let mut of_region = BTreeMap::new();
        for key in wrapped {
            of_region.insert(key.number, self.unwrap(region, &key)?);
        }
        self.write().insert(region.clone(), of_region);
        Ok(())
    }

    fn unwrap(&self, region: &Region, key: &WrappedKey) -> Result<DomainKey, StartError> {
        let region = || region.clone();
        if key.root_id != self.root.id() {
            return Err(StartError::OtherRoot { region: region() });
        }
        let aad = additional_data(&self.root, &region(), key.number);
        let opened = self.root.unwrap(&aad, &key.wrapped);
        opened
            .map(Arc::new)
            .map_err(|_| StartError::DomainKeyDamaged { region: region(), number: key.number })
    }

    /// The key new material is sealed under.
    pub(crate) fn newest(&self, region: &Region) -> Result<(u32, DomainKey)> {
        let keys = self.read();
        let newest = keys.get(region).and_then(|keys| keys.last_key_value());
        let missing = || Error::DomainKeyMissing { region: region.clone(), number: FIRST };
        newest.map(|(number, key)| (*number, Arc::clone(key))).ok_or_else(missing)
    }

    /// The key older material was sealed under. One that another server has made since is read from its row.
    pub(crate) fn numbered(
        &self,
        tx: &mut Tx<'_>,
        region: &Region,
        number: u32,
    ) -> Result<DomainKey> {
        let missing = || Error::DomainKeyMissing { region: region.clone(), number };
        {
            let keys = self.read();
            let of_region = keys.get(region).ok_or_else(missing)?;
            if let Some(key) = of_region.get(&number) {
                return Ok(Arc::clone(key));
            }
        }
        let row = read_all(tx, region)?.into_iter().find(|key| key.number == number);
        let key = self.unwrap(region, &row.ok_or_else(missing)?).map_err(|_| missing())?;
        if let Some(of_region) = self.write().get_mut(region) {
            of_region.insert(number, Arc::clone(&key));
        }
        Ok(key)
    }

    /// Makes the next key of a region, durable before anybody is given it; returns its number.
    pub(crate) async fn rotate(
        &self,
        db: &Db,
        region: &Region,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> Result<u32, StartError> {
        let (root, at, rng) = (Arc::clone(&self.root), clock.now(), Arc::clone(rng));
        let of = region.clone();
        let number = db
            .write(move |tx| {
                let last = read_all(tx, &of)?.last().map_or(0, |key| key.number);
                let number = last + 1;
                insert(tx, &root, &of, number, at, &*rng)?;
                rewrap::begin(tx, &of, number)?;
                Ok::<_, meta::Error>(number)
            })
            .await?;
        self.load(db, region).await?;
        Ok(number)
    }

    async fn create_first_if_missing(
        &self,
        db: &Db,
        region: &Region,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> meta::Result<()> {
        let (root, region) = (Arc::clone(&self.root), region.clone());
        let (clock, rng) = (Arc::clone(clock), Arc::clone(rng));
        db.write(move |tx| {
            let exists = tx.query_opt(
                "SELECT number FROM kms_domain_keys WHERE region = $1 ORDER BY number LIMIT 1",
                params![&region],
            )?;
            match exists {
                Some(_) => Ok(()),
                None => insert(tx, &root, &region, FIRST, clock.now(), &*rng),
            }
        })
        .await
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Region, BTreeMap<u32, DomainKey>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Region, BTreeMap<u32, DomainKey>>> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(
    tx: &mut Tx<'_>,
    root: &Root,
    region: &Region,
    number: u32,
    at: Timestamp,
    rng: &dyn Rng,
) -> meta::Result<()> {
    let key = material::generate(rng);
    let wrapped = root.wrap(&additional_data(root, region, number), &key, rng);
    // Another server may have been quicker; its key is the one loaded afterwards.
    tx.execute(
        "INSERT INTO kms_domain_keys (region, number, root_id, wrapped, created_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        params![region, number, root.id().to_vec(), wrapped, at],
    )?;
    Ok(())
}

fn read_all(tx: &mut Tx<'_>, region: &Region) -> meta::Result<Vec<WrappedKey>> {
    tx.query(
        "SELECT number, root_id, wrapped FROM kms_domain_keys WHERE region = $1 ORDER BY number",
        params![region],
    )?
    .iter()
    .map(|row| Ok(WrappedKey { number: row.get(0)?, root_id: row.get(1)?, wrapped: row.get(2)? }))
    .collect()
}

fn additional_data(root: &Root, region: &Region, number: u32) -> Vec<u8> {
    let mut aad = b"dk1".to_vec();
    push_field(&mut aad, root.id());
    push_field(&mut aad, region.as_str().as_bytes());
    push_field(&mut aad, &number.to_be_bytes());
    aad
}
