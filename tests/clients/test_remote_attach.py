"""`strongroom attach`: the host side of a volume in a process of its own, over the network."""

import base64
import ctypes
import hashlib
import hmac
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import threading
import time

import pytest
from between import Between
from botocore.exceptions import ClientError
from conftest import BINARY, certificates, eventually, require
from nbd_client import Nbd
from steps import attach as attach_here
from steps import (
    create_key,
    create_snapshot,
    create_volume,
    detach,
    log_of,
    settled,
    trail,
    volume_is,
)
from test_check import change, check, findings
from test_nbd_protocol import DIRTY, changed, contexts
from test_secrets import core, data_keys, occurs

LEASE_SECONDS = 60
SHORT_LEASE_SECONDS = 6
PATTERN = b"what a host writes, the server never reads; " * 200
PATTERN = PATTERN[: len(PATTERN) // 512 * 512]


class Agent:
    """A `strongroom attach` of our own."""

    def __init__(
        self, server, host, volume, directory, *arguments, starts=True, socket=None, prepare=None
    ):
        # Unix socket paths are short: not below the test's own directory.
        self.socket = socket or server.dir / f"{time.monotonic_ns()}.sock"
        self.log_path = directory / f"agent-{time.monotonic_ns()}.log"
        self.log = open(self.log_path, "w")
        self.process = subprocess.Popen(
            [BINARY, "attach", "--endpoint", server.url, "--credentials", str(host.credentials),
             "--socket", str(self.socket), "--json", *arguments, volume],
            stdout=subprocess.PIPE, stderr=self.log, text=True, preexec_fn=prepare,
        )  # fmt: skip
        if starts:
            line = self.process.stdout.readline()
            assert line, self.words()
            self.serving = json.loads(line)
            self.nbd = Nbd(str(self.socket))

    def words(self):
        return self.log_path.read_text()

    def ends(self, seconds=30):
        code = self.process.wait(timeout=seconds)
        self.process.stdout.close()
        self.log.close()
        return code

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.ends()
        assert " ERROR " not in self.words(), self.words()
        return code


class Host:
    """A registered machine that attaches its volumes itself."""

    def __init__(self, account, directory):
        made = account.server.admin(
            "host", "create", "--account", account.id, "--az", "us-east-1a", "--remote", "--json"
        )
        self.id = json.loads(made)["InstanceId"]
        self.credentials = directory / f"{self.id}.json"
        self.credentials.touch(mode=0o600)
        self.credentials.write_text(made)


@pytest.fixture(scope="module")
def server(own_server):
    return own_server("--attach-lease-seconds", str(LEASE_SECONDS))


@pytest.fixture(scope="module")
def owner(server):
    return server.account("owner")


@pytest.fixture(scope="module")
def key(owner):
    return create_key(owner)


@pytest.fixture
def agents():
    made = []
    yield made
    for agent in made:
        if agent.process.poll() is None:
            agent.process.send_signal(signal.SIGCONT)
            agent.process.kill()
            agent.ends()


def attachment_state(owner, volume):
    found = owner.client("ec2").describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"]
    return found[0]["State"] if found else None


def attach(owner, volume, host):
    owner.client("ec2").attach_volume(VolumeId=volume, InstanceId=host.id, Device="/dev/sdf")


def encrypted(owner, key):
    return create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)


def with_short_leases(own_server, directory):
    """A server of our own whose leases are short, and a volume attached to a machine."""
    server = own_server("--attach-lease-seconds", str(SHORT_LEASE_SECONDS))
    owner = server.account("owner")
    host, volume = Host(owner, directory), encrypted(owner, create_key(owner))
    attach(owner, volume, host)
    return server, owner, host, volume


def io_fails(nbd):
    """Whether a flushed write is refused, or the device is gone."""
    try:
        nbd.write(0, b"\xee" * 4096)
        nbd.flush()
    except (OSError, AssertionError, EOFError, ConnectionError):
        return True
    return False


def test_a_volume_is_written_cut_and_read_from_another_machine(
    server, owner, key, agents, tmp_path
):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    assert attachment_state(owner, volume) == "attaching"
    agents.append(agent := Agent(server, host, volume, tmp_path))
    assert attachment_state(owner, volume) == "attached"
    assert agent.serving["VolumeId"] == volume and agent.serving["Device"] == "/dev/sdf"
    assert os.stat(agent.socket).st_mode & 0o777 == 0o600

    for round in range(40):
        agent.nbd.write(round * 65536, PATTERN + bytes([round]) * 512)
    agent.nbd.flush()
    assert agent.nbd.read(65536, len(PATTERN)) == PATTERN

    # A snapshot of the volume in use: cut where it is open, read beside the writer.
    snapshot = create_snapshot(owner, volume)
    agent.nbd.write(0, b"\x55" * 4096)
    agent.nbd.flush()
    # What changed since is told here as where the server has the volume open.
    uri = f"nbd+unix:///{volume}?socket={agent.socket}"
    assert DIRTY + snapshot in contexts(uri)
    assert changed(uri, snapshot) == [(0, 4096)]
    detach(owner, volume)
    assert agent.ends() == 0, agent.words()

    # Another machine goes on with it, and a third has a volume of the snapshot: pages of a base.
    lazy = create_volume(owner, "--snapshot-id", snapshot)
    for wanted, first in ((volume, b"\x55" * 4096), (lazy, PATTERN[:4096])):
        other = Host(owner, tmp_path)
        attach(owner, wanted, other)
        agents.append(agent := Agent(server, other, wanted, tmp_path))
        assert agent.nbd.read(0, 4096) == first
        assert agent.nbd.read(39 * 65536, len(PATTERN) + 512) == PATTERN + bytes([39]) * 512
        detach(owner, wanted)
        assert agent.ends() == 0, agent.words()

    # KMS was called by the host, over the network, on the grant; the openings are recorded.
    decrypts = [record for record in trail(owner, EventName="Decrypt")
                if host.id in record["userIdentity"].get("arn", "")]  # fmt: skip
    assert decrypts and decrypts[0]["sourceIPAddress"] == "127.0.0.1"
    opened = trail(owner, EventName="OpenAttachment")
    assert opened and "ticket" not in json.dumps(opened)


def test_a_fenced_machine_that_wakes_up_writes_nothing(server, owner, key, agents, tmp_path):
    first, second, volume = Host(owner, tmp_path), Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, first)
    agents.append(old := Agent(server, first, volume, tmp_path))
    old.nbd.write(0, b"\x11" * 4096)
    old.nbd.flush()
    # Accepted, sealed, perhaps sent; not flushed.
    old.nbd.write(4096, b"\x12" * 4096)
    old.process.send_signal(signal.SIGSTOP)

    began = time.monotonic()
    owner.client("ec2").detach_volume(VolumeId=volume, Force=True)
    volume_is(owner, volume, "available")
    assert time.monotonic() - began < LEASE_SECONDS / 2, "force waits for no lease"
    attach(owner, volume, second)
    agents.append(new := Agent(server, second, volume, tmp_path))
    assert new.serving["Epoch"] > old.serving["Epoch"]
    new.nbd.write(0, b"\x22" * 4096)
    new.nbd.flush()

    old.process.send_signal(signal.SIGCONT)
    assert io_fails(old.nbd)
    assert old.ends() == 5, old.words()
    assert new.nbd.read(0, 4096) == b"\x22" * 4096
    new.nbd.write(8192, b"\x23" * 4096)
    new.nbd.flush()
    detach(owner, volume)
    assert new.ends() == 0

    # What the superblocks and the log say, when everybody is gone.
    attach(owner, volume, first)
    agents.append(last := Agent(server, first, volume, tmp_path))
    assert last.nbd.read(0, 4096) == b"\x22" * 4096
    assert last.nbd.read(8192, 4096) == b"\x23" * 4096
    assert last.stop() == 0


def test_an_agent_that_wakes_up_leaves_what_belongs_to_its_successor(
    server, owner, key, agents, tmp_path
):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    # It writes nothing, so that it has nothing to lose when it closes.
    agents.append(old := Agent(server, host, volume, tmp_path))
    old.process.send_signal(signal.SIGSTOP)
    place = {"socket": old.socket}
    agents.append(new := Agent(server, host, volume, tmp_path, "--force", **place))
    new.nbd.write(0, b"\x37" * 65536)
    old.process.send_signal(signal.SIGCONT)
    assert old.ends() == 5, old.words()
    assert Nbd(str(new.socket)).read(0, 65536) == b"\x37" * 65536
    # What it answered and did not flush lies beside the socket, for the one that follows.
    new.process.kill()
    new.ends()
    agents.append(last := Agent(server, host, volume, tmp_path, "--force", **place))
    assert last.nbd.read(0, 65536) == b"\x37" * 65536
    assert last.stop() == 0


def test_a_killed_machine_starts_again_at_once(server, owner, key, agents, tmp_path):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    agents.append(agent := Agent(server, host, volume, tmp_path))
    agent.nbd.write(0, b"\x31" * 65536)
    agent.nbd.flush()
    agent.process.kill()
    agent.ends()
    assert attachment_state(owner, volume) == "attached"
    # Forced: the server cannot know that it is dead, and would wait for its lease.
    began = time.monotonic()
    agents.append(again := Agent(server, host, volume, tmp_path, "--force"))
    assert time.monotonic() - began < LEASE_SECONDS / 2
    assert again.nbd.read(0, 65536) == b"\x31" * 65536
    # Told to stop, it leaves the volume attached.
    again.nbd.write(0, b"\x32" * 4096)
    assert again.stop() == 0
    assert attachment_state(owner, volume) == "attached"
    agents.append(third := Agent(server, host, volume, tmp_path))
    assert third.nbd.read(0, 4096) == b"\x32" * 4096
    detach(owner, volume)
    assert third.ends() == 0


def test_a_newer_agent_waits_until_the_one_before_has_closed(
    server, owner, key, agents, tmp_path
):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    agents.append(old := Agent(server, host, volume, tmp_path))
    # Accepted and not flushed: it is written out before the other begins.
    old.nbd.write(0, b"\x35" * 65536)
    agents.append(new := Agent(server, host, volume, tmp_path))
    assert new.nbd.read(0, 65536) == b"\x35" * 65536
    assert old.ends() == 0, old.words()
    assert new.serving["Epoch"] > old.serving["Epoch"]
    detach(owner, volume)
    assert new.ends() == 0, new.words()


def test_a_newer_agent_waits_for_one_that_cannot_be_heard_of(own_server, agents, tmp_path):
    server, _, host, volume = with_short_leases(own_server, tmp_path)
    agents.append(old := Agent(server, host, volume, tmp_path))
    old.nbd.write(0, b"\x36" * 4096)
    old.nbd.flush()
    old.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    agents.append(new := Agent(server, host, volume, tmp_path))
    # It was heard of at most a fifth of its lease before.
    assert time.monotonic() - began > SHORT_LEASE_SECONDS / 2
    assert "another agent may still have the volume" in new.words()
    assert new.nbd.read(0, 4096) == b"\x36" * 4096
    old.process.send_signal(signal.SIGCONT)
    assert old.ends() == 5, old.words()
    assert new.stop() == 0


def test_requests_wait_for_a_server_that_is_started_again(server, owner, key, agents, tmp_path):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    agents.append(agent := Agent(server, host, volume, tmp_path))
    agent.nbd.write(0, b"\x41" * 65536)
    agent.nbd.flush()
    agent.nbd.write(65536, b"\x42" * 65536)
    server.kill()
    # What was not flushed is sent again.
    agent.nbd.write(131072, b"\x43" * 65536)
    # Several times a second, and said once.
    eventually(lambda: "dialling on" in agent.words())
    time.sleep(1)
    server.start()
    agent.nbd.flush()
    reasons = re.findall(r"dialling on (reason=.*)", agent.words())
    assert reasons and len(set(reasons)) == len(reasons), agent.words()
    for place, byte in ((0, b"\x41"), (65536, b"\x42"), (131072, b"\x43")):
        assert agent.nbd.read(place, 65536) == byte * 65536
    assert attachment_state(owner, volume) == "attached"
    # The server kept the volume for its machine and still cuts it there.
    create_snapshot(owner, volume)
    detach(owner, volume)
    assert agent.ends() == 0, agent.words()


def test_a_partitioned_machine_stops_before_the_volume_is_given_away(
    own_server, agents, tmp_path
):
    server, owner, host, volume = with_short_leases(own_server, tmp_path)
    agents.append(agent := Agent(server, host, volume, tmp_path))
    agent.nbd.write(0, b"\x51" * 4096)
    agent.nbd.flush()
    # A server that stands still is a network that carries nothing.
    server.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert agent.ends(SHORT_LEASE_SECONDS + 10) == 5
        took = time.monotonic() - began
        assert took < SHORT_LEASE_SECONDS, f"it went on for {took} s"
        assert "the lease ended" in agent.words()
    finally:
        server.process.send_signal(signal.SIGCONT)
    # Without force: the lease is over, or is waited for.
    detach(owner, volume)


@pytest.mark.parametrize("lost", ["Decrypt", "CompleteAttachment"])
def test_an_agent_that_begins_hears_that_it_shall_end(server, owner, key, agents, tmp_path, lost):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    between = Between(server, [lost])
    agents.append(agent := Agent(between, host, volume, tmp_path, starts=False))
    assert between.reached.wait(30), agent.words()
    agent.process.send_signal(signal.SIGTERM)
    assert agent.ends(10) == 0, agent.words()
    assert not agent.socket.exists()


def test_an_agent_that_begins_hears_that_its_lease_ended(own_server, agents, tmp_path):
    server, _, host, volume = with_short_leases(own_server, tmp_path)
    between = Between(server, ["CompleteAttachment"])
    agents.append(agent := Agent(between, host, volume, tmp_path, starts=False))
    assert between.reached.wait(30), agent.words()
    # The machine of the server has no power any more, or nothing of it is heard.
    between.cut()
    assert agent.ends(SHORT_LEASE_SECONDS + 10) == 5, agent.words()
    assert "the lease ended" in agent.words()
    assert not agent.socket.exists()


def test_an_agent_of_another_version_is_told_so(server, owner, key, agents, tmp_path):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    between = Between(server)
    agents.append(agent := Agent(between, host, volume, tmp_path))
    # The server is upgraded while the agent runs, and the agent started again.
    between.version = 1
    between.drop()
    assert agent.ends(10) == 5, agent.words()
    agents.append(again := Agent(between, host, volume, tmp_path, "--force", starts=False))
    assert again.ends() == 1, again.words()
    for words in (agent.words(), again.words()):
        assert re.search(r"this server speaks version strongroom-attach/\d+ ", words), words
        assert "agent and server are upgraded together" in words


def test_nobody_else_opens_an_attachment(server, owner, key, agents, tmp_path):
    host, stranger, volume = Host(owner, tmp_path), Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    agents.append(refused := Agent(server, stranger, volume, tmp_path, starts=False))
    assert refused.ends() == 1 and "AttachmentNotFoundException" in refused.words()

    # An attachment whose machine never came is ended like any other.
    detach(owner, volume)
    agents.append(refused := Agent(server, host, volume, tmp_path, starts=False))
    assert refused.ends() == 1 and "AttachmentNotFoundException" in refused.words()


def test_lost_credentials_are_replaced(own_server, agents, tmp_path):
    server, owner, host, volume = with_short_leases(own_server, tmp_path)
    agents.append(agent := Agent(server, host, volume, tmp_path))
    agent.nbd.write(0, b"\x71" * 4096)
    agent.nbd.flush()
    renewed = server.admin("host", "credentials", host.id, "--json")
    # Its channel ended, and it gets no other.
    assert agent.ends(SHORT_LEASE_SECONDS + 10) == 5
    agents.append(refused := Agent(server, host, volume, tmp_path, starts=False))
    assert refused.ends() == 1, refused.words()
    host.credentials.write_text(renewed)
    agents.append(agent := Agent(server, host, volume, tmp_path))
    assert agent.nbd.read(0, 4096) == b"\x71" * 4096
    detach(owner, volume)
    assert agent.ends() == 0, agent.words()


def test_a_refused_key_ends_the_attachment_as_it_does_here(server, owner, agents, tmp_path):
    key = create_key(owner)
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    owner.client("kms").disable_key(KeyId=key)
    agents.append(refused := Agent(server, host, volume, tmp_path, starts=False))
    assert refused.ends() == 1 and "DisabledException" in refused.words()
    volume_is(owner, volume, "available")
    assert attachment_state(owner, volume) is None
    rows = sqlite3.connect(f"file:{server.data / 'meta.sqlite'}?mode=ro", uri=True)
    events = [json.loads(event) for (event,) in rows.execute("SELECT event FROM event_log")]
    rows.close()
    failed = [event["detail"] for event in events if volume in str(event["resources"])
              and event["detail"]["event"] == "attachVolume"]  # fmt: skip
    assert [event["result"] for event in failed] == ["failed"]
    assert failed[0]["cause"].endswith(f"key/{key.rpartition('/')[2]} is disabled.")
    owner.client("kms").enable_key(KeyId=key)
    agents.append(refused := Agent(server, host, volume, tmp_path, starts=False))
    assert refused.ends() == 1 and "AttachmentNotFoundException" in refused.words()


def attached(server, owner, key, host, device):
    """An encrypted volume, attached to a host at a device."""
    volume = encrypted(owner, key)
    owner.client("ec2").attach_volume(VolumeId=volume, InstanceId=host.id, Device=device)
    return volume


def test_volumes_at_another_machine_are_cut_at_one_moment(server, owner, key, agents, tmp_path):
    """One writer counts up over two volumes in turn; their snapshots hold neighbours."""
    host = Host(owner, tmp_path)
    volumes = [attached(server, owner, key, host, device) for device in ("/dev/sdf", "/dev/sdg")]
    ours = [Agent(server, host, volume, tmp_path) for volume in volumes]
    agents.extend(ours)
    stop, written = threading.Event(), []

    def count():
        number = 0
        while not stop.is_set():
            number += 1
            for agent in ours:
                agent.nbd.write(0, number.to_bytes(8, "little") * 512)
            written.append(number)

    writer = threading.Thread(target=count)
    writer.start()
    try:
        eventually(lambda: len(written) > 50)
        wanted = {"InstanceId": host.id}
        made = owner.client("ec2").create_snapshots(InstanceSpecification=wanted)["Snapshots"]
        answered = len(written)
    finally:
        stop.set()
        writer.join(timeout=60)
    snapshots = {one["VolumeId"]: one["SnapshotId"] for one in made}
    assert set(snapshots) == set(volumes)
    counters = []
    for volume in volumes:
        assert settled(owner, snapshots[volume])["State"] == "completed"
        copy = create_volume(owner, "--snapshot-id", snapshots[volume])
        _host, uri = attach_here(owner, copy)
        counters.append(int.from_bytes(Nbd(uri.partition("socket=")[2]).read(0, 8), "little"))
    first, second = counters
    assert 50 <= second <= first <= second + 1 and second <= answered + 1, (counters, answered)

    # They are checked where they are written, and what is damaged is found.
    code, report = check(server, volumes[0])
    assert code == 0, report
    log = log_of(server, volumes[0])
    change(log, [100])
    code, report = check(server, volumes[0])
    change(log, [100])
    assert code == 5 and findings(report, volumes[0])[0]["Fault"] == "superblock-slot", report

    # And they grow there.
    ec2 = owner.client("ec2")
    ec2.modify_volume(VolumeId=volumes[0], Size=2)
    eventually(lambda: ec2.describe_volumes_modifications(VolumeIds=[volumes[0]])
               ["VolumesModifications"][0]["ModificationState"] == "completed")  # fmt: skip
    ours[0].nbd.write((2 << 30) - 4096, b"g" * 4096)
    ours[0].nbd.flush()


def test_a_machine_that_is_cut_off_leaves_no_half_of_a_common_cut(own_server, agents, tmp_path):
    server = own_server("--attach-lease-seconds", str(SHORT_LEASE_SECONDS))
    owner = server.account("owner")
    key, host = create_key(owner), Host(owner, tmp_path)
    volumes = [attached(server, owner, key, host, device) for device in ("/dev/sdf", "/dev/sdg")]
    ours = [Agent(server, host, volume, tmp_path) for volume in volumes]
    agents.extend(ours)
    for agent in ours:
        agent.nbd.write(0, b"\x61" * 4096)
        agent.nbd.flush()
    ec2 = owner.client("ec2")
    ours[1].process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(ClientError):
            ec2.create_snapshots(InstanceSpecification={"InstanceId": host.id})
        assert time.monotonic() - began < SHORT_LEASE_SECONDS
        # The other goes on at once.
        ours[0].nbd.write(4096, b"\x62" * 4096)
        ours[0].nbd.flush()
    finally:
        ours[1].process.send_signal(signal.SIGCONT)
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    for agent in ours:
        if agent.process.poll() is None:
            agent.nbd.write(8192, b"\x63" * 4096)
            agent.nbd.flush()
            agent.stop()
    # Neither log holds a cut.
    server.stop()
    for volume in volumes:
        code, report = check(server, volume)
        assert code == 0, report
        assert [s for s in report["Subjects"] if s["Id"] == volume], report


def test_the_key_is_at_the_machine_alone_and_in_no_core(server, owner, key, agents, tmp_path):
    require("gdb")
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    agents.append(agent := Agent(server, host, volume, tmp_path))
    agent.nbd.write(0, PATTERN)
    agent.nbd.flush()
    assert agent.nbd.read(0, len(PATTERN)) == PATTERN
    images = [core(agent.process, tmp_path / "agent.core"), core(server.process, tmp_path / "server.core")]
    data_key = data_keys(server, owner, volume)
    extracted = hmac.new(b"ebsfmt1", data_key, hashlib.sha256).digest()
    secrets = [data_key[:32], data_key[32:], base64.b64encode(data_key), extracted]
    in_agent, in_server = (occurs(secrets, image) for image in images)
    if "memfd_secret" in agent.serving["KeyMemory"]:
        maps = open(f"/proc/{agent.process.pid}/maps").read()
        assert "secretmem" in maps
        assert not in_agent, "the data key is in the agent's core"
    assert not in_server, "the server holds the data key of a volume at another machine"
    # The server holds no plaintext either, in memory or below its directory.
    assert not occurs([PATTERN[:512]], images[1])
    for path in server.data.rglob("*"):
        if path.is_file() and not path.is_socket():
            assert not occurs([PATTERN[:64], *secrets], path), path
    assert agent.stop() == 0


def locks_up_to(limit):
    """In a new process: no more bytes of memory than this can be locked, whoever runs it."""
    drop_from_bounds, lock_memory = 24, 14
    # Refused to who could not lock more anyway.
    ctypes.CDLL(None).prctl(drop_from_bounds, lock_memory, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))


def test_memory_that_may_be_swapped_out_is_warned_of(server, owner, key, agents, tmp_path):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    agents.append(agent := Agent(server, host, volume, tmp_path, prepare=lambda: locks_up_to(65536)))
    assert agent.serving["ProcessMemory"] == "may be swapped out"
    assert "LimitMEMLOCK=infinity" in agent.words(), "to the one who does not read the JSON"
    assert agent.stop() == 0
    agents.append(agent := Agent(server, host, volume, tmp_path))
    assert (agent.serving["ProcessMemory"] == "locked") == ("LimitMEMLOCK" not in agent.words())
    assert agent.stop() == 0


def test_a_key_is_not_put_where_it_can_be_swapped_out(server, owner, key, agents, tmp_path):
    host, volume = Host(owner, tmp_path), encrypted(owner, key)
    attach(owner, volume, host)
    agents.append(refused := Agent(server, host, volume, tmp_path, starts=False, prepare=lambda: locks_up_to(0)))
    assert refused.ends() == 1 and "LimitMEMLOCK" in refused.words(), refused.words()
    # Nothing is lost: the next one gets the volume.
    agents.append(agent := Agent(server, host, volume, tmp_path))
    assert agent.stop() == 0


def test_an_agent_that_cannot_serve_takes_the_volume_from_nobody(server, owner, agents, tmp_path):
    host, volume = Host(owner, tmp_path), create_volume(owner, "--size", "1")
    attach(owner, volume, host)
    agents.append(agent := Agent(server, host, volume, tmp_path))
    precious = server.dir / "precious"
    precious.write_text("not a socket")
    tail = server.dir / "other.sock"
    (server.dir / "other.sock.tail").write_text("not a tail")
    for wrong in (
        {"prepare": lambda: locks_up_to(0)},
        {"socket": server.dir / ("s" * 120)},
        {"socket": server.dir / "none" / "vol.sock"},
        {"socket": precious},
        {"socket": tail},
    ):
        agents.append(refused := Agent(server, host, volume, tmp_path, starts=False, **wrong))
        assert refused.ends() == 1, refused.words()
    assert precious.read_text() == "not a socket"
    assert (server.dir / "other.sock.tail").read_text() == "not a tail"
    agent.nbd.write(0, PATTERN)
    agent.nbd.flush()
    assert agent.stop() == 0


def test_a_socket_serves_one_volume(server, owner, agents, tmp_path):
    host = Host(owner, tmp_path)
    ours, other = (create_volume(owner, "--size", "1") for _ in range(2))
    attach(owner, ours, host)
    owner.client("ec2").attach_volume(VolumeId=other, InstanceId=host.id, Device="/dev/sdg")
    agents.append(agent := Agent(server, host, ours, tmp_path))
    place = {"socket": agent.socket}
    agents.append(refused := Agent(server, host, other, tmp_path, starts=False, **place))
    assert refused.ends() == 1 and "something else is served there" in refused.words()
    # Another of the same volume follows at the same place.
    agents.append(again := Agent(server, host, ours, tmp_path, **place))
    assert agent.ends() == 0
    again.nbd.write(0, PATTERN)
    assert again.stop() == 0


def test_over_tls(own_server, tmp_path, agents):
    ca, private, cert = certificates(tmp_path)
    server = own_server("--tls-cert", str(cert), "--tls-key", str(private))
    assert server.url.startswith("https://")
    os.environ["AWS_CA_BUNDLE"] = str(ca)
    try:
        owner = server.account("owner")
        ec2 = owner.client("ec2")
        volume = ec2.create_volume(Size=1, AvailabilityZone="us-east-1a")["VolumeId"]
        volume_is(owner, volume, "available")
        host = Host(owner, tmp_path)
        attach(owner, volume, host)
        # A certificate that nobody vouches for is refused.
        agents.append(refused := Agent(server, host, volume, tmp_path, starts=False))
        assert refused.ends() == 4 and "certificate" in refused.words()
        agents.append(agent := Agent(server, host, volume, tmp_path, "--ca", str(ca)))
        # Not encrypted under a KMS key: its key comes through the channel.
        agent.nbd.write(0, PATTERN)
        agent.nbd.flush()
        assert agent.nbd.read(0, len(PATTERN)) == PATTERN
        ec2.detach_volume(VolumeId=volume)
        eventually(lambda: attachment_state(owner, volume) is None)
        assert agent.ends() == 0, agent.words()
    finally:
        del os.environ["AWS_CA_BUNDLE"]
