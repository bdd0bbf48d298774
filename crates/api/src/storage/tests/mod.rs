//! Storage as its users see it: whole requests through the pipeline, jobs run step by step.

mod archiving;
mod archiving_faults;
mod copying;
mod damaged;
pub(crate) mod decided;
mod describing;
mod fast_restoring;
mod fast_restoring_faults;
mod foreign;
mod keys;
mod leaks;
mod modifying;
mod permissions;
mod refusals;
mod remote;
mod sharing;
mod together;
mod trail;
mod volumes;

use crate::testing::{Bench, account, bench_with, region, run_named};
use crate::{Enforcement, Service};
use base::{InstanceId, Timestamp};
use iam::Principal;
use lifecycle::jobs::Runner;
use serde_json::{Value, json};

/// The region most tests happen in.
pub(crate) const HERE: &str = "us-east-1";
/// The other region.
pub(crate) const THERE: &str = "eu-west-1";

/// A server whose jobs run when the test says so.
pub(crate) struct Stage {
    pub(crate) bench: Bench,
    runner: Runner,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(Enforcement::Native).await
    }

    pub(crate) async fn with(enforcement: Enforcement) -> Self {
        let bench = bench_with(enforcement).await;
        let runner = bench.runner(lifecycle::kinds::kinds(&bench.world.services));
        Self { bench, runner }
    }

    /// Runs every job that is or becomes due within a few seconds.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..6 {
            loop {
                let started = self.runner.tick().await.unwrap();
                if started == 0 {
                    break;
                }
                for _ in 0..started {
                    self.runner.join_next().await;
                }
            }
            self.bench.clock.advance_seconds(1);
        }
    }

    /// A call by the root of account `digit`.
    pub(crate) async fn try_root(
        &self,
        digit: u8,
        at: &str,
        service: Service,
        name: &str,
        input: Value,
    ) -> Result<Value, String> {
        self.try_as(Principal::root(&account(digit)), at, service, name, input).await
    }

    /// A call by any principal; the error as `code: message`.
    pub(crate) async fn try_as(
        &self,
        principal: Principal,
        at: &str,
        service: Service,
        name: &str,
        input: Value,
    ) -> Result<Value, String> {
        let call = self.bench.call(principal, at);
        run_named(&call, service, name, input).await.map_err(|error| error.to_string())
    }

    /// An EC2 call of account 111… in us-east-1 that succeeds.
    pub(crate) async fn ec2(&self, name: &str, input: Value) -> Value {
        self.ec2_at(1, HERE, name, input).await
    }

    /// An EC2 call that succeeds.
    pub(crate) async fn ec2_at(&self, digit: u8, at: &str, name: &str, input: Value) -> Value {
        match self.try_root(digit, at, Service::Ec2, name, input).await {
            Ok(reply) => reply,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// An EC2 call of account 111… in us-east-1 that fails.
    pub(crate) async fn ec2_error(&self, name: &str, input: Value) -> String {
        self.ec2_error_at(1, HERE, name, input).await
    }

    /// An EC2 call that fails.
    pub(crate) async fn ec2_error_at(
        &self,
        digit: u8,
        at: &str,
        name: &str,
        input: Value,
    ) -> String {
        match self.try_root(digit, at, Service::Ec2, name, input).await {
            Err(error) => error,
            Ok(reply) => panic!("{name} succeeded: {reply}"),
        }
    }

    /// Registers a machine of an account.
    pub(crate) async fn host(&self, digit: u8, at: &str, name: &str) -> String {
        let id = InstanceId::generate(&*self.bench.world.rng);
        let machine = ebs::Instance {
            id: id.clone(),
            account: account(digit),
            region: region(at),
            zone: format!("{at}a"),
            name: Some(name.to_owned()),
            created: Timestamp(0),
        };
        let insert = move |tx: &mut meta::Tx<'_>| ebs::instance::insert(tx, &machine);
        self.bench.world.db.write(insert).await.unwrap();
        id.to_string()
    }

    /// Makes a volume and waits until its work is done; answers its id.
    pub(crate) async fn volume(&mut self, digit: u8, at: &str, extra: Value) -> String {
        let mut input = json!({ "AvailabilityZone": format!("{at}a") });
        merge(&mut input, extra);
        let made = self.ec2_at(digit, at, "CreateVolume", input).await;
        self.settle().await;
        text(&made, "VolumeId")
    }

    /// A volume as its owner sees it.
    pub(crate) async fn describe_volume(&self, digit: u8, at: &str, id: &str) -> Value {
        let input = json!({ "VolumeIds": [id] });
        self.ec2_at(digit, at, "DescribeVolumes", input).await["Volumes"][0].clone()
    }

    /// A snapshot as an account sees it.
    pub(crate) async fn describe_snapshot(&self, digit: u8, at: &str, id: &str) -> Value {
        let input = json!({ "SnapshotIds": [id] });
        self.ec2_at(digit, at, "DescribeSnapshots", input).await["Snapshots"][0].clone()
    }

    /// Takes a snapshot and waits until it is stored; answers its id.
    pub(crate) async fn snapshot(&mut self, digit: u8, at: &str, volume: &str) -> String {
        let input = json!({ "VolumeId": volume });
        let made = self.ec2_at(digit, at, "CreateSnapshot", input).await;
        self.settle().await;
        text(&made, "SnapshotId")
    }

    /// Attaches a volume as `/dev/sdf`.
    pub(crate) async fn attach(&self, digit: u8, at: &str, volume: &str, instance: &str) -> Value {
        let input = json!({ "VolumeId": volume, "InstanceId": instance, "Device": "/dev/sdf" });
        self.ec2_at(digit, at, "AttachVolume", input).await
    }

    /// What an account's bus received in a region: event, result and cause of each.
    pub(crate) async fn events(&self, digit: u8, at: &str) -> Vec<String> {
        let (account, region) = (account(digit), region(at));
        let read =
            move |tx: &mut meta::Tx<'_>| events::list_events(tx, &account, &region, None, 1000);
        let events = self.bench.world.db.read(read).await.unwrap();
        let show = |(_, event): &(events::Cursor, events::ServiceEvent)| {
            let part = |name: &str| {
                let part = event.detail().get(name).and_then(Value::as_str);
                part.unwrap_or_default().to_owned()
            };
            let incremental = match event.detail().get("incremental") {
                Some(value) if value == "true" => " incremental",
                Some(_) | None => "",
            };
            let told = format!("{} {} {}", part("event"), part("result"), part("cause"));
            format!("{}{incremental}", told.trim())
        };
        events.iter().map(show).collect()
    }
}

/// Adds the members of one object to another.
pub(crate) fn merge(target: &mut Value, extra: Value) {
    let (Value::Object(target), Value::Object(extra)) = (target, extra) else {
        panic!("both are objects");
    };
    target.extend(extra);
}

/// A member that is a text.
pub(crate) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}
