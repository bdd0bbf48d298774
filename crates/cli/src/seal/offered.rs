//! `--key-store CLUSTER-ID=TOKEN`: a token that tenants may make a custom key store of.

use super::attributes;
use ::kms::key_store::stores::{Cluster, certificate};
use ::kms::token::TokenName;
use std::path::PathBuf;

/// An offer, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferedToken {
    id: String,
    token: TokenName,
    trust_anchor: Option<PathBuf>,
}

/// `cluster-[2-7a-zA-Z]{11,16}` (botocore: CloudHsmClusterIdType).
fn is_cluster_id(text: &str) -> bool {
    text.strip_prefix("cluster-").is_some_and(|rest| {
        (11..=16).contains(&rest.len())
            && rest.bytes().all(|b| b.is_ascii_alphabetic() || (b'2'..=b'7').contains(&b))
    })
}

impl OfferedToken {
    /// Reads an offer.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (id, token) = text.split_once('=').ok_or("write CLUSTER-ID=pkcs11:…")?;
        if !is_cluster_id(id) {
            return Err(format!(
                "'{id}' is no cluster id: cluster- and 11 to 16 letters and digits 2 to 7"
            ));
        }
        let rest = token.strip_prefix("pkcs11:").ok_or("the token is written pkcs11:…")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut label, mut module, mut trust_anchor) = (None, None, None);
        for (name, value) in attributes(path, ';')? {
            match name {
                "token" => label = Some(value),
                _ => return Err(format!("pkcs11: the attribute {name} is not supported here")),
            }
        }
        for (name, value) in attributes(query, '&')? {
            match name {
                "module-path" => module = Some(PathBuf::from(value)),
                "trust-anchor" => trust_anchor = Some(PathBuf::from(value)),
                _ => return Err(format!("pkcs11: the attribute {name} is not supported here")),
            }
        }
        let label = label.ok_or("pkcs11: token=LABEL is missing")?;
        let module = module.ok_or("pkcs11: module-path=FILE is missing")?;
        Ok(Self { id: id.to_owned(), token: TokenName { module, label }, trust_anchor })
    }

    /// The offer with its certificate read.
    pub(crate) fn cluster(&self) -> Result<(String, Cluster), String> {
        let trust_anchor = match &self.trust_anchor {
            None => None,
            Some(path) => {
                let pem = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                let der = certificate(&pem);
                Some(der.ok_or_else(|| format!("{} is no certificate in PEM", path.display()))?)
            }
        };
        Ok((self.id.clone(), Cluster { token: self.token.clone(), trust_anchor }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_read_or_refused() {
        let good = "cluster-abcdefghijk=pkcs11:token=t?module-path=/m.so";
        let read = OfferedToken::parse(good).unwrap();
        assert_eq!((read.id.as_str(), read.token.label.as_str()), ("cluster-abcdefghijk", "t"));
        assert!(OfferedToken::parse(&format!("{good}&trust-anchor=/c.pem")).is_ok());
        for bad in [
            "x=pkcs11:token=t?module-path=/m.so",
            "cluster-abcdefghij1=pkcs11:token=t?module-path=/m.so",
            "cluster-abcdefghijk=/m.so",
            "cluster-abcdefghijk=pkcs11:token=t",
            "cluster-abcdefghijk=pkcs11:token=t?module-path=/m.so&pin-source=/p",
        ] {
            assert!(OfferedToken::parse(bad).is_err(), "{bad}");
        }
    }
}
