//! Which jobs wait behind which.

/// What a kind of job takes of the server. Each lane has places of its own, so jobs wait for others of
/// their lane alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Rows, and calls that are soon answered.
    Steps,
    /// Moves bytes, for days if there are many. When others wait, a job that has had its turn is told to
    /// make room ([`JobContext::gives_way`](crate::jobs::JobContext::gives_way)).
    Movers,
    /// Looks through whole stores.
    Collections,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Steps, Self::Movers, Self::Collections];
}

/// The most jobs of each lane at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// How long a mover may keep its place while others wait for it.
    pub turn_seconds: i64,
    /// Of [`Lane::Steps`].
    pub steps: u32,
    /// Of [`Lane::Movers`].
    pub movers: u32,
    /// Of [`Lane::Collections`].
    pub collections: u32,
}

impl Places {
    pub(crate) fn of(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Steps => self.steps,
            Lane::Movers => self.movers,
            Lane::Collections => self.collections,
        }
    }
}
