"""The server with its rows in PostgreSQL: the same story, and nothing lost when it is killed."""

import os

import pytest

from conftest import require
from steps import (
    attach,
    create_key,
    create_snapshot,
    create_volume,
    describe_snapshot,
    detach,
    digest,
    key_policy,
    read_digest,
    settled,
    share,
    trail,
    write_image,
)

URL = os.environ.get("STRONGROOM_TEST_POSTGRES")
TARGET_REGION = "eu-west-1"


@pytest.fixture(scope="module")
def postgres(own_server):
    if URL is None:
        message = "STRONGROOM_TEST_POSTGRES names no server; `cargo xtask test` starts one"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return own_server("--meta-url", URL)


def test_the_story_on_postgresql(postgres, tmp_path):
    require("nbdcopy")
    owner, recipient = postgres.account("owner"), postgres.account("recipient")
    policy = key_policy(owner, recipient, actions=["kms:CreateGrant", "kms:DescribeKey"])
    key, own_key = create_key(owner, policy=policy), create_key(recipient, TARGET_REGION)
    image = tmp_path / "image"
    image.write_bytes(os.urandom(4 << 20) + bytes((1 << 30) - (4 << 20)))

    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    host, uri = attach(owner, volume)
    write_image(image, uri)
    snapshot = create_snapshot(owner, volume)
    share(owner, snapshot, recipient)
    copied = recipient.aws(
        "ec2", "copy-snapshot", "--source-region", "us-east-1", "--source-snapshot-id", snapshot,
        "--encrypted", "--kms-key-id", own_key, region=TARGET_REGION,
    )["SnapshotId"]  # fmt: skip
    postgres.kill()
    postgres.start()

    assert read_digest(uri, tmp_path) == digest(image), "the volume is attached again"
    detach(owner, volume)
    assert settled(recipient, copied, TARGET_REGION)["State"] == "completed"
    assert describe_snapshot(recipient, copied, TARGET_REGION)["KmsKeyId"] == own_key
    restored = create_volume(recipient, "--snapshot-id", copied, region=TARGET_REGION)
    _, uri = attach(recipient, restored, TARGET_REGION)
    assert read_digest(uri, tmp_path) == digest(image)
    detach(recipient, restored, TARGET_REGION)
    assert trail(owner, EventName="CreateSnapshot")
