//! Who may see and use a snapshot: the one rule every `Describe` and every use goes through.

use base::AccountId;

/// Whether an account's snapshots may be public in a region (spec 04, "Block public access").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublicAccessBlock {
    /// Public sharing works.
    #[default]
    Unblocked,
    /// No new public shares; existing ones stay.
    NewSharing,
    /// Public shares are treated as private, although their attribute still says `all`.
    AllSharing,
}

impl PublicAccessBlock {
    /// The state's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unblocked => "unblocked",
            Self::NewSharing => "block-new-sharing",
            Self::AllSharing => "block-all-sharing",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Unblocked, Self::NewSharing, Self::AllSharing]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// What the rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Sharing<'a> {
    /// Who owns the snapshot.
    pub owner: &'a AccountId,
    /// Accounts named in `createVolumePermission`.
    pub users: &'a [AccountId],
    /// Whether the group `all` is named there.
    pub public: bool,
    /// The owner's block on public access.
    pub block: PublicAccessBlock,
}

/// How an account comes to see a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// It owns the snapshot.
    Owner,
    /// The owner named the account.
    Shared,
    /// The owner made the snapshot public.
    Public,
    /// It does not; the snapshot does not exist for this account.
    Hidden,
}

/// Spec 00, "Resource visibility rule".
pub fn visibility(sharing: Sharing<'_>, account: &AccountId) -> Visibility {
    if sharing.owner == account {
        Visibility::Owner
    } else if sharing.users.contains(account) {
        Visibility::Shared
    } else if sharing.public && sharing.block != PublicAccessBlock::AllSharing {
        Visibility::Public
    } else {
        Visibility::Hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_spec_00() {
        let account = |text: &str| AccountId::parse(text).unwrap();
        let (owner, friend, other) =
            (account("111111111111"), account("222222222222"), account("333333333333"));
        let users = [friend.clone()];
        use PublicAccessBlock::{AllSharing, NewSharing, Unblocked};
        for (public, block, who, expected) in [
            (false, Unblocked, &owner, Visibility::Owner),
            (false, Unblocked, &friend, Visibility::Shared),
            (false, Unblocked, &other, Visibility::Hidden),
            (true, Unblocked, &other, Visibility::Public),
            (true, NewSharing, &other, Visibility::Public),
            (true, AllSharing, &other, Visibility::Hidden),
            (true, AllSharing, &friend, Visibility::Shared),
            (true, AllSharing, &owner, Visibility::Owner),
        ] {
            let sharing = Sharing { owner: &owner, users: &users, public, block };
            assert_eq!(visibility(sharing, who), expected, "{public} {block:?} {who}");
        }
    }

    #[test]
    fn block_states_round_trip() {
        for text in ["unblocked", "block-new-sharing", "block-all-sharing"] {
            assert_eq!(PublicAccessBlock::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(PublicAccessBlock::parse("blocked"), None);
    }
}
