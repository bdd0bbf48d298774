"""What the operator sees of the work a server does by itself."""

import json

from conftest import eventually
from nbd_client import Nbd
from steps import attach, create_snapshot, create_volume, detach

BLOCK = 512 * 1024
BLOCKS = 40


def test_initializations_are_seen_on_their_way(own_server):
    server = own_server("--job-bandwidth-mib", "initialize=1")
    account = server.account("owner")
    source = create_volume(account, "--size", "1")
    host, _ = attach(account, source)
    nbd = Nbd(server.socket(host, "/dev/sdf"))
    for block in range(BLOCKS):
        nbd.write(block * BLOCK, bytes([block + 1]) * BLOCK)
    nbd.flush()
    nbd.close()
    detach(account, source)
    snapshot = create_snapshot(account, source)
    volume = create_volume(account, "--snapshot-id", snapshot, "--volume-initialization-rate", "100")

    def seen():
        lines = json.loads(server.admin("initializations", "--json"))
        return [line for line in lines if line["Progress"] > 0]

    [line] = eventually(seen)
    assert (line["AccountId"], line["VolumeId"]) == (account.id, volume), "the source has none"
    assert (line["RateMib"], line["WaitsFor"]) == (100, None) and 0 < line["Progress"] < 100, line
    shown = server.admin("initializations")
    assert volume in shown and "at 100 MiB/s" in shown, shown
    assert server.admin("initializations", "--region", "eu-west-1") == ""
    account.aws("ec2", "delete-volume", "--volume-id", volume)
    eventually(lambda: json.loads(server.admin("initializations", "--json")) == [])


def test_collections_run_as_often_as_they_are_asked_for(own_server):
    server = own_server("--collect-interval", "3s", "--sweep-interval", "2s")

    def collected():
        lines = json.loads(server.admin("collections", "--json"))
        return len(lines) >= 3

    eventually(collected, seconds=30)
