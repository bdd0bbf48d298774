"""Steps that several tests take, each with the stock `aws` CLI."""

import hashlib
import json
import subprocess

from conftest import BINARY, eventually

REGION = "us-east-1"


def key_policy(owner, *foreign, actions=()):
    """The default key policy, and a statement that shares the key with other accounts."""
    statements = [
        {
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{owner.id}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ]
    if foreign:
        statements.append(
            {
                "Sid": "Share",
                "Effect": "Allow",
                "Principal": {"AWS": [f"arn:aws:iam::{account.id}:root" for account in foreign]},
                "Action": list(actions),
                "Resource": "*",
            }
        )
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def allow(*actions, resource="*"):
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def deny(*actions, resource="*"):
    return {"Effect": "Deny", "Action": list(actions), "Resource": resource}


def create_key(account, region=REGION, policy=None):
    arguments = ["kms", "create-key"] + (["--policy", policy] if policy else [])
    return account.aws(*arguments, region=region)["KeyMetadata"]["Arn"]


def volume_is(account, volume, state, region=REGION):
    """Waits for a state; the CLI's own waiters look only every 15 seconds."""
    ec2 = account.client("ec2", region)

    def reached():
        return ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == state

    eventually(reached)


def create_volume(account, *arguments, region=REGION):
    volume = account.aws(
        "ec2", "create-volume", "--availability-zone", region + "a", *arguments, region=region
    )["VolumeId"]
    volume_is(account, volume, "available", region)
    return volume


def attach(account, volume, region=REGION, device="/dev/sdf", host=None):
    """Attaches a volume; returns the host and the URI to reach it at."""
    server = account.server
    host = host or server.host(account, region + "a")
    account.aws(
        "ec2", "attach-volume", "--volume-id", volume, "--instance-id", host, "--device", device,
        region=region,
    )  # fmt: skip
    volume_is(account, volume, "in-use", region)
    return host, f"nbd+unix:///?socket={server.socket(host, device)}"


def detach(account, volume, region=REGION):
    account.aws("ec2", "detach-volume", "--volume-id", volume, region=region)
    volume_is(account, volume, "available", region)


def create_snapshot(account, volume, *arguments, region=REGION):
    snapshot = account.aws("ec2", "create-snapshot", "--volume-id", volume, *arguments, region=region)
    assert settled(account, snapshot["SnapshotId"], region)["State"] == "completed"
    return snapshot["SnapshotId"]


def describe_snapshot(account, snapshot, region=REGION):
    found = account.aws("ec2", "describe-snapshots", "--snapshot-ids", snapshot, region=region)
    return found["Snapshots"][0]


def settled(account, snapshot, region=REGION):
    """The snapshot once it is no longer pending."""
    ec2 = account.client("ec2", region)

    def check():
        found = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        return found if found["State"] != "pending" else None

    return eventually(check)


def share(account, snapshot, other, region=REGION, fails=None):
    return account.aws(
        "ec2", "modify-snapshot-attribute", "--snapshot-id", snapshot,
        "--attribute", "createVolumePermission", "--operation-type", "add", "--user-ids", other.id,
        region=region, fails=fails,
    )  # fmt: skip


def make_image(path, head, size=1 << 30):
    """A file of `size` bytes that begins with `head`; the zeros after it take no space on the disk."""
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def write_image(image, uri):
    subprocess.run(["nbdcopy", "--flush", str(image), uri], check=True, timeout=120)


def read_digest(uri, directory):
    target = directory / "read-back"
    subprocess.run(["nbdcopy", uri, str(target)], check=True, timeout=120)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trail(account, region=REGION, **attribute):
    """The trail's records, newest first; `EventName="Decrypt"` narrows them."""
    arguments = [
        f"AttributeKey={key},AttributeValue={value}" for key, value in attribute.items()
    ]
    lookup = ["--lookup-attributes", *arguments] if arguments else []
    found = account.aws("cloudtrail", "lookup-events", *lookup, region=region)
    return [json.loads(event["CloudTrailEvent"]) for event in found["Events"]]


def log_of(server, volume):
    """The file of a volume."""
    return server.data / "regions" / REGION / "volumes" / f"{volume}.log"


def check(server, *arguments):
    """Runs a check; returns its exit code and its report."""
    done = subprocess.run(
        [BINARY, "check", "--data-dir", str(server.data), "--output", "json", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout, f"{done.returncode}: {done.stderr}"
    return done.returncode, json.loads(done.stdout)


def unnamed_bytes(server, *kinds):
    """A check of everything finds nothing wrong; the bytes, in stores of these kinds or all, that nothing names."""
    code, report = check(server, "--all")
    assert code == 0, report
    subjects = [subject for subject in report["Subjects"] if not kinds or subject["Kind"] in kinds]
    return sum(subject["UnreferencedBytes"] for subject in subjects)
