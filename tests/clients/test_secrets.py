"""After a volume was used and detached, neither its plaintext nor its data key is left anywhere."""

import base64
import hashlib
import hmac
import os
import sqlite3
import subprocess

from conftest import require
from steps import (
    REGION,
    attach,
    create_key,
    create_snapshot,
    create_volume,
    detach,
    make_image,
    read_digest,
    settled,
    write_image,
)

PATTERN = b"the quick brown fox keeps a secret in block storage; "


def occurs(needles, path):
    """Which of the needles a file contains. Read in overlapping pieces: cores are large."""
    found, overlap = set(), max(map(len, needles))
    with open(path, "rb") as file:
        tail = b""
        while piece := file.read(16 << 20):
            window = tail + piece
            found.update(needle for needle in needles if needle in window)
            tail = window[-overlap:]
    return found


def core(process, path, excluded="on"):
    """A core dump; with what the process keeps out of core dumps, or without."""
    gdb = require("gdb")
    commands = [
        f"set dump-excluded-mappings {excluded}",
        "set use-coredump-filter off",
        f"gcore {path}",
    ]
    arguments = [part for command in commands for part in ("-ex", command)]
    done = subprocess.run(
        [gdb, "--batch", "-p", str(process.pid), *arguments],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert os.path.exists(path), done.stdout + done.stderr
    return path


def data_keys(server, owner, volume):
    """The plaintext data key of a volume, which only somebody allowed to use the KMS key can get."""
    rows = sqlite3.connect(f"file:{server.data / 'meta.sqlite'}?mode=ro", uri=True)
    query = "SELECT wrapped_key, context_id FROM ebs_volumes WHERE volume_id = ?"
    wrapped, context_id = rows.execute(query, (volume,)).fetchone()
    rows.close()
    opened = owner.client("kms").decrypt(
        CiphertextBlob=wrapped, EncryptionContext={"aws:ebs:id": context_id}
    )
    assert len(opened["Plaintext"]) == 64
    return opened["Plaintext"]


def read_in_small_pieces(uri, path):
    """Reads what the server keeps a copy of: it does not keep long reads."""
    nbdcopy = require("nbdcopy")
    subprocess.run(
        [nbdcopy, "--request-size=32768", uri, str(path)], check=True, timeout=120
    )  # fmt: skip


def test_nothing_is_left_behind(own_server, tmp_path):
    require("nbdcopy")
    server = own_server()
    owner = server.account("owner")
    key, other = create_key(owner), create_key(owner)
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    _, uri = attach(owner, volume)
    image = tmp_path / "image"
    text = PATTERN * ((4 << 20) // len(PATTERN))
    make_image(image, text)
    write_image(image, uri)
    read_digest(uri, tmp_path)
    read_in_small_pieces(uri, tmp_path / "again")
    attached = core(server.process, tmp_path / "core.attached")
    ordinary = core(server.process, tmp_path / "core.ordinary", excluded="off")
    snapshot = create_snapshot(owner, volume)
    copied = owner.aws(
        "ec2", "copy-snapshot", "--source-region", REGION, "--source-snapshot-id", snapshot,
        "--encrypted", "--kms-key-id", other,
    )["SnapshotId"]  # fmt: skip
    assert settled(owner, copied)["State"] == "completed"
    detach(owner, volume)
    idle = core(server.process, tmp_path / "core.idle")

    secret = data_keys(server, owner, volume)
    # What every key of the volume is derived from (docs/format.md, key schedule of pages).
    extracted = hmac.new(b"ebsfmt1", secret, hashlib.sha256).digest()
    needles = [PATTERN, secret[:32], secret[32:], base64.b64encode(secret), extracted]
    # While a volume is attached its host keeps what it needs, and not the data key itself. That the
    # search finds it there also shows that the search works.
    assert occurs(needles, attached) == {PATTERN, extracted}
    # The plaintext it keeps, pages read lately, is in memory that core dumps leave out.
    assert occurs([PATTERN], ordinary) == set()
    assert not occurs(needles, idle)
    for path in server.data.rglob("*"):
        if path.is_file() and not path.is_socket():
            assert not occurs(needles, path), path
