//! `PresignedUrl` of CopySnapshot: old clients still send it. Its parameters are checked; its
//! signature is not, as on AWS (spec 20, C.5).

use super::code::invalid_value;
use crate::error::Error;
use crate::refusal::{Layer, Refusal};
use base::{Region, SnapshotId};
use percent_encoding::percent_decode_str;

/// Checks what a presigned URL says against the request it came with.
///
/// # Errors
/// For another protocol, source snapshot or destination region.
pub(crate) fn check(url: &str, source: &SnapshotId, here: &Region) -> Result<(), Error> {
    let is_http = ["http://", "https://"].iter().any(|protocol| url.starts_with(protocol));
    if !is_http {
        let message = "The protocol in PresignedUrl should be http or https";
        let found = url.split_once(':').map_or("none", |(protocol, _)| protocol);
        return Err(invalid_value(message).because(wrong("http or https", found)));
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        match name {
            "SourceSnapshotId" if value != source.as_str() => {
                return Err(invalid_value(format!(
                    "The source snapshot specified in PresignedUrl '{value}' does not match the \
                     source snapshot in the request: '{source}'"
                ))
                .because(wrong(&format!("SourceSnapshotId={source}"), &value)));
            }
            "DestinationRegion" | "destinationRegion" if value != here.as_str() => {
                return Err(invalid_value(format!(
                    "The destination region specified in PresignedUrl: '{value}' is incorrect"
                ))
                .because(wrong(&format!("DestinationRegion={here}"), &value)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A URL that says something else than the request; a client that signs it anew, or leaves it out, is served.
fn wrong(wanted: &str, found: &str) -> Refusal {
    Refusal::new(
        Layer::Request,
        format!("a PresignedUrl that says what the request says: {wanted}"),
        format!("it says {found}"),
        "sign the URL anew for this source and this region, or leave it out: it is not needed here",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_and_the_signature_is_not() {
        let source = SnapshotId::parse("snap-12345678").unwrap();
        let here = Region::parse("eu-west-1").unwrap();
        let check = |url: &str| check(url, &source, &here).map_err(|error| error.0.message);
        let good = "https://ec2.us-east-1.amazonaws.com/?Action=CopySnapshot\
                    &SourceSnapshotId=snap%2D12345678&DestinationRegion=eu-west-1&X-Amz-Signature=0";
        assert_eq!(check(good), Ok(()));
        assert_eq!(check("http://x"), Ok(()));
        for (url, expected) in [
            ("ftp://x", "The protocol in PresignedUrl should be http or https"),
            (
                "https://x/?SourceSnapshotId=snap-1",
                "The source snapshot specified in PresignedUrl 'snap-1' does not match the source \
                 snapshot in the request: 'snap-12345678'",
            ),
            (
                "https://x/?DestinationRegion=us-east-1",
                "The destination region specified in PresignedUrl: 'us-east-1' is incorrect",
            ),
        ] {
            assert_eq!(check(url), Err(expected.to_owned()));
        }
    }
}
