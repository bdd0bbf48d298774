"""Story 4: how EBS uses KMS (spec 40, rows marked "same")."""

import base64
import json
import os
import subprocess

import pytest

from conftest import eventually, require
from steps import (
    REGION,
    attach,
    create_key,
    create_snapshot,
    create_volume,
    describe_snapshot,
    detach,
    make_image,
    settled,
    trail,
)


@pytest.fixture(scope="module")
def owner(server):
    return server.account("owner")


@pytest.fixture(scope="module")
def key(owner):
    return create_key(owner)


def described(account, volume):
    found = account.aws("ec2", "describe-volumes", "--volume-ids", volume)
    return found["Volumes"][0]


def test_encryption_follows_from_volume_to_snapshot_to_volume(owner, key):
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    assert described(owner, volume)["KmsKeyId"] == key
    snapshot = create_snapshot(owner, volume)
    assert describe_snapshot(owner, snapshot)["KmsKeyId"] == key
    restored = create_volume(owner, "--snapshot-id", snapshot)
    assert described(owner, restored)["Encrypted"] is True
    assert described(owner, restored)["KmsKeyId"] == key


def test_without_a_key_the_accounts_default_is_used(owner):
    volume = create_volume(owner, "--size", "1", "--encrypted")
    managed = owner.aws("kms", "describe-key", "--key-id", "alias/aws/ebs")["KeyMetadata"]
    assert managed["KeyManager"] == "AWS"
    assert described(owner, volume)["KmsKeyId"] == managed["Arn"]


def test_every_volume_has_its_own_data_key_under_its_own_context(owner, key):
    volumes = [
        create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key) for _ in range(2)
    ]
    records = trail(owner, EventName="GenerateDataKeyWithoutPlaintext")
    contexts = [r["requestParameters"]["encryptionContext"]["aws:ebs:id"] for r in records]
    for volume in volumes:
        assert contexts.count(volume) == 1
    record = records[0]
    assert record["requestParameters"]["numberOfBytes"] == 64
    assert record["userIdentity"]["invokedBy"] == "ec2-frontend-api.amazonaws.com"
    assert record["resources"][0]["ARN"] == key
    assert "sharedEventID" in record


def test_attaching_makes_a_grant_and_decrypts_with_the_volumes_context(owner, key):
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    host, _ = attach(owner, volume)
    grants = trail(owner, EventName="CreateGrant")
    grant = next(g for g in grants if host in json.dumps(g["requestParameters"]))
    assert grant["requestParameters"]["constraints"] == {
        "encryptionContextSubset": {"aws:ebs:id": volume}
    }
    decrypts = trail(owner, EventName="Decrypt")
    decrypt = next(d for d in decrypts if d["userIdentity"].get("arn", "").endswith(host))
    assert decrypt["requestParameters"]["encryptionContext"] == {"aws:ebs:id": volume}
    assert decrypt["requestID"] == grant["requestID"]
    assert decrypt["userIdentity"]["invokedBy"] == "AWS Internal"
    detach(owner, volume)
    grants = owner.aws("kms", "list-grants", "--key-id", key)["Grants"]
    assert not [g for g in grants if host in g["GranteePrincipal"]]


def test_create_snapshot_makes_no_kms_call(owner, key):
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    attach(owner, volume)
    before = len(trail(owner, EventSource="kms.amazonaws.com"))
    create_snapshot(owner, volume)
    assert len(trail(owner, EventSource="kms.amazonaws.com")) == before
    detach(owner, volume)


def test_a_copy_has_the_snapshots_id_as_context(owner, key):
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    snapshot = create_snapshot(owner, volume)
    other = create_key(owner)
    copied = owner.aws(
        "ec2", "copy-snapshot", "--source-region", REGION, "--source-snapshot-id", snapshot,
        "--encrypted", "--kms-key-id", other,
    )["SnapshotId"]  # fmt: skip
    assert settled(owner, copied)["State"] == "completed"
    records = trail(owner, EventName="GenerateDataKeyWithoutPlaintext")
    contexts = [r["requestParameters"]["encryptionContext"]["aws:ebs:id"] for r in records]
    assert copied in contexts


def test_no_record_carries_a_secret(owner, key, tmp_path):
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    plain.write_bytes(b"secret-plaintext")
    out = owner.aws("kms", "encrypt", "--key-id", key, "--plaintext", f"fileb://{plain}")
    sealed.write_bytes(base64.b64decode(out["CiphertextBlob"]))
    opened = owner.aws("kms", "decrypt", "--ciphertext-blob", f"fileb://{sealed}")
    assert base64.b64decode(opened["Plaintext"]) == b"secret-plaintext"
    text = json.dumps(trail(owner))
    secrets = ["secret-plaintext", opened["Plaintext"], out["CiphertextBlob"], owner.secret_key]
    assert not [secret for secret in secrets if secret in text]


class TestUnusableKey:
    def test_creating_fails_and_the_volume_vanishes(self, owner):
        key = create_key(owner)
        owner.aws("kms", "disable-key", "--key-id", key)
        volume = owner.aws(
            "ec2", "create-volume", "--availability-zone", "us-east-1a", "--size", "1",
            "--encrypted", "--kms-key-id", key,
        )["VolumeId"]  # fmt: skip

        def gone():
            ids = [v["VolumeId"] for v in owner.aws("ec2", "describe-volumes")["Volumes"]]
            return volume not in ids

        eventually(gone)
        owner.aws(
            "ec2", "describe-volumes", "--volume-ids", volume, fails=r"InvalidVolume\.NotFound"
        )

    def test_attached_io_goes_on_and_the_next_attach_fails(self, owner, tmp_path):
        require("nbdcopy")
        key = create_key(owner)
        volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
        host, uri = attach(owner, volume)
        owner.aws("kms", "disable-key", "--key-id", key)
        image = tmp_path / "image"
        make_image(image, os.urandom(1 << 20))
        subprocess.run(["nbdcopy", "--flush", str(image), uri], check=True, timeout=120)
        detach(owner, volume)
        owner.aws(
            "ec2", "attach-volume", "--volume-id", volume, "--instance-id", host,
            "--device", "/dev/sdf", fails=r"CustomerKeyHasBeenRevoked",
        )  # fmt: skip
        assert described(owner, volume)["State"] == "available"
        owner.aws("kms", "enable-key", "--key-id", key)
        attach(owner, volume, host=host)
        detach(owner, volume)


def test_encryption_by_default(owner, server):
    account = server.account("defaults")
    assert account.aws("ec2", "get-ebs-encryption-by-default")["EbsEncryptionByDefault"] is False
    account.aws("ec2", "enable-ebs-encryption-by-default")
    key = create_key(account)
    account.aws("ec2", "modify-ebs-default-kms-key-id", "--kms-key-id", key)
    volume = create_volume(account, "--size", "1", "--no-encrypted")
    assert described(account, volume)["KmsKeyId"] == key
    other = account.aws("ec2", "get-ebs-encryption-by-default", region="eu-west-1")
    assert other["EbsEncryptionByDefault"] is False
    account.aws("ec2", "reset-ebs-default-kms-key-id")
    account.aws("ec2", "disable-ebs-encryption-by-default")
