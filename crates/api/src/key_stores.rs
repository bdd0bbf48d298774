//! Work on the tokens of custom key stores, away from transactions and from the threads that answer requests.
//!
//! A token may be slow or hang. Each store has a few places; who finds none within the time a call may take is told that
//! the key is unavailable, and nobody else waits.

use kms::key_store::work::{Performed, TokenWork};
use kms::key_store::{self, ConnectionError, ConnectionState, KeyStore};
use kms::{Error, Kms, Result};
use meta::Db;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Calls to one store's token at a time.
const CALLS_MAX: usize = 8;
/// How long a call waits for its place and its answer together.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a login may take.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Labels destroyed on a token in one go.
const GARBAGE_AT_ONCE: u32 = 100;

/// The places at the tokens, by store.
#[derive(Default)]
pub(crate) struct Places(Mutex<BTreeMap<String, Arc<Semaphore>>>);

impl Places {
    fn of(&self, store: &str) -> Arc<Semaphore> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(CALLS_MAX));
        Arc::clone(places.entry(store.to_owned()).or_insert_with(new))
    }

    /// Does what an operation asked of a token.
    pub(crate) async fn perform(&self, kms: &Kms, work: TokenWork) -> Result<Performed> {
        let (kms, store) = (kms.clone(), work.store_id().to_owned());
        self.run(&store, move || kms.perform(work)).await
    }

    /// Runs something that waits for a store's token. A call that is given up runs on, and keeps its place until it
    /// ends: a token that hangs holds [`CALLS_MAX`] threads and no more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        store: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let places = self.of(store);
        let call = async {
            let place = places.acquire_owned().await.map_err(|_| Away::Closed)?;
            let done = spawn_blocking(move || {
                let _place = place;
                work()
            });
            done.await.map_err(|_| Away::Failed)
        };
        let away = |away: Away| Error::KeyStoreAway { id: store.to_owned(), cause: Box::new(away) };
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(away(error)),
            Err(_) => Err(away(Away::Silent)),
        }
    }
}

/// Why no answer came from where a token is asked.
#[derive(Debug, thiserror::Error)]
enum Away {
    #[error("its token does not answer")]
    Silent,
    #[error("no more calls are taken")]
    Closed,
    #[error("the call ended badly")]
    Failed,
}

/// ConnectCustomKeyStore, second half.
pub(crate) async fn connect(db: Db, kms: Kms, store: KeyStore) {
    let (service, wanted) = (kms.clone(), store.clone());
    let login = timeout(LOGIN_TIMEOUT, spawn_blocking(move || service.connect_key_store(&wanted)));
    let state = match login.await {
        Ok(Ok(Ok(()))) => ConnectionState::Connected,
        Ok(Ok(Err(error))) => ConnectionState::Failed(error),
        Ok(Err(_)) => ConnectionState::Failed(ConnectionError::InternalError),
        Err(_) => ConnectionState::Failed(ConnectionError::NetworkErrors),
    };
    if let ConnectionState::Failed(error) = state {
        tracing::warn!(store = store.id, error = error.as_str(), "a key store cannot be connected");
    }
    let id = store.id.clone();
    let ended = db.write(move |tx| key_store::end_connect(tx, &store, state)).await;
    if let Err(error) = ended {
        tracing::error!(store = id, %error, "the state of a key store cannot be kept");
    }
}

/// After a start: connections that were begun are begun again. Those that stood are made when they are needed.
pub(crate) async fn resume(db: &Db, kms: &Kms, regions: &[base::Region]) -> Result<()> {
    for region in regions {
        let of = region.clone();
        for store in db.read(move |tx| key_store::of_region(tx, &of)).await? {
            if store.state == ConnectionState::Connecting {
                tokio::spawn(connect(db.clone(), kms.clone(), store));
            }
        }
    }
    Ok(())
}

/// Destroys on the tokens what belongs to keys that are destroyed. A store that is away keeps its part for later.
pub(crate) async fn sweep(
    db: &Db,
    kms: &Kms,
    places: &Places,
    regions: &[base::Region],
) -> Result<()> {
    for region in regions {
        let of = region.clone();
        let stores = db.read(move |tx| key_store::of_region(tx, &of)).await?;
        for store in stores.into_iter().filter(|store| store.state == ConnectionState::Connected) {
            let of = store.clone();
            let labels = db.read(move |tx| key_store::garbage(tx, &of, GARBAGE_AT_ONCE)).await?;
            for label in labels {
                let (service, of, what) = (kms.clone(), store.clone(), label.clone());
                let done = places.run(&store.id, move || service.destroy_on_token(&of, &what));
                match done.await {
                    Ok(()) => {
                        let of = store.clone();
                        db.write(move |tx| key_store::forget(tx, &of, &label)).await?;
                    }
                    Err(error) => {
                        tracing::warn!(store = store.id, %error, "a destroyed key is still on its token");
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_that_hangs_holds_up_nobody_elses() {
        let places = Arc::new(Places::default());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let mut hanging = Vec::new();
        for _ in 0..CALLS_MAX {
            let (places, held) = (Arc::clone(&places), Arc::clone(&held));
            hanging.push(tokio::spawn(async move {
                let wait = move || {
                    let held = held.lock().unwrap_or_else(PoisonError::into_inner);
                    // A sender that is gone means the same.
                    let _ended = held.recv();
                    Ok(())
                };
                places.run("cks-hangs", wait).await
            }));
        }
        while places.of("cks-hangs").available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(places.run("cks-answers", || Ok(7)).await.expect("not held up"), 7);
        drop(release);
        for call in hanging {
            call.await.expect("no panic").expect("answered in the end");
        }
        assert_eq!(places.run("cks-hangs", || Ok(8)).await.expect("free again"), 8);
    }
}
