//! Where the work is done that takes the processor for long: making key pairs, and what their private halves do.
//!
//! Never on a thread that answers requests, never inside a transaction, never under a lock. An RSA key pair takes
//! up to seconds; few are made at once, on threads that let requests go first, so that a burst of them cannot
//! take the whole machine, and the rest waits its turn without holding anything.

use crate::error::Error;
use base::Rng;
use kms::NewMaterial;
use kms::cipher::DataKeyPair;
use kms::import::token::WrappingKey;
use kms::import::wrapping::WrappingKeySpec;
use kms::spec::{KeySpec, Kind};
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

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

    /// A key pair to wrap key material for an import.
    pub(crate) async fn wrapping_key(&self, spec: WrappingKeySpec) -> Result<WrappingKey, Error> {
        self.in_turn(move || WrappingKey::generate(spec)).await
    }

    async fn make<T: Send + 'static>(
        &self,
        spec: KeySpec,
        make: impl FnOnce(&dyn Rng) -> kms::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let rng = Arc::clone(&self.rng);
        match spec.takes_long() {
            true => self.in_turn(move || make(&*rng)).await,
            false => aside(move || make(&*rng)).await,
        }
    }

    /// Makes an RSA key pair.
    async fn in_turn<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> kms::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .expect("the semaphore of the forge is never closed");
        #[cfg(test)]
        let before = self.before.lock().expect("no test panics while it holds it").clone();
        let (told, answer) = oneshot::channel();
        let work = move || {
            // Goes with the work, which outlives a caller that goes away.
            let _turn = turn;
            base::turns::run_behind();
            #[cfg(test)]
            before.inspect(|before| before());
            // Nobody is there to be told when the caller went away.
            let _gone = told.send(make());
        };
        // A thread of its own: a thread's priority cannot be raised again.
        let begun = std::thread::Builder::new().name("forge".to_owned()).spawn(work);
        begun.map_err(Error::internal)?;
        Ok(answer.await.map_err(Error::internal)??)
    }
}

/// Runs work that takes the processor for milliseconds off the threads that answer.
pub(crate) async fn aside<T: Send + 'static, E: Into<Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::disable_key::DisableKey;
    use crate::ops::kms::encrypt::Encrypt;
    use crate::ops::kms::generate_data_key_pair::GenerateDataKeyPair;
    use crate::testing::{account, bench, run};
    use serde_json::json;
    use std::sync::{Arc, Mutex, mpsc};

    /// Three RSA key pairs are wanted, two are being made and are held up in the middle of it: meanwhile keys are
    /// read, written and used; the third is not begun before another ends.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn requests_are_answered_while_key_pairs_are_made() {
        let bench = Arc::new(bench().await);
        let (begun, begins) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        *bench.world.forge.before.lock().unwrap() = Some(Arc::new(move || {
            begun.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }));

        let owner = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&owner, json!({})).await.expect("allowed");
        let key = created["KeyMetadata"]["Arn"].clone();
        let disabled = run::<CreateKey>(&owner, json!({})).await.expect("allowed");
        let soon_disabled = disabled["KeyMetadata"]["Arn"].clone();

        let wanted = |input| {
            let call = bench.root(&account(1), "us-east-1");
            tokio::spawn(async move { run::<CreateKey>(&call, input).await })
        };
        let rsa = json!({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"});
        let first = wanted(rsa.clone());
        let pair = {
            let call = bench.root(&account(1), "us-east-1");
            let input = json!({"KeyId": soon_disabled, "KeyPairSpec": "RSA_2048"});
            tokio::spawn(async move { run::<GenerateDataKeyPair>(&call, input).await })
        };
        let begins = tokio::task::spawn_blocking(move || {
            (0..2).for_each(|_| begins.recv().unwrap());
            begins
        })
        .await
        .unwrap();
        let third = wanted(rsa);

        // Reads, a write, and a quick key pair.
        run::<Encrypt>(&owner, json!({"KeyId": key, "Plaintext": "x"})).await.expect("allowed");
        run::<DisableKey>(&owner, json!({"KeyId": soon_disabled})).await.expect("allowed");
        let quick = json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"});
        run::<CreateKey>(&owner, quick).await.expect("allowed");
        assert!(!first.is_finished() && !pair.is_finished() && !third.is_finished());
        assert!(begins.try_recv().is_err(), "two are made at once, not three");

        (0..3).for_each(|_| go.send(()).unwrap());
        first.await.unwrap().expect("made");
        third.await.unwrap().expect("made");
        begins.try_recv().expect("the third was begun after another ended");
        // Its key was disabled while the pair was made.
        let refused = pair.await.unwrap().expect_err("refused");
        assert_eq!(refused.code(), "DisabledException");
    }
}
