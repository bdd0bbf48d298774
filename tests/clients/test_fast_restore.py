"""Fast snapshot restore with stock clients: states, credits over a moved clock, and `kill -9`."""

import json
import sqlite3
import time

from conftest import eventually
from nbd_client import Nbd
from steps import attach, create_key, create_snapshot, create_volume, detach, share, unnamed_bytes

BLOCK = 512 * 1024
ZONE = "us-east-1a"
BLOCKS = 40


def rows(account, snapshot):
    reply = account.aws(
        "ec2",
        "describe-fast-snapshot-restores",
        "--filters",
        f"Name=snapshot-id,Values={snapshot}",
    )
    return {row["AvailabilityZone"]: row for row in reply["FastSnapshotRestores"]}


def wait_for(account, snapshot, state):
    def reached():
        row = rows(account, snapshot).get(ZONE)
        return row if row and row["State"] == state else None

    return eventually(reached)


def fill(server, host):
    nbd = Nbd(server.socket(host, "/dev/sdf"))
    for block in range(BLOCKS):
        nbd.write(block * BLOCK, bytes([block + 1]) * 65536)
    nbd.flush()
    nbd.close()


def assert_holds(account, host, volume):
    attach(account, volume, device="/dev/sdg", host=host)
    nbd = Nbd(account.server.socket(host, "/dev/sdg"))
    for block in range(BLOCKS):
        assert nbd.read(block * BLOCK, 65536) == bytes([block + 1]) * 65536, block
    nbd.close()
    detach(account, volume)


def enable(account, snapshot):
    reply = account.client("ec2").enable_fast_snapshot_restores(
        SourceSnapshotIds=[snapshot], AvailabilityZones=[ZONE]
    )
    return reply["Successful"], reply["Unsuccessful"]


def is_fast(account, volume):
    found = account.client("ec2").describe_volumes(
        VolumeIds=[volume], Filters=[{"Name": "fast-restored", "Values": ["true"]}]
    )
    return [volume["FastRestored"] for volume in found["Volumes"]] == [True]


def advance(server, minutes):
    """Lets buckets of credits fill for so long; the server is down, its clock is the machine's."""
    database = sqlite3.connect(server.data / "meta.sqlite")
    with database:
        done = database.execute(
            "UPDATE ebs_fast_restores SET empty_ms = empty_ms - ?", [minutes * 60_000]
        )
        assert done.rowcount > 0
    database.close()


def test_states_credits_and_the_end_of_a_share(own_server):
    server = own_server()
    owner, grantee = server.account("owner"), server.account("grantee")
    key = create_key(owner)
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    host, _ = attach(owner, volume)
    fill(server, host)
    snapshot = create_snapshot(owner, volume)
    owner.aws("kms", "disable-key", "--key-id", key)
    zones = ["--availability-zones", ZONE, "us-east-1b"]
    ids = ["--source-snapshot-ids", snapshot]
    reply = owner.aws("ec2", "enable-fast-snapshot-restores", *ids, *zones)
    assert [item["State"] for item in reply["Successful"]] == ["enabling", "enabling"]
    assert reply["Unsuccessful"] == []
    row = wait_for(owner, snapshot, "enabled")
    assert row["StateTransitionReason"] == "Client.UserInitiated - Lifecycle state transition"
    assert row["EnablingTime"] <= row["OptimizingTime"] <= row["EnabledTime"]
    owner.aws("kms", "enable-key", "--key-id", key)

    # At 1 GiB a credit comes back in six minutes.
    lazy = create_volume(owner, "--snapshot-id", snapshot)
    server.stop()
    advance(server, 6)
    server.start()
    fast = create_volume(owner, "--snapshot-id", snapshot)
    late = create_volume(owner, "--snapshot-id", snapshot)
    assert [is_fast(owner, volume) for volume in (lazy, fast, late)] == [False, True, False]
    assert_holds(owner, host, fast)
    assert_holds(owner, host, late)
    [twin] = json.loads(server.admin("twins", "--json"))
    assert (twin["SnapshotId"], twin["AccountId"], twin["Progress"]) == (snapshot, owner.id, 100)
    assert twin["Volumes"] == [fast]

    blank = create_volume(owner, "--size", "1")
    plain = [create_snapshot(owner, blank) for _ in range(5)]
    for one in plain[:4]:
        assert enable(owner, one)[1] == []
    successful, [refused] = enable(owner, plain[4])
    assert successful == [] and refused["SnapshotId"] == plain[4]
    [error] = refused["FastSnapshotRestoreStateErrors"]
    assert error["Error"]["Code"] == "ResourceLimitExceeded"

    share(owner, plain[0], grantee)
    assert enable(grantee, plain[0])[0][0]["OwnerId"] == grantee.id
    wait_for(grantee, plain[0], "enabled")
    owner.aws("ec2", "reset-snapshot-attribute", "--snapshot-id", plain[0],
              "--attribute", "createVolumePermission")  # fmt: skip
    reason = rows(grantee, plain[0])[ZONE]["StateTransitionReason"]
    assert reason.startswith("Client.InvalidSnapshot.InvalidState - ") and "revoked" in reason
    assert rows(owner, plain[0])[ZONE]["State"] == "enabled"

    owner.aws("ec2", "disable-fast-snapshot-restores", *ids, *zones)
    wait_for(owner, snapshot, "disabled")
    # What was made keeps what it was made from.
    owner.aws("ec2", "delete-snapshot", "--snapshot-id", snapshot)
    assert_holds(owner, host, fast)
    kept = [twin for twin in json.loads(server.admin("twins", "--json")) if twin["SnapshotId"] is None]
    assert [twin["Volumes"] for twin in kept] == [[fast]]
    unnamed_bytes(server, "twins")


def test_kill_9_while_a_twin_is_made(own_server):
    server = own_server("--job-bandwidth-mib", "fast-restore=20")
    owner = server.account("owner")
    volume = create_volume(owner, "--size", "1")
    host, _ = attach(owner, volume)
    fill(server, host)
    snapshot = create_snapshot(owner, volume)
    assert enable(owner, snapshot)[1] == []
    for pause in (0.3, 0.7):
        # 20 MiB of snapshot data are written, then read, at 20 MiB/s.
        time.sleep(pause)
        server.kill()
        server.start()
        assert rows(owner, snapshot)[ZONE]["State"] in ("enabling", "optimizing", "enabled")
    wait_for(owner, snapshot, "enabled")
    unnamed_bytes(server, "twins")
    server.stop()
    advance(server, 6)
    server.arguments += ["--collect-grace", "1s", "--sweep-interval", "1s"]
    server.start()
    fast = create_volume(owner, "--snapshot-id", snapshot)
    assert is_fast(owner, fast)
    assert_holds(owner, host, fast)
    owner.aws("ec2", "delete-volume", "--volume-id", fast)
    owner.aws("ec2", "disable-fast-snapshot-restores", "--source-snapshot-ids", snapshot,
              "--availability-zones", ZONE)  # fmt: skip
    wait_for(owner, snapshot, "disabled")
    packs = server.data / "regions" / "us-east-1" / "twins" / "packs"

    def is_empty():
        # A server that starts does what is due.
        server.stop()
        server.start()
        time.sleep(1.5)
        return unnamed_bytes(server, "twins") == 0 and not any(path.is_file() for path in packs.rglob("*"))

    eventually(is_empty)
