//! The one CMS structure of a KMS ciphertext: `EncryptedData` (RFC 5652, 8) with AES-256-GCM
//! parameters (RFC 5084), written by hand and read strictly. What writes an element serves other structures too.
//!
//! Reading takes the two variable parts out and then requires that writing them gives the input back
//! byte for byte, so there is exactly one accepted form of every ciphertext.

use crate::primitive::{NONCE_LEN, TAG_LEN};

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
/// `[0]` constructed: the explicit content of a ContentInfo.
const CONTEXT_0_CONSTRUCTED: u8 = 0xa0;
/// `[0]` primitive: the implicit encryptedContent.
pub(crate) const CONTEXT_0: u8 = 0x80;

/// OBJECT IDENTIFIER 1.2.840.113549.1.7.6, id-encryptedData.
const OID_ENCRYPTED_DATA: [u8; 11] =
    [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
/// OBJECT IDENTIFIER 1.2.840.113549.1.7.1, id-data.
const OID_DATA: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// OBJECT IDENTIFIER 2.16.840.1.101.3.4.1.46, id-aes256-GCM.
const OID_AES256_GCM: [u8; 11] = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2e];
const TAG_LEN_BYTE: u8 = TAG_LEN as u8;

/// Writes the structure around a nonce and ciphertext followed by its tag.
pub(crate) fn encode(nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Vec<u8> {
    let parameters =
        tlv(SEQUENCE, &[&tlv(OCTET_STRING, &[nonce])[..], &tlv(INTEGER, &[&[TAG_LEN_BYTE]])]);
    let algorithm = tlv(SEQUENCE, &[&OID_AES256_GCM[..], &parameters]);
    let content = tlv(SEQUENCE, &[&OID_DATA[..], &algorithm, &tlv(CONTEXT_0, &[sealed])]);
    let encrypted_data = tlv(SEQUENCE, &[&tlv(INTEGER, &[&[0]])[..], &content]);
    tlv(SEQUENCE, &[&OID_ENCRYPTED_DATA[..], &tlv(CONTEXT_0_CONSTRUCTED, &[&encrypted_data])])
}

/// Takes nonce and ciphertext out; `None` unless the bytes are exactly what [`encode`] writes.
pub(crate) fn decode(input: &[u8]) -> Option<([u8; NONCE_LEN], &[u8])> {
    let (outer, rest) = expect(SEQUENCE, input)?;
    if !rest.is_empty() {
        return None;
    }
    let (explicit, _) = expect(CONTEXT_0_CONSTRUCTED, outer.strip_prefix(&OID_ENCRYPTED_DATA)?)?;
    let (encrypted_data, _) = expect(SEQUENCE, explicit)?;
    let (_version, rest) = expect(INTEGER, encrypted_data)?;
    let (content, _) = expect(SEQUENCE, rest)?;
    let (algorithm, rest) = expect(SEQUENCE, content.strip_prefix(&OID_DATA)?)?;
    let (parameters, _) = expect(SEQUENCE, algorithm.strip_prefix(&OID_AES256_GCM)?)?;
    let (nonce, _) = expect(OCTET_STRING, parameters)?;
    let nonce = nonce.try_into().ok()?;
    let (sealed, _) = expect(CONTEXT_0, rest)?;
    (encode(&nonce, sealed) == input).then_some((nonce, sealed))
}

/// One element: its tag, its length and its parts, one after the other.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|p| p.len()).sum::<usize>();
    let mut out = Vec::with_capacity(length + 4);
    out.push(tag);
    match u16::try_from(length).expect("what is written here is below 64 KiB") {
        short @ 0..=0x7f => out.push(short as u8),
        byte @ 0x80..=0xff => out.extend_from_slice(&[0x81, byte as u8]),
        long => {
            out.push(0x82);
            out.extend_from_slice(&long.to_be_bytes());
        }
    }
    parts.iter().for_each(|p| out.extend_from_slice(p));
    out
}

/// Splits one element of the given tag off; lengths above two bytes never occur.
fn expect(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = input.split_first()?;
    if first != tag {
        return None;
    }
    let (length, rest) = match rest {
        [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [0x81, byte, rest @ ..] => (usize::from(*byte), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_form_round_trips() {
        for length in [0, 1, 16, 59, 127, 128, 200, 255, 256, 4123, 6000] {
            let sealed = vec![0x5a; length];
            let der = encode(&[9; 12], &sealed);
            assert_eq!(decode(&der), Some(([9; 12], &sealed[..])), "{length}");
        }
    }

    #[test]
    fn the_frame_of_a_data_key_is_awss() {
        // 59 bytes of content, as in AWS's 32-byte data keys: 30 7c … 80 3b.
        let der = encode(&[0; 12], &[0; 59]);
        assert_eq!(der.len(), 126);
        assert_eq!(
            hex::encode(&der[..65]),
            concat!(
                "307c06092a864886f70d010706a06f306d020100306806092a864886f70d010701",
                "301e060960864801650304012e3011040c0000000000000000000000"
            )
            .to_owned()
                + "00020110"
        );
        assert_eq!(hex::encode(&der[65..67]), "803b");
    }

    #[test]
    fn other_encodings_of_the_same_content_are_refused() {
        let good = encode(&[1; 12], &[2; 40]);
        assert!(decode(&good).is_some());
        for index in 0..good.len() - 40 {
            let mut bad = good.clone();
            bad[index] ^= 0x01;
            // Only the nonce may differ and still be well formed.
            if let Some((nonce, _)) = decode(&bad) {
                assert_ne!(nonce, [1; 12], "byte {index}");
            }
        }
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(decode(&longer), None);
        assert_eq!(decode(&good[..good.len() - 1]), None);
        // A long-form length where the short form fits.
        let mut padded = vec![0x30, 0x81, good[1]];
        padded.extend_from_slice(&good[2..]);
        assert_eq!(decode(&padded), None);
    }
}
