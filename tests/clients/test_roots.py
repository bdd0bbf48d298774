"""The root of trust: what unseals it, moving the seal, domain keys, backups, restores, and rows that were put back."""

import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import threading

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from conftest import BINARY, Server, eventually, missing, require
from test_secrets import core, occurs
from steps import attach, create_key, create_volume, detach, make_image, read_digest, write_image

MODULES = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
]
PIN = "271828182845904523536"
POSTGRES = os.environ.get("STRONGROOM_TEST_POSTGRES")


def private(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture
def softhsm(tmp_path, monkeypatch):
    """Makes tokens in a directory of the test's own; servers started meanwhile see them."""
    util = require("softhsm2-util")
    module = next(filter(os.path.exists, MODULES), None)
    assert module, "softhsm2-util is there, its module is not"
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    pin = private(tmp_path / "pin", PIN + "\n")

    def make(label):
        subprocess.run(
            [util, "--init-token", "--free", "--label", label, "--so-pin", "314159", "--pin", PIN],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        return f"pkcs11:token={label};object=root?module-path={module}&pin-source={pin}"

    make.tokens, make.pin = tmp_path / "tokens", pin
    return make


def refused(server, *arguments):
    """A server that does not start; returns what it says."""
    done = subprocess.run(
        [BINARY, "serve", "--data-dir", str(server.data), "--listen", "127.0.0.1:0", *arguments],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    return done.stderr


def restarted(server, *arguments):
    server.arguments = list(arguments)
    server.start()


def sealed(owner, key, text=b"a secret"):
    kms = owner.client("kms")
    return kms.encrypt(KeyId=key, Plaintext=text, EncryptionContext={"a": "b"})["CiphertextBlob"]


def opened(owner, blob):
    kms = owner.client("kms")
    return kms.decrypt(CiphertextBlob=blob, EncryptionContext={"a": "b"})["Plaintext"]


def elsewhere(owner, server):
    """The same credentials at another server."""
    return type(owner)(server, owner.id, owner.access_key, owner.secret_key)


def test_the_seal_moves_while_the_server_runs(own_server, softhsm, tmp_path):
    token, other = softhsm("one"), softhsm("two")
    server = own_server()
    owner = server.account("owner")
    blob = sealed(owner, create_key(owner))
    words = private(tmp_path / "words", "correct horse battery staple\n")
    sources = [f"passphrase:{words}", token, other, f"key-file:{tmp_path / 'new.key'}"]
    old = f"key-file:{server.data / 'seal.key'}"
    for source in sources:
        server.admin("seal", "rotate", "--to", source)
        assert opened(owner, blob) == b"a secret", "it goes on meanwhile"
        server.stop()
        assert refused(server, "--seal", old), "what sealed it before opens nothing"
        restarted(server, "--seal", source)
        assert opened(owner, blob) == b"a secret"
        old = source
    trail = server.admin_trail("--event", "RotateSeal")
    assert len(trail) == len(sources)


def test_a_token_says_what_is_wrong(own_server, softhsm, tmp_path):
    token = softhsm("one")
    server = own_server("--seal", token)
    owner = server.account("owner")
    blob = sealed(owner, create_key(owner))
    server.stop()
    wrong = private(tmp_path / "wrong", "111111")
    assert "refuses the PIN" in refused(server, "--seal", token.replace(str(softhsm.pin), str(wrong)))
    away = tmp_path / "away"
    softhsm.tokens.rename(away)
    softhsm.tokens.mkdir()
    assert "is not there" in refused(server, "--seal", token)
    softhsm.tokens.rmdir()
    away.rename(softhsm.tokens)
    restarted(server, "--seal", token)
    assert opened(owner, blob) == b"a secret"


def test_another_kms_unseals(own_server, tmp_path):
    keeper = own_server()
    custodian = keeper.account("custodian")
    key = custodian.client("kms").create_key()["KeyMetadata"]["Arn"]
    credentials = {"AccessKeyId": custodian.access_key, "SecretAccessKey": custodian.secret_key}
    file = private(tmp_path / "credentials.json", json.dumps(credentials))
    source = f"kms:{key}?endpoint={keeper.url}&credentials={file}"
    server = own_server("--seal", source)
    owner = server.account("owner")
    blob = sealed(owner, create_key(owner))
    server.stop()
    custodian.client("kms").disable_key(KeyId=key)
    assert "DisabledException" in refused(server, "--seal", source)
    custodian.client("kms").enable_key(KeyId=key)
    keeper.stop()
    assert "cannot be reached" in refused(server, "--seal", source)
    keeper.start()
    restarted(server, "--seal", source)
    assert opened(owner, blob) == b"a secret"
    # The keeper's trail has the calls with the context that names the root they are for.
    events = custodian.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "Decrypt"}]
    )["Events"]
    root = json.loads((server.data / "seal.json").read_text())["root_id"]
    assert any(root in event["CloudTrailEvent"] for event in events)


def test_domain_keys_rotate(own_server):
    server = own_server()
    owner = server.account("owner")
    assert "us-east-1        domain key    1  made 2" in server.admin("domain-key", "status")
    blobs = [sealed(owner, create_key(owner)) for _ in range(3)]
    made = server.admin("domain-key", "rotate", "--region", "us-east-1")
    assert "domain key 2" in made

    def moved():
        rows = json.loads(server.admin("domain-key", "status", "--json"))
        return [row for row in rows if row["Finished"] and row["Rewrapped"] == 3]

    eventually(moved)
    assert [opened(owner, blob) for blob in blobs] == [b"a secret"] * 3
    server.stop()
    server.start()
    assert [opened(owner, blob) for blob in blobs] == [b"a secret"] * 3


def recovery(tmp_path):
    return "--recovery-key-file", str(tmp_path / "recovery.key")


@pytest.fixture
def schema():
    """Makes empty PostgreSQL databases (schemas of one server) and removes them; gives the arguments that name them."""
    made = []

    def psql(command):
        run = [require("psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--command", command, POSTGRES]
        subprocess.run(run, check=True, capture_output=True, timeout=60)

    def make():
        if POSTGRES is None:
            missing("STRONGROOM_TEST_POSTGRES names no server; `cargo xtask test` starts one")
        made.append(f"drill_{os.urandom(6).hex()}")
        psql(f"CREATE SCHEMA {made[-1]}")
        separator = "&" if "?" in POSTGRES else "?"
        return ["--meta-url", f"{POSTGRES}{separator}options=-csearch_path%3D{made[-1]}"]

    yield make
    for name in made:
        psql(f"DROP SCHEMA {name} CASCADE")


@pytest.mark.parametrize("rows", ["embedded", "postgresql"])
def test_a_restore_drill(own_server, schema, tmp_path, rows):
    """Keys, ciphertexts and a volume; the server is destroyed, restored elsewhere, and all of it opens."""
    require("nbdcopy")
    source, target = ([], []) if rows == "embedded" else (schema(), schema())
    server = own_server(*source)
    owner = server.account("owner")
    key = create_key(owner)
    kms = owner.client("kms")
    kms.create_alias(AliasName="alias/drill", TargetKeyId=key)
    user = owner.user("someone")
    grantee = f"arn:aws:iam::{owner.id}:user/someone"
    kms.create_grant(KeyId=key, GranteePrincipal=grantee, Operations=["Decrypt"])
    blob = sealed(owner, key)
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key)
    _, uri = attach(owner, volume)
    image = tmp_path / "image"
    make_image(image, os.urandom(1 << 20))
    write_image(image, uri)
    digest = read_digest(uri, tmp_path)
    detach(owner, volume)

    backup = tmp_path / "backup"
    made = json.loads(
        server.admin("backup", "create", "--to", str(backup), *recovery(tmp_path), "--json")
    )
    counts = {count["Table"]: count["Rows"] for count in made["Counts"]}
    assert counts["kms_keys"] == 1 and counts["kms_grants"] == 1 and counts["ebs_volumes"] == 1
    for secret in (owner.secret_key.encode(), b"alias/drill", key.encode()):
        assert secret not in backup.read_bytes()
    verify = [BINARY, "admin", "backup", "verify", str(backup), *recovery(tmp_path)]
    assert "kms_keys" in subprocess.run(verify, check=True, capture_output=True, text=True).stdout

    # What came after the backup is not in it.
    later = create_key(owner)
    server.kill()
    # Unix socket paths are short: not below pytest's own directory.
    home = server.dir.with_name(f"elsewhere-{rows}")
    home.mkdir()
    new = home / "data"
    new.mkdir(mode=0o700)
    shutil.copytree(server.data / "regions", new / "regions")
    shutil.rmtree(server.data)
    words = private(tmp_path / "words", "the other seal of this test\n")
    restore = [
        BINARY, "restore", "--from", str(backup), "--data-dir", str(new), *recovery(tmp_path),
        "--seal", f"passphrase:{words}", *target,
    ]  # fmt: skip
    done = subprocess.run(restore, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(restore, capture_output=True, timeout=60).returncode == 3, "not twice"

    if target:
        assert not (new / "meta.sqlite").exists()
        # A database that holds rows is not restored into, whatever the directory.
        other = home.with_name("other")
        onto = [*restore[:4], "--data-dir", str(other), *restore[6:]]
        said = subprocess.run(onto, capture_output=True, text=True, timeout=60)
        assert said.returncode == 1 and "restore into a new one" in said.stderr, said

    again = Server(home, "--seal", f"passphrase:{words}", *target)
    try:
        owner, user = elsewhere(owner, again), elsewhere(user, again)
        assert opened(owner, blob) == b"a secret"
        assert opened(user, blob) == b"a secret", "the grant is there as well"
        assert owner.client("kms").describe_key(KeyId="alias/drill")["KeyMetadata"]["Arn"] == key
        owner.aws("kms", "describe-key", "--key-id", later, fails="NotFoundException")
        _, uri = attach(owner, volume)
        assert read_digest(uri, tmp_path) == digest
    finally:
        assert again.stop() == 0


def cut_short(restore, reached):
    """Kills a restore at the moment `reached` says; returns how it ended."""
    process = subprocess.Popen(restore, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not reached():
        pass
    process.kill()
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("rows", ["embedded", "postgresql"])
def test_a_restore_that_is_killed_is_done_again(own_server, schema, tmp_path, rows):
    """At its beginning, with its rows half written, and with all but the seal: nothing starts on what is left."""
    source, target = ([], []) if rows == "embedded" else (schema(), schema())
    server = own_server(*source)
    owner = server.account("owner")
    blob = sealed(owner, create_key(owner))
    backup = tmp_path / "backup"
    server.admin("backup", "create", "--to", str(backup), *recovery(tmp_path))
    server.kill()
    home = server.dir.with_name(f"killed-{rows}")
    home.mkdir()
    new = home / "data"
    seal = ["--seal", f"passphrase:{private(tmp_path / 'words', 'the other seal of this test')}", *target]
    restore = [BINARY, "restore", "--from", str(backup), "--data-dir", str(new), *recovery(tmp_path), *seal]

    def begins():
        serve = [BINARY, "serve", "--data-dir", str(new), "--listen", "127.0.0.1:0", *seal]
        return subprocess.run(serve, capture_output=True, text=True, timeout=60)

    mark = new / "restore.unfinished"
    moments = [mark.exists, (new / "anchor.json").exists]
    if not target:
        moments.insert(1, lambda: any(file.stat().st_size for file in new.glob("meta.sqlite*")))
    for reached in moments:
        assert cut_short(restore, reached) == -9, "it was killed, not done"
        assert mark.exists() and not (new / "seal.json").exists()
        refusal = begins()
        assert refusal.returncode == 3 and "was cut short" in refusal.stderr, refusal
        assert not (new / "seal.json").exists(), "the refusal made no root of its own"
    done = subprocess.run(restore, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    # Killed with the seal in place, and only the mark still to go: it was whole.
    mark.touch()
    assert subprocess.run(restore, capture_output=True, timeout=60).returncode == 3, "not twice"
    again = Server(home, *seal)
    try:
        assert opened(elsewhere(owner, again), blob) == b"a secret"
        assert not mark.exists()
    finally:
        assert again.stop() == 0


@pytest.mark.parametrize("rows", ["embedded", "postgresql"])
def test_a_restore_has_its_directory_and_rows_for_itself(own_server, schema, tmp_path, rows):
    """Beside another restore, a check or a server, it is refused, and so are they beside it."""
    server = own_server()
    owner = server.account("owner")
    blob = sealed(owner, create_key(owner))
    backup = tmp_path / "backup"
    server.admin("backup", "create", "--to", str(backup), *recovery(tmp_path))
    server.kill()
    home = server.dir.with_name(f"alone-{rows}")
    home.mkdir()
    target = [] if rows == "embedded" else schema()
    seal = ["--seal", f"passphrase:{private(tmp_path / 'words', 'the other seal of this test')}", *target]

    def command(name, data):
        more = {
            "restore": ["--from", str(backup), *recovery(tmp_path)],
            "serve": ["--listen", "127.0.0.1:0"],
        }
        return [BINARY, name, "--data-dir", str(data), *more[name], *seal]

    def refused(name, data, code, words):
        said = subprocess.run(command(name, data), capture_output=True, text=True, timeout=60)
        assert said.returncode == code and words in said.stderr, said

    new = home / "data"
    first = subprocess.Popen(command("restore", new), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while first.poll() is None and not (new / "restore.unfinished").exists():
        pass
    first.send_signal(signal.SIGSTOP)
    assert first.poll() is None and not (new / "seal.json").exists(), "it is stopped half-way"
    refused("restore", new, 3, "another server or restore is using the data directory")
    refused("serve", new, 3, "another server or restore is using the data directory")
    first.send_signal(signal.SIGCONT)
    assert first.communicate(timeout=60) and first.returncode == 0
    again = Server(home, *seal)
    try:
        refused("restore", new, 3, "another server or restore is using the data directory")
        assert opened(elsewhere(owner, again), blob) == b"a secret"
    finally:
        assert again.stop() == 0

    if target:
        # A server that nobody has used yet has its rows for itself as well.
        target[:] = schema()
        seal[2:] = target
        fresh = home.with_name("fresh")
        fresh.mkdir()
        unused = Server(fresh, *seal)
        try:
            refused("restore", home / "beside", 1, "restore into a new one")
        finally:
            assert unused.stop() == 0


def test_damaged_backups_and_wrong_keys_are_refused(own_server, tmp_path):
    server = own_server()
    server.account("owner")
    backup = tmp_path / "backup"
    server.admin("backup", "create", "--to", str(backup), *recovery(tmp_path))
    other = private(tmp_path / "other", "00" * 32)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(backup.read_bytes()[:-1])

    def verify(file, *secret):
        command = [BINARY, "admin", "backup", "verify", str(file), *secret]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr

    assert "another recovery key" in verify(backup, "--recovery-key-file", str(other))
    assert "damaged" in verify(damaged, *recovery(tmp_path))
    assert "sealed with a recovery key" in verify(backup, "--recovery-passphrase-file", str(other))


def put_back(rows, copy):
    for file in rows.parent.glob("meta.sqlite*"):
        file.unlink()
    for file in copy.glob("meta.sqlite*"):
        shutil.copy(file, rows.parent)


def test_older_rows_are_refused(own_server, tmp_path):
    server = own_server()
    owner = server.account("owner")
    key = create_key(owner)
    server.stop()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in server.data.glob("meta.sqlite*"):
        shutil.copy(file, copy)
    server.start()
    owner.client("kms").disable_key(KeyId=key)
    # Killed: the anchor of a change is written within about a second of it, not at an orderly end only.
    anchor = server.data / "anchor.json"
    before = json.loads(anchor.read_text())["epoch"]
    eventually(lambda: json.loads(anchor.read_text())["epoch"] > before)
    server.kill()
    server.start()
    server.kill()

    put_back(server.data / "meta.sqlite", copy)
    said = refused(server)
    assert "older than what this server has seen" in said and "--accept-rollback" in said
    restarted(server, "--accept-rollback", "the drill of the manual")
    trail = server.admin_trail("--event", "AcceptRollback")
    assert "the drill of the manual" in json.dumps(trail)
    server.stop()
    restarted(server)
    server.stop()
    anchor.unlink()
    assert "is gone" in refused(server)


def test_a_token_tells_an_old_machine(own_server, softhsm, tmp_path):
    """Rows and data directory both put back: only the token knows."""
    token = softhsm("one")
    server = own_server("--seal", token)
    owner = server.account("owner")
    server.stop()
    old = tmp_path / "old"
    shutil.copytree(server.data, old, ignore=shutil.ignore_patterns("*.sock"))
    server.start()
    create_key(owner)
    server.stop()
    shutil.rmtree(server.data)
    shutil.copytree(old, server.data)
    assert "older than what this server has seen" in refused(server, "--seal", token)


def hkdf(salt, secret, info, length):
    """RFC 5869 with SHA-256, as far as one block."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()[:length]


def lp(field):
    return struct.pack(">H", len(field)) + field


def root_secrets(data):
    """Root key and service secret, as whoever has the key file gets them (docs/format.kms.md)."""
    header = json.loads((data / "seal.json").read_text())
    [slot] = header["slots"]
    binary = {name: bytes.fromhex(slot[name]) for name in ("salt", "check", "nonce", "sealed")}
    secret = bytes.fromhex((data / "seal.key").read_text())
    root_id = bytes.fromhex(header["root_id"])
    sealing = hkdf(binary["salt"], secret, b"seal-key1", 32)
    aad = b"seal2" + lp(root_id) + lp(b"key file") + lp(binary["salt"]) + lp(binary["check"])
    opened = AESGCM(sealing).decrypt(binary["nonce"], binary["sealed"], aad)
    return root_id, opened[:32], opened[32:], sealing


def key_secrets(data, root_id, root, region="us-east-1"):
    """The domain keys of a region and the material of its keys."""
    rows = sqlite3.connect(f"file:{data / 'meta.sqlite'}?mode=ro", uri=True)
    domain = {}
    query = "SELECT number, wrapped FROM kms_domain_keys WHERE region = ?"
    for number, wrapped in rows.execute(query, (region,)):
        aad = b"dk1" + lp(root_id) + lp(region.encode()) + lp(struct.pack(">I", number))
        domain[number] = AESGCM(root).decrypt(wrapped[:12], wrapped[12:], aad)
    material = []
    query = "SELECT account_id, key_id, material_id, token, created_at FROM kms_materials WHERE region = ?"
    for account, key, material_id, token, created in rows.execute(query, (region,)):
        aad = b"ekt1" + b"".join(
            map(lp, [
                token[1:5], b"aws", account.encode(), region.encode(), key.encode(), material_id,
                b"SYMMETRIC_DEFAULT", b"AWS_KMS", struct.pack(">q", created),
            ])
        )  # fmt: skip
        [number] = struct.unpack(">I", token[1:5])
        material.append(AESGCM(domain[number]).decrypt(token[5:17], token[17:], aad))
    rows.close()
    return list(domain.values()), material


def mappings(pid):
    """The writable mappings of a process with their flags (proc_pid_smaps(5))."""
    found, current = [], None
    for line in open(f"/proc/{pid}/smaps"):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ", line)
        if head:
            start, end, mode = head.groups()
            current = int(start, 16), int(end, 16), mode
        elif line.startswith("VmFlags:") and current[2].startswith("rw"):
            found.append((*current[:2], set(line.split()[1:])))
    return found


def places(pid, needles):
    """For each needle the flags of the mappings it lies in, whatever their protection: read as root."""
    found = {name: [] for name in needles}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, flags in mappings(pid):
            try:
                memory.seek(start)
                content = memory.read(end - start)
            except OSError:
                continue  # what the kernel keeps to itself
            for name, needle in needles.items():
                if needle in content:
                    found[name].append(flags)
    return found


def busy(owner, key, stop):
    kms = owner.client("kms")
    while not stop.is_set():
        blob = kms.encrypt(KeyId=key, Plaintext=b"busy")["CiphertextBlob"]
        kms.decrypt(CiphertextBlob=blob)


def test_secrets_of_the_root_stay_in_locked_memory(own_server, softhsm, tmp_path):
    token = softhsm("one")
    server = own_server()
    owner = server.account("owner")
    key = create_key(owner)
    root_id, root, service, sealing = root_secrets(server.data)
    seal_key = bytes.fromhex((server.data / "seal.key").read_text())
    words = private(tmp_path / "words", "an uncommonly long passphrase of this test\n")
    # All kinds of seals pass through the process, and their secrets with them.
    server.admin("seal", "rotate", "--to", token)
    server.admin("seal", "rotate", "--to", f"passphrase:{words}")
    server.admin("backup", "create", "--to", str(tmp_path / "backup"), *recovery(tmp_path))
    blob = sealed(owner, key)
    assert opened(owner, blob) == b"a secret"
    [domain], [material] = key_secrets(server.data, root_id, root)
    needles = {
        "root": root, "service": service, "domain": domain, "material": material,
        "sealing": sealing, "seal key": seal_key, "passphrase": words.read_bytes().strip(),
        "pin": PIN.encode(), "recovery": bytes.fromhex((tmp_path / "recovery.key").read_text()),
    }  # fmt: skip
    pid = server.process.pid
    idle = places(pid, needles)
    # What lives as long as the process is there, on pages that are locked and left out of dumps, and nowhere else.
    for name in ("root", "service", "domain"):
        assert idle[name], f"the search does not find the {name} key"
        assert all({"lo", "dd"} <= flags for flags in idle[name]), (name, idle[name])
    # What does not is gone.
    for name in set(needles) - {"root", "service", "domain"}:
        assert not idle[name], (name, idle[name])
    locked = re.search(r"VmLck:\s+(\d+)", open(f"/proc/{pid}/status").read())
    assert int(locked.group(1)) > 0
    assert not occurs(list(needles.values()), core(server.process, tmp_path / "core.idle", "off"))

    stop = threading.Event()
    threads = [threading.Thread(target=busy, args=(owner, key, stop)) for _ in range(4)]
    [thread.start() for thread in threads]
    try:
        # As the kernel writes it, and a debugger that does not insist: nothing of the process's own memory.
        gdb = require("gdb")
        path = tmp_path / "core.ordinary"
        subprocess.run(
            [gdb, "--batch", "-p", str(pid), "-ex", f"gcore {path}"],
            capture_output=True, timeout=120,
        )  # fmt: skip
        assert path.exists()
        assert not occurs(list(needles.values()), path)
        # One that insists gets what an operation has in its hands, never what all of them hang on.
        forced = occurs(list(needles.values()), core(server.process, tmp_path / "core.busy", "off"))
        assert not forced - {domain, material}, "only keys in use may be there"
    finally:
        stop.set()
        [thread.join() for thread in threads]
