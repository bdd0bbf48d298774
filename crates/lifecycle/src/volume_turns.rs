//! Work on one volume that comes one after the other, whatever happens to others meanwhile.

use base::{Region, VolumeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

type Place = (Region, VolumeId);

/// Whose turn it is, by volume.
#[derive(Default)]
pub struct VolumeTurns(Mutex<BTreeMap<Place, Weak<Turn<()>>>>);

impl VolumeTurns {
    /// Waits for whoever began earlier with the volume; later ones wait for this one for as long as the
    /// guard is held.
    pub async fn begin(&self, region: &Region, volume: &VolumeId) -> OwnedMutexGuard<()> {
        self.turn(region, volume).lock_owned().await
    }

    /// As [`VolumeTurns::begin`], for all of them.
    pub async fn begin_all(
        &self,
        region: &Region,
        volumes: impl IntoIterator<Item = &VolumeId>,
    ) -> Vec<OwnedMutexGuard<()>> {
        // In one order, so that nobody waits for one who waits for them.
        let volumes: BTreeSet<&VolumeId> = volumes.into_iter().collect();
        let mut turns = Vec::with_capacity(volumes.len());
        for volume in volumes {
            turns.push(self.begin(region, volume).await);
        }
        turns
    }

    fn turn(&self, region: &Region, volume: &VolumeId) -> Arc<Turn<()>> {
        let mut turns = self.0.lock().expect("no code panics while it holds the map");
        turns.retain(|_, turn| turn.strong_count() > 0);
        let place = (region.clone(), volume.clone());
        if let Some(turn) = turns.get(&place).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(place, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn volumes_wait_for_themselves_alone() {
        let (turns, region) = (VolumeTurns::default(), Region::parse("us-east-1").unwrap());
        let [a, b, c] =
            ["vol-0000000a", "vol-0000000b", "vol-0000000c"].map(|id| id.parse().unwrap());
        let begins = async |volume: &VolumeId| {
            timeout(Duration::ZERO, turns.begin(&region, volume)).await.is_ok()
        };
        let all = turns.begin_all(&region, [&b, &a, &b]).await;
        assert_eq!(all.len(), 2);
        assert!(!begins(&a).await && !begins(&b).await);
        assert!(begins(&c).await);
        drop(all);
        assert!(begins(&a).await && begins(&b).await);
    }
}
