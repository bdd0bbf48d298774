"""A server whose volumes have used up their space, as its clients and its operator see it."""

import errno
import json

import pytest
from conftest import eventually
from nbd_client import Nbd
from steps import attach, create_volume

MIB = 1 << 20


def fill(server, host):
    """Writes until there is no space; how many bytes were taken."""
    nbd = Nbd(server.socket(host, "/dev/sdf"))
    taken = 0
    with pytest.raises(OSError) as refused:
        while taken < 2048 * MIB:
            nbd.write(taken, bytes([1 + taken // MIB % 250]) * MIB)
            taken += MIB
    assert refused.value.errno == errno.ENOSPC
    nbd.close()
    return taken


def test_full_volumes_are_told_about_and_snapshots_say_so(own_server):
    server = own_server("--volume-capacity-gib", "1")
    account = server.account("owner")
    volume = create_volume(account, "--size", "2")
    host, _ = attach(account, volume)
    assert fill(server, host) > 512 * MIB

    refusal = r"\(InsufficientVolumeCapacity\).*" + volume
    snapshot = ("ec2", "create-snapshot", "--volume-id", volume)
    account.aws(*snapshot, fails=refusal)
    together = ("ec2", "create-snapshots", "--instance-specification", f"InstanceId={host}")
    account.aws(*together, fails=refusal)
    assert not account.aws("ec2", "describe-snapshots", "--owner-ids", "self")["Snapshots"]
    # Its operator finds what happened, to the last cause.
    log = (server.dir / "server.log").read_text()
    assert "there is no room for blocks: there is no space for what" in log, log[-2000:]

    def told():
        events = json.loads(server.admin("events", "--account", account.id, "--json"))
        space = [one["detail"] for one in events if one["detail"]["event"] == "storageSpace"]
        return [detail["result"] for detail in space if detail["result"] == "full"]

    assert eventually(told)
    shown = server.admin("events")
    assert "storageSpace full" in shown and "Writes to its volumes are refused." in shown, shown
    assert len(json.loads(server.admin("events", "--limit", "1", "--json"))) == 1
