"""Volumes that grow while they are used, and volumes that are snapshotted at one moment."""

import json
import subprocess
import threading

import pytest

import steps
from conftest import eventually, require
from nbd_client import Nbd

GIB = 1 << 30
PAGE = 4096


@pytest.fixture(scope="module")
def machine(server):
    """An account, a host of it, and three volumes attached there."""
    account = server.account()
    host = server.host(account)
    volumes = {}
    for device in ("/dev/sdf", "/dev/sdg", "/dev/sdh"):
        volume = steps.create_volume(account, "--size", "1", "--encrypted")
        account.aws(
            "ec2", "attach-volume", "--volume-id", volume, "--instance-id", host, "--device", device
        )
        volumes[device] = volume
    return account, host, volumes


def size_of(server, host, device):
    uri = f"nbd+unix:///?socket={server.socket(host, device)}"
    return int(subprocess.check_output([require("nbdinfo"), "--size", uri], timeout=60))


def test_a_volume_grows_while_it_is_written(server, machine):
    account, host, volumes = machine
    volume = volumes["/dev/sdf"]
    client = Nbd(server.socket(host, "/dev/sdf"))
    client.write(GIB - PAGE, b"a" * PAGE)
    client.flush()
    made = account.aws("ec2", "modify-volume", "--volume-id", volume, "--size", "2")
    assert made["VolumeModification"]["TargetSize"] == 2

    def done():
        listed = account.aws("ec2", "describe-volumes-modifications", "--volume-ids", volume)
        return listed["VolumesModifications"][0]["ModificationState"] == "completed"

    eventually(done)
    assert size_of(server, host, "/dev/sdf") == 2 * GIB
    # The connection that was there before reaches the new part as well.
    client.write(2 * GIB - PAGE, b"b" * PAGE)
    client.flush()
    assert client.read(2 * GIB - PAGE, PAGE) == b"b" * PAGE
    assert client.read(GIB - PAGE, PAGE) == b"a" * PAGE
    error = account.aws(
        "ec2", "modify-volume", "--volume-id", volume, "--size", "1", fails="InvalidParameterValue"
    )
    assert "New size cannot be smaller than existing size" in error


def test_a_counter_over_three_volumes_is_cut_in_order(server, machine):
    """One writer counts up over three volumes in turn: what a snapshot of the second shows may be
    one behind the first, never ahead of it; and so on around."""
    account, host, volumes = machine
    clients = [Nbd(server.socket(host, device)) for device in volumes]
    stop, written = threading.Event(), []

    def count():
        number = 0
        while not stop.is_set():
            number += 1
            for client in clients:
                client.write(0, number.to_bytes(8, "little") * (PAGE // 8))
            written.append(number)

    writer = threading.Thread(target=count)
    writer.start()
    try:
        eventually(lambda: len(written) > 50)
        specification = json.dumps({"InstanceId": host})
        made = account.aws("ec2", "create-snapshots", "--instance-specification", specification)
        answered = len(written)
    finally:
        stop.set()
        writer.join(timeout=60)
    snapshots = {one["VolumeId"]: one["SnapshotId"] for one in made["Snapshots"]}
    assert set(snapshots) == set(volumes.values())
    assert len({one["StartTime"] for one in made["Snapshots"]}) == 1
    counters = []
    for device, volume in zip(("/dev/sdi", "/dev/sdj", "/dev/sdk"), volumes.values()):
        snapshot = snapshots[volume]
        ec2 = account.client("ec2", steps.REGION)

        def completed():
            listed = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
            return listed[0]["State"] == "completed"

        eventually(completed)
        copy = steps.create_volume(account, "--snapshot-id", snapshot)
        account.aws(
            "ec2", "attach-volume", "--volume-id", copy, "--instance-id", host, "--device", device
        )
        counters.append(int.from_bytes(Nbd(server.socket(host, device)).read(0, 8), "little"))
    first, second, third = counters
    assert 50 <= third <= second <= first <= third + 1, counters
    assert third <= answered + 1, (counters, answered)
