//! What a volume's thread does between requests: it merges what was written, gives space back, and cleans.

use super::gate::Gate;
use crate::live::{Engine, Error};
use std::time::Duration;

/// Steps of cleaning between two commands, when so much is due. A step moves at most a chunk.
const CLEANING_STEPS: usize = 4;

/// A volume that was asked for nothing in this time is cleaned until it is asked for something:
/// between two requests of a client that waits for each, cleaning would only make the second wait.
pub(super) const QUIET: Duration = Duration::from_millis(20);

/// What is left to do.
#[derive(Default)]
pub(super) struct Chores {
    /// A layer is being merged.
    merging: bool,
    /// There is space to give back.
    giving_back: bool,
    /// Segments may be worth cleaning, or pages worth putting in order.
    cleaning: bool,
    /// A checkpoint is worth it if nobody asks for anything for a while.
    restless: bool,
    /// The checkpoint after which cleaning was last considered.
    epoch: u64,
    /// The engine said that it has failed: it does nothing more until its volume is opened again.
    failed: bool,
}

/// Whether the volume was asked for something lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    Busy,
    Quiet,
    /// For nothing in a long time.
    Idle,
}

impl Guest {
    /// After a pause, in which the volume was asked for something or still worked on it, or not. A thread
    /// that did not wait knows nothing new.
    pub(super) fn after(self, waited: Pause, is_asked: bool) -> Self {
        match (waited, self) {
            _ if is_asked => Self::Busy,
            (Pause::Idle, _) => Self::Idle,
            (Pause::Quiet, _) | (_, Self::Quiet | Self::Idle) => Self::Quiet,
            (Pause::None | Pause::Long, Self::Busy) => Self::Busy,
        }
    }
}

/// What is left of the chores, by how soon it is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    Nothing,
    ForIdleTimes,
    ForPauses,
}

/// How long a volume's thread waits for commands before it goes on with chores.
#[derive(Clone, Copy)]
pub(super) enum Pause {
    None,
    Quiet,
    Idle,
    Long,
}

impl Chores {
    /// What is left of them.
    pub(super) fn left(&self) -> Left {
        match self.restless {
            _ if self.merging || self.is_for_pauses() => Left::ForPauses,
            true => Left::ForIdleTimes,
            false => Left::Nothing,
        }
    }

    /// Whether something is left that a busy guest is not kept waiting for.
    fn is_for_pauses(&self) -> bool {
        self.cleaning || self.giving_back
    }

    /// How long to wait before more of them are done.
    pub(super) fn pause(&self, guest: Guest, gate: &Gate) -> Pause {
        match guest {
            _ if gate.is_calm() => Pause::Quiet,
            _ if self.merging => Pause::None,
            _ if !self.is_for_pauses() && self.restless => Pause::Idle,
            _ if !self.is_for_pauses() => Pause::Long,
            Guest::Quiet | Guest::Idle => Pause::None,
            Guest::Busy => Pause::Quiet,
        }
    }

    /// Does a part of them.
    pub(super) fn run(&mut self, engine: &mut Engine, guest: Guest, gate: &Gate) {
        // What bounds the log does not wait.
        if self.failed || gate.is_calm() && !engine.is_flush_near() {
            return;
        }
        let begun = if guest == Guest::Idle { engine.rest() } else { Ok(()) };
        self.merging = begun.and_then(|()| engine.maintain()).unwrap_or_else(|error| {
            tracing::error!(%error, "a volume's checkpoint failed");
            self.failed = matches!(error, Error::Failed);
            false
        });
        if self.failed {
            (self.giving_back, self.cleaning, self.restless) = (false, false, false);
            return;
        }
        self.giving_back = engine.give_back_step(guest == Guest::Busy);
        self.restless = engine.is_rest_worth();
        // Only a checkpoint changes what is dead.
        let is_wanted = engine.is_order_wanted() || engine.is_cleaning_put_off();
        if engine.epoch() != self.epoch || is_wanted {
            self.epoch = engine.epoch();
            self.cleaning = true;
        }
        for step in 0..CLEANING_STEPS {
            let turn = guest != Guest::Busy && step == 0 || engine.is_cleaning_due();
            if !self.cleaning || self.merging || !turn {
                return;
            }
            self.cleaning = engine.clean_step().unwrap_or_else(|error| {
                tracing::error!(%error, "cleaning a volume failed");
                false
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{EngineConfig, FileDisk, IoMode, OpenOptions, VolumeOptions};
    use crate::page::StructureKey;
    use base::{Secret, SeededRng};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    /// Counts errors that are logged.
    #[derive(Default)]
    struct Errors(AtomicUsize);

    impl Subscriber for Errors {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::ERROR
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    fn engine(disk: FileDisk) -> Engine {
        let structure = || StructureKey::from_bytes(Secret::new([4; 32]));
        let (config, rng) = (EngineConfig::tiny(), SeededRng::new(5));
        let options = VolumeOptions { size_bytes: 8 << 20, key_check: None, base: None };
        Engine::create(&disk, &structure(), &rng, &config, &options).unwrap();
        let (disk, options) = (Arc::new(disk), OpenOptions::default());
        Engine::open(disk, structure(), Arc::new(rng), config, options).unwrap()
    }

    #[test]
    fn that_a_volume_has_failed_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FileDisk::create(&folder.path().join("disk"), IoMode::Buffered).unwrap();
        let (mut engine, gate, mut chores) = (engine(disk), Gate::default(), Chores::default());
        let errors = Arc::new(Errors::default());
        tracing::subscriber::with_default(Arc::clone(&errors), || {
            chores.run(&mut engine, Guest::Quiet, &gate);
            assert_eq!(errors.0.load(Ordering::SeqCst), 0);
            engine.note_failure();
            for guest in [Guest::Busy, Guest::Busy, Guest::Quiet, Guest::Idle] {
                chores.run(&mut engine, guest, &gate);
                assert!(chores.left() == Left::Nothing, "nothing wakes its thread");
            }
        });
        assert_eq!(errors.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_guest_is_quiet_after_a_pause_and_not_when_the_thread_is_woken() {
        use Guest::{Busy, Idle, Quiet};
        for guest in [Busy, Quiet, Idle] {
            for waited in [Pause::None, Pause::Quiet, Pause::Idle] {
                assert_eq!(guest.after(waited, true), Busy);
            }
            assert_eq!(guest.after(Pause::Quiet, false), Quiet);
            assert_eq!(guest.after(Pause::Idle, false), Idle);
        }
        assert_eq!(Busy.after(Pause::None, false), Busy);
        assert_eq!(Quiet.after(Pause::None, false), Quiet);
        assert_eq!(Idle.after(Pause::None, false), Quiet);
    }
}
