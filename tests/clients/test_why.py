"""Why: explanations and preflights by the real binary, with the credentials of the aws CLI."""

import json
import subprocess

import pytest
from botocore.exceptions import ClientError
from conftest import BINARY, eventually

REGION = "us-east-1"


@pytest.fixture(scope="module")
def owner(server):
    return server.account("owner")


@pytest.fixture(scope="module")
def guest(server):
    return server.account("guest")


def why(account, *arguments, code=0):
    """Runs the binary as an account's root; checks its exit code, answers what it prints."""
    done = subprocess.run(
        [BINARY, *arguments], capture_output=True, text=True, timeout=60, env=account.env(REGION)
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def key_policy(owner, guest, actions):
    def allow(account, what):
        principal = {"AWS": f"arn:aws:iam::{account.id}:root"}
        return {"Effect": "Allow", "Principal": principal, "Action": what, "Resource": "*"}

    statements = [allow(owner, "kms:*"), allow(guest, actions)]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(scope="module")
def shared(owner, guest):
    """A snapshot under a key of the owner's, shared with the guest, and the guest's own key."""
    kms, ec2 = owner.client("kms"), owner.client("ec2")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    volume = ec2.create_volume(
        AvailabilityZone=f"{REGION}a", Size=1, Encrypted=True, KmsKeyId=key
    )["VolumeId"]
    ec2.get_waiter("volume_available").wait(VolumeIds=[volume], WaiterConfig={"Delay": 1})
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1})
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot, CreateVolumePermission={"Add": [{"UserId": guest.id}]}
    )
    own = guest.client("kms").create_key()["KeyMetadata"]["Arn"]
    return key, snapshot, own


def copy_command(snapshot, own):
    return (
        f"aws ec2 copy-snapshot --source-region {REGION} --source-snapshot-id {snapshot} "
        f"--encrypted --kms-key-id {own}"
    ).split()


def test_a_copy_that_would_fail_is_foretold_and_explained(owner, guest, shared):
    key, snapshot, own = shared
    owner.client("kms").put_key_policy(
        KeyId=key, Policy=key_policy(owner, guest, ["kms:DescribeKey"])
    )
    command = ["preflight", *copy_command(snapshot, own)]
    told = why(guest, *command, code=7)
    assert "the key owner's policy does not allow" in told, told
    assert f"account {owner.id} must allow kms:CreateGrant" in told, told
    document = json.loads(why(guest, "preflight", "--output", "json", *command[1:], code=7))
    denied = [step["action"] for step in document["steps"]
              if step["verdict"] == "denied" and step["required"]]
    assert denied == ["kms:CreateGrant"] and document["ending"]["when"] == "async"

    ec2 = guest.client("ec2")
    copy = ec2.copy_snapshot(
        SourceRegion=REGION, SourceSnapshotId=snapshot, Encrypted=True, KmsKeyId=own
    )["SnapshotId"]

    def failed():
        shown = ec2.describe_snapshots(SnapshotIds=[copy])["Snapshots"][0]
        return shown if shown["State"] == "error" else None

    assert eventually(failed)["StateMessage"] == "Given key ID is not accessible"
    # The header shows where to ask why; the explanation names account, key, action and layer.
    ec2.meta.events.register(
        "before-sign.ec2.DescribeSnapshots",
        lambda request, **_: request.headers.add_header("x-strongroom-explain", "full"),
    )
    message = eventually(failed)["StateMessage"]
    explain_id = message.split("(explain-id ")[1].rstrip(")")
    told = why(guest, "explain", explain_id)
    for part in ["DENIED  kms:CreateGrant", key, owner.id, "layer  key policy"]:
        assert part in told, told
    assert "kms:DescribeKey" not in told, told
    assert "kms:DescribeKey" in why(owner, "explain", explain_id)

    owner.client("kms").put_key_policy(
        KeyId=key, Policy=key_policy(owner, guest, ["kms:CreateGrant"])
    )
    assert "would succeed" in why(guest, *command)


def test_a_dry_run_that_asks_is_told_everything(guest, shared):
    _, snapshot, own = shared
    ec2 = guest.client("ec2")
    ec2.meta.events.register(
        "before-sign.ec2.CopySnapshot",
        lambda request, **_: request.headers.add_header("x-strongroom-explain", "full"),
    )
    with pytest.raises(ClientError) as caught:
        ec2.copy_snapshot(
            SourceRegion=REGION, SourceSnapshotId=snapshot, Encrypted=True, KmsKeyId=own,
            DryRun=True,
        )
    assert caught.value.response["Error"]["Code"] == "DryRunOperation"
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-strongroom-explain-id"].startswith(f"d-{guest.id}-")


def test_exit_codes(guest):
    told = why(guest, *"preflight aws ec2 run-instances".split(), code=6)
    assert "nothing decided" in told and "RunInstances is not served here: no machines" in told, told
    why(guest, *"preflight aws ec2 no-such-thing".split(), code=1)
    why(guest, "explain", f"d-{guest.id}-00000000-0000-0000-0000-000000000000", code=1)
    unreachable = ["explain", "--endpoint-url", "http://127.0.0.1:1", "d-1"]
    why(guest, *unreachable, code=4)


def test_a_suggestion_is_applied_as_it_is_printed(owner, guest, shared):
    key, snapshot, own = shared
    command = ["policy", "suggest", "copy", "--snapshot", snapshot, "--to", guest.id]
    document = json.loads(why(owner, *command, "--target-key", own, "--output", "json"))
    root = {"Effect": "Allow", "Principal": {"AWS": owner.id}, "Action": "kms:*", "Resource": "*"}
    statements = [root, *document["keyPolicyStatements"]]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    owner.client("kms").put_key_policy(KeyId=key, Policy=policy)
    user = guest.user("copier", *document["identityPolicy"]["Statement"])
    ask = {"Effect": "Allow", "Action": "strongroom:Preflight", "Resource": "*"}
    guest.user_policy("copier", *document["identityPolicy"]["Statement"], ask)
    assert "would succeed" in why(user, "preflight", *copy_command(snapshot, own))
    assert "1. Account" in why(owner, *command)


def test_who_can_and_what_if(owner, guest, shared):
    key, snapshot, _ = shared
    told = why(owner, "who-can", "read", snapshot)
    assert f"arn:aws:iam::{owner.id}:root" in told and "read     yes" in told, told
    why(guest, "who-can", "read", "vol-00000000000000000", code=1)
    told = why(owner, "what-if", "disable-key", "--key-id", key)
    assert f"{snapshot}: copying it" in told and "would come out otherwise" in told, told


# The members of each document, as docs/explain.md has them: programs read them.
DOCUMENTS = {
    "explain": ["version", "calls"],
    "call": [
        "explainId", "eventId", "requestId", "madeFor", "time", "region", "service", "operation", "caller",
        "callerAccount", "via", "enforcement", "failure", "foreseen", "decisions",
    ],
    "failure": ["code", "message", "layer", "wanted", "found", "remedy"],
    "foreseen": ["looks", "layer", "wanted", "found", "remedy"],
    "decision": [
        "id", "allowed", "action", "resource", "resourceAccount", "layer", "why", "remedy", "statement", "considered",
        "grants", "context",
    ],
    "preflight": ["version", "service", "operation", "region", "enforcement", "allowed", "notServed", "ending", "steps"],
    "ending": ["when", "code", "message", "wanted", "found", "remedy"],
    "step": [
        "step", "service", "operation", "when", "required", "source", "who", "via", "verdict", "action", "resource",
        "decision", "note", "looks",
    ],
    "suggest": [
        "version", "use", "mode", "owner", "recipient", "key", "keyPolicyStatements", "identityPolicy",
        "snapshotAttribute", "serviceLinkedRoleGrant",
    ],
    "who-can": [
        "version", "resource", "owner", "key", "keyState", "archived", "shares", "deadEnds", "readers", "grants",
        "attachedTo", "truncated",
    ],
    "what-if": ["version", "key", "principal", "policy", "change", "affected", "changed", "replayed", "since"],
}  # fmt: skip


def members(name, document, *, always):
    """A document has no member that is not written down, and those that are always there."""
    assert set(document) <= set(DOCUMENTS[name]), (name, set(document) - set(DOCUMENTS[name]))
    assert set(always) <= set(document), (name, set(always) - set(document))


def explained_failure(account, told, operation, **arguments):
    """The one call of a request that is refused, by the id in the refusal's header."""
    with pytest.raises(ClientError) as refused:
        getattr(account.client("ec2"), operation)(**arguments)
    headers = refused.value.response["ResponseMetadata"]["HTTPHeaders"]
    (call,) = told(account, "explain", headers["x-strongroom-explain-id"])["calls"]
    return call


def test_documents_have_the_members_that_are_written_down(owner, guest, shared):
    key, snapshot, own = shared
    owner.client("kms").put_key_policy(
        KeyId=key, Policy=key_policy(owner, guest, ["kms:DescribeKey"])
    )

    def told(account, *arguments, code=0):
        return json.loads(why(account, *arguments, "--output", "json", code=code))

    # What comes behind the words of an `aws` command is that command's.
    preflight = json.loads(
        why(guest, "preflight", "--output", "json", *copy_command(snapshot, own), code=7)
    )
    members("preflight", preflight, always=["version", "allowed", "ending", "steps"])
    members("ending", preflight["ending"], always=["when", "code", "message"])
    for step in preflight["steps"]:
        members("step", step, always=["step", "action", "resource", "verdict", "who"])
        if step.get("decision"):
            members("decision", step["decision"], always=["allowed", "action", "resource"])

    failed = guest.client("ec2").copy_snapshot(
        SourceRegion=REGION, SourceSnapshotId=snapshot, Encrypted=True, KmsKeyId=own
    )
    request = failed["ResponseMetadata"]["RequestId"]
    # The copy fails after it was answered: its last call is kept later than the first ones.
    explained = eventually(
        lambda: (
            (found := told(guest, "explain", request))
            and any("failure" in call for call in found["calls"])
            and found
        )
    )
    members("explain", explained, always=["version", "calls"])
    for call in explained["calls"]:
        members("call", call, always=["explainId", "operation", "caller", "decisions"])
        for decision in call["decisions"]:
            members("decision", decision, always=["id", "allowed", "action", "resource", "layer"])
        if "failure" in call:
            members("failure", call["failure"], always=["code", "message", "layer"])
    blocked = explained_failure(owner, told, "modify_snapshot_attribute", SnapshotId=snapshot,
                                CreateVolumePermission={"Add": [{"Group": "all"}]})  # fmt: skip
    members("failure", blocked["failure"], always=DOCUMENTS["failure"])
    unseen = guest.client("ec2").copy_snapshot(SourceRegion=REGION, SourceSnapshotId="snap-0123456789abcdef0")
    (call,) = told(guest, "explain", unseen["ResponseMetadata"]["RequestId"])["calls"]
    members("foreseen", call["foreseen"], always=DOCUMENTS["foreseen"])

    suggest = ["policy", "suggest", "copy", "--snapshot", snapshot, "--to", guest.id]
    members("suggest", told(owner, *suggest), always=DOCUMENTS["suggest"][:-1])
    can = told(owner, "who-can", "read", snapshot)
    members("who-can", can, always=["version", "resource", "owner", "key", "readers", "truncated"])
    changed = told(owner, "what-if", "disable-key", "--key-id", key)
    members("what-if", changed, always=["version", "change", "affected", "changed", "replayed"])
    versions = [document["version"] for document in (preflight, explained, can, changed)]
    assert versions == [1, 1, 1, 1]


@pytest.fixture(scope="module")
def maker(owner):
    """A user who makes volumes under a key, by what a group and a managed policy give her."""
    iam = owner.client("iam")
    key = owner.client("kms").create_key()["KeyMetadata"]["Arn"]
    user = owner.user("maker", {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"})
    iam.create_group(GroupName="makers")
    iam.put_group_policy(GroupName="makers", PolicyName="g", PolicyDocument=document("ec2:*"))
    iam.add_user_to_group(GroupName="makers", UserName="maker")
    keys = iam.create_policy(PolicyName="keys", PolicyDocument=document("kms:*"))["Policy"]["Arn"]
    iam.attach_group_policy(GroupName="makers", PolicyArn=keys)
    iam.create_policy_version(PolicyArn=keys, PolicyDocument=document("kms:List*"))
    ec2 = user.client("ec2")
    made = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1, Encrypted=True, KmsKeyId=key)
    # Its KMS calls are made, and recorded, after the answer.
    ec2.get_waiter("volume_available").wait(VolumeIds=[made["VolumeId"]], WaiterConfig={"Delay": 1})
    return made["VolumeId"], keys


def document(action):
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def principal(owner, name):
    return ["--principal-arn", f"arn:aws:iam::{owner.id}:{name}"]


@pytest.mark.parametrize("change", [
    ["group/makers", "put-policy", "--policy-name", "g", "--policy", "ec2:Describe*"],
    ["group/makers", "delete-policy", "--policy-name", "g"],
    ["group/makers", "detach-policy", "--policy-arn", "KEYS"],
    ["user/maker", "remove-from-group", "--group-name", "makers"],
    ["user/maker", "put-boundary", "--policy-arn", "KEYS"],
    [None, "create-policy-version", "--policy-arn", "KEYS", "--policy", "kms:Describe*"],
    [None, "set-default-policy-version", "--policy-arn", "KEYS", "--version-id", "v2"],
], ids=lambda change: change[1])  # fmt: skip
def test_what_if_tells_what_a_change_of_policies_takes_away(owner, maker, tmp_path, change):
    volume, keys = maker
    of, command, *options = change
    options = [keys if option == "KEYS" else option for option in options]
    if "--policy" in options:
        path = tmp_path / "policy.json"
        path.write_text(document(options[-1]))
        options[-1] = str(path)
    whose = principal(owner, of) if of else []
    told = json.loads(why(owner, "what-if", command, *whose, *options, "--output", "json"))
    denied = [row for row in told["changed"] if not row["wouldBeAllowed"]]
    assert denied and all(row["who"].endswith(":user/maker") for row in denied), told
    actions = {row["action"] for row in denied}
    if command in ("put-policy", "delete-policy", "remove-from-group", "put-boundary"):
        assert "ec2:CreateVolume" in actions, told
    else:
        assert "kms:GenerateDataKeyWithoutPlaintext" in actions, told
        assert volume in {row["resource"] for row in told["affected"]}, told


@pytest.mark.parametrize("change", [
    ["group/makers", "attach-policy", "--policy-arn", "KEYS"],
    ["user/maker", "attach-policy", "--policy-arn", "arn:aws:iam::aws:policy/IAMReadOnlyAccess"],
    ["user/maker", "delete-boundary"],
    ["user/maker", "add-to-group", "--group-name", "makers"],
    [None, "set-default-policy-version", "--policy-arn", "KEYS", "--version-id", "v1"],
], ids=lambda change: change[1])  # fmt: skip
def test_what_if_tells_when_nothing_would_change(owner, maker, change):
    of, command, *options = change
    options = [maker[1] if option == "KEYS" else option for option in options]
    whose = principal(owner, of) if of else []
    told = json.loads(why(owner, "what-if", command, *whose, *options, "--output", "json"))
    assert told["replayed"] > 0 and told["changed"] == [], told


def test_what_if_of_a_key_and_of_a_grant(owner, guest, shared, tmp_path):
    key, snapshot, _ = shared
    kms = owner.client("kms")
    closed = tmp_path / "closed.json"
    closed.write_text(json.dumps({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": owner.id}, "Action": "kms:Put*", "Resource": "*"}]}))
    for command, options in [
        ("schedule-key-deletion", []), ("put-key-policy", ["--policy", str(closed)]),
    ]:
        told = json.loads(why(owner, "what-if", command, "--key-id", key, *options, "--output", "json"))
        assert any(not row["wouldBeAllowed"] for row in told["changed"]), (command, told)
    grant = kms.create_grant(KeyId=key, GranteePrincipal=owner.id, Operations=["Decrypt"])["GrantId"]
    told = why(owner, "what-if", "revoke-grant", "--key-id", key, "--grant-id", grant)
    assert f"grant {grant} is revoked" in told, told
    # A command line that lacks what the change needs, and a server that refuses what does not fit.
    why(owner, "what-if", "set-default-policy-version", "--policy-arn", "x", code=2)
    why(owner, "what-if", "delete-boundary", *principal(owner, "group/none"), code=1)


def test_traps_are_found_in_a_file_and_told_on_saving(owner, tmp_path):
    condition = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    statement = {
        "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": condition
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    path = tmp_path / "policy.json"
    path.write_text(document)
    assert "key-not-carried" in why(owner, "policy", "lint", str(path), code=8)
    found = json.loads(why(owner, "policy", "lint", str(path), "--output", "json", code=8))
    [warning] = found.pop("warnings")
    assert found == {"version": 1} and warning.pop("message")
    assert warning == {"trap": "key-not-carried", "statement": 0}
    statement["Condition"] = {}
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    found = why(owner, "policy", "lint", str(path), "--output", "json")
    assert json.loads(found) == {"version": 1, "warnings": []}
    iam = owner.client("iam")
    reply = iam.create_policy(PolicyName="trap", PolicyDocument=document)
    headers = reply["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-strongroom-policy-warnings"] == "key-not-carried (statement 1)"
