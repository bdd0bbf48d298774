//! What asks the process to end: SIGTERM from a service manager, SIGINT from a terminal.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Heard from the moment this is made; before, they kill. It is made before the process says that it is
/// ready: whoever waits for that may ask for the end at once.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Needs a runtime around it.
    pub(crate) fn new() -> std::io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    /// Returns when the process is asked to end.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
