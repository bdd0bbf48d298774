"""What the operator sees of the work a server does by itself."""

import json
import subprocess
import tempfile

import pytest
from conftest import BINARY, eventually
from nbd_client import Nbd
from steps import attach, create_key, create_snapshot, create_volume, detach

BLOCK = 512 * 1024
BLOCKS = 40


def test_initializations_are_seen_on_their_way(own_server):
    server = own_server("--job-bandwidth-mib", "initialize=1")
    account = server.account("owner")
    source = create_volume(account, "--size", "1")
    host, _ = attach(account, source)
    nbd = Nbd(server.socket(host, "/dev/sdf"))
    for block in range(BLOCKS):
        nbd.write(block * BLOCK, bytes([block + 1]) * BLOCK)
    nbd.flush()
    nbd.close()
    detach(account, source)
    snapshot = create_snapshot(account, source)
    volume = create_volume(account, "--snapshot-id", snapshot, "--volume-initialization-rate", "100")

    def seen():
        lines = json.loads(server.admin("initializations", "--json"))
        return [line for line in lines if line["Progress"] > 0]

    [line] = eventually(seen)
    assert (line["AccountId"], line["VolumeId"]) == (account.id, volume), "the source has none"
    assert (line["RateMib"], line["WaitsFor"]) == (100, None) and 0 < line["Progress"] < 100, line
    shown = server.admin("initializations")
    assert volume in shown and "at 100 MiB/s" in shown, shown
    assert server.admin("initializations", "--region", "eu-west-1") == ""
    account.aws("ec2", "delete-volume", "--volume-id", volume)
    eventually(lambda: json.loads(server.admin("initializations", "--json")) == [])


def test_what_an_initialization_waits_for_is_seen(own_server):
    server = own_server()
    account = server.account("owner")
    source = create_volume(account, "--size", "1")
    host, _ = attach(account, source)
    nbd = Nbd(server.socket(host, "/dev/sdf"))
    nbd.write(0, bytes([7]) * BLOCK)
    nbd.flush()
    nbd.close()
    detach(account, source)
    snapshot = create_snapshot(account, source)
    packs = server.data / "regions" / "us-east-1" / "objects" / "packs"
    packs.rename(packs.with_name("away"))
    packs.mkdir()
    volume = create_volume(account, "--snapshot-id", snapshot)

    def waits():
        [line] = json.loads(server.admin("initializations", "--json"))
        assert (line["VolumeId"], line["GivenUp"]) == (volume, None)
        return line["WaitsFor"]

    cause = eventually(waits)
    assert cause.startswith("stored blocks are damaged: "), cause
    assert cause.endswith("missing from the store"), cause
    assert f"waits: {cause}" in server.admin("initializations")


def test_a_region_that_is_not_served_is_refused(own_server):
    server = own_server("--region", "eu-west-1:1")
    for listing in ("initializations", "attachments", "collections", "usage", "twins", "events"):
        command = [BINARY, "admin", "--data-dir", str(server.data), listing, "--region", "us-east-1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, (listing, done)
        assert "us-east-1 is not served; regions are eu-west-1" in done.stderr, done


@pytest.mark.parametrize("twice", [
    ("--region", "eu-west-1", "--region", "eu-west-1:2"),
    ("--job-bandwidth-mib", "export=5,copy=7,export=6"),
], ids=["region", "bandwidth"])  # fmt: skip
def test_what_is_said_twice_is_refused(twice):
    with tempfile.TemporaryDirectory(prefix="sr-") as data:
        command = [BINARY, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", *twice]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and " twice" in done.stderr, done


def test_collections_run_as_often_as_they_are_asked_for(own_server):
    server = own_server("--collect-interval", "3s", "--sweep-interval", "2s")

    def collected():
        lines = json.loads(server.admin("collections", "--json"))
        return len(lines) >= 3

    eventually(collected, seconds=30)


def test_an_attachment_without_a_device_says_why(own_server):
    server = own_server()
    account = server.account("owner")
    key = create_key(account)
    volume = create_volume(account, "--size", "1", "--encrypted", "--kms-key-id", key)
    host, _ = attach(account, volume)

    def seen():
        [line] = json.loads(server.admin("attachments", "--json"))
        assert (line["AccountId"], line["VolumeId"]) == (account.id, volume), line
        assert (line["InstanceId"], line["Device"], line["State"]) == (host, "/dev/sdf", "attached")
        return line["Impaired"]

    assert seen() is None
    account.aws("kms", "disable-key", "--key-id", key)
    server.stop()
    server.start()
    assert "disabled" in seen()
    assert "without a device" in server.admin("attachments")
    assert server.admin("attachments", "--region", "eu-west-1") == ""
    # It has its device again when its key can be used at a start.
    account.aws("kms", "enable-key", "--key-id", key)
    server.stop()
    server.start()
    assert seen() is None
    Nbd(server.socket(host, "/dev/sdf")).close()
