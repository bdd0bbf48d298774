"""Story 0: an encrypted snapshot is copied to another account and region (spec 40, rows marked "same").

Every step is the stock `aws` CLI; bytes move over NBD with nbdcopy.
"""

import os

import pytest

import steps
from conftest import require
from steps import (
    allow,
    attach,
    create_key,
    create_snapshot,
    create_volume,
    deny,
    describe_snapshot,
    detach,
    digest,
    make_image,
    settled,
    share,
    write_image,
)

SOURCE_REGION = "us-east-1"
TARGET_REGION = "ap-northeast-1"

# What the owner's key policy gives the other account in the story.
SHARED_KEY_ACTIONS = ["kms:DescribeKey", "kms:CreateGrant", "kms:Decrypt", "kms:ReEncrypt*"]


def key_policy(owner, *foreign):
    return steps.key_policy(owner, *foreign, actions=SHARED_KEY_ACTIONS)


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
    make_image(story.image, data)
    story.digest = digest(story.image)

    story.volume = create_volume(
        story.owner, "--size", "1", "--encrypted", "--kms-key-id", story.key,
        "--tag-specifications", "ResourceType=volume,Tags=[{Key=Name,Value=secret-name}]",
    )  # fmt: skip
    _, uri = attach(story.owner, story.volume)
    write_image(story.image, uri)
    story.snapshot = create_snapshot(
        story.owner, story.volume,
        "--tag-specifications", "ResourceType=snapshot,Tags=[{Key=Name,Value=secret-name}]",
    )  # fmt: skip
    detach(story.owner, story.volume)
    share(story.owner, story.snapshot, story.recipient, SOURCE_REGION)
    return story


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
        volume = create_volume(recipient, "--snapshot-id", copied, region=TARGET_REGION)
        _, uri = attach(recipient, volume, TARGET_REGION)
        assert steps.read_digest(uri, tmp_path) == story.digest
        detach(recipient, volume, TARGET_REGION)
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
    volume = create_volume(story.owner, "--size", "1", "--encrypted")
    snapshot = create_snapshot(story.owner, volume)
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
        story.owner, "--size", str(size), "--volume-type", kind, *more,
        "--encrypted", "--kms-key-id", story.key,
    )  # fmt: skip
    snapshot = create_snapshot(story.owner, volume)
    share(story.owner, snapshot, story.recipient, SOURCE_REGION)
    found = settled(story.recipient, copy(story.recipient, snapshot, story.own_key), TARGET_REGION)
    assert (found["State"], found["VolumeSize"]) == ("completed", size)


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
            deny(missing, resource=story.key),
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
        return story.recipient.user("copier", *self.statements(story, story.own_key))

    @staticmethod
    def statements(story, target, without=None):
        """The minimal policy: what is enforced, and nothing else."""
        statements = [allow("ec2:CopySnapshot", "ec2:DescribeSnapshots")]
        for action, which, _ in ENFORCED:
            if (action, which) != without:
                key = story.key if which == "source" else target
                statements.append(allow(action, resource=key))
        return statements

    def test_the_minimal_policy_suffices(self, story, user):
        found = settled(user, copy(user, story.snapshot, story.own_key), TARGET_REGION)
        assert found["State"] == "completed", found

    @pytest.mark.parametrize("action,which,how", ENFORCED)
    def test_each_removed_in_turn(self, story, user, action, which, how):
        # A key without earlier copies: a copy that continues one needs no new data key.
        target = create_key(story.recipient, TARGET_REGION)
        without = self.statements(story, target, without=(action, which))
        story.recipient.user_policy("copier", *without)
        if how == "sync":
            copy(
                user, story.snapshot, target,
                fails=rf"AuthFailure.*Not authorized to use key {target}",
            )  # fmt: skip
        else:
            found = settled(user, copy(user, story.snapshot, target), TARGET_REGION)
            assert found["State"] == "error", found
            assert found["StateMessage"] == "Given key ID is not accessible"
            assert found["Progress"] == "0%"

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
        # A snapshot that exists and cannot be seen is left out (spec 02, "DescribeSnapshots").
        found = story.recipient.aws(
            "ec2", "describe-snapshots", "--snapshot-ids", story.snapshot, region=SOURCE_REGION
        )
        assert found["Snapshots"] == []
        assert describe_snapshot(story.recipient, copied, TARGET_REGION)["State"] == "completed"
    finally:
        share(story.owner, story.snapshot, story.recipient, SOURCE_REGION)


def test_the_two_accounts_store_no_equal_ciphertext(story):
    """A new key re-encrypts the data: nothing of one region's objects occurs in the other's."""
    copied = copy(story.recipient, story.snapshot, story.own_key)
    assert settled(story.recipient, copied, TARGET_REGION)["State"] == "completed"

    def objects(region):
        home = story.server.data / "regions" / region / "objects"
        return [path.read_bytes() for path in home.rglob("*") if path.is_file()]

    source, target = objects(SOURCE_REGION), objects(TARGET_REGION)
    assert sum(map(len, source)) > 4 << 20 and sum(map(len, target)) > 4 << 20
    # A page of 4 KiB contains a 32-byte string at every multiple of 2 KiB, wherever it lies.
    needles = [data[at : at + 32] for data in source for at in range(0, len(data) - 32, 2048)]
    needles = [needle for needle in needles if len(set(needle)) > 16]
    haystack = b"".join(target)
    assert needles
    assert not any(needle in haystack for needle in needles[:: max(1, len(needles) // 500)])


def test_documented_mode_requires_every_documented_permission(own_server, tmp_path):
    """`--enforcement documented` also denies where the documentation asks for more than is enforced."""
    server = own_server("--enforcement", "documented")
    owner, recipient = server.account("owner"), server.account("recipient")
    key = create_key(owner, SOURCE_REGION, key_policy(owner, recipient))
    own_key = create_key(recipient, TARGET_REGION)
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    snapshot = create_snapshot(owner, volume)
    share(owner, snapshot, recipient, SOURCE_REGION)
    for number, (denied, resource) in enumerate(
        [("kms:DescribeKey", key), ("kms:Decrypt", key), ("kms:CreateGrant", key)]
    ):
        user = recipient.user(
            f"copier-{number}",
            allow("ec2:*", "kms:*"),
            deny(denied, resource=resource),
        )
        found = settled(user, copy(user, snapshot, own_key), TARGET_REGION)
        assert found["State"] == "error", denied
        assert found["StateMessage"] == "Given key ID is not accessible"
    found = settled(recipient, copy(recipient, snapshot, own_key), TARGET_REGION)
    assert found["State"] == "completed"
