"""`kill -9` at any moment loses nothing that was answered, flushed or not (50 times in one run)."""

import random
import struct
import threading

from conftest import eventually
from nbd_client import Nbd
from steps import REGION, attach, create_key, create_snapshot, create_volume

KILLS = 50
# Snapshots of one volume that may be on their way at once.
PENDING_MAX = 5
PAGE = 4096
PAGES = 2048


def stamp(page, sequence):
    """A page that says where it belongs and which write it is of."""
    return struct.pack("<QQ", page, sequence) * (PAGE // 16)


class Writer(threading.Thread):
    """Writes random pages, and flushes now and then, until the server dies; knows what has to be there then."""

    def __init__(self, path, answered, sequence, seed):
        super().__init__()
        self.nbd, self.random = Nbd(path), random.Random(seed)
        # The newest write of each page, flushed or not: only a power cut may take it.
        self.answered = dict(answered)
        self.sequence = sequence
        # The write that the server may have had and not answered.
        self.asked = {}

    def run(self):
        try:
            while True:
                for _ in range(self.random.randrange(1, 32)):
                    self.sequence += 1
                    page = self.random.randrange(PAGES)
                    self.asked = {page: self.sequence}
                    self.nbd.write(page * PAGE, stamp(page, self.sequence))
                    self.answered[page] = self.sequence
                    self.asked = {}
                self.nbd.flush()
        except OSError:
            self.nbd.close()


def verify(path, writer):
    """Every answered write is there, or the one after it that was on its way; returns what is there now."""
    nbd, found = Nbd(path), {}
    for page in set(writer.answered) | set(writer.asked):
        data = nbd.read(page * PAGE, PAGE)
        at, sequence = struct.unpack_from("<QQ", data)
        allowed = [writer.answered.get(page, 0), writer.asked.get(page)]
        assert sequence in allowed, f"page {page} holds write {sequence}, allowed {allowed}"
        assert data == (stamp(page, sequence) if sequence else bytes(PAGE)), f"page {page} is torn"
        assert at == (page if sequence else 0)
        if sequence:
            found[page] = sequence
    nbd.close()
    return found


def test_fifty_kills_under_load(own_server):
    server = own_server()
    owner = server.account("owner")
    key, other_key = create_key(owner), create_key(owner)
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    host, _ = attach(owner, volume)
    path = server.socket(host, "/dev/sdf")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    first = Nbd(path)
    first.write(0, stamp(0, 1))
    first.flush()
    first.close()
    source = create_snapshot(owner, volume)
    ec2 = owner.client("ec2")
    answered, sequence, started = {0: 1}, 1, []

    def has_room():
        filters = [
            {"Name": "volume-id", "Values": [volume]},
            {"Name": "status", "Values": ["pending"]},
        ]
        return len(ec2.describe_snapshots(Filters=filters)["Snapshots"]) < PENDING_MAX

    for kill in range(KILLS):
        # Exports leave the machine to guests, and each kill throws them back to a checkpoint.
        eventually(has_room)
        writer = Writer(path, answered, sequence, chance.randrange(1 << 32))
        writer.start()
        # Work that the kill interrupts: a copy under another key, or a snapshot of the volume.
        if kill % 2:
            copied = ec2.copy_snapshot(
                SourceRegion=REGION, SourceSnapshotId=source, Encrypted=True, KmsKeyId=other_key
            )
        else:
            copied = ec2.create_snapshot(VolumeId=volume)
        started.append(copied["SnapshotId"])
        writer.join(timeout=chance.random() * 0.5)
        server.kill()
        writer.join(timeout=60)
        assert not writer.is_alive()
        server.start()
        answered, sequence = verify(path, writer), writer.sequence

    def all_settled():
        found = ec2.describe_snapshots(SnapshotIds=started)["Snapshots"]
        states = [snapshot["State"] for snapshot in found]
        return states if "pending" not in states else None

    assert eventually(all_settled, 300) == ["completed"] * KILLS
    found = ec2.describe_volumes()["Volumes"]
    assert [(v["VolumeId"], v["State"]) for v in found] == [(volume, "in-use")]
    grants = owner.aws("kms", "list-grants", "--key-id", other_key)["Grants"]
    assert grants == [], "every grant of a finished copy is retired"
    ec2.detach_volume(VolumeId=volume)
    owner.aws("ec2", "wait", "volume-available", "--volume-ids", volume)
