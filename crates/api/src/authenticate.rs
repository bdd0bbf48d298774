//! From a signature to a caller, or to a refusal in the words of the protocol (spec 20, A.9).

use crate::error::Error;
use crate::world::World;
use awsproto::{ErrorSpec, Protocol, Request};
use iam::sigv4::{self, Rejection, SignedRequest};
use identity::{Credential, CredentialError};

/// Why a request is nobody's.
pub(crate) enum Refused {
    /// The signature's form, time or value.
    Signature(Rejection),
    /// The access key or its token.
    Credential(CredentialError),
}

/// Reads the signature; checks form, times and body.
pub(crate) fn read(world: &World, request: &Request<'_>) -> Result<SignedRequest, Refused> {
    let parts = sigv4::Parts {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: request.headers,
        body: request.body,
    };
    sigv4::read(&parts, world.clock.now()).map_err(Refused::Signature)
}

/// Finds the credential and checks the signature with its secret.
pub(crate) async fn verify(world: &World, signed: &SignedRequest) -> Result<Credential, Refused> {
    let credential = world.credential(&signed.access_key_id, signed.token.as_deref());
    let credential = credential.await.map_err(Refused::Credential)?;
    signed.verify(&credential.secret).map_err(Refused::Signature)?;
    Ok(credential)
}

impl Refused {
    /// The refusal in the protocol's words.
    pub(crate) fn into_error(self, protocol: Protocol) -> Error {
        match protocol {
            Protocol::Ec2Query => self.into_ec2(),
            Protocol::AwsQuery => self.into_named("", 403),
            Protocol::AwsJson11 => self.into_named("Exception", 400),
            Protocol::RestJson1 => self.into_named("Exception", 403),
        }
    }

    /// EC2 tells no more than that the credentials are not valid.
    fn into_ec2(self) -> Error {
        const AUTH_FAILURE: ErrorSpec = ErrorSpec::sender("AuthFailure", 401);
        const REQUEST_EXPIRED: ErrorSpec = ErrorSpec::sender("RequestExpired", 400);
        match self {
            Self::Credential(CredentialError::Unreadable(cause)) => Error::internal(cause),
            Self::Signature(rejection) if is_about_time(&rejection) => {
                Error::new(REQUEST_EXPIRED, rejection.to_string())
            }
            Self::Credential(CredentialError::Expired) => {
                Error::new(REQUEST_EXPIRED, "Request has expired.")
            }
            Self::Signature(_)
            | Self::Credential(CredentialError::Unknown | CredentialError::InvalidToken) => {
                Error::new(
                    AUTH_FAILURE,
                    "AWS was not able to validate the provided access credentials",
                )
            }
        }
    }

    /// The other services name the reason; JSON services append `Exception` to the names.
    fn into_named(self, suffix: &str, status: u16) -> Error {
        let query = suffix.is_empty();
        let spec = |plain: &'static str, exception: &'static str| {
            ErrorSpec::sender(if query { plain } else { exception }, status)
        };
        match self {
            Self::Credential(CredentialError::Unreadable(cause)) => Error::internal(cause),
            Self::Signature(Rejection::MissingToken) => Error::new(
                spec("MissingAuthenticationToken", "MissingAuthenticationTokenException"),
                "Missing Authentication Token",
            ),
            Self::Signature(rejection) if is_about_form(&rejection) => Error::new(
                spec("IncompleteSignature", "IncompleteSignatureException"),
                rejection.to_string(),
            ),
            Self::Signature(rejection) => Error::new(
                spec("SignatureDoesNotMatch", "InvalidSignatureException"),
                rejection.to_string(),
            ),
            Self::Credential(
                error @ (CredentialError::Unknown | CredentialError::InvalidToken),
            ) => Error::new(
                spec("InvalidClientTokenId", "UnrecognizedClientException"),
                error.to_string(),
            ),
            Self::Credential(error @ CredentialError::Expired) => {
                Error::new(spec("ExpiredToken", "ExpiredTokenException"), error.to_string())
            }
        }
    }
}

/// Whether the signature would be good at another time.
fn is_about_time(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Expired { .. } | Rejection::NotYetCurrent { .. })
}

/// Whether the signature cannot be read at all.
fn is_about_form(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::UnsupportedAlgorithm(_)
            | Rejection::Incomplete(_)
            | Rejection::MalformedCredential(_)
    )
}
