"""The NBD server against the two stock implementations of a client, libnbd and QEMU's.

What is asked here is what libnbd asks of the servers it is tested with: what they promise, whether
they keep it, what they say about holes and changes, TLS, and that they can go away and come back.
"""

import json
import os
import re
import shutil
import subprocess
import textwrap
import time

import pytest

from conftest import eventually, require
from test_block_devices import GIB, MIB, REGION, Device, run

KIB = 1 << 10
DIRTY = "qemu:dirty-bitmap:"


def fails(*arguments):
    """Runs a program that must fail; returns what it said."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, f"{arguments} succeeded: {done.stdout}"
    return done.stdout + done.stderr


# Where Debian's python3-libnbd lies, whatever Python the tests themselves run in.
PYTHON = "/usr/bin/python3"


def nbdsh(uri, script, *before):
    """Runs Python with a libnbd handle `h`; `before` prepares it for connecting to `uri`."""
    if subprocess.run([PYTHON, "-c", "import nbd"], capture_output=True).returncode != 0:
        require("python3-libnbd")
    lines = [*before, f"h.connect_uri({uri!r})", textwrap.dedent(script)]
    return run(PYTHON, "-m", "nbd", *(part for line in lines for part in ("-c", line)))


def qemu_io(options, *commands):
    arguments = [part for command in commands for part in ("-c", command)]
    printed = run(require("qemu-io"), *options, *arguments)
    assert "failed" not in printed and "error" not in printed, printed
    return printed


class Volume(Device):
    """An encrypted volume, attached to a host of its own."""

    @property
    def id(self):
        return self.volume

    @property
    def image(self):
        return f"driver=nbd,server.type=unix,server.path={self.socket}"

    def credentials(self, directory):
        where = ["--instance", self.host, "--device", "sdf", "--dir", str(directory)]
        self.server.admin("nbd-credentials", *where)
        return directory

    def snapshot(self):
        made = self.ec2.create_snapshot(VolumeId=self.volume)["SnapshotId"]

        def completed():
            found = self.ec2.describe_snapshots(SnapshotIds=[made])["Snapshots"][0]
            return found["State"] == "completed"

        eventually(completed)
        return made

    def restored(self, snapshot):
        """A volume made from a snapshot, at another host."""
        made = self.ec2.create_volume(AvailabilityZone=REGION + "a", SnapshotId=snapshot)
        other = Volume.__new__(Volume)
        other.ec2, other.server, other.account = self.ec2, self.server, self.account
        other.volume = made["VolumeId"]
        other.wait("available")
        other.host = self.server.host(self.account, REGION + "a")
        other.attach()
        return other


@pytest.fixture(scope="module")
def owner(server):
    return server.account("owner")


@pytest.fixture
def volume(owner):
    return Volume(owner.server, owner)


@pytest.fixture(autouse=True)
def scratch(tmp_path):
    """Images are large: nothing of them stays behind."""
    yield
    shutil.rmtree(tmp_path)


def test_what_is_promised(volume):
    for can in ("flush", "fua", "trim", "zero", "fast-zero", "cache", "df", "multi-conn"):
        run(require("nbdinfo"), "--can", can, volume.uri)
    fails("nbdinfo", "--is", "read-only", volume.uri)
    fails("nbdinfo", "--is", "tls", volume.uri)
    assert run("nbdinfo", "--size", volume.uri).strip() == str(GIB)
    listed = json.loads(run("nbdinfo", "--list", "--json", volume.uri))
    assert listed["protocol"] == "newstyle-fixed"
    assert [export["export-name"] for export in listed["exports"]] == ["sdf"]
    # The same volume under all of its names, and under no other.
    for name in ("sdf", f"{volume.host}/sdf", volume.id):
        run("nbdinfo", "--size", f"nbd+unix:///{name}?socket={volume.socket}")
    said = fails("nbdinfo", f"nbd+unix:///sdg?socket={volume.socket}")
    assert "NBD_OPT_GO" in said or "Unknown export" in said or "No such" in said, said


def test_qemu_negotiates_extended_headers(volume):
    said = run(require("qemu-nbd"), "--list", "-k", volume.socket)
    for promise in ("fast-zero", "multi", "cache", "block-status-payload", "base:allocation"):
        assert promise in said, said
    # More than 32 bits of length in one request, which QEMU only makes with extended headers.
    qemu_io(
        ["-f", "raw", volume.uri],
        "write -P 5 0 1M", "write -z 0 1G", "read -P 0 0 1M", "discard 0 1G", "read -P 0 512M 1M",
    )  # fmt: skip


def test_libnbd_finds_every_promise_kept(volume):
    nbdsh(
        volume.uri,
        """
        import errno
        PAGE = 4096
        def refused(action, code):
            try:
                action()
            except nbd.Error as error:
                assert error.errnum == code, error
            else:
                assert False, "it succeeded"

        h.set_strict_mode(0)
        size = h.get_size()
        h.pwrite(b"a" * 3 * PAGE, 0)
        h.pwrite(b"b" * 100, 5000, nbd.CMD_FLAG_FUA)
        assert h.pread(3 * PAGE, 0) == b"a" * 5000 + b"b" * 100 + b"a" * (3 * PAGE - 5100)

        # Zeroing: fast where whole pages are, refused where it would be a write, on request only.
        fast = nbd.CMD_FLAG_FAST_ZERO
        refused(lambda: h.zero(100, 0, fast), errno.ENOTSUP)
        refused(lambda: h.zero(PAGE, 1, fast), errno.ENOTSUP)
        h.zero(PAGE, PAGE, fast)
        h.zero(100, 0)
        h.zero(PAGE, 2 * PAGE, fast | nbd.CMD_FLAG_NO_HOLE)
        assert h.pread(3 * PAGE, 0) == bytes(100) + b"a" * (PAGE - 100) + bytes(2 * PAGE)
        h.zero(0, 0, fast)

        # Hints and flushes take no part in the content.
        h.cache(size, 0)
        h.cache(1, size - 1)
        h.trim(PAGE, PAGE)
        h.flush()

        # Beyond the end.
        refused(lambda: h.pread(1, size), errno.EINVAL)
        refused(lambda: h.pwrite(b"x", size), errno.ENOSPC)
        refused(lambda: h.zero(2, size - 1), errno.ENOSPC)
        refused(lambda: h.trim(2, size - 1), errno.EINVAL)
        refused(lambda: h.cache(2, size - 1), errno.EINVAL)
        # Flags nobody offered.
        refused(lambda: h.pread(1, 0, 0x8000), errno.EINVAL)
        refused(lambda: h.flush(0x10), errno.EINVAL)
        assert h.pread(1, 0) == bytes(1), "the connection is as good as before"
        """,
    )


def test_structured_reads_tell_holes_from_data(volume):
    nbdsh(
        volume.uri,
        """
        PAGE = 4096
        h.pwrite(b"x" * PAGE, PAGE)
        seen = []
        def chunk(data, offset, status, error):
            seen.append((offset, len(data), status))
        h.pread_structured(4 * PAGE, 0, chunk)
        hole, data = nbd.READ_HOLE, nbd.READ_DATA
        assert seen == [(0, PAGE, hole), (PAGE, PAGE, data), (2 * PAGE, 2 * PAGE, hole)], seen
        seen.clear()
        h.pread_structured(4 * PAGE, 0, chunk, nbd.CMD_FLAG_DF)
        assert seen == [(0, 4 * PAGE, data)], seen
        """,
    )


def test_a_client_may_decline_everything(volume):
    nbdsh(
        volume.uri,
        """
        assert not h.get_structured_replies_negotiated()
        assert not h.can_df()
        h.pwrite(b"z" * 700, 300)
        assert h.pread(1000, 0) == bytes(300) + b"z" * 700
        try:
            h.block_status(4096, 0, lambda *args: 0)
            assert False, "no context was asked for"
        except nbd.Error:
            pass
        """,
        "h.set_request_structured_replies(False)",
        "h.set_handshake_flags(0)",
    )


def test_options_one_by_one(volume):
    nbdsh(
        volume.uri,
        """
        names = []
        h.opt_list(lambda name, description: names.append((name, description)))
        assert [name for name, _ in names] == ["sdf"], names
        contexts = []
        h.opt_list_meta_context(contexts.append)
        assert contexts == ["base:allocation"], contexts  # of the two that will be asked for
        h.set_export_name("nothing")
        try:
            h.opt_info()
            assert False, "there is no such export"
        except nbd.Error:
            pass
        h.set_export_name("sdf")
        h.opt_info()
        assert h.get_canonical_export_name() == "sdf"
        assert h.get_export_description().startswith("vol-")
        assert h.get_block_size(nbd.SIZE_PREFERRED) == 4096
        assert h.get_block_size(nbd.SIZE_MAXIMUM) == 32 << 20
        h.opt_go()
        assert h.can_meta_context("base:allocation") and not h.can_meta_context("x:y")
        h.pread(512, 0)
        """,
        "h.set_opt_mode(True)",
        "h.set_full_info(True)",
        "h.add_meta_context('base:allocation')",
        "h.add_meta_context('x:y')",
    )


def extents(uri, context="base:allocation"):
    return json.loads(run(require("nbdinfo"), f"--map={context}", "--json", uri))


def test_maps_of_both_clients_agree(volume):
    qemu_io(
        ["-f", "raw", volume.uri],
        "write -P 1 0 64k", "write -P 2 512M 1M", "discard 512M 64k", "flush",
    )  # fmt: skip
    expected = [(0, 64 * KIB), (512 * MIB + 64 * KIB, MIB - 64 * KIB)]
    by_libnbd = [(e["offset"], e["length"]) for e in extents(volume.uri) if e["type"] == 0]
    assert by_libnbd == expected
    mapped = json.loads(run(require("qemu-img"), "map", "-f", "raw", "--output=json", volume.uri))
    assert [(e["start"], e["length"]) for e in mapped if e["data"]] == expected
    assert sum(e["length"] for e in mapped) == GIB


def test_many_connections_see_one_volume(volume, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(24 * MIB))
    target = f"nbd+unix:///?socket={volume.socket}"
    run(require("nbdcopy"), "--connections=4", "--requests=16", source, target)
    run("nbdcopy", "--connections=4", target, back)
    with open(back, "rb") as file:
        assert file.read(24 * MIB) == source.read_bytes()
    bench = ["-f", "raw", "-c", "2000", "-d", "32", "-s", "4k"]
    run(require("qemu-img"), "bench", *bench, volume.uri)
    run("qemu-img", "bench", *bench, "-w", "--flush-interval=100", volume.uri)


# What changed since a snapshot.


def changed(uri, snapshot):
    return [(e["offset"], e["length"]) for e in extents(uri, DIRTY + snapshot) if e["type"] & 1]


def contexts(uri):
    return json.loads(run(require("nbdinfo"), "--json", uri))["exports"][0]["contexts"]


def test_changes_since_each_snapshot(volume):
    qemu_io(["-f", "raw", volume.uri], "write -P 1 0 1M", "write -P 2 100M 1M", "flush")
    first = volume.snapshot()
    assert DIRTY + first in contexts(volume.uri)
    assert changed(volume.uri, first) == []
    qemu_io(["-f", "raw", volume.uri], "write -P 3 4k 8k", "discard 100M 64k", "flush")
    second = volume.snapshot()
    qemu_io(["-f", "raw", volume.uri], "write -P 4 900M 4k", "write -z 4k 4k", "flush")
    after_second = [(4 * KIB, 4 * KIB), (900 * MIB, 4 * KIB)]
    since_first = [(4 * KIB, 8 * KIB), (100 * MIB, 64 * KIB), (900 * MIB, 4 * KIB)]
    assert changed(volume.uri, second) == after_second
    assert changed(volume.uri, first) == since_first
    # QEMU shows what is dirty as what is not data.
    image = f"{volume.image},x-dirty-bitmap={DIRTY}{first}"
    mapped = json.loads(
        run(require("qemu-img"), "map", "--output=json", "--image-opts", image)
    )
    assert [(e["start"], e["length"]) for e in mapped if not e["data"]] == since_first
    # It is the same after the volume was closed and opened, and gone with the snapshot.
    volume.detach()
    volume.attach()
    assert changed(volume.uri, first) == since_first
    volume.ec2.delete_snapshot(SnapshotId=first)
    assert DIRTY + first not in contexts(volume.uri)
    assert changed(volume.uri, second) == after_second


def test_a_volume_tells_what_changed_since_it_was_made(volume):
    qemu_io(["-f", "raw", volume.uri], "write -P 1 0 4M", "flush")
    snapshot = volume.snapshot()
    uri = volume.restored(snapshot).uri
    assert changed(uri, snapshot) == []
    qemu_io(["-f", "raw", uri], "read -P 1 0 4M", "write -P 2 1M 64k", "flush")
    assert changed(uri, snapshot) == [(MIB, 64 * KIB)]


def test_incremental_backup_with_stock_tools(volume, tmp_path):
    """A full copy of a snapshot's state, then only what changed: the backup is the volume."""
    backup, now = tmp_path / "backup", tmp_path / "now"
    qemu_io(["-f", "raw", volume.uri], "write -P 1 0 8M", "write -P 2 300M 8M", "flush")
    snapshot = volume.snapshot()
    run(require("nbdcopy"), volume.uri, backup)
    qemu_io(
        ["-f", "raw", volume.uri],
        "write -P 7 1M 64k", "write -P 8 301M 4k", "write -z 302M 1M", "write -P 9 800M 2M", "flush",
    )  # fmt: skip
    script = """
        import os
        changes = []
        def extent(context, offset, entries, error):
            for length, flags in zip(entries[0::2], entries[1::2]):
                if flags & 1:
                    changes.append((offset, length))
                offset += length
        position, size = 0, h.get_size()
        while position < size:
            reached = []
            h.block_status(size - position, position, lambda c, o, e, err: (
                extent(c, o, e, err), reached.append(sum(e[0::2])))[-1])
            position += reached[0]
        assert 0 < sum(length for _, length in changes) < 8 << 20, changes
        backup = os.open("BACKUP", os.O_WRONLY)
        for offset, length in changes:
            os.pwrite(backup, h.pread(length, offset), offset)
        """.replace("BACKUP", str(backup))
    nbdsh(volume.uri, script, f"h.add_meta_context('{DIRTY}{snapshot}')")
    run("nbdcopy", volume.uri, now)
    run("cmp", backup, now)


# TLS.


class Secured:
    """A server that also listens on TCP."""

    def __init__(self, own_server):
        self.server = own_server("--nbd-listen", "127.0.0.1:0")
        found = re.search(r"127\.0\.0\.1:(\d+)", self.server.process.stdout.readline())
        self.port = int(found.group(1))
        self.owner = self.server.account("owner")

    def uri(self, certificates, name=""):
        return f"nbds://127.0.0.1:{self.port}/{name}?tls-certificates={certificates}"

    def qemu(self, certificates, name=""):
        tls = f"tls-creds-x509,id=tls0,dir={certificates},endpoint=client,verify-peer=yes"
        image = f"driver=nbd,host=127.0.0.1,port={self.port},export={name},tls-creds=tls0"
        return ["--object", tls, "--image-opts", image]


@pytest.fixture(scope="module")
def secured(own_server):
    return Secured(own_server)


def test_tls_opens_the_attachment_it_was_made_for(secured, tmp_path):
    require("nbdinfo")
    volume, other = Volume(secured.server, secured.owner), Volume(secured.server, secured.owner)
    mine = volume.credentials(tmp_path / "mine")
    assert (mine / "client-key.pem").stat().st_mode & 0o777 == 0o600
    for name in ("", "sdf", volume.id, f"{volume.host}/sdf"):
        info = json.loads(run("nbdinfo", "--json", secured.uri(mine, name)))
        assert info["TLS"] is True
        assert info["exports"][0]["export-size"] == GIB
        assert info["exports"][0]["description"] == volume.id
    # Nothing of another volume, whatever name is asked for.
    for name in (other.id, f"{other.host}/sdf"):
        fails("nbdinfo", secured.uri(mine, name))
    listed = json.loads(run("nbdinfo", "--list", "--json", secured.uri(mine)))
    assert [export["description"] for export in listed["exports"]] == [volume.id]

    qemu_io(secured.qemu(mine), "write -P 6 0 3M", "write -P 7 511 1023", "flush", "read -P 7 511 1023")
    qemu_io(["-f", "raw", volume.uri], "read -P 7 511 1023", "read -P 6 4k 2M")
    back = tmp_path / "back"
    run(require("nbdcopy"), "--connections=2", secured.uri(mine), back)
    expected = tmp_path / "expected"
    run("nbdcopy", volume.uri, expected)
    run("cmp", back, expected)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(16 * MIB))
    run("nbdcopy", source, secured.uri(mine))
    qemu_image = ["--object", secured.qemu(mine)[1], "--image-opts"]
    run(require("qemu-img"), "convert", *qemu_image, "-O", "raw", secured.qemu(mine)[3], back)
    with open(back, "rb") as file:
        assert file.read(16 * MIB) == source.read_bytes()


def test_without_the_right_certificate_there_is_nothing(secured, tmp_path):
    require("nbdinfo")
    volume = Volume(secured.server, secured.owner)
    mine = volume.credentials(tmp_path / "mine")
    run("nbdinfo", "--size", secured.uri(mine))
    # In clear.
    said = fails("nbdinfo", f"nbd://127.0.0.1:{secured.port}")
    assert "TLS" in said or "tls" in said, said
    assert "TLS" in fails(require("qemu-img"), "info", f"nbd://127.0.0.1:{secured.port}")
    # With no certificate of its own.
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(mine / "ca-cert.pem", bare)
    fails("nbdinfo", secured.uri(bare))
    # With one that names the same attachment but was made by somebody else.
    forged = tmp_path / "forged"
    shutil.copytree(mine, forged)
    text = run("openssl", "x509", "-in", mine / "client-cert.pem", "-noout", "-ext", "subjectAltName")
    name = re.search(r"DNS:(\S+)", text).group(1)
    run(
        "openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=x",
        "-addext", f"subjectAltName=DNS:{name}", "-keyout", forged / "client-key.pem",
        "-out", forged / "client-cert.pem",
    )  # fmt: skip
    fails("nbdinfo", secured.uri(forged))
    # A server that is not ours is not believed.
    strange = tmp_path / "strange"
    shutil.copytree(mine, strange)
    shutil.copy(forged / "client-cert.pem", strange / "ca-cert.pem")
    fails("nbdinfo", secured.uri(strange))
    # The attachment's end is the certificate's.
    volume.detach()
    assert "alert" in fails("nbdinfo", secured.uri(mine))
    volume.attach()
    assert "alert" in fails("nbdinfo", secured.uri(mine))
    again = volume.credentials(tmp_path / "again")
    run("nbdinfo", "--size", secured.uri(again))


def test_a_detach_ends_connections_over_tls(secured, tmp_path):
    volume = Volume(secured.server, secured.owner)
    mine = volume.credentials(tmp_path / "mine")
    client = subprocess.Popen(
        [require("qemu-io"), *secured.qemu(mine)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    client.stdin.write("write -P 1 0 64k\n")
    client.stdin.flush()
    assert "wrote 65536" in client.stdout.readline()
    volume.detach()
    said, _ = client.communicate("read 0 64k\nquit\n", timeout=60)
    assert "read failed" in said, said


# A server that goes away and comes back.


def session(image, seconds):
    """A qemu-io that waits that long for a server to come back."""
    arguments = [require("qemu-io"), *image]
    arguments[-1] += f",reconnect-delay={seconds}"
    return subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def say(client, command):
    client.stdin.write(command + "\n")
    client.stdin.flush()


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("way", ["unix", "tls"])
def test_a_restart_is_only_a_pause(own_server, tmp_path, how, way):
    server = own_server("--nbd-listen", "127.0.0.1:0")
    port = re.search(r"127\.0\.0\.1:(\d+)", server.process.stdout.readline()).group(1)
    volume = Volume(server, server.account("owner"))
    image = ["--image-opts", volume.image]
    if way == "tls":
        mine = volume.credentials(tmp_path / "mine")
        tls = f"tls-creds-x509,id=tls0,dir={mine},endpoint=client,verify-peer=yes"
        there = f"driver=nbd,host=127.0.0.1,port={port},tls-creds=tls0"
        image = ["--object", tls, "--image-opts", there]
    server.arguments = ["--nbd-listen", f"127.0.0.1:{port}"]
    client = session(image, 60)
    say(client, "write -P 1 0 1M")
    say(client, "flush")
    assert "wrote 1048576" in client.stdout.readline()
    client.stdout.readline()
    # What a SIGTERM finds is answered or made durable. What a kill leaves of what was not flushed is
    # looked at in test_crash.py.
    if how == "stop":
        say(client, "write -P 2 1M 1M")
        while "wrote 1048576" not in client.stdout.readline():
            pass
        assert server.stop() == 0
    else:
        server.kill()
    # Asked while nobody is there.
    say(client, "read -P 1 0 1M")
    say(client, "write -P 3 2M 1M")
    started = time.monotonic()
    server.start()
    print(f"ready again after {time.monotonic() - started:.2f} s")
    assert volume.socket.exists(), "before the server says that it is ready"
    commands = "read -P 3 2M 1M\nflush\n" + ("read -P 2 1M 1M\n" if how == "stop" else "") + "quit\n"
    said, _ = client.communicate(commands, timeout=120)
    assert client.returncode == 0 and "failed" not in said and "error" not in said, said
    assert said.count("read 1048576/1048576") == (3 if how == "stop" else 2), said


# Growing.


def test_a_client_that_connects_after_a_growth_sees_it(volume):
    """What a client was told once stays for its connection; see docs/attach.md."""
    volume.ec2.modify_volume(VolumeId=volume.id, Size=2)
    eventually(lambda: run("nbdinfo", "--size", volume.uri).strip() == str(2 * GIB))
    qemu_io(["-f", "raw", volume.uri], f"write -P 1 {GIB} 64k", f"read -P 1 {GIB} 64k")
