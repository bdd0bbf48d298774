"""The EBS direct APIs with coldsnap, and block by block with boto3."""

import base64
import hashlib
import os
import subprocess

import botocore.exceptions
import pytest

from conftest import require
from steps import attach, create_key, create_volume, detach, digest, settled

BLOCK = 512 * 1024


@pytest.fixture(scope="module")
def owner(server):
    return server.account("owner")


def coldsnap(account, *arguments):
    program = require("coldsnap")
    done = subprocess.run(
        [program, "--endpoint", account.server.url, *arguments],
        env=account.env(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_coldsnap_uploads_and_downloads(owner, tmp_path, encrypted):
    switch = "enable" if encrypted else "disable"
    owner.aws("ec2", f"{switch}-ebs-encryption-by-default")
    image, back = tmp_path / "image", tmp_path / "back"
    with open(image, "wb") as file:
        file.truncate(1 << 30)
        for at in (0, 700 << 20, (1 << 30) - BLOCK):
            file.seek(at)
            file.write(os.urandom(BLOCK))
    snapshot = coldsnap(owner, "upload", "--wait", "--omit-zero-blocks", str(image)).splitlines()[-1]
    found = settled(owner, snapshot)
    assert (found["State"], found["Encrypted"], found["VolumeSize"]) == ("completed", encrypted, 1)
    coldsnap(owner, "download", snapshot, str(back))
    assert digest(image) == digest(back)
    blocks = owner.client("ebs").list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
    assert [b["BlockIndex"] for b in blocks] == [0, 1400, 2047]
    owner.aws("ec2", "disable-ebs-encryption-by-default")


def checksum(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def put(ebs, snapshot, index, data, **changes):
    arguments = dict(
        SnapshotId=snapshot, BlockIndex=index, BlockData=data, DataLength=len(data),
        Checksum=checksum(data), ChecksumAlgorithm="SHA256",
    )  # fmt: skip
    return ebs.put_snapshot_block(**{**arguments, **changes})


def refused(code, call):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response


def test_blocks_one_by_one(owner):
    ebs = owner.client("ebs")
    key = create_key(owner)
    started = ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=key, ClientToken="t-1")
    again = ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=key, ClientToken="t-1")
    assert again["SnapshotId"] == started["SnapshotId"]
    refused("ConflictException", lambda: ebs.start_snapshot(VolumeSize=2, ClientToken="t-1"))

    snapshot, data = started["SnapshotId"], os.urandom(BLOCK)
    refused("ValidationException", lambda: put(ebs, snapshot, 0, data, Checksum=checksum(b"x")))
    refused("ValidationException", lambda: put(ebs, snapshot, 2048, data))
    put(ebs, snapshot, 5, data)
    put(ebs, snapshot, 5, data)
    refused(
        "ValidationException",
        lambda: ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=2),
    )
    aggregate = base64.b64encode(
        hashlib.sha256(hashlib.sha256(data).digest()).digest()
    ).decode()
    ebs.complete_snapshot(
        SnapshotId=snapshot, ChangedBlocksCount=1, Checksum=aggregate,
        ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR",
    )  # fmt: skip
    assert settled(owner, snapshot)["State"] == "completed"
    refused("ValidationException", lambda: put(ebs, snapshot, 6, data))

    child = ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=snapshot)["SnapshotId"]
    changed = os.urandom(BLOCK)
    put(ebs, child, 7, changed)
    ebs.complete_snapshot(SnapshotId=child, ChangedBlocksCount=1)
    assert settled(owner, child)["State"] == "completed"
    blocks = ebs.list_changed_blocks(FirstSnapshotId=snapshot, SecondSnapshotId=child)
    assert [b["BlockIndex"] for b in blocks["ChangedBlocks"]] == [7]
    listed = ebs.list_snapshot_blocks(SnapshotId=child)["Blocks"]
    assert [b["BlockIndex"] for b in listed] == [5, 7]
    got = ebs.get_snapshot_block(SnapshotId=child, BlockIndex=7, BlockToken=listed[1]["BlockToken"])
    assert got["BlockData"].read() == changed
    assert got["Checksum"] == checksum(changed)
    refused(
        "ValidationException",
        lambda: ebs.get_snapshot_block(
            SnapshotId=snapshot, BlockIndex=5, BlockToken=listed[1]["BlockToken"]
        ),
    )


def test_a_volume_from_a_direct_snapshot_has_its_blocks(owner, tmp_path):
    require("nbdcopy")
    ebs, data = owner.client("ebs"), os.urandom(BLOCK)
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, snapshot, 9, data)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    assert settled(owner, snapshot)["State"] == "completed"
    volume = create_volume(owner, "--snapshot-id", snapshot)
    _, uri = attach(owner, volume)
    target = tmp_path / "read-back"
    subprocess.run(["nbdcopy", uri, str(target)], check=True, timeout=120)
    detach(owner, volume)
    with open(target, "rb") as file:
        file.seek(9 * BLOCK)
        assert file.read(BLOCK) == data
