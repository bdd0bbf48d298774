"""Story 0: an encrypted snapshot is copied to another account and region (spec 40, rows marked "same").

Every step is the stock `aws` CLI; bytes move over NBD with nbdcopy.
"""

import hashlib
import json
import os
import subprocess

import pytest

from conftest import Account, eventually, require

SOURCE_REGION = "us-east-1"
TARGET_REGION = "ap-northeast-1"

# What the owner's key policy gives the other account in the story.
SHARED_KEY_ACTIONS = ["kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt", "kms:ReEncrypt*"]


def key_policy(owner, *foreign, actions=SHARED_KEY_ACTIONS):
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


def create_key(account, region, policy=None):
    arguments = ["kms", "create-key"] + (["--policy", policy] if policy else [])
    return account.aws(*arguments, region=region)["KeyMetadata"]["Arn"]


def attach(account, server, volume, region, device="/dev/sdf"):
    host = server.host(account, region + "a")
    account.aws(
        "ec2", "attach-volume", "--volume-id", volume, "--instance-id", host, "--device", device, region=region
    )
    account.aws("ec2", "wait", "volume-in-use", "--volume-ids", volume, region=region)
    return host, f"nbd+unix:///?socket={server.socket(host, device)}"


def detach(account, volume, region):
    account.aws("ec2", "detach-volume", "--volume-id", volume, region=region)
    account.aws("ec2", "wait", "volume-available", "--volume-ids", volume, region=region)


def create_volume(account, region, *arguments):
    volume = account.aws(
        "ec2", "create-volume", "--availability-zone", region + "a", *arguments, region=region
    )["VolumeId"]
    account.aws("ec2", "wait", "volume-available", "--volume-ids", volume, region=region)
    return volume


def create_snapshot(account, volume, region, *arguments):
    snapshot = account.aws("ec2", "create-snapshot", "--volume-id", volume, *arguments, region=region)
    account.aws("ec2", "wait", "snapshot-completed", "--snapshot-ids", snapshot["SnapshotId"], region=region)
    return snapshot["SnapshotId"]


def describe_snapshot(account, snapshot, region):
    found = account.aws("ec2", "describe-snapshots", "--snapshot-ids", snapshot, region=region)
    return found["Snapshots"][0]


def settled(account, snapshot, region):
    """The snapshot once it is no longer pending."""

    def check():
        found = describe_snapshot(account, snapshot, region)
        return found if found["State"] != "pending" else None

    return eventually(check)


def share(account, snapshot, other, region, fails=None):
    return account.aws(
        "ec2", "modify-snapshot-attribute", "--snapshot-id", snapshot,
        "--attribute", "createVolumePermission", "--operation-type", "add", "--user-ids", other.id,
        region=region, fails=fails,
    )  # fmt: skip


def copy(account, snapshot, key, fails=None, region=TARGET_REGION, source=SOURCE_REGION):
    copied = account.aws(
        "ec2", "copy-snapshot", "--source-region", source, "--source-snapshot-id", snapshot,
        "--encrypted", "--kms-key-id", key, region=region, fails=fails,
    )  # fmt: skip
    return copied if fails else copied["SnapshotId"]


class Story:
    """The state of the story after the owner's half: a shared key and a shared snapshot."""


@pytest.fixture(scope="module")
def story(server, tmp_path_factory):
    require("nbdcopy")
    story = Story()
    story.server = server
    story.owner = server.account("owner")
    story.recipient = server.account("recipient")
    story.key = create_key(
        story.owner, SOURCE_REGION, key_policy(story.owner, story.recipient)
    )
    story.own_key = create_key(story.recipient, TARGET_REGION)

    story.image = tmp_path_factory.mktemp("story") / "image"
    data = bytearray(os.urandom(8 << 20))
    data[3 << 20 : 5 << 20] = bytes(2 << 20)
    story.image.write_bytes(data + bytes((1 << 30) - len(data)))
    story.digest = hashlib.sha256(story.image.read_bytes()).hexdigest()

    story.volume = create_volume(
        story.owner, SOURCE_REGION, "--size", "1", "--encrypted", "--kms-key-id", story.key,
        "--tag-specifications", "ResourceType=volume,Tags=[{Key=Name,Value=secret-name}]",
    )  # fmt: skip
    _, uri = attach(story.owner, server, story.volume, SOURCE_REGION)
    subprocess.run(["nbdcopy", "--flush", str(story.image), uri], check=True, timeout=120)
    story.snapshot = create_snapshot(
        story.owner, story.volume, SOURCE_REGION,
        "--tag-specifications", "ResourceType=snapshot,Tags=[{Key=Name,Value=secret-name}]",
    )  # fmt: skip
    detach(story.owner, story.volume, SOURCE_REGION)
    share(story.owner, story.snapshot, story.recipient, SOURCE_REGION)
    return story


def volume_digest(account, server, volume, region, directory):
    _, uri = attach(account, server, volume, region)
    target = directory / "read-back"
    subprocess.run(["nbdcopy", uri, str(target)], check=True, timeout=120)
    detach(account, volume, region)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def test_copy_to_another_account_and_region_keeps_every_byte(story, tmp_path):
    recipient = story.recipient
    copied = copy(recipient, story.snapshot, story.own_key)
    found = settled(recipient, copied, TARGET_REGION)
    assert found["State"] == "completed", found
    assert found["KmsKeyId"] == story.own_key
    assert found["OwnerId"] == recipient.id
    assert found["VolumeId"] == "vol-ffffffff"

    # The owner's key goes away; the copy is independent of it.
    story.owner.aws("kms", "disable-key", "--key-id", story.key, region=SOURCE_REGION)
    try:
        volume = create_volume(recipient, TARGET_REGION, "--snapshot-id", copied)
        digest = volume_digest(recipient, story.server, volume, TARGET_REGION, tmp_path)
        assert digest == story.digest
    finally:
        story.owner.aws("kms", "enable-key", "--key-id", story.key, region=SOURCE_REGION)


def test_recipient_sees_the_share_without_the_owners_tags(story):
    shared = story.recipient.aws(
        "ec2", "describe-snapshots", "--restorable-by-user-ids", "self", region=SOURCE_REGION
    )["Snapshots"]
    assert [s["SnapshotId"] for s in shared] == [story.snapshot]
    assert "Tags" not in shared[0] or shared[0]["Tags"] == []
    own = story.owner.aws("ec2", "describe-snapshots", "--owner-ids", "self", region=SOURCE_REGION)
    assert own["Snapshots"][0]["Tags"] == [{"Key": "Name", "Value": "secret-name"}]


def test_ids_are_long_and_short_ones_are_understood(story):
    assert len(story.snapshot) == len("snap-") + 17
    story.owner.aws(
        "ec2", "describe-snapshots", "--snapshot-ids", "snap-12345678", region=SOURCE_REGION,
        fails=r"InvalidSnapshot\.NotFound",
    )  # fmt: skip


def test_default_key_cannot_be_shared(story):
    volume = create_volume(story.owner, SOURCE_REGION, "--size", "1", "--encrypted")
    snapshot = create_snapshot(story.owner, volume, SOURCE_REGION)
    share(
        story.owner, snapshot, story.recipient, SOURCE_REGION,
        fails=r"OperationNotPermitted.*Encrypted snapshots with EBS default key cannot be shared",
    )  # fmt: skip


def test_encrypted_snapshot_cannot_be_public(story):
    story.owner.aws(
        "ec2", "modify-snapshot-attribute", "--snapshot-id", story.snapshot,
        "--attribute", "createVolumePermission", "--operation-type", "add", "--group-names", "all",
        region=SOURCE_REGION, fails=r"OperationNotPermitted.*Encrypted snapshots cannot be shared publicly",
    )  # fmt: skip


VOLUME_TYPES = [
    ("gp2", 1, []),
    ("gp3", 1, []),
    ("io1", 4, ["--iops", "100"]),
    ("io2", 4, ["--iops", "100"]),
    ("st1", 125, []),
    ("sc1", 125, []),
    ("standard", 1, []),
]


@pytest.mark.parametrize("kind,size,more", VOLUME_TYPES, ids=[kind for kind, _, _ in VOLUME_TYPES])
def test_every_volume_type_travels(story, kind, size, more):
    volume = create_volume(
        story.owner, SOURCE_REGION, "--size", str(size), "--volume-type", kind, *more,
        "--encrypted", "--kms-key-id", story.key,
    )  # fmt: skip
    snapshot = create_snapshot(story.owner, volume, SOURCE_REGION)
    share(story.owner, snapshot, story.recipient, SOURCE_REGION)
    found = settled(story.recipient, copy(story.recipient, snapshot, story.own_key), TARGET_REGION)
    assert (found["State"], found["VolumeSize"]) == ("completed", size)


def allow(*actions, resource="*"):
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


class TestOwnersPermissions:
    """What the owner's user needs to share, each permission removed in turn."""

    def test_modify_snapshot_attribute(self, story):
        user = story.owner.user("no-modify", allow("kms:*"))
        share(user, story.snapshot, story.recipient, SOURCE_REGION, fails="UnauthorizedOperation")

    @pytest.mark.parametrize("missing", ["kms:DescribeKey", "kms:ReEncrypt*"])
    def test_use_of_the_key(self, story, missing):
        name = "no-" + missing.strip("*").split(":")[1].lower()
        user = story.owner.user(
            name,
            allow("ec2:*", "kms:*"),
            {"Effect": "Deny", "Action": missing, "Resource": story.key},
        )
        share(
            user, story.snapshot, story.recipient, SOURCE_REGION,
            fails=rf"AuthFailure.*Not authorized to use key {story.key}",
        )  # fmt: skip

    def test_all_of_them_suffice(self, story):
        user = story.owner.user(
            "sharer", allow("ec2:ModifySnapshotAttribute", "kms:DescribeKey", "kms:ReEncrypt*")
        )
        share(user, story.snapshot, story.recipient, SOURCE_REGION)


# What the native service enforces on the copying user (spec 20, C.7): permission, key, how it fails.
ENFORCED = [
    ("kms:CreateGrant", "source", "async"),
    ("kms:DescribeKey", "target", "sync"),
    ("kms:GenerateDataKeyWithoutPlaintext", "target", "async"),
    ("kms:CreateGrant", "target", "async"),
]


class TestRecipientsPermissions:
    """What the recipient's user needs to copy, each permission removed in turn."""

    @pytest.fixture(scope="class")
    def user(self, story):
        return story.recipient.user("copier", *self.statements(story))

    @staticmethod
    def statements(story, without=None):
        """The minimal policy: what is enforced, and nothing else."""
        statements = [allow("ec2:CopySnapshot", "ec2:DescribeSnapshots")]
        for action, which, _ in ENFORCED:
            if (action, which) != without:
                key = story.key if which == "source" else story.own_key
                statements.append(allow(action, resource=key))
        return statements

    def test_the_minimal_policy_suffices(self, story, user):
        found = settled(user, copy(user, story.snapshot, story.own_key), TARGET_REGION)
        assert found["State"] == "completed", found

    @pytest.mark.parametrize("action,which,how", ENFORCED)
    def test_each_removed_in_turn(self, story, user, action, which, how):
        story.recipient.user_policy("copier", *self.statements(story, without=(action, which)))
        try:
            if how == "sync":
                copy(
                    user, story.snapshot, story.own_key,
                    fails=rf"AuthFailure.*Not authorized to use key {story.own_key}",
                )  # fmt: skip
            else:
                found = settled(user, copy(user, story.snapshot, story.own_key), TARGET_REGION)
                assert found["State"] == "error", found
                assert found["StateMessage"] == "Given key ID is not accessible"
                assert found["Progress"] == "0%"
        finally:
            story.recipient.user_policy("copier", *self.statements(story))

    def test_without_the_ec2_permission(self, story):
        user = story.recipient.user("no-copy", allow("kms:*"))
        copy(user, story.snapshot, story.own_key, fails="UnauthorizedOperation")


def test_copy_without_the_owners_key_policy_ends_in_error(story):
    story.owner.aws(
        "kms", "put-key-policy", "--key-id", story.key, "--policy-name", "default",
        "--policy", key_policy(story.owner), region=SOURCE_REGION,
    )  # fmt: skip
    try:
        found = settled(
            story.recipient, copy(story.recipient, story.snapshot, story.own_key), TARGET_REGION
        )
        assert found["State"] == "error"
        assert found["StateMessage"] == "Given key ID is not accessible"
    finally:
        story.owner.aws(
            "kms", "put-key-policy", "--key-id", story.key, "--policy-name", "default",
            "--policy", key_policy(story.owner, story.recipient), region=SOURCE_REGION,
        )  # fmt: skip


def test_after_unsharing_the_share_is_gone_and_the_copy_stays(story):
    copied = copy(story.recipient, story.snapshot, story.own_key)
    assert settled(story.recipient, copied, TARGET_REGION)["State"] == "completed"
    story.owner.aws(
        "ec2", "modify-snapshot-attribute", "--snapshot-id", story.snapshot,
        "--attribute", "createVolumePermission", "--operation-type", "remove",
        "--user-ids", story.recipient.id, region=SOURCE_REGION,
    )  # fmt: skip
    try:
        story.recipient.aws(
            "ec2", "describe-snapshots", "--snapshot-ids", story.snapshot, region=SOURCE_REGION,
            fails=r"InvalidSnapshot\.NotFound",
        )  # fmt: skip
        assert describe_snapshot(story.recipient, copied, TARGET_REGION)["State"] == "completed"
    finally:
        share(story.owner, story.snapshot, story.recipient, SOURCE_REGION)


def test_the_two_accounts_store_no_equal_ciphertext(story):
    """A new key re-encrypts the data: no 4 KiB of one region's objects occurs in the other's."""
    copied = copy(story.recipient, story.snapshot, story.own_key)
    assert settled(story.recipient, copied, TARGET_REGION)["State"] == "completed"

    def pages(region):
        found = set()
        for path in (story.server.data / "regions" / region / "objects").rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                # Pages lie at any offset in a pack: compare by a rolling window of 64 bytes at
                # every 64th offset of one side against every offset of the other is quadratic;
                # equal ciphertext shows as equal aligned 64-byte strings inside equal packs.
                found.update(data[at : at + 64] for at in range(0, len(data) - 64, 64))
        return {piece for piece in found if len(set(piece)) > 16}

    source, target = pages(SOURCE_REGION), pages(TARGET_REGION)
    assert source and target
    assert not source & target


def test_documented_mode_requires_every_documented_permission(own_server, tmp_path):
    """`--enforcement documented` also denies where the documentation asks for more than is enforced."""
    server = own_server("--enforcement", "documented")
    owner, recipient = server.account("owner"), server.account("recipient")
    key = create_key(owner, SOURCE_REGION, key_policy(owner, recipient))
    own_key = create_key(recipient, TARGET_REGION)
    volume = create_volume(owner, SOURCE_REGION, "--size", "1", "--encrypted", "--kms-key-id", key)
    snapshot = create_snapshot(owner, volume, SOURCE_REGION)
    share(owner, snapshot, recipient, SOURCE_REGION)
    for number, (denied, resource) in enumerate(
        [("kms:DescribeKey", key), ("kms:Decrypt", key), ("kms:CreateGrant", key)]
    ):
        user = recipient.user(
            f"copier-{number}",
            allow("ec2:*", "kms:*"),
            {"Effect": "Deny", "Action": denied, "Resource": resource},
        )
        found = settled(user, copy(user, snapshot, own_key), TARGET_REGION)
        assert (found["State"], found["StateMessage"]) == (
            "error",
            "Given key ID is not accessible",
        ), denied
    found = settled(recipient, copy(recipient, snapshot, own_key), TARGET_REGION)
    assert found["State"] == "completed"
