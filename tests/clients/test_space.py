"""A server whose volumes have used up their space, as its clients see it."""

import errno

import pytest
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


def test_snapshots_say_that_there_is_no_space(own_server):
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
