//! The steps of the story.

use super::client::{Client, Refusal};
use super::image::{self, File, IMAGE_BYTES};
use crate::admin::{self, AccountEnv, NewAccount, NewHost, Request, TrailQuery};
use crate::exit::Failure;
use crate::serve::Server;
use crate::trail;
use attach::client::Client as Nbd;
use base::{Clock, OsRng, Secret, SystemClock, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOURCE: &str = "us-east-1";
const TARGET: &str = "ap-northeast-1";
const DEVICE: &str = "/dev/sdf";
/// Bytes moved between two movements of the progress bar.
const PIECE_BYTES: usize = 4 << 20;
/// How long a state may take to change. Generous: the machine may be busy.
const PATIENCE_SECONDS: i64 = 300;

/// One of the two accounts: a way to call the server, and a host to attach to.
struct Account {
    id: String,
    client: Client,
    host: String,
}

/// Times of the steps, for the summary.
struct Timings(Vec<(&'static str, Timestamp, Timestamp)>);

impl Timings {
    fn step<T>(
        &mut self,
        what: &'static str,
        step: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        eprintln!("\n• {what}");
        let begin = SystemClock.now();
        let result = step()?;
        self.0.push((what, begin, SystemClock.now()));
        Ok(result)
    }
}

/// Tells the whole story; fails at the first byte that is not as it was written.
pub(super) fn tell(server: &Server, data_dir: &Path) -> Result<(), Failure> {
    let mut timings = Timings(Vec::new());
    let owner = account(server, data_dir, "owner", SOURCE)?;
    let recipient = account(server, data_dir, "recipient", TARGET)?;
    say(format!("account {} in {SOURCE} owns the data", owner.id));
    say(format!("account {} in {TARGET} will get a copy", recipient.id));

    let files = image::files(&OsRng);
    let original = data_dir.join("demo-original.ext4");
    timings.step("make an ext4 image with three files", || image::create(&original, &files))?;

    let key = timings.step("create a KMS key and an encrypted volume", || {
        let key = create_key(&owner, SOURCE)?;
        say(format!("key {key}"));
        Ok(key)
    })?;
    let volume = create_volume(&owner, SOURCE, &[("Size", "1"), ("KmsKeyId", &key)])?;
    say(format!("volume {volume}"));

    timings.step("attach it and write the image over NBD", || {
        let socket = attach(&owner, data_dir, SOURCE, &volume)?;
        write_image(&socket, &original)
    })?;
    let snapshot = timings.step("snapshot it, then detach", || {
        let snapshot = create_snapshot(&owner, &volume)?;
        detach(&owner, SOURCE, &volume)?;
        Ok(snapshot)
    })?;
    timings
        .step("share the snapshot, but not yet the key", || share(&owner, &snapshot, &recipient))?;
    let own_key = create_key(&recipient, TARGET)?;
    timings.step("try to copy it without permission on the key", || {
        denied_copy(&recipient, data_dir, &snapshot, &own_key)
    })?;
    timings
        .step("allow the other account to use the key", || share_key(&owner, &key, &recipient))?;
    let copy = timings
        .step("copy it under the other account's key into the other region", || {
            copy_snapshot(&recipient, &snapshot, &own_key)
        })?;
    say(format!("snapshot {copy} under {own_key}"));

    let restored = data_dir.join("demo-restored.ext4");
    timings.step("restore the copy and verify every byte", || {
        let volume = create_volume(&recipient, TARGET, &[("SnapshotId", &copy)])?;
        let socket = attach(&recipient, data_dir, TARGET, &volume)?;
        read_image(&socket, &restored)?;
        compare(&original, &restored, &files)?;
        detach(&recipient, TARGET, &volume)
    })?;
    summary(data_dir, &owner, &recipient, &timings)?;
    std::fs::remove_file(original)?;
    std::fs::remove_file(restored)?;
    Ok(())
}

fn say(line: String) {
    eprintln!("    {line}");
}

fn account(server: &Server, data_dir: &Path, name: &str, region: &str) -> Result<Account, Failure> {
    let new: NewAccount =
        admin::read(admin::ask(data_dir, &Request::AccountCreate { name: name.to_owned() })?)?;
    let request = Request::HostCreate {
        account: new.account_id.clone(),
        az: format!("{region}a"),
        name: Some(format!("{name}-host")),
        remote: false,
    };
    let host: NewHost = admin::read(admin::ask(data_dir, &request)?)?;
    Ok(Account {
        id: new.account_id,
        client: Client {
            address: server.address(),
            access_key_id: new.access_key_id,
            secret_access_key: Secret::new(new.secret_access_key),
        },
        host: host.instance_id,
    })
}

fn granted<T>(what: &str, answer: Result<T, Refusal>) -> Result<T, Failure> {
    answer
        .map_err(|Refusal { code, message }| Failure::failed(format!("{what}: {code}: {message}")))
}

/// Calls EC2 and returns one element of the reply.
fn ec2(
    account: &Account,
    region: &str,
    action: &str,
    parameters: &[(&str, &str)],
    element: &str,
) -> Result<String, Failure> {
    let reply = granted(action, account.client.ec2(region, action, parameters)?)?;
    reply.xml(element).ok_or_else(|| Failure::failed(format!("{action}: no <{element}>")))
}

fn create_key(account: &Account, region: &str) -> Result<String, Failure> {
    let made = granted("CreateKey", account.client.kms(region, "CreateKey", &json!({}))?)?;
    Ok(made["KeyMetadata"]["Arn"].as_str().unwrap_or_default().to_owned())
}

fn create_volume(
    account: &Account,
    region: &str,
    parameters: &[(&str, &str)],
) -> Result<String, Failure> {
    let zone = format!("{region}a");
    let mut all = vec![("AvailabilityZone", zone.as_str()), ("Encrypted", "true")];
    all.extend_from_slice(parameters);
    let volume = ec2(account, region, "CreateVolume", &all, "volumeId")?;
    wait(|| {
        let parameters = [("VolumeId.1", volume.as_str())];
        let status = ec2(account, region, "DescribeVolumes", &parameters, "status")?;
        Ok((status == "available").then_some(()))
    })?;
    Ok(volume)
}

/// Attaches a volume and returns the socket it is served on.
fn attach(
    account: &Account,
    data_dir: &Path,
    region: &str,
    volume: &str,
) -> Result<PathBuf, Failure> {
    let parameters =
        [("VolumeId", volume), ("InstanceId", account.host.as_str()), ("Device", DEVICE)];
    ec2(account, region, "AttachVolume", &parameters, "status")?;
    let name = DEVICE.rsplit('/').next().unwrap_or(DEVICE);
    let socket = data_dir.join("attach").join(&account.host).join(format!("{name}.sock"));
    wait(|| Ok(socket.exists().then_some(())))?;
    Ok(socket)
}

fn detach(account: &Account, region: &str, volume: &str) -> Result<(), Failure> {
    ec2(account, region, "DetachVolume", &[("VolumeId", volume)], "status")?;
    wait(|| {
        let status = ec2(account, region, "DescribeVolumes", &[("VolumeId.1", volume)], "status")?;
        Ok((status == "available").then_some(()))
    })
}

fn create_snapshot(owner: &Account, volume: &str) -> Result<String, Failure> {
    let parameters = [("VolumeId", volume), ("Description", "the demonstration")];
    let snapshot = ec2(owner, SOURCE, "CreateSnapshot", &parameters, "snapshotId")?;
    settle(owner, SOURCE, &snapshot)?;
    Ok(snapshot)
}

/// Waits until a snapshot is no longer pending, with its progress; returns its state and reason.
fn settle(account: &Account, region: &str, snapshot: &str) -> Result<(String, String), Failure> {
    let bar = progress_bar(100, "{percent}%");
    let settled = wait(|| {
        let parameters = [("SnapshotId.1", snapshot)];
        let answer = account.client.ec2(region, "DescribeSnapshots", &parameters)?;
        let reply = granted("DescribeSnapshots", answer)?;
        let text = |element: &str| reply.xml(element).unwrap_or_default();
        bar.set_position(text("progress").trim_end_matches('%').parse().unwrap_or(0));
        let state = text("status");
        Ok((state != "pending").then(|| (state, text("statusMessage"))))
    });
    bar.finish_and_clear();
    settled
}

fn share(owner: &Account, snapshot: &str, recipient: &Account) -> Result<(), Failure> {
    let parameters = [
        ("SnapshotId", snapshot),
        ("Attribute", "createVolumePermission"),
        ("OperationType", "add"),
        ("UserId.1", recipient.id.as_str()),
    ];
    ec2(owner, SOURCE, "ModifySnapshotAttribute", &parameters, "return").map(drop)
}

fn share_key(owner: &Account, key: &str, recipient: &Account) -> Result<(), Failure> {
    let root = |account: &Account| format!("arn:aws:iam::{}:root", account.id);
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Enable IAM User Permissions",
                "Effect": "Allow",
                "Principal": {"AWS": root(owner)},
                "Action": "kms:*",
                "Resource": "*",
            },
            {
                "Sid": "Share",
                "Effect": "Allow",
                "Principal": {"AWS": root(recipient)},
                "Action": ["kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt", "kms:ReEncrypt*"],
                "Resource": "*",
            },
        ],
    });
    let input = json!({"KeyId": key, "PolicyName": "default", "Policy": policy.to_string()});
    granted("PutKeyPolicy", owner.client.kms(SOURCE, "PutKeyPolicy", &input)?).map(drop)
}

fn start_copy(recipient: &Account, snapshot: &str, key: &str) -> Result<String, Failure> {
    let parameters = [
        ("SourceRegion", SOURCE),
        ("SourceSnapshotId", snapshot),
        ("Encrypted", "true"),
        ("KmsKeyId", key),
    ];
    ec2(recipient, TARGET, "CopySnapshot", &parameters, "snapshotId")
}

fn copy_snapshot(recipient: &Account, snapshot: &str, key: &str) -> Result<String, Failure> {
    let copy = start_copy(recipient, snapshot, key)?;
    match settle(recipient, TARGET, &copy)? {
        (state, _) if state == "completed" => Ok(copy),
        (state, why) => Err(Failure::failed(format!("the copy ended in {state}: {why}"))),
    }
}

/// A copy that must fail, and the trail's answer to why.
fn denied_copy(
    recipient: &Account,
    data_dir: &Path,
    snapshot: &str,
    key: &str,
) -> Result<(), Failure> {
    let copy = start_copy(recipient, snapshot, key)?;
    let (state, why) = settle(recipient, TARGET, &copy)?;
    if state != "error" {
        return Err(Failure::failed(format!("the copy should have failed, but is {state}")));
    }
    say(format!("the copy ended in {state}: {why}"));
    say("why, from the trail:".to_owned());
    let query = TrailQuery {
        account: Some(recipient.id.clone()),
        region: None,
        event: None,
        failed: true,
        limit: 1,
    };
    trail::print(&trail::fetch(data_dir, query)?, "    ")
}

fn write_image(socket: &Path, image: &Path) -> Result<(), Failure> {
    use std::io::Read;
    let mut device = Nbd::connect(socket, "").map_err(Failure::failed)?;
    let mut file = std::fs::File::open(image)?;
    let mut piece = vec![0u8; PIECE_BYTES];
    let bar = bytes_bar();
    for offset in (0..IMAGE_BYTES).step_by(PIECE_BYTES) {
        file.read_exact(&mut piece)?;
        if piece.iter().any(|byte| *byte != 0) {
            let stored = device.write(offset, &piece, attach::Durability::Buffered);
            stored.map_err(Failure::failed)?;
        }
        bar.inc(PIECE_BYTES as u64);
    }
    device.flush().map_err(Failure::failed)?;
    bar.finish_and_clear();
    device.disconnect().map_err(Failure::failed)
}

fn read_image(socket: &Path, image: &Path) -> Result<(), Failure> {
    use std::io::Write;
    let mut device = Nbd::connect(socket, "").map_err(Failure::failed)?;
    let mut file = std::fs::File::create(image)?;
    let mut piece = vec![0u8; PIECE_BYTES];
    let bar = bytes_bar();
    for offset in (0..IMAGE_BYTES).step_by(PIECE_BYTES) {
        device.read(offset, &mut piece).map_err(Failure::failed)?;
        file.write_all(&piece)?;
        bar.inc(PIECE_BYTES as u64);
    }
    bar.finish_and_clear();
    device.disconnect().map_err(Failure::failed)
}

/// Compares the images byte by byte, then the files inside the restored one.
fn compare(original: &Path, restored: &Path, files: &[File]) -> Result<(), Failure> {
    use std::io::Read;
    let (mut a, mut b) = (std::fs::File::open(original)?, std::fs::File::open(restored)?);
    let (mut left, mut right) = (vec![0u8; PIECE_BYTES], vec![0u8; PIECE_BYTES]);
    for offset in (0..IMAGE_BYTES).step_by(PIECE_BYTES) {
        a.read_exact(&mut left)?;
        b.read_exact(&mut right)?;
        if left != right {
            return Err(Failure::failed(format!("the restored image differs after byte {offset}")));
        }
    }
    image::verify(restored, files)?;
    say(format!("{IMAGE_BYTES} bytes are equal, and so are the {} files", files.len()));
    Ok(())
}

fn summary(
    data_dir: &Path,
    owner: &Account,
    recipient: &Account,
    timings: &Timings,
) -> Result<(), Failure> {
    for account in [owner, recipient] {
        eprintln!("\nThe trail of account {}:", account.id);
        let query = TrailQuery {
            account: Some(account.id.clone()),
            region: None,
            event: None,
            failed: false,
            limit: 1000,
        };
        let records = trail::fetch(data_dir, query)?;
        let telling = |record: &serde_json::Value| {
            !record["eventName"].as_str().unwrap_or_default().starts_with("Describe")
        };
        let records: Vec<_> = records.into_iter().filter(telling).collect();
        trail::print(&records, "  ")?;
    }
    eprintln!("\nTimings:");
    for (what, begin, end) in &timings.0 {
        eprintln!("  {:>7.2} s  {what}", (end.0 - begin.0) as f64 / 1000.0);
    }
    Ok(())
}

/// What to paste to go on with the `aws` CLI.
pub(super) fn invite(server: &Server, data_dir: &Path) {
    eprintln!("\nThe server stays on {}. To go on with the aws CLI:\n", server.url());
    let accounts = admin::ask(data_dir, &Request::AccountList)
        .and_then(admin::read::<Vec<admin::AccountRow>>)
        .unwrap_or_default();
    for row in accounts {
        let env = admin::ask(data_dir, &Request::Env { account: row.account_id.clone() })
            .and_then(admin::read::<AccountEnv>);
        if let Ok(env) = env {
            let region = if row.name == "owner" { SOURCE } else { TARGET };
            println!("# account {} ({})", row.account_id, row.name);
            println!("export AWS_ACCESS_KEY_ID={}", env.access_key_id);
            println!("export AWS_SECRET_ACCESS_KEY={}", env.secret_access_key);
            println!("export AWS_ENDPOINT_URL={} AWS_REGION={region}", env.endpoint);
            println!("aws ec2 describe-snapshots --owner-ids self\n");
        }
    }
    eprintln!("Ctrl-C ends it. Its data: {}", data_dir.display());
}

fn bytes_bar() -> ProgressBar {
    progress_bar(IMAGE_BYTES, "{bytes}/{total_bytes} {bytes_per_sec}")
}

fn progress_bar(length: u64, figures: &str) -> ProgressBar {
    let template = format!("    [{{bar:30}}] {figures}");
    let style = ProgressStyle::with_template(&template).expect("the template is constant");
    ProgressBar::new(length).with_style(style.progress_chars("=> "))
}

/// Asks again until there is an answer.
fn wait<T>(mut ask: impl FnMut() -> Result<Option<T>, Failure>) -> Result<T, Failure> {
    let deadline = SystemClock.now().plus_seconds(PATIENCE_SECONDS);
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if SystemClock.now() > deadline {
            return Err(Failure::failed(format!("nothing changed in {PATIENCE_SECONDS} seconds")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
