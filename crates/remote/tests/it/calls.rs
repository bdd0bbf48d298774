//! Calls of a server that is killed while a machine makes them.

use crate::by_hand::{frame, link};
use blockstore::store::{EngineAnswer, EngineCall};
use remote::SnapshotList;
use remote::wire::{Reply, Request};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;

/// A new server process counts its calls from 1 again, and must not take an answer to the one before for
/// an answer to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_goes_to_the_server_that_asked() {
    let (link, mut connections) = link().await;
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (wait, made) = (Mutex::new(wait), AtomicU64::new(0));
    let handler: Arc<dyn Fn(EngineCall) -> _ + Send + Sync> = Arc::new(move |call| {
        if call == EngineCall::LetGo {
            return Ok(EngineAnswer::Done);
        }
        let number = made.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            wait.lock().unwrap().recv().unwrap();
        }
        Ok(EngineAnswer::Size(number))
    });
    link.on_call(Arc::clone(&handler) as _);
    let call = Reply::Call(EngineCall::Size).encode(1);
    let mut killed = connections.recv().await.unwrap();
    killed.write_all(&call).await.unwrap();
    // The machine is making the call when the server is killed.
    while Arc::strong_count(&handler) < 3 {
        tokio::task::yield_now().await;
    }
    drop(killed);
    let mut next = connections.recv().await.unwrap();
    // Its session has begun when it hears of requests.
    let asked = link.clone();
    let asking = tokio::task::spawn_blocking(move || remote::Snapshots::list(&asked));
    let (id, request) = frame(&mut next).await;
    assert_eq!(request, Request::Snapshots);
    next.write_all(&Reply::Snapshots(SnapshotList::default()).encode(id)).await.unwrap();
    asking.await.unwrap();
    go_on.send(()).unwrap();
    while Arc::strong_count(&handler) > 2 {
        tokio::task::yield_now().await;
    }
    next.write_all(&call).await.unwrap();
    assert_eq!(frame(&mut next).await, (1, Request::Answer(Ok(EngineAnswer::Size(1)))));
}
