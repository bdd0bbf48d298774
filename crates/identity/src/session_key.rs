//! Access key ids of temporary credentials: they name their account, so that nothing about them is stored.
//!
//! The sixteen letters behind `ASIA` are 80 bits in base 32, laid out as AWS lays them out, so that tools that read
//! an account out of an id read the right one. From the highest:
//!
//! | bits | |
//! |---|---|
//! | 1 | set: an account follows |
//! | 40 | the account's twelve digits as a number |
//! | 39 | random |
//!
//! 39 bits are what twenty letters leave beside an account; more would take longer ids, and clients and secret
//! scanners know no others. They are a name and no secret: among a thousand sessions of an account two share an id
//! with a chance of one in a million, and then still neither token opens for the other's secret, which hangs on the
//! token's own salt. Nothing is looked up by the id of a session.

use crate::name::ALPHABET;
use base::{AccountId, Rng};

const PREFIX: &str = "ASIA";
/// Letters behind the prefix.
const TAIL: usize = 16;
const LETTER_BITS: usize = 5;
const RANDOM_BITS: usize = 39;
const ACCOUNT_BITS: usize = 40;
/// Set in ids that name an account. Ids of releases before are random throughout; half of them have it.
const NAMES_ACCOUNT: u128 = 1 << (RANDOM_BITS + ACCOUNT_BITS);

const _: () = assert!(1 + ACCOUNT_BITS + RANDOM_BITS == TAIL * LETTER_BITS);
const _: () = assert!(1 << ACCOUNT_BITS > 1_000_000_000_000u64);

/// A new id of a session in an account.
pub(crate) fn generate(rng: &dyn Rng, account: &AccountId) -> String {
    let mut random = [0; 8];
    rng.fill(&mut random);
    let random = u128::from(u64::from_le_bytes(random)) & ((1 << RANDOM_BITS) - 1);
    let digits: u128 = account.as_str().parse().expect("an account id is twelve digits");
    let number = NAMES_ACCOUNT | (digits << RANDOM_BITS) | random;
    let letter = |at: usize| {
        let index = (number >> ((TAIL - 1 - at) * LETTER_BITS)) & 31;
        char::from(ALPHABET[usize::try_from(index).expect("five bits")])
    };
    let tail: String = (0..TAIL).map(letter).collect();
    format!("{PREFIX}{tail}")
}

/// The account that the access key id of a session names; `None` for what is no such id. Anybody can write one: it
/// says which account the session would be of, not that there is one. An id from before ids named accounts may seem
/// to name any.
pub fn account_of(access_key_id: &str) -> Option<AccountId> {
    let tail = access_key_id.strip_prefix(PREFIX).filter(|tail| tail.len() == TAIL)?;
    let mut number = 0u128;
    for letter in tail.bytes() {
        let index = ALPHABET.iter().position(|known| *known == letter)?;
        number = (number << LETTER_BITS) | u128::try_from(index).expect("an index is small");
    }
    if number & NAMES_ACCOUNT == 0 {
        return None;
    }
    let digits = (number >> RANDOM_BITS) & ((1 << ACCOUNT_BITS) - 1);
    AccountId::parse(&format!("{digits:012}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;
    use std::collections::BTreeSet;

    #[test]
    fn an_id_names_its_account_and_no_two_are_the_same() {
        let rng = SeededRng::new(7);
        for account in ["000000000000", "000000000001", "111122223333", "999999999999"] {
            let account = AccountId::parse(account).unwrap();
            let ids: BTreeSet<String> = (0..1000).map(|_| generate(&rng, &account)).collect();
            assert_eq!(ids.len(), 1000);
            for id in &ids {
                assert_eq!(id.len(), 20);
                assert_eq!(account_of(id).as_ref(), Some(&account), "{id}");
            }
        }
    }

    #[test]
    fn every_random_bit_is_used() {
        let rng = SeededRng::new(8);
        let account = AccountId::parse("111122223333").unwrap();
        let (mut ones, mut zeros) = (0u128, 0u128);
        for _ in 0..200 {
            let id = generate(&rng, &account);
            let number = id[4..].bytes().fold(0u128, |number, letter| {
                let index = ALPHABET.iter().position(|known| *known == letter).unwrap();
                (number << 5) | u128::try_from(index).unwrap()
            });
            ones |= number;
            zeros |= !number;
        }
        assert_eq!((ones & zeros & ((1 << 80) - 1)).count_ones(), 39);
    }

    /// The first is a published id of AWS's with the account it is of.
    #[test]
    fn ids_are_laid_out_as_those_of_aws() {
        let account = account_of("ASIAQNZGKIQY56JQ7WML").unwrap();
        assert_eq!(account.as_str(), "029608264753");
        for none in [
            "ASIAIOSFODNN7EXAMPLE",
            "AKIAQNZGKIQY56JQ7WML",
            "ASIAQNZGKIQY56JQ7WM",
            "ASIAQNZGKIQY56JQ7WMLA",
            "ASIAQNZGKIQY56JQ7WM1",
            "ASIAqnzgkiqy56jq7wml",
            // A number of thirteen digits.
            "ASIA7777777777777777",
            "",
        ] {
            assert_eq!(account_of(none), None, "{none}");
        }
    }
}
