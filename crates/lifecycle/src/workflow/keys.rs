//! The KMS calls workflows have in common, in the order of spec 20 §C.3.

use crate::port::kms::{
    Authority, CapturedIdentity, GrantConstraint, GrantOperation, GrantSpec, KmsCall, KmsFailure,
    KmsPort, Probe, VolumeKey, Wrapped,
};
use crate::services::Services;
use base::{AccountId, Region};
use ebs::WrappedKey;
use ebs::arns::ec2_service_principal;

/// The trail's name for calls EC2's front end makes for a user.
pub(crate) const FRONT_END: &str = "ec2-frontend-api.amazonaws.com";
/// The trail's name for calls EBS makes on a grant of CreateVolume or AttachVolume.
pub(crate) const EBS_BACK_END: &str = "ebs.amazonaws.com";

/// The trail's name for calls of the snapshot copier in a region.
pub(crate) fn copier(region: &Region) -> String {
    format!("prod.kms-caller.ebs.{region}.amazonaws.com")
}

/// Makes KMS calls for one resource on one user's behalf.
pub(crate) struct Keys<'a> {
    pub(crate) services: &'a Services,
    /// The services' own, or one that only rehearses.
    pub(crate) kms: &'a dyn KmsPort,
    pub(crate) account: &'a AccountId,
    pub(crate) identity: &'a CapturedIdentity,
    /// The ARN of what the service works for.
    pub(crate) resource: String,
    /// The trail's name for the service's own calls.
    pub(crate) service_name: String,
}

/// A grant that was made for the service and must be given back.
pub(crate) struct OpenGrant {
    pub(crate) key_arn: String,
    pub(crate) region: Region,
    pub(crate) id: String,
}

/// Makes the service's own calls for an account, on grants, long after the user's request.
pub(crate) struct ServiceKeys<'a> {
    /// The services' own, or one that only rehearses.
    pub(crate) kms: &'a dyn KmsPort,
    pub(crate) account: &'a AccountId,
    /// The ARN of what the service works for.
    pub(crate) resource: String,
    /// The trail's name for the calls.
    pub(crate) service_name: String,
}

impl ServiceKeys<'_> {
    fn call(&self, region: &Region) -> KmsCall {
        KmsCall {
            authority: Authority::Service(self.account.clone(), self.resource.clone()),
            region: region.clone(),
            invoked_by: self.service_name.clone(),
            request_id: None,
        }
    }

    /// S Decrypt, on a grant.
    pub(crate) async fn open(
        &self,
        region: &Region,
        key: &WrappedKey,
    ) -> Result<VolumeKey, KmsFailure> {
        self.kms.decrypt(self.call(region), &key.wrapped, &key.context_id).await
    }

    /// S RetireGrant. A grant that cannot be given back is no reason to fail the work it was made for;
    /// it stays visible in `ListGrants`.
    pub(crate) async fn retire(&self, grant: &OpenGrant) {
        let call = self.call(&grant.region);
        let answer = self.kms.retire_grant(call, &grant.key_arn, &grant.id).await;
        if let Err(failure) = answer {
            tracing::warn!(
                key = grant.key_arn,
                grant = grant.id,
                failure = base::with_causes(&failure),
                "grant stays"
            );
        }
    }
}

impl Keys<'_> {
    /// A call by the user.
    pub(crate) fn by_user(&self, region: &Region, invoked_by: &str) -> KmsCall {
        KmsCall {
            authority: Authority::User(self.identity.clone()),
            region: region.clone(),
            invoked_by: invoked_by.to_owned(),
            request_id: None,
        }
    }

    /// Whether the user may make a call, without making it.
    pub(crate) async fn may(&self, region: &Region, probe: Probe<'_>) -> Result<(), KmsFailure> {
        self.kms.may(self.by_user(region, FRONT_END), probe).await
    }

    fn as_service(&self) -> ServiceKeys<'_> {
        let (resource, service_name) = (self.resource.clone(), self.service_name.clone());
        ServiceKeys { kms: self.kms, account: self.account, resource, service_name }
    }

    /// F GenerateDataKeyWithoutPlaintext: a new data key for `context_id`.
    pub(crate) async fn generate(
        &self,
        region: &Region,
        key_arn: &str,
        context_id: &str,
    ) -> Result<WrappedKey, KmsFailure> {
        let call = self.by_user(region, FRONT_END);
        let wrapped =
            self.kms.generate_data_key_without_plaintext(call, key_arn, context_id).await?;
        Ok(WrappedKey {
            wrapped,
            context_id: context_id.to_owned(),
            lineage: WrappedKey::new_lineage(&*self.services.rng),
        })
    }

    /// F ReEncrypt: the same data key under `key_arn` for `context_id`.
    pub(crate) async fn rewrap(
        &self,
        region: &Region,
        source: &WrappedKey,
        key_arn: &str,
        context_id: &str,
    ) -> Result<WrappedKey, KmsFailure> {
        let call = self.by_user(region, FRONT_END);
        let wrapped = Wrapped { ciphertext: &source.wrapped, context_id: &source.context_id };
        let answer = self.kms.re_encrypt(call, wrapped, key_arn, context_id).await?;
        Ok(source.rewrapped(answer, context_id))
    }

    /// F CreateGrant to EC2 in the key's region.
    pub(crate) async fn grant(
        &self,
        region: &Region,
        invoked_by: &str,
        key_arn: &str,
        operation: GrantOperation,
        constraint: GrantConstraint,
    ) -> Result<OpenGrant, KmsFailure> {
        let service = ec2_service_principal(region);
        let (GrantConstraint::Equals(context) | GrantConstraint::Subset(context)) = &constraint;
        let verb = match operation {
            GrantOperation::Decrypt => "decrypt",
            GrantOperation::Encrypt => "encrypt",
        };
        let spec = GrantSpec {
            key_arn: key_arn.to_owned(),
            grantee: service.clone(),
            retiring: service,
            operation,
            name: Some(format!("{verb}-{context}")),
            constraint,
        };
        let id = self.kms.create_grant(self.by_user(region, invoked_by), spec).await?;
        Ok(OpenGrant { key_arn: key_arn.to_owned(), region: region.clone(), id })
    }

    /// S Decrypt, on a grant.
    pub(crate) async fn open(
        &self,
        region: &Region,
        key: &WrappedKey,
    ) -> Result<VolumeKey, KmsFailure> {
        self.as_service().open(region, key).await
    }

    /// S Encrypt, on a grant: the same data key for another resource.
    pub(crate) async fn seal(
        &self,
        region: &Region,
        key_arn: &str,
        key: &VolumeKey,
        source: &WrappedKey,
        context_id: &str,
    ) -> Result<WrappedKey, KmsFailure> {
        let call = self.as_service().call(region);
        let wrapped = self.kms.encrypt(call, key_arn, key, context_id).await?;
        Ok(source.rewrapped(wrapped, context_id))
    }

    /// S RetireGrant of each.
    pub(crate) async fn retire(&self, grants: impl IntoIterator<Item = OpenGrant>) {
        for grant in grants {
            self.as_service().retire(&grant).await;
        }
    }
}

impl<'a> From<&'a WrappedKey> for Wrapped<'a> {
    fn from(key: &'a WrappedKey) -> Self {
        Self { ciphertext: &key.wrapped, context_id: &key.context_id }
    }
}
