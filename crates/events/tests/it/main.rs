//! Records and events as clients see them, over every engine at hand.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bus;
mod shape;
mod trail;

use base::{AccountId, Region, Timestamp};
use events::{Call, Category, Record, UserIdentity};

fn account(digit: char) -> AccountId {
    AccountId::parse(&digit.to_string().repeat(12)).unwrap()
}

fn region() -> Region {
    Region::parse("us-east-1").unwrap()
}

/// 2026-11-21T09:30:00.123Z.
const NOW: Timestamp = Timestamp(1_795_253_400_123);

fn bob() -> UserIdentity {
    let arn = "arn:aws:iam::222222222222:user/bob";
    UserIdentity::iam_user(&account('2'), "AIDABOB", arn, "bob").with_access_key("AKIABOB")
}

fn call(name: &str, id: &str) -> Call {
    Call {
        event_id: id.to_owned(),
        time: NOW,
        region: region(),
        recipient: account('2'),
        identity: bob(),
        event_source: "kms.amazonaws.com".to_owned(),
        event_name: name.to_owned(),
        source_ip: "192.0.2.7".to_owned(),
        user_agent: "test/1".to_owned(),
        request_id: "r-1".to_owned(),
        read_only: false,
        category: Category::Management,
    }
}

fn record(name: &str, id: &str) -> Record {
    Record::api_call(call(name, id))
}
