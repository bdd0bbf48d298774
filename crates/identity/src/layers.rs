//! The caller's side of a decision: every policy that is attached to it now.

use crate::entity::{self, Entity, Kind};
use crate::error::{Error, Result};
use crate::{Identity, attachment, group, inline, managed};
use base::AccountId;
use iam::{AttachedPolicy, Layer, Layers, Maker, PolicyKind, Principal, PrincipalKind};
use meta::Tx;

impl Identity {
    /// The identity policies, boundary and session policies of a principal.
    ///
    /// `session_policies` are those of its credential. A root has no policies; a service, and a user
    /// or role that does not exist any more, has none either and is therefore allowed nothing.
    ///
    /// # Errors
    /// As the database answers.
    pub fn layers(
        &self,
        tx: &mut Tx<'_>,
        principal: &Principal,
        session_policies: &[String],
    ) -> Result<Layers> {
        let mut layers = Layers::default();
        let kind = match principal.kind {
            PrincipalKind::User { .. }
            | PrincipalKind::FederatedUser { maker: Maker::User, .. } => Some(Kind::User),
            PrincipalKind::AssumedRole { .. } => Some(Kind::Role),
            PrincipalKind::Root
            | PrincipalKind::FederatedUser { maker: Maker::Root, .. }
            | PrincipalKind::WebIdentity { .. }
            | PrincipalKind::Saml { .. }
            | PrincipalKind::Service { .. } => None,
        };
        if let Some(kind) = kind {
            let entity = entity::find_by_id(tx, &principal.unique_id)?;
            if let Some(entity) = entity.filter(|entity| entity.kind == kind) {
                self.add_identity(tx, &mut layers, &entity)?;
            }
        }
        for policy in session_policies {
            let attached = match policy.starts_with("arn:") {
                true => self.managed_layer(tx, &principal.account, policy, Layer::Session)?,
                false => self.text_layer("session policy", policy, Layer::Session)?,
            };
            layers.session.push(attached);
        }
        Ok(layers)
    }

    fn add_identity(&self, tx: &mut Tx<'_>, layers: &mut Layers, entity: &Entity) -> Result<()> {
        let mut sources = vec![entity.clone()];
        if entity.kind == Kind::User {
            sources.extend(group::groups_of(tx, entity)?);
        }
        for source in &sources {
            layers.identity.extend(self.policies_of(tx, source)?);
        }
        if let Some(arn) = &entity.boundary {
            layers.boundary =
                Some(self.managed_layer(tx, &entity.account, arn, Layer::Boundary)?);
        }
        Ok(())
    }

    /// The inline and managed policies of one user, role or group; of a user without its groups'.
    ///
    /// # Errors
    /// As the database answers.
    pub fn policies_of(&self, tx: &mut Tx<'_>, source: &Entity) -> Result<Vec<AttachedPolicy>> {
        let mut policies = Vec::new();
        for policy in inline::list(tx, source)? {
            let name = inline_name(source, &policy.name);
            policies.push(self.text_layer(&name, &policy.document, Layer::Identity)?);
        }
        for arn in attachment::of(tx, source)? {
            policies.push(self.managed_layer(tx, &source.account, &arn, Layer::Identity)?);
        }
        Ok(policies)
    }

    fn managed_layer(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        arn: &str,
        layer: Layer,
    ) -> Result<AttachedPolicy> {
        let document = match managed::find(tx, account, arn) {
            Ok(policy) => managed::find_version(tx, &policy, policy.default_version)?.document,
            // A session's policy that was deleted since allows nothing.
            Err(Error::NoSuchEntity { .. }) if layer == Layer::Session => NOTHING.to_owned(),
            Err(error) => return Err(error),
        };
        let policy = self.parsed().get(PolicyKind::Identity, &document)?;
        Ok(AttachedPolicy { layer, name_or_arn: arn.to_owned(), policy })
    }

    fn text_layer(&self, name: &str, document: &str, layer: Layer) -> Result<AttachedPolicy> {
        let kind = match layer {
            Layer::Session => PolicyKind::Session,
            Layer::Identity | Layer::Boundary | Layer::Resource => PolicyKind::Identity,
        };
        let policy = self.parsed().get(kind, document)?;
        Ok(AttachedPolicy { layer, name_or_arn: name.to_owned(), policy })
    }
}

/// What decisions call an inline policy.
pub fn inline_name(source: &Entity, name: &str) -> String {
    match source.kind {
        Kind::Group => format!("{name} of group {}", source.name),
        Kind::User | Kind::Role => name.to_owned(),
    }
}

/// A policy that allows nothing and leaves to others what they allow.
pub(crate) const NOTHING: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"*","Resource":"*"}}"#;
