"""`strongroom check` against a data directory that is damaged on purpose, with and without a server."""

import json
import os
import sqlite3
import subprocess

import pytest
from conftest import BINARY
from nbd_client import Nbd
from steps import attach, check, create_snapshot, create_volume, detach, log_of, settled, volume_is

CLEAN, DAMAGED, INCOMPLETE = 0, 5, 6
BLOCK = 512 * 1024


def findings(report, identity):
    """What is wrong with one volume, snapshot or store."""
    subjects = [s for s in report["Subjects"] if s["Id"] == identity]
    assert subjects, f"{identity} is not in the report"
    return [finding for subject in subjects for finding in subject["Findings"]]


def change(path, places):
    """Flips a bit in each place of a file; a second time puts it back."""
    with open(path, "r+b") as file:
        for place in places:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))


def pages(path):
    """Every written page of a sparse file, with its place."""
    with open(path, "rb") as file:
        end, at = path.stat().st_size, 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            at -= at % 4096
            while at < hole:
                yield at, os.pread(file.fileno(), 4096, at)
                at += 4096


@pytest.fixture(scope="module")
def stored(server):
    """A volume with a snapshot; still attached."""
    account = server.account("checker")
    volume = create_volume(account, "--size", "1")
    _host, uri = attach(account, volume)
    nbd = Nbd(uri.partition("socket=")[2])
    for block in range(8):
        nbd.write(block * BLOCK, bytes([block + 1]) * 65536)
    nbd.flush()
    nbd.close()
    snapshot = create_snapshot(account, volume)
    return account, volume, snapshot


def packs(server):
    """The stored packs, largest first."""
    objects = server.data / "regions" / "us-east-1" / "objects" / "packs"
    files = [path for path in objects.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_size, reverse=True)


def test_what_is_healthy_is_said_to_be(server, stored):
    _account, volume, snapshot = stored
    code, report = check(server, "--all")
    assert (code, report["Damage"], report["Complete"]) == (CLEAN, 0, True)
    opened = {subject["Id"]: subject["Opened"] for subject in report["Subjects"]}
    assert opened[volume] >= 8 * 16, "an attached volume is opened with its key"
    assert opened[snapshot] == 8, "the service has the keys of plain snapshots"
    for one in (volume, snapshot):
        code, report = check(server, one)
        assert code == CLEAN
        assert [s["Id"] for s in report["Subjects"] if s["Kind"] != "store"] == [one]
    code, _ = check(server, "--all", "--repair-index")
    assert code == CLEAN


def test_a_damaged_frame_is_found_with_its_snapshot_and_block(server, stored):
    _account, volume, snapshot = stored
    pack = packs(server)[0]
    change(pack, [pack.stat().st_size // 2])
    try:
        code, report = check(server, "--all")
        assert code == DAMAGED
        [found] = findings(report, snapshot)
        assert found["Fault"] == "frame" and found["Block"] in range(8)
        assert pack.name in found["Place"]
        assert findings(report, volume) == []
        # In words, too, and the same with one snapshot asked for.
        words = subprocess.run(
            [BINARY, "check", "--data-dir", str(server.data), snapshot],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert words.returncode == DAMAGED
        assert f"block {found['Block']}" in words.stdout and snapshot in words.stdout
    finally:
        change(pack, [pack.stat().st_size // 2])
    assert check(server, "--all")[0] == CLEAN


def test_a_damaged_page_of_a_volume_is_found_without_a_server(server, stored):
    account, volume, _snapshot = stored
    detach(account, volume)
    volume_is(account, volume, "available")
    assert server.stop() == 0
    log = log_of(server, volume)
    # The page behind the descriptor of every chunk.
    chunks = [offset for offset, page in pages(log) if page.startswith(b"SRCH")]
    places = [offset + 4096 + 77 for offset in chunks]
    assert places
    change(log, places)
    before = list(pages(log))
    code, report = check(server, volume)
    assert code == DAMAGED
    found = findings(report, volume)
    assert {finding["Fault"] for finding in found} == {"data-page"}
    assert {finding["Block"] for finding in found} <= set(range(8))
    assert list(pages(log)) == before, "a check changes nothing"
    change(log, places)
    assert check(server, "--all")[0] == CLEAN
    server.start()


@pytest.mark.parametrize("kind", ["plain", "encrypted", "detached"])
def test_no_snapshot_is_made_of_damaged_pages(server, kind):
    account = server.account("damaged")
    volume = create_volume(account, "--size", "1", *(() if kind == "plain" else ("--encrypted",)))
    _host, uri = attach(account, volume)
    nbd = Nbd(uri.partition("socket=")[2])
    nbd.write(3 * BLOCK, bytes([7]) * 65536)
    nbd.flush()
    nbd.close()
    # Where nobody has the key, pages are compared with what they were written in.
    damaged = "page"
    if kind == "detached":
        detach(account, volume)
        volume_is(account, volume, "available")
        damaged = "chunk with data"
    log = log_of(server, volume)
    places = [offset + 4096 + 77 for offset, page in pages(log) if page.startswith(b"SRCH")]
    change(log, places)
    made = account.aws("ec2", "create-snapshot", "--volume-id", volume)["SnapshotId"]
    failed = settled(account, made)
    assert failed["State"] == "error"
    assert failed["StateMessage"].startswith("Stored blocks are damaged: ")
    assert failed["StateMessage"].endswith(f"{damaged} of block 3 is damaged")
    change(log, places)
    create_snapshot(account, volume)


def test_what_is_derived_is_made_anew(server, stored):
    account, volume, snapshot = stored
    assert server.stop() == 0
    pack = packs(server)[0]
    change(pack, [10, pack.stat().st_size - 90])
    log = log_of(server, volume)
    change(log, [8192 + 300])
    server.start()
    code, report = check(server, "--all")
    assert code == DAMAGED
    assert [f["Fault"] for f in findings(report, volume)] == ["superblock-slot"]
    assert [f["Fault"] for f in findings(report, "us-east-1")] == ["pack-header"]
    assert findings(report, snapshot) == []
    code, report = check(server, "--all", "--repair-index")
    assert code == CLEAN
    assert {repair["Done"] for repair in report["Repairs"]} == {True}
    assert len(report["Repairs"]) == 2
    assert not pack.exists()
    code, report = check(server, "--all")
    assert (code, report["Repairs"]) == (CLEAN, [])
    # And it reads as before.
    again = create_volume(account, "--snapshot-id", snapshot)
    _host, uri = attach(account, again, device="/dev/sdg")
    nbd = Nbd(uri.partition("socket=")[2])
    assert nbd.read(3 * BLOCK, 4096) == bytes([4]) * 4096
    nbd.close()


def test_what_is_not_there_is_refused(server, stored):
    for wrong in ("vol-0123456789abcdef0", "nonsense"):
        done = subprocess.run(
            [BINARY, "check", "--data-dir", str(server.data), wrong],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1 and done.stderr


def test_a_volume_whose_file_is_gone_is_lost_and_not_empty(own_server):
    server = own_server()
    account = server.account("owner")
    volume = create_volume(account, "--size", "1")
    assert check(server, "--all")[0] == CLEAN, "it was never opened"
    host, uri = attach(account, volume)
    nbd = Nbd(uri.partition("socket=")[2])
    nbd.write(0, b"\x42" * 4096)
    nbd.flush()
    nbd.close()
    server.stop()
    file = log_of(server, volume)
    away = file.rename(server.dir / "away")
    code, report = check(server, "--all")
    assert code == DAMAGED
    [found] = findings(report, volume)
    assert found["Fault"] == "volume-missing" and found["Place"].endswith(file.name), found
    # The server does not make another one.
    server.start()
    [line] = json.loads(server.admin("attachments", "--json"))
    assert "does not exist" in line["Impaired"], line
    assert not file.exists() and check(server, volume)[0] == DAMAGED
    server.stop()
    away.rename(file)
    server.start()
    nbd = Nbd(server.socket(host, "/dev/sdf"))
    assert nbd.read(0, 4096) == b"\x42" * 4096
    nbd.close()
    assert check(server, "--all")[0] == CLEAN
    # Removed while it is open.
    away = file.rename(server.dir / "away")
    assert check(server, volume)[0] == DAMAGED
    away.rename(file)


def test_a_volume_that_an_earlier_release_had_not_opened_gets_its_file(own_server):
    server = own_server()
    volume = create_volume(server.account("owner"), "--size", "1")
    server.stop()
    file = log_of(server, volume)
    file.unlink()
    with sqlite3.connect(server.data / "meta.sqlite") as rows:
        rows.execute("UPDATE ebs_volumes SET file_made = 0")
    rows.close()
    assert check(server, "--all")[0] == CLEAN
    server.start()
    assert file.exists() and check(server, "--all")[0] == CLEAN


def test_a_region_that_is_not_there_is_missed(own_server):
    server = own_server()
    create_volume(server.account("owner"), "--size", "1")
    server.stop()
    region = server.data / "regions" / "us-east-1"
    away = region.rename(server.dir / "away")
    code, report = check(server, "--all")
    assert code == INCOMPLETE
    [missed] = [s for s in report["Subjects"] if s["Kind"] == "region"]
    assert missed["Id"] == "us-east-1" and missed["Unchecked"], missed
    away.rename(region)
    assert check(server, "--all")[0] == CLEAN
