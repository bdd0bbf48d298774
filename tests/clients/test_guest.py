"""A Linux guest makes file systems on volumes over each transport, loses power while it writes, and
finds everything it had synced, in file systems without a fault."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import boto3
import pytest
from botocore.config import Config

from conftest import BINARY, eventually, require
from guest import Guest

REGION = "us-east-1"
TOOLS = ["mke2fs", "e2fsck", "mkfs.xfs", "xfs_repair"]

# Files of some megabytes, then small ones without end; between them writes that nobody syncs.
WRITE = """
/sbin/mke2fs -q -t ext4 -F {ext4} || echo "SR failed mke2fs"
/sbin/mkfs.xfs -q -f {xfs} || echo "SR failed mkfs.xfs"
mkdir -p /mnt/ext4 /mnt/xfs
mount -t ext4 {ext4} /mnt/ext4 || echo "SR failed mount ext4"
mount -t xfs {xfs} /mnt/xfs || echo "SR failed mount xfs"
synced() {{
  dd if=/dev/urandom of=/mnt/$1/$2 bs=$3 count=$4 conv=fsync 2>/dev/null || echo "SR failed dd $1 $2"
  echo "SR synced $1 $2 $(sha256sum < /mnt/$1/$2 | cut -c1-64)"
}}
for i in 1 2 3 4; do synced ext4 large$i 256k $((i * 2)); synced xfs large$i 256k $((i * 2)); done
rm /mnt/ext4/large1 /mnt/xfs/large1; sync
echo "SR loaded"
i=0
while true; do
  i=$((i + 1))
  for fs in ext4 xfs; do
    dd if=/dev/urandom of=/mnt/$fs/loose bs=64k count=8 seek=$((i % 8 * 8)) conv=notrunc 2>/dev/null
    synced $fs small$i 4k $((i % 7 + 1))
  done
done
"""

# Mounting replays the journal, as after any power cut; then nothing may be left to repair.
CHECK = """
mkdir -p /mnt/ext4 /mnt/xfs
mount -t ext4 {ext4} /mnt/ext4 || echo "SR failed mount ext4"
mount -t xfs {xfs} /mnt/xfs || echo "SR failed mount xfs"
for fs in ext4 xfs; do
  cd /mnt/$fs
  for file in large* small*; do echo "SR found $fs $file $(sha256sum < $file | cut -c1-64)"; done
  cd /
  umount /mnt/$fs || echo "SR failed umount"
done
/sbin/e2fsck -fn {ext4} || echo "SR failed e2fsck $?"
/sbin/xfs_repair -n {xfs} || echo "SR failed xfs_repair $?"
"""

FILE = re.compile(r"^(synced|found) (\S+ \S+) ([0-9a-f]{64})$")


def files(lines, kind):
    found = [match for match in map(FILE.match, lines) if match and match.group(1) == kind]
    return {match.group(2): match.group(3) for match in found}


class Volumes:
    """Two volumes attached to one host: one for ext4, one for xfs."""

    def __init__(self, server):
        self.server = server
        account = server.account()
        self.ec2 = account.client("ec2", REGION)
        self.host = server.host(account, REGION + "a")
        for device in ["/dev/sdf", "/dev/sdg"]:
            made = self.ec2.create_volume(
                AvailabilityZone=REGION + "a", Size=1, Encrypted=True
            )["VolumeId"]
            self.wait(made, "available")
            self.ec2.attach_volume(VolumeId=made, InstanceId=self.host, Device=device)
            self.wait(made, "in-use")

    def wait(self, volume, state):
        def reached():
            return self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == state

        eventually(reached)

    def socket(self, device, kind=""):
        path = self.server.socket(self.host, device)
        return path.with_name(path.name.replace(".sock", f"{kind}.sock"))


@pytest.fixture
def programs(tmp_path):
    yield [require(tool) for tool in TOOLS]
    shutil.rmtree(tmp_path)


def power_cut(home, job, disks, start, meanwhile=None):
    """Runs WRITE, pulls the plug in the middle, and runs CHECK. `job` makes the disks; `meanwhile`
    is called while the guest writes, and returns what it heard of it."""
    guest = start(home, job + WRITE.format(**disks))
    lines = guest.until("loaded", 240)
    booted = time.monotonic() - guest.started
    if meanwhile:
        lines += meanwhile(guest)
    for _ in range(12):
        lines.append(guest.line())
    guest.kill()
    synced = files(lines + guest.rest(), "synced")
    for fs in ["ext4", "xfs"]:
        del synced[f"{fs} large1"]
    assert len(synced) >= 12, synced
    guest = start(home, job + CHECK.format(**disks))
    found = files(guest.end(), "found")
    lost = {name for name, digest in synced.items() if found.get(name) != digest}
    # What was written last may or may not have become durable before its line was heard.
    assert not lost, f"{lost}\n{guest.console()}"
    assert not [name for name in found if name.endswith("large1")], "a removed file came back"
    print(f"{len(synced)} files; written {booted:.0f} s after the start")


def test_virtio_blk_over_qemus_nbd_client(server, programs, tmp_path):
    volumes = Volumes(server)
    arguments = []
    for name, device in [("a", "/dev/sdf"), ("b", "/dev/sdg")]:
        path = volumes.socket(device)
        arguments += [
            *("-blockdev", f"driver=nbd,node-name={name},server.type=unix,server.path={path},discard=unmap"),
            *("-device", f"virtio-blk-pci,drive={name}"),
        ]

    def start(home, job):
        return Guest(home, job, arguments, ["virtio_blk", "xfs"], programs)

    power_cut(tmp_path, "", {"ext4": "/dev/vda", "xfs": "/dev/vdb"}, start)


def vhost_user_disks(volumes, reconnect_ms=200):
    arguments = []
    for name, device in [("a", "/dev/sdf"), ("b", "/dev/sdg")]:
        path = volumes.socket(device, ".vhost")
        arguments += [
            *("-chardev", f"socket,id={name},path={path},reconnect-ms={reconnect_ms}"),
            *("-device", f"vhost-user-blk-pci,chardev={name},num-queues=2"),
        ]
    return arguments


def test_vhost_user_blk_and_a_server_that_dies(own_server, programs, tmp_path):
    server = own_server("--vhost-user")
    volumes = Volumes(server)

    def start(home, job):
        return Guest(home, job, vhost_user_disks(volumes), ["virtio_blk", "xfs"], programs)

    def server_dies(guest):
        server.kill()
        time.sleep(1)
        heard = guest.heard()
        server.start()
        return heard

    # QEMU connects again and hands over what was under way; the guest sees a pause.
    power_cut(tmp_path, "", {"ext4": "/dev/vda", "xfs": "/dev/vdb"}, start, server_dies)


# Turns the write cache off, and says what it sees of the disk.
LOOK = """
echo 'write through' > /sys/block/vda/cache_type
while true; do
  echo "SR sees $(cat /sys/block/vda/size) $(cat /sys/block/vda/cache_type)"
  dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=notrunc 2>/dev/null
  sleep 1
done
"""


def test_vhost_user_blk_keeps_a_choice_and_grows_while_the_front_end_is_away(own_server, tmp_path):
    server = own_server("--vhost-user")
    volumes, gib = Volumes(server), (1 << 30) // 512
    # Long enough for the volume to grow before QEMU is there again.
    disks = vhost_user_disks(volumes, reconnect_ms=8000)
    guest = Guest(tmp_path, LOOK, disks, ["virtio_blk"])
    guest.until(f"sees {gib} write through")
    server.kill()
    server.start()
    found = volumes.ec2.describe_volumes()["Volumes"]
    grows = next(v["VolumeId"] for v in found if v["Attachments"][0]["Device"] == "/dev/sdf")
    volumes.ec2.modify_volume(VolumeId=grows, Size=2)
    # The guest speaks every second.
    grown = f"sees {2 * gib} write through"
    assert any(guest.line() == grown for _ in range(40)), guest.console()
    guest.kill()
    # The server that was started again knew what the guest had chosen at the other.
    assert "whether the guest flushes is not known" not in (server.dir / "server.log").read_text()
    shutil.rmtree(tmp_path)


class Relay:
    """A TCP port for a unix socket: the guest's network ends at this machine's loopback."""

    def __init__(self, path):
        self.path, self.listener = path, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self.path))
            for pair in [(near, far), (far, near)]:
                threading.Thread(target=self.copy, args=pair, daemon=True).start()

    @staticmethod
    def copy(source, target):
        try:
            while data := source.recv(1 << 18):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def test_the_kernels_nbd_client(server, programs, tmp_path):
    programs.append(require("nbd-client"))
    volumes = Volumes(server)
    relays = [Relay(volumes.socket(device)) for device in ["/dev/sdf", "/dev/sdg"]]
    job = "ip link set eth0 up\nip addr add 10.0.2.15/24 dev eth0\n"
    for number, (name, relay) in enumerate(zip(["sdf", "sdg"], relays)):
        job += f"/sbin/nbd-client -N {name} -b 4096 10.0.2.2 {relay.port} /dev/nbd{number} >/dev/null || "
        job += 'echo "SR failed nbd-client"\n'
    network = ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile="]

    def start(home, job):
        return Guest(home, job, network, ["virtio_net", "nbd", "xfs"], programs)

    power_cut(tmp_path, job, {"ext4": "/dev/nbd0", "xfs": "/dev/nbd1"}, start)
    for relay in relays:
        relay.close()


# The server runs in the guest, its store on a disk of the guest; the volumes are the guest's own
# block devices. After the load it is killed under the writer, which must see nothing but a pause.
SERVE = """
mkdir -p /tools /store
mount -t ext4 -o ro /dev/vda /tools || echo "SR failed mount tools"
[ {fresh} = no ] || /sbin/mke2fs -q -t ext4 /dev/vdb
mount -t ext4 /dev/vdb /store || echo "SR failed mount store"
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
serve() {{ /tools/strongroom serve --ublk --data-dir /store/sr --listen 10.0.2.15:4577 >>/tmp/server.log 2>&1 & server=$!; }}
admin() {{ /tools/strongroom admin --data-dir /store/sr "$@"; }}
links() {{
  until f=$(readlink /store/sr/attach/*/sdf.ublk) && g=$(readlink /store/sr/attach/*/sdg.ublk) &&
    [ $f != $g ] && [ -b $f ] && [ -b $g ]; do sleep 0.2; done
}}
serve
"""

PREPARE = """
until admin account list >/dev/null 2>&1; do sleep 0.2; done
account=$(admin account create --json)
echo "SR account $account"
id=$(echo $account | sed 's/.*"AccountId":"\\([0-9]*\\)".*/\\1/')
echo "SR host $(admin host create --account $id --az us-east-1a --json)"
links
echo "SR devices $f $g $(cat /sys/block/${f#/dev/}/size)"
"""

KILL = """
(sleep 2; echo "SR killing"; kill -9 $server; serve; until admin account list >/dev/null 2>&1; do sleep 0.2; done
 links; echo "SR restarted $f $g") &
"""

STOP = """
echo "SR checked"
while [ -b $f ] || [ -b $g ] || ls /store/sr/attach/*/*.ublk 2>/dev/null; do sleep 0.2; done
echo "SR detached"
kill $server; wait $server; echo "SR stopped $?"
umount /store || echo "SR failed umount store"
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def attach_two(ec2, host):
    """Makes two volumes and attaches them, through the API of the server in the guest."""
    for device in ["/dev/sdf", "/dev/sdg"]:
        volume = ec2.create_volume(AvailabilityZone=REGION + "a", Size=1, Encrypted=True)["VolumeId"]

        def available():
            return ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"

        eventually(available, 120)
        ec2.attach_volume(VolumeId=volume, InstanceId=host, Device=device)


def test_ublk_and_a_server_that_dies(programs, tmp_path):
    tools, store, port = tmp_path / "tools", tmp_path / "store.raw", free_port()
    (tmp_path / "files").mkdir()
    stripped = tmp_path / "files/strongroom"
    subprocess.run([require("strip"), "-o", stripped, BINARY], check=True, timeout=120)
    make = [require("mke2fs"), "-q", "-t", "ext4", "-d", tmp_path / "files", tools, "200M"]
    subprocess.run(make, check=True, timeout=120)
    store.touch()
    os.truncate(store, 4 << 30)
    network = f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:4577"
    arguments = ["-netdev", network, "-device", "virtio-net-pci,netdev=n,romfile="]
    for name, path in [("tools", tools), ("store", store)]:
        arguments += ["-drive", f"file={path},format=raw,if=none,id={name}"]
        arguments += ["-device", f"virtio-blk-pci,drive={name}"]

    def start(job):
        modules = ["virtio_blk", "virtio_net", "ublk_drv", "xfs"]
        return Guest(tmp_path, job, arguments, modules, programs, [BINARY], megabytes=1024)

    disks = {"ext4": "$f", "xfs": "$g"}
    write = WRITE.format(**disks).replace('echo "SR loaded"', 'echo "SR loaded"' + KILL)
    guest = start(SERVE.format(fresh="yes") + PREPARE + write)
    account = json.loads(guest.until("account ", 240)[-1].removeprefix("account "))
    host = json.loads(guest.until("host ")[-1].removeprefix("host "))["InstanceId"]
    ec2 = boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=account["AccessKeyId"],
        aws_secret_access_key=account["SecretAccessKey"],
        config=Config(retries={"total_max_attempts": 1}, read_timeout=120),
    )
    attach_two(ec2, host)
    devices = guest.until("devices ")[-1].split()
    assert int(devices[3]) == (1 << 30) // 512
    lines = guest.until("restarted ", 240)
    assert lines[-1].split()[1:] == devices[1:3], "the devices are the same ones"
    for _ in range(12):
        lines.append(guest.line())
    guest.kill()
    synced = files(lines + guest.rest(), "synced")
    del synced["ext4 large1"], synced["xfs large1"]
    assert any("small" in name for name in synced)

    guest = start(SERVE.format(fresh="no") + "links\n" + CHECK.format(**disks) + STOP)
    found = files(guest.until("checked", 240), "found")
    for volume in ec2.describe_volumes()["Volumes"]:
        ec2.detach_volume(VolumeId=volume["VolumeId"])
    assert guest.end() == ["detached", "stopped 0"], guest.console()
    lost = {name for name, digest in synced.items() if found.get(name) != digest}
    assert not lost, f"{lost}\n{guest.console()}"
