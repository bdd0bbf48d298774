"""Attached volumes as block devices, used by programs that were not written for this server."""

import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import eventually, missing, require

MIB = 1 << 20
GIB = 1 << 30
REGION = "us-east-1"


def run(*arguments, **options):
    done = subprocess.run(
        [str(a) for a in arguments], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


class Device:
    """A volume attached to a host of its own."""

    def __init__(self, server, account, size_gib=1):
        self.ec2, self.server, self.account = account.client("ec2", REGION), server, account
        key = account.client("kms", REGION).create_key()["KeyMetadata"]["Arn"]
        made = self.ec2.create_volume(
            AvailabilityZone=REGION + "a", Size=size_gib, Encrypted=True, KmsKeyId=key
        )
        self.volume = made["VolumeId"]
        self.wait("available")
        self.host = server.host(account, REGION + "a")
        self.attach()

    def attach(self):
        self.ec2.attach_volume(VolumeId=self.volume, InstanceId=self.host, Device="/dev/sdf")
        self.wait("in-use")

    def detach(self):
        self.ec2.detach_volume(VolumeId=self.volume)
        self.wait("available")

    def wait(self, state):
        def reached():
            return self.ec2.describe_volumes(VolumeIds=[self.volume])["Volumes"][0]["State"] == state

        eventually(reached)

    @property
    def socket(self):
        return self.server.socket(self.host, "/dev/sdf")

    @property
    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"


@pytest.fixture(autouse=True)
def scratch(tmp_path):
    """Images are large: nothing of them stays behind."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture
def device(server):
    return Device(server, server.account())


def test_nbdinfo_sees_what_is_promised(device):
    info = json.loads(run(require("nbdinfo"), "--json", device.uri))
    export = info["exports"][0]
    assert info["structured"] is True
    assert export["export-size"] == GIB
    assert export["contexts"] == ["base:allocation"]
    promised = ["flush", "fua", "trim", "zero", "df", "multi_conn", "cache", "fast_zero"]
    assert [export["can_" + name] for name in promised] == [True] * len(promised)
    assert export["is_read_only"] is False
    assert (device.socket.stat().st_mode & 0o777, device.socket.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_nbdcopy_there_and_back(device, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    with open(source, "wb") as file:
        file.truncate(GIB)
        for offset in (0, 3 * MIB + 512, GIB - 7 * MIB):
            file.seek(offset)
            file.write(os.urandom(7 * MIB))
    run(require("nbdcopy"), source, device.uri)
    run("nbdcopy", device.uri, back)
    run("cmp", source, back)
    extents = json.loads(run(require("nbdinfo"), "--map", "--json", device.uri))
    stored = sum(extent["length"] for extent in extents if extent["type"] == 0)
    assert sum(extent["length"] for extent in extents) == GIB
    assert 17 * MIB <= stored <= 32 * MIB, "what was never written is a hole"


def test_qemu_io_reads_what_it_wrote(device):
    commands = [
        "write -P 1 0 1M",
        "write -P 2 511 1023",
        "read -P 1 0 511",
        "read -P 2 511 1023",
        "read -P 1 1534 4096",
        "write -z -u 64k 64k",
        "read -P 0 64k 64k",
        "write -z 200001 4097",
        "read -P 0 200001 4097",
        "read -P 1 204098 100",
        "discard 256k 256k",
        "write -f -P 3 300k 4k",
        "flush",
        "read -P 3 300k 4k",
        "aio_write -P 4 512k 32k",
        "aio_write -P 5 544k 32k",
        "aio_flush",
        "read -P 4 512k 32k",
        "read -P 5 544k 32k",
        f"write -P 6 {GIB - 4096} 4096",
        f"read -P 6 {GIB - 4096} 4096",
    ]
    arguments = [part for command in commands for part in ("-c", command)]
    printed = run(require("qemu-io"), "-f", "raw", *arguments, device.uri)
    assert "failed" not in printed, printed


def test_qemu_img_converts_and_compares(device, tmp_path):
    raw, image = tmp_path / "raw", tmp_path / "image.qcow2"
    with open(raw, "wb") as file:
        file.truncate(GIB)
        file.seek(100 * MIB)
        file.write(os.urandom(20 * MIB))
    run(require("qemu-img"), "convert", "-f", "raw", "-O", "qcow2", raw, image)
    run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", image, device.uri)
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, device.uri)


def fio(device, *arguments):
    engines = run(require("fio"), "--enghelp")
    if not re.search(r"^\s*nbd$", engines, re.M):
        missing("fio has no NBD engine")
    base = ["fio", "--name=verify", "--ioengine=nbd", f"--uri={device.uri}", "--size=256m"]
    # fio leaves a state file where it runs.
    where = device.server.dir
    run(*base, "--verify=crc32c", "--verify_fatal=1", *arguments, cwd=where)


def test_fio_verifies_4k_random_writes(device):
    fio(device, "--rw=randwrite", "--bs=4k", "--iodepth=32", "--io_size=128m")


def test_fio_verifies_mixed_sizes_with_flushes(device):
    fio(device, "--rw=randrw", "--bsrange=512-256k", "--bs_unaligned", "--iodepth=16", "--fsync=32")


def test_a_file_system_survives_the_journey(device, tmp_path):
    tree, image, back = tmp_path / "tree", tmp_path / "image", tmp_path / "back"
    tree.mkdir()
    for number in range(200):
        (tree / f"file{number}").write_bytes(os.urandom(number * 97))
    run(require("mke2fs"), "-q", "-t", "ext4", "-d", tree, image, "256m")
    run(require("nbdcopy"), image, device.uri)
    run("nbdcopy", device.uri, back)
    run(require("e2fsck"), "-f", "-n", back)
    run(require("debugfs"), "-R", f"dump /file150 {tmp_path / 'file150'}", back)
    assert (tmp_path / "file150").read_bytes() == (tree / "file150").read_bytes()


def test_a_detached_device_is_gone_and_keeps_its_bytes(device):
    write = ["-c", "write -P 9 1M 64k", "-c", "flush"]
    run(require("qemu-io"), "-f", "raw", *write, device.uri)
    device.detach()
    assert not device.socket.exists()
    device.attach()
    printed = run("qemu-io", "-f", "raw", "-c", "read -P 9 1M 64k", device.uri)
    assert "failed" not in printed


def test_flushed_writes_survive_kill_minus_nine(own_server):
    server = own_server()
    device = Device(server, server.account())
    qemu_io = require("qemu-io")
    for round in range(1, 4):
        run(qemu_io, "-f", "raw", "-c", f"write -P {round} {round}M 1M", "-c", "flush", device.uri)
        server.kill()
        server.start()
        eventually(device.socket.exists)
        reads = [a for r in range(1, round + 1) for a in ("-c", f"read -P {r} {r}M 1M")]
        printed = run(qemu_io, "-f", "raw", *reads, device.uri)
        assert "failed" not in printed, printed
