"""Archiving and restoring snapshots with stock clients: tiers, sharing, the clock, and `kill -9`."""

import json
import random
import sqlite3
import time

import pytest
from botocore.exceptions import ClientError
from conftest import eventually
from nbd_client import Nbd
from steps import (
    REGION,
    attach,
    create_key,
    create_snapshot,
    create_volume,
    detach,
    key_policy,
    share,
    unnamed_bytes,
)

BLOCK = 512 * 1024
BLOCKS = 24
HOUR_MS = 3_600_000


def fill(server, host, stamps):
    """Writes the beginning of each block."""
    nbd = Nbd(server.socket(host, "/dev/sdf"))
    for block, stamp in stamps.items():
        nbd.write(block * BLOCK, bytes([stamp]) * 65536)
    nbd.flush()
    nbd.close()


def read(account, host, snapshot):
    """What a new volume of the snapshot holds at the beginning of each block."""
    volume = create_volume(account, "--snapshot-id", snapshot)
    attach(account, volume, device="/dev/sdg", host=host)
    found = stamps_of(account.server, host)
    detach(account, volume)
    account.aws("ec2", "delete-volume", "--volume-id", volume)
    return found


def stamps_of(server, host):
    nbd = Nbd(server.socket(host, "/dev/sdg"))
    found = {}
    for block in range(BLOCKS):
        data = nbd.read(block * BLOCK, 65536)
        assert data == data[:1] * 65536, f"block {block} is of two writes"
        if data[0]:
            found[block] = data[0]
    nbd.close()
    return found


def describe_snapshot(account, snapshot):
    return account.client("ec2").describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]


def tier(account, snapshot):
    filters = [{"Name": "snapshot-id", "Values": [snapshot]}]
    found = account.client("ec2").describe_snapshot_tier_status(Filters=filters)
    return found["SnapshotTierStatuses"][0]


def archive(account, snapshot):
    return account.aws(
        "ec2", "modify-snapshot-tier", "--snapshot-id", snapshot, "--storage-tier", "archive"
    )


def restore(account, snapshot, *arguments, fails=None):
    return account.aws(
        "ec2", "restore-snapshot-tier", "--snapshot-id", snapshot, *arguments, fails=fails
    )


def moved(account, snapshot, seconds=60):
    """The snapshot's tier once nothing is under way."""

    def check():
        found = tier(account, snapshot)
        return found if not found["LastTieringOperationStatus"].endswith("in-progress") else None

    found = eventually(check, seconds)
    assert found["LastTieringOperationStatus"].endswith("completed"), found
    assert found["LastTieringProgress"] == 100
    return found["StorageTier"]


def advance(server, hours):
    """Lets archives and restores of a server that is down be older; its clock is the machine's."""
    rows = sqlite3.connect(server.data / "meta.sqlite")
    with rows:
        done = rows.execute(
            "UPDATE ebs_snapshot_tiers SET expires_ms = expires_ms - ?, archived_ms = archived_ms - ?"
            " WHERE archived_ms IS NOT NULL",
            [hours * HOUR_MS, hours * HOUR_MS],
        )
        assert done.rowcount > 0
    rows.close()


@pytest.fixture(scope="module")
def place(own_server):
    """A server, an owner and a host of it, and three snapshots that share blocks."""
    server = own_server()
    owner = server.account("owner")
    key = create_key(owner)
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    host, _ = attach(owner, volume)
    content, snapshots = {}, []
    for changed in [range(BLOCKS), range(4, 8), range(6, 12)]:
        content |= {block: (block + 50 * len(snapshots)) % 255 + 1 for block in changed}
        fill(server, host, content)
        snapshots.append((create_snapshot(owner, volume), dict(content)))
    return server, owner, host, key, snapshots


def test_the_middle_of_three(place):
    """Its neighbours stay exact, its status reaches 100 %, and nothing is asked of its key."""
    server, owner, host, key, snapshots = place
    (middle, content) = snapshots[1]
    before = describe_snapshot(owner, middle)
    started = archive(owner, middle)
    assert started["SnapshotId"] == middle and started["TieringStartTime"]
    owner.aws("kms", "disable-key", "--key-id", key)
    assert moved(owner, middle) == "archive"
    status = tier(owner, middle)
    assert status["LastTieringOperationStatus"] == "archival-completed"
    assert status["ArchivalCompleteTime"] and "RestoreExpiryTime" not in status
    after = describe_snapshot(owner, middle)
    assert after.pop("StorageTier") == "archive" and before.pop("StorageTier") == "standard"
    assert after == before
    listed = owner.client("ec2").describe_snapshots(
        OwnerIds=["self"], Filters=[{"Name": "storage-tier", "Values": ["archive"]}]
    )
    assert [snapshot["SnapshotId"] for snapshot in listed["Snapshots"]] == [middle]
    owner.aws("kms", "enable-key", "--key-id", key)
    for snapshot, content in [snapshots[0], snapshots[2]]:
        assert read(owner, host, snapshot) == content
    unnamed_bytes(server)


def test_what_is_refused(place):
    server, owner, host, key, snapshots = place
    middle = snapshots[1][0]
    ec2 = owner.client("ec2")
    with pytest.raises(ClientError, match="IncorrectState"):
        ec2.create_volume(AvailabilityZone="us-east-1a", SnapshotId=middle)
    with pytest.raises(ClientError, match="IncorrectState"):
        ec2.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=middle)
    with pytest.raises(ClientError, match="ValidationException"):
        owner.client("ebs").list_snapshot_blocks(SnapshotId=middle)
    with pytest.raises(ClientError, match="IncorrectState"):
        ec2.modify_snapshot_tier(SnapshotId=middle, StorageTier="archive")
    share(owner, middle, server.account("other"), fails="IncorrectState")
    restore(owner, middle, "--temporary-restore-days", "181", fails="InvalidParameterValue")
    restore(
        owner, middle, "--temporary-restore-days", "1", "--permanent-restore",
        fails="InvalidParameterCombination",
    )  # fmt: skip
    with pytest.raises(ClientError, match="IncorrectState"):
        ec2.restore_snapshot_tier(SnapshotId=snapshots[0][0], PermanentRestore=True)


def test_a_temporary_restore_ends_by_itself(place):
    """Restored for two days: usable; 49 hours later archived again, what was made of it unaffected."""
    server, owner, host, key, snapshots = place
    middle, content = snapshots[1]
    if describe_snapshot(owner, middle)["StorageTier"] == "standard":
        archive(owner, middle)
        assert moved(owner, middle) == "archive"
    answer = restore(owner, middle, "--temporary-restore-days", "2")
    assert (answer["RestoreDuration"], answer["IsPermanentRestore"]) == (2, False)
    assert moved(owner, middle) == "standard"
    shown = describe_snapshot(owner, middle)
    assert (shown["StorageTier"], "RestoreExpiryTime" in shown) == ("standard", True)
    volume = create_volume(owner, "--snapshot-id", middle)
    attach(owner, volume, device="/dev/sdg", host=host)
    server.stop()
    advance(server, 47)
    server.start()
    assert describe_snapshot(owner, middle)["StorageTier"] == "standard"
    server.stop()
    advance(server, 2)
    server.start()
    eventually(lambda: describe_snapshot(owner, middle)["StorageTier"] == "archive")
    assert "RestoreExpiryTime" not in tier(owner, middle)
    assert stamps_of(server, host) == content
    detach(owner, volume)
    assert restore(owner, middle, "--permanent-restore")["IsPermanentRestore"]
    assert moved(owner, middle) == "standard"
    assert read(owner, host, middle) == content


def test_a_share_is_suspended(place):
    server, owner, host, key, snapshots = place
    last, content = snapshots[2]
    grantee = server.account("grantee")
    actions = ["kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt", "kms:ReEncrypt*"]
    policy = key_policy(owner, grantee, actions=actions)
    owner.aws("kms", "put-key-policy", "--key-id", key, "--policy", policy)
    share(owner, last, grantee)

    def seen():
        found = grantee.client("ec2").describe_snapshots(RestorableByUserIds=["self"])
        return [snapshot["SnapshotId"] for snapshot in found["Snapshots"]]

    assert seen() == [last]
    archive(owner, last)
    assert moved(owner, last) == "archive"
    assert seen() == []
    with pytest.raises(ClientError, match="InvalidSnapshot.NotFound"):
        grantee.client("ec2").create_volume(AvailabilityZone="us-east-1a", SnapshotId=last)
    restore(owner, last, "--permanent-restore")
    assert moved(owner, last) == "standard"
    assert seen() == [last]
    assert read(grantee, server.host(grantee), last) == content


def test_leaving_early_is_charged_for(place):
    """Deleted on the tenth day: no guard against it, and 80 days are left to be paid."""
    server, owner, host, key, snapshots = place
    first = snapshots[0][0]
    size = describe_snapshot(owner, first)["FullSnapshotSizeInBytes"]
    archive(owner, first)
    assert moved(owner, first) == "archive"
    server.stop()
    advance(server, 240)
    server.start()
    owner.aws("ec2", "delete-snapshot", "--snapshot-id", first)
    lines = json.loads(server.admin("usage", "--json"))
    line = next(line for line in lines if line["SnapshotId"] == first)
    assert (line["Kind"], line["AccountId"]) == ("early-delete", owner.id)
    assert (line["Hours"], line["Bytes"]) == (80 * 24, size)


def test_kill_9_on_the_way(own_server):
    """Killed while it archives and while it restores: afterwards in one tier, whole, without remains."""
    server = own_server("--job-bandwidth-mib", "archive=12")
    owner = server.account("owner")
    volume = create_volume(owner, "--size", "1")
    host, _ = attach(owner, volume)
    content = {block: block + 1 for block in range(BLOCKS)}
    fill(server, host, content)
    snapshot = create_snapshot(owner, volume)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for begin, reached in [
        (lambda: archive(owner, snapshot), "archive"),
        (lambda: restore(owner, snapshot, "--permanent-restore"), "standard"),
    ]:
        begin()
        for _ in range(2):
            # 12 MiB of snapshot data are written, then read, at 12 MiB/s.
            time.sleep(chance.random() * 0.8)
            server.kill()
            server.start()
            assert tier(owner, snapshot)["StorageTier"] in ("standard", "archive")
        assert moved(owner, snapshot) == reached
        unnamed_bytes(server)
    assert read(owner, host, snapshot) == content
    # Sweeps find what the dead had written: one enters it as unused, a later one removes it.
    server.arguments += ["--collect-grace", "1s", "--sweep-interval", "1s"]

    def swept():
        # A server that starts does what is due.
        server.stop()
        server.start()
        time.sleep(1.5)
        return unnamed_bytes(server) == 0

    eventually(swept)
    owner.aws("ec2", "delete-snapshot", "--snapshot-id", snapshot)
