"""The server with its rows in PostgreSQL: the same story, and nothing lost when it is killed."""

import os

import pytest
import test_key_life as life

from conftest import eventually, missing, require
from steps import (
    attach,
    create_key,
    create_snapshot,
    create_volume,
    describe_snapshot,
    detach,
    digest,
    key_policy,
    make_image,
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
        missing("STRONGROOM_TEST_POSTGRES names no server; `cargo xtask test` starts one")
    return own_server("--meta-url", URL)


def test_the_story_on_postgresql(postgres, tmp_path):
    require("nbdcopy")
    owner, recipient = postgres.account("owner"), postgres.account("recipient")
    policy = key_policy(owner, recipient, actions=["kms:CreateGrant", "kms:DescribeKey"])
    key, own_key = create_key(owner, policy=policy), create_key(recipient, TARGET_REGION)
    image = tmp_path / "image"
    make_image(image, os.urandom(4 << 20))

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


def test_the_life_of_a_key_on_postgresql(postgres):
    account = postgres.account("life")
    home, away = account.client("kms"), account.client("kms", TARGET_REGION)
    key = home.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    blob = life.encrypt(home, key)
    home.replicate_key(KeyId=key, ReplicaRegion=TARGET_REGION)
    eventually(lambda: life.described(away, key)["KeyState"] == "Enabled", 30)
    home.enable_key_rotation(KeyId=key, RotationPeriodInDays=120)
    home.rotate_key_on_demand(KeyId=key)
    assert life.decrypt(away, blob) == life.decrypt(away, life.encrypt(home, key)) == b"text"

    imported, material = life.external(home), os.urandom(32)
    life.bring(home, imported, material, seconds=3)
    eventually(lambda: life.described(home, imported)["KeyState"] == "PendingImport", 30)
    life.bring(home, imported, material)

    # What was in memory is written at the end, and what is due is looked at after the start.
    assert postgres.stop() == 0
    postgres.start()
    used = away.get_key_last_usage(KeyId=key)["KeyLastUsage"]
    assert used["Operation"] == "Decrypt"
    assert home.get_key_rotation_status(KeyId=key)["RotationPeriodInDays"] == 120
    home.update_primary_region(KeyId=key, PrimaryRegion=TARGET_REGION)
    eventually(lambda: life.described(away, key)["KeyState"] == "Enabled", 30)
    assert len(life.versions(away, key)) == 2
    assert away.schedule_key_deletion(KeyId=key)["KeyState"] == "PendingReplicaDeletion"
    log = (postgres.dir / "server.log").read_text()
    assert "ERROR" not in log, log
