//! What a provider says of somebody, once it was checked.

/// Claims with the provider that vouches for them. Only the checks of this crate make one
/// ([`crate::saml::Provider::check`], [`crate::web_identity::Unverified::verify`]): whoever is handed one need not
/// check again, and cannot use claims that nobody has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched<P, C> {
    provider: P,
    claims: C,
}

impl<P, C> Vouched<P, C> {
    pub(crate) fn new(provider: P, claims: C) -> Self {
        Self { provider, claims }
    }

    /// Who vouches.
    pub fn provider(&self) -> &P {
        &self.provider
    }

    /// For what.
    pub fn claims(&self) -> &C {
        &self.claims
    }
}
