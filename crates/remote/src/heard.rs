//! When a connection was last heard of: a network that drops everything ends no connection by itself.
//!
//! Bytes count, not frames: one frame may take a slow link longer than a connection may be silent.

use crate::lease::SteadyClock;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// A machine that slept, or was stopped, finds the end of its patience before it finds what came.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// When bytes last came.
pub(crate) struct Heard {
    clock: Arc<dyn SteadyClock>,
    at: AtomicU64,
}

/// A connection's incoming bytes, noted as they come.
pub(crate) struct Listening<'a, R> {
    heard: &'a Heard,
    reader: R,
}

impl Heard {
    /// A connection that was heard of now.
    pub(crate) fn new(clock: Arc<dyn SteadyClock>) -> Self {
        let at = AtomicU64::new(clock.millis());
        Self { clock, at }
    }

    pub(crate) fn listen<R>(&self, reader: R) -> Listening<'_, R> {
        Listening { heard: self, reader }
    }

    /// Returns when nothing came for so long.
    pub(crate) async fn silence_of(&self, limit: Duration) {
        let limit = limit.as_millis() as u64;
        loop {
            let heard = self.at.load(Ordering::Acquire);
            let left = (heard + limit).saturating_sub(self.clock.millis());
            tokio::time::sleep(Duration::from_millis(left).max(LOOK_AGAIN)).await;
            if left == 0 && self.at.load(Ordering::Acquire) == heard {
                return;
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Listening<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(ctx, buffer))?;
        if buffer.filled().len() > before {
            self.heard.at.store(self.heard.clock.millis(), Ordering::Release);
        }
        Poll::Ready(Ok(()))
    }
}
