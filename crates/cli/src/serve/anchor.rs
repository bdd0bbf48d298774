//! Refusing rows that were put back, and remembering outside them how far they have come.

use super::cannot_start;
use crate::exit::Failure;
use api::World;
use base::with_causes;
use kms::anchor::{self, Anchor, AnchorError, Verdict};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

/// The longest a change may go unremembered, while nothing is cut. Changes that come together are one.
const PAUSE: Duration = Duration::from_secs(1);
/// Tokens wear out: they are told this often at most, and at every start and orderly end.
const TOKEN_INTERVAL_MS: i64 = 60_000;

/// Judges the rows and lets their epoch grow.
pub(super) async fn check(
    world: &Arc<World>,
    anchor: Anchor,
    accepted: Option<&str>,
) -> Result<Arc<Anchor>, Failure> {
    let anchor = Arc::new(anchor);
    let reader = Arc::clone(&anchor);
    let remembered =
        spawn_blocking(move || Ok::<_, AnchorError>((reader.in_file()?, reader.on_token()?)));
    let (file, token) = remembered.await.map_err(cannot_start)?.map_err(|error| {
        cannot_start(format!(
            "{}\nWithout it older rows cannot be told from the newest: put the file back, or, when \
             it is known why it is damaged, take it away and start once with --accept-rollback REASON",
            with_causes(&error)
        ))
    })?;
    let rows = world.db.read(anchor::epoch).await.map_err(cannot_start)?;
    let seen = file.max(token).unwrap_or(0);
    let refusal = match anchor::judge(rows, file, token) {
        Verdict::Current => None,
        Verdict::RolledBack { seen } => Some(format!(
            "the rows are older than what this server has seen (epoch {rows}, seen {seen}): a backup or an \
             old disk was put in their place. What was revoked, disabled or destroyed since would be \
             back"
        )),
        Verdict::Unanchored => Some(format!(
            "the rows have come to epoch {rows}, but the anchor ({}) that says how far they were \
             is gone",
            kms::anchor::ANCHOR_FILE
        )),
    };
    match (refusal, accepted) {
        (None, None) => {}
        (None, Some(_)) => {
            tracing::warn!("--accept-rollback was given, but the rows are not older than was seen");
        }
        (Some(problem), None) => {
            return Err(cannot_start(format!(
                "{problem}.\nPut back the rows that belong here. If they are lost, start once with \
                 --accept-rollback REASON; the reason is kept in the trail"
            )));
        }
        (Some(problem), Some(reason)) => {
            tracing::warn!(problem, reason, "accepted by the operator");
            let details = json!({ "reason": reason, "rowsEpoch": rows, "seenEpoch": seen });
            let region = world.first_region();
            let noted = world.note_operator(&region, "AcceptRollback", details).await;
            noted.map_err(cannot_start)?;
        }
    }
    advance(world, &anchor, seen, Tell::Token).await.map_err(cannot_start)?;
    Ok(anchor)
}

/// Whether the token is told as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell {
    File,
    Token,
}

/// The rows first, durably; then what is outside them. Cut in between, the rows are ahead, which is no
/// rollback.
async fn advance(
    world: &Arc<World>,
    anchor: &Arc<Anchor>,
    least: u64,
    tell: Tell,
) -> Result<(), String> {
    let grown = world.db.write(move |tx| anchor::grow(tx, least)).await;
    let epoch = grown.map_err(|error| error.to_string())?;
    let anchor = Arc::clone(anchor);
    let remember = move || {
        anchor.remember(epoch)?;
        match tell {
            Tell::File => Ok(()),
            Tell::Token => anchor.remember_on_token(epoch),
        }
    };
    let remembered: Result<(), AnchorError> =
        spawn_blocking(remember).await.map_err(|error| error.to_string())?;
    remembered.map_err(|error| with_causes(&error))
}

/// The task that follows the changes.
pub(super) struct Following {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Following {
    /// Remembers where the rows have come to at the end. Call it after everything that changes them has ended.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "how far the rows have come is no longer remembered");
        }
    }
}

/// Follows the changes.
pub(super) fn follow(world: &Arc<World>, anchor: Arc<Anchor>) -> Following {
    let (stop, mut stopped) = watch::channel(false);
    let world = Arc::clone(world);
    let task = tokio::spawn(async move {
        let mut told = world.clock.now();
        loop {
            let ended = tokio::select! {
                () = world.changes.notified() => false,
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            if !ended {
                // Changes that come together are one; an end does not wait for more.
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                }
            }
            let now = world.clock.now();
            let due = ended || now.0 - told.0 >= TOKEN_INTERVAL_MS;
            let tell = if due { Tell::Token } else { Tell::File };
            match advance(&world, &anchor, 0, tell).await {
                Ok(()) if due => told = now,
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(error, "how far the rows have come could not be remembered");
                }
            }
            if ended {
                return;
            }
        }
    });
    Following { stop, task }
}
