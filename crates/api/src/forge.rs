//! Where the work is done that takes the processor for long: making key pairs, and what their private halves do.
//!
//! Never on a thread that answers requests, never inside a transaction, never under a lock. An RSA key pair takes
//! up to seconds; few are made at once, so that a burst of them cannot take the whole machine, and the rest waits
//! its turn without holding anything.

use crate::error::Error;
use base::Rng;
use kms::NewMaterial;
use kms::cipher::DataKeyPair;
use kms::spec::{KeySpec, Kind};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// RSA key pairs made at once.
const RSA_PAIRS_MAX: usize = 2;

/// Makes keys.
pub(crate) struct Forge {
    rng: Arc<dyn Rng>,
    turns: Arc<Semaphore>,
    /// Called on the thread that makes an RSA key pair, before it does.
    #[cfg(test)]
    pub(crate) before: std::sync::Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Forge {
    pub(crate) fn new(rng: Arc<dyn Rng>) -> Self {
        Self {
            rng,
            turns: Arc::new(Semaphore::new(RSA_PAIRS_MAX)),
            #[cfg(test)]
            before: std::sync::Mutex::default(),
        }
    }

    /// Material for a new key.
    pub(crate) async fn material(&self, kind: Kind) -> Result<NewMaterial, Error> {
        self.make(kind.spec(), move |rng| NewMaterial::generate(kind, rng)).await
    }

    /// A data key pair.
    pub(crate) async fn pair(&self, spec: KeySpec) -> Result<DataKeyPair, Error> {
        self.make(spec, move |rng| DataKeyPair::generate(spec, rng)).await
    }

    async fn make<T: Send + 'static>(
        &self,
        spec: KeySpec,
        make: impl FnOnce(&dyn Rng) -> kms::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let rng = Arc::clone(&self.rng);
        if !spec.takes_long() {
            return aside(move || make(&*rng)).await;
        }
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .expect("the semaphore of the forge is never closed");
        #[cfg(test)]
        let before = self.before.lock().expect("no test panics while it holds it").clone();
        aside(move || {
            // Goes with the work, which outlives a caller that goes away.
            let _turn = turn;
            #[cfg(test)]
            before.inspect(|before| before());
            make(&*rng)
        })
        .await
    }
}

/// Runs work that takes the processor for milliseconds off the threads that answer.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> kms::Result<T> + Send + 'static,
) -> Result<T, Error> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(Error::internal)??)
}
