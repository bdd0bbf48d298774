"""A volume under another key than its snapshot, used before its base is sealed anew."""

import hashlib
import sqlite3

import pytest
from conftest import eventually
from nbd_client import Nbd
from steps import attach, create_key, create_snapshot, create_volume, detach

MIB = 1 << 20
# At 1 MiB a second the initialization is far from over when the test has read and written.
PIECES = 8


@pytest.fixture(scope="module")
def server(own_server):
    return own_server("--job-bandwidth-mib", "initialize=1")


def content(number):
    """A MiB that is like no other."""
    line = hashlib.sha256(number.to_bytes(8, "little")).digest()
    return line * (MIB // len(line))


def is_foreign(server, volume):
    """Whether the volume still needs its base's key."""
    rows = sqlite3.connect(f"file:{server.data / 'meta.sqlite'}?mode=ro", uri=True)
    wanted = "SELECT count(*) FROM ebs_foreign_bases WHERE volume_id = ?"
    (count,) = rows.execute(wanted, [volume]).fetchone()
    rows.close()
    return count > 0


@pytest.mark.parametrize("source", ["another key", "no key"])
def test_it_is_read_written_and_cut_before_its_base_is_its_own(server, source):
    account = server.account()
    key, other = create_key(account), create_key(account)
    encrypted = ["--encrypted", "--kms-key-id", key] if source == "another key" else []
    first = create_volume(account, "--size", "1", *encrypted)
    host, uri = attach(account, first)
    nbd = Nbd(uri.partition("socket=")[2])
    for number in range(PIECES):
        nbd.write(number * 8 * MIB, content(number))
    nbd.flush()
    nbd.close()
    snapshot = create_snapshot(account, first)
    detach(account, first)

    volume = create_volume(
        account, "--snapshot-id", snapshot, "--encrypted", "--kms-key-id", other
    )
    assert is_foreign(server, volume)
    _host, uri = attach(account, volume, host=host)
    nbd = Nbd(uri.partition("socket=")[2])
    assert nbd.read(3 * 8 * MIB, MIB) == content(3)
    # A part of a page: what stands beside it is opened under one key and sealed under the other.
    nbd.write(5 * 8 * MIB + 512, b"w" * 1024)
    nbd.write(6 * 8 * MIB, content(1000))
    nbd.flush()
    assert is_foreign(server, volume), "the initialization was over before the test looked"
    made = account.aws("ec2", "create-snapshot", "--volume-id", volume)["SnapshotId"]
    nbd.write(3 * 8 * MIB, b"l" * 4096)
    nbd.flush()
    # The key of the source is needed no more than that: all of it is under the volume's own now.
    ec2 = account.client("ec2")
    completed = lambda: ec2.describe_snapshots(SnapshotIds=[made])["Snapshots"][0]["State"]  # noqa: E731
    eventually(lambda: completed() == "completed", seconds=120)
    assert not is_foreign(server, volume)
    account.client("kms").disable_key(KeyId=key)
    assert nbd.read(3 * 8 * MIB, 4096) == b"l" * 4096
    nbd.close()
    detach(account, volume)

    restored = create_volume(account, "--snapshot-id", made)
    _host, uri = attach(account, restored, host=host)
    nbd = Nbd(uri.partition("socket=")[2])
    for number in range(PIECES):
        expected = bytearray(content(1000 if number == 6 else number))
        if number == 5:
            expected[512:1536] = b"w" * 1024
        assert nbd.read(number * 8 * MIB, MIB) == expected, number
    assert nbd.read(4 * MIB, MIB) == bytes(MIB)
    nbd.close()
    detach(account, restored)
