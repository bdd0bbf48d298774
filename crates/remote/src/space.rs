//! The space of the server, as the engine of another machine asks for it.

use crate::client::Link;
use crate::wire::{Reply, Request, SpaceCall};
use blockstore::live::{Need, Space};

/// The place at the server that the volume's file lies in, shared out among all its volumes.
pub struct RemoteSpace(Link);

impl RemoteSpace {
    /// The space behind a link.
    pub fn new(link: Link) -> Self {
        Self(link)
    }
}

impl Space for RemoteSpace {
    fn ask(&self, need: Need) -> bool {
        match self.0.ask(&Request::Space { call: SpaceCall::Ask, need }) {
            Ok(Reply::Space { granted, .. }) => granted,
            Ok(_) | Err(_) => {
                // A link that is lost refuses the write itself.
                tracing::warn!("the server did not say whether it has space");
                true
            }
        }
    }

    fn refused(&self) {
        self.0.tell_space(SpaceCall::Refused, Need::default());
    }

    fn tell(&self, need: Need) {
        self.0.tell_space(SpaceCall::Tell, need);
    }

    fn is_short(&self) -> bool {
        self.0.is_space_short()
    }
}
