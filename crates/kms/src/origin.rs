//! Where the material of a key comes from.

/// `Origin`: where the material of a key comes from. A key keeps the one it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Made here.
    AwsKms,
    /// Brought by its owner, who can take it away again.
    External,
    /// Made on the token of a custom key store, which it never leaves.
    AwsCloudHsm,
}

impl KeyOrigin {
    const ALL: [Self; 3] = [Self::AwsKms, Self::External, Self::AwsCloudHsm];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwsKms => "AWS_KMS",
            Self::External => "EXTERNAL",
            Self::AwsCloudHsm => "AWS_CLOUDHSM",
        }
    }

    /// The origin of a word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == text)
    }
}
