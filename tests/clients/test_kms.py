"""KMS as boto3 sees it: names, ciphertexts, permissions between accounts, grants, states, restarts."""

import json
import os

import pytest
from botocore.exceptions import ClientError


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return response["Error"]["Code"], response["Error"]["Message"]


def statement(principal, *actions, **condition):
    made = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": actions, "Resource": "*"}
    return {**made, "Condition": condition} if condition else made


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(scope="module")
def owner(server):
    return server.account("owner")


@pytest.fixture(scope="module")
def stranger(server):
    return server.account("stranger")


@pytest.fixture
def key(owner):
    return owner.client("kms").create_key(Description="test")["KeyMetadata"]["Arn"]


def test_a_ciphertext_opens_under_its_context_by_any_name(owner, key):
    kms = owner.client("kms")
    kms.create_alias(AliasName="alias/any", TargetKeyId=key)
    context = {"aws:ebs:id": "vol-1", "ä": "ö"}
    for name in [key, key.rsplit("/")[-1], "alias/any", key.rsplit(":", 1)[0] + ":alias/any"]:
        made = kms.encrypt(KeyId=name, Plaintext=b"secret", EncryptionContext=context)
        assert made["KeyId"] == key
        opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
        assert (opened["Plaintext"], opened["KeyId"]) == (b"secret", key)
        for wrong in [{}, {"aws:ebs:id": "vol-1"}, {**context, "more": ""}]:
            code, message = refused(
                kms.decrypt, CiphertextBlob=made["CiphertextBlob"], EncryptionContext=wrong
            )
            assert (code, message) == ("InvalidCiphertextException", "")
    kms.delete_alias(AliasName="alias/any")


def test_data_keys_have_awss_sizes_and_move_between_keys(owner, key):
    kms = owner.client("kms")
    other = kms.create_key()["KeyMetadata"]["Arn"]
    made = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert (len(made["Plaintext"]), len(made["CiphertextBlob"])) == (32, 184)
    moved = kms.re_encrypt(
        CiphertextBlob=made["CiphertextBlob"],
        DestinationKeyId=other,
        DestinationEncryptionContext={"to": "other"},
    )
    assert (moved["SourceKeyId"], moved["KeyId"]) == (key, other)
    opened = kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"to": "other"})
    assert opened["Plaintext"] == made["Plaintext"]
    code, _ = refused(kms.decrypt, CiphertextBlob=made["CiphertextBlob"], KeyId=other)
    assert code == "IncorrectKeyException"


def test_another_account_needs_the_key_policy_and_its_own(owner, stranger, key):
    kms = owner.client("kms")
    blob = kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    user = stranger.user("kms-reader")
    foreign = user.client("kms")
    code, message = refused(foreign.decrypt, CiphertextBlob=blob)
    assert code == "AccessDeniedException"
    assert message.endswith("because no resource-based policy allows the kms:Decrypt action")

    own = statement(f"arn:aws:iam::{owner.id}:root", "kms:*")
    shared = statement(stranger.id, "kms:Decrypt")
    kms.put_key_policy(KeyId=key, Policy=policy(own, shared))
    _, message = refused(foreign.decrypt, CiphertextBlob=blob)
    assert message.endswith("because no identity-based policy allows the kms:Decrypt action")
    stranger.user_policy(
        "kms-reader", {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key}
    )
    assert foreign.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    assert refused(foreign.encrypt, KeyId=key, Plaintext=b"x")[0] == "AccessDeniedException"


def test_policies_that_would_hurt_are_refused(owner, key):
    kms = owner.client("kms")
    nobody = f"arn:aws:iam::{owner.id}:user/nobody"
    code, message = refused(kms.put_key_policy, KeyId=key, Policy=policy(statement(nobody, "kms:*")))
    assert code == "MalformedPolicyDocumentException"
    assert message == "Policy contains a statement with one or more invalid principals."
    lockout = policy(statement(owner.id, "kms:Describe*"))
    code, message = refused(kms.put_key_policy, KeyId=key, Policy=lockout)
    assert code == "MalformedPolicyDocumentException"
    assert "will not allow you to update the key policy" in message


def test_grants_give_within_their_constraints_and_end(owner, stranger, key):
    kms, foreign = owner.client("kms"), stranger.client("kms")
    context = {"aws:ebs:id": "vol-1"}
    blob = kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]
    wanted = {
        "KeyId": key,
        "GranteePrincipal": f"arn:aws:iam::{stranger.id}:root",
        "RetiringPrincipal": f"arn:aws:iam::{stranger.id}:root",
        "Operations": ["Decrypt", "DescribeKey"],
        "Constraints": {"EncryptionContextSubset": context},
        "Name": "once",
    }
    grant = kms.create_grant(**wanted)
    assert kms.create_grant(**wanted)["GrantId"] == grant["GrantId"]
    opened = foreign.decrypt(
        CiphertextBlob=blob, EncryptionContext=context, GrantTokens=[grant["GrantToken"]]
    )
    assert opened["Plaintext"] == b"x"
    assert foreign.describe_key(KeyId=key)["KeyMetadata"]["AWSAccountId"] == owner.id
    [listed] = kms.list_grants(KeyId=key)["Grants"]
    assert (listed["Name"], listed["Constraints"]) == ("once", wanted["Constraints"])
    [mine] = foreign.list_retirable_grants(RetiringPrincipal=wanted["RetiringPrincipal"])["Grants"]
    assert mine["GrantId"] == grant["GrantId"]
    foreign.retire_grant(GrantToken=grant["GrantToken"])
    code, _ = refused(foreign.decrypt, CiphertextBlob=blob, EncryptionContext=context)
    assert code == "AccessDeniedException"


def test_grants_name_services_and_the_resource_they_act_for(owner, key):
    kms = owner.client("kms")
    ec2 = f"ec2.us-east-1.amazonaws.com"
    source = f"arn:aws:ec2:us-east-1:{owner.id}:volume/vol-1"
    wanted = {
        "KeyId": key,
        "GranteeServicePrincipal": ec2,
        "RetiringServicePrincipal": ec2,
        "Operations": ["Decrypt"],
        "Constraints": {"SourceArn": source},
    }
    grant = kms.create_grant(**wanted)
    [listed] = kms.list_grants(KeyId=key)["Grants"]
    assert {name: listed[name] for name in wanted} == wanted
    assert "GranteePrincipal" not in listed and "RetiringPrincipal" not in listed
    for without in ("RetiringServicePrincipal", "Constraints"):
        less = {name: value for name, value in wanted.items() if name != without}
        code, message = refused(kms.create_grant, **less)
        assert code == "ValidationException" and "SourceArn" in message
    kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])
    assert kms.list_grants(KeyId=key)["Grants"] == []


def test_states_follow_the_table(owner, key):
    kms = owner.client("kms")
    kms.disable_key(KeyId=key)
    assert refused(kms.encrypt, KeyId=key, Plaintext=b"x") == (
        "DisabledException",
        f"{key} is disabled.",
    )
    assert refused(kms.encrypt, KeyId=key, Plaintext=b"x", DryRun=True)[0] == "DisabledException"
    kms.enable_key(KeyId=key)
    code, _ = refused(kms.encrypt, KeyId=key, Plaintext=b"x", DryRun=True)
    assert code == "DryRunOperationException"
    ignoring = {"DryRun": True, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}
    assert refused(kms.decrypt, KeyId=key, **ignoring)[0] == "DryRunOperationException"
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert refused(kms.encrypt, KeyId=key, Plaintext=b"x") == (
        "KMSInvalidStateException",
        f"{key} is pending deletion.",
    )
    kms.cancel_key_deletion(KeyId=key)
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is False


def test_the_ebs_key_is_not_for_direct_use(owner):
    kms = owner.client("kms")
    managed = kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]
    assert managed["KeyManager"] == "AWS"
    own = policy(statement(owner.id, "kms:*"))
    for code, _ in [
        refused(kms.encrypt, KeyId="alias/aws/ebs", Plaintext=b"x"),
        refused(kms.put_key_policy, KeyId=managed["KeyId"], Policy=own),
        refused(kms.schedule_key_deletion, KeyId=managed["KeyId"]),
    ]:
        assert code == "AccessDeniedException"


def test_lists_are_paged(owner):
    kms = owner.client("kms")
    made = {kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(3)}
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2})
    seen = [entry["KeyId"] for page in pages for entry in page["Keys"]]
    assert made <= set(seen) and len(seen) == len(set(seen))


def test_a_restart_keeps_keys_and_a_foreign_seal_opens_nothing(own_server):
    server = own_server()
    owner = server.account("owner")
    key = owner.client("kms").create_key()["KeyMetadata"]["Arn"]
    blob = owner.client("kms").encrypt(KeyId=key, Plaintext=b"still")["CiphertextBlob"]
    assert server.stop() == 0
    server.start()
    assert owner.client("kms").decrypt(CiphertextBlob=blob)["Plaintext"] == b"still"
    assert server.stop() == 0

    seal_key = server.data / "seal.key"
    kept = seal_key.read_bytes()
    seal_key.write_text(os.urandom(32).hex())
    with pytest.raises(AssertionError, match="no ready line"):
        server.start()
    server.process.wait(timeout=60)
    assert "it is another key file than" in (server.dir / "server.log").read_text()
    seal_key.unlink()
    with pytest.raises(AssertionError, match="no ready line"):
        server.start()
    server.process.wait(timeout=60)
    assert "Put the original key file back" in (server.dir / "server.log").read_text()
    assert not seal_key.exists()

    seal_key.write_bytes(kept)
    seal_key.chmod(0o600)
    server.start()
    assert owner.client("kms").decrypt(CiphertextBlob=blob)["Plaintext"] == b"still"


def test_rows_of_another_seal_are_recognised(own_server):
    one, two = own_server(), own_server()
    assert (one.stop(), two.stop()) == (0, 0)
    for name in ["seal.json", "seal.key"]:
        (one.data / name).write_bytes((two.data / name).read_bytes())
    with pytest.raises(AssertionError, match="no ready line"):
        one.start()
    one.process.wait(timeout=60)
    assert "belongs to another seal.json" in (one.dir / "server.log").read_text()
