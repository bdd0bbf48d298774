//! Openings of one volume at machines come one after the other.
//!
//! An opening asks whoever has the volume to stop, raises the epoch and lends the volume. Another that
//! began between the last two found nobody who has it, and fenced the first with an epoch that it could
//! not use itself.

use base::{Region, VolumeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

type Place = (Region, VolumeId);

/// Whose turn it is, by volume.
#[derive(Default)]
pub struct Openings(Mutex<BTreeMap<Place, Weak<Turn<()>>>>);

impl Openings {
    /// Waits for the openings of the volume that began earlier; later ones wait for this one for as long
    /// as the guard is held.
    pub(crate) async fn begin(&self, region: &Region, volume: &VolumeId) -> OwnedMutexGuard<()> {
        self.turn(region, volume).lock_owned().await
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
