//! `KeyMetadata`: what is told about a key.

use super::words;
use awsproto::Shape;
use base::Timestamp;
use kms::key_store::{self, ConnectionState, KeyStore};
use kms::{Key, KeyOrigin, KeyState, import, multi_region, version};
use meta::Tx;

/// `KeyMetadata`.
#[derive(Shape)]
#[shape(output, omitted(XksKeyConfiguration))]
pub(crate) struct KeyMetadata {
    #[shape(name = "AWSAccountId")]
    aws_account_id: String,
    key_id: String,
    arn: String,
    creation_date: Timestamp,
    enabled: bool,
    description: String,
    key_usage: &'static str,
    key_state: &'static str,
    deletion_date: Option<Timestamp>,
    valid_to: Option<Timestamp>,
    origin: &'static str,
    custom_key_store_id: Option<String>,
    cloud_hsm_cluster_id: Option<String>,
    expiration_model: Option<&'static str>,
    key_manager: &'static str,
    customer_master_key_spec: &'static str,
    key_spec: &'static str,
    encryption_algorithms: Option<Vec<&'static str>>,
    signing_algorithms: Option<Vec<&'static str>>,
    key_agreement_algorithms: Option<Vec<&'static str>>,
    encapsulation_algorithms: Option<Vec<&'static str>>,
    multi_region: bool,
    multi_region_configuration: Option<MultiRegionConfiguration>,
    pending_deletion_window_in_days: Option<i32>,
    mac_algorithms: Option<Vec<&'static str>>,
    current_key_material_id: Option<String>,
}

/// `MultiRegionConfiguration`.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct MultiRegionConfiguration {
    multi_region_key_type: &'static str,
    primary_key: Option<MultiRegionKey>,
    replica_keys: Vec<MultiRegionKey>,
}

/// One key of a family.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct MultiRegionKey {
    arn: String,
    region: String,
}

impl From<&Key> for MultiRegionKey {
    fn from(key: &Key) -> Self {
        Self { arn: key.arn().to_string(), region: key.region.to_string() }
    }
}

impl MultiRegionConfiguration {
    fn of(tx: &mut Tx<'_>, key: &Key) -> kms::Result<Option<Self>> {
        let Some(role) = key.multi_region else { return Ok(None) };
        let family = multi_region::family(tx, key)?;
        let (primary, replicas): (Vec<_>, Vec<_>) = family
            .iter()
            .partition(|key| key.multi_region == Some(multi_region::MultiRegionRole::Primary));
        Ok(Some(Self {
            multi_region_key_type: role.as_str(),
            primary_key: primary.first().map(|key| MultiRegionKey::from(*key)),
            replica_keys: replicas.into_iter().map(MultiRegionKey::from).collect(),
        }))
    }
}

impl KeyMetadata {
    /// What is told about a key, together with what its relatives, its imported material and its store say.
    pub(crate) fn of(tx: &mut Tx<'_>, key: &Key) -> kms::Result<Self> {
        let store = match key.origin {
            KeyOrigin::AwsCloudHsm => key_store::of_key(tx, key)?,
            KeyOrigin::AwsKms | KeyOrigin::External => None,
        };
        let imported = match (key.origin, key.current_material_id()) {
            (KeyOrigin::External, Some(_)) if key.state != KeyState::PendingImport => {
                Some(import::expiry(&version::all(tx, key)?))
            }
            _ => None,
        };
        let window = key.pending_window_days.map(|days| i32::try_from(days).unwrap_or(i32::MAX));
        let kind = key.kind;
        let told = Self {
            aws_account_id: key.account.to_string(),
            key_id: key.id.clone(),
            arn: key.arn().to_string(),
            creation_date: key.created,
            enabled: key.state == KeyState::Enabled,
            description: key.description.clone(),
            key_usage: kind.usage().as_str(),
            key_state: key.state.as_str(),
            deletion_date: key.deletion,
            valid_to: imported.flatten(),
            origin: key.origin.as_str(),
            custom_key_store_id: None,
            cloud_hsm_cluster_id: None,
            expiration_model: imported.map(import::model),
            key_manager: key.manager.as_str(),
            customer_master_key_spec: kind.spec().as_str(),
            key_spec: kind.spec().as_str(),
            encryption_algorithms: words(kind.encryption_algorithms(), |a| a.as_str()),
            signing_algorithms: words(kind.signing_algorithms(), |a| a.as_str()),
            key_agreement_algorithms: words(kind.key_agreement_algorithms(), |a| a.as_str()),
            encapsulation_algorithms: words(kind.encapsulation_algorithms(), |a| a.as_str()),
            multi_region: key.multi_region.is_some(),
            multi_region_configuration: MultiRegionConfiguration::of(tx, key)?,
            pending_deletion_window_in_days: window,
            mac_algorithms: words(kind.mac_algorithms(), |a| a.as_str()),
            current_key_material_id: rotating_material(key),
        };
        Ok(match &store {
            Some(store) => told.in_store(store),
            None => told,
        })
    }

    /// The same for a key whose material is in a store. Unless that is connected the key is unavailable, whatever
    /// state it would have (KMS guide, "Key states": a disconnected key store).
    fn in_store(self, store: &KeyStore) -> Self {
        let reachable = store.state == ConnectionState::Connected;
        let shown = matches!(self.key_state, "Enabled" | "Disabled") && !reachable;
        Self {
            enabled: self.enabled && reachable,
            key_state: if shown { "Unavailable" } else { self.key_state },
            custom_key_store_id: Some(store.id.clone()),
            cloud_hsm_cluster_id: Some(store.cluster.clone()),
            ..self
        }
    }
}

/// KMS API, KeyMetadata: the material is named for the keys that can have several.
fn rotating_material(key: &Key) -> Option<String> {
    kms::rotation::check_rotatable(key).ok()?;
    key.current_material_id().map(|id| id.to_string())
}
