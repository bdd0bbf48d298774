"""IAM and STS with boto3: what people and tools do with users, roles and policies."""

import json
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError
from conftest import Account, certificates, eventually

REGION = "us-east-1"
READ_ONLY = "arn:aws:iam::aws:policy/IAMReadOnlyAccess"


def allow(action, resource="*", **more):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def trust(principal, **more):
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | more]})


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def one(server):
    return server.account("one")


@pytest.fixture(scope="module")
def two(server):
    return server.account("two")


def test_the_account_is_its_roots(one):
    who = one.client("sts").get_caller_identity()
    assert who["Arn"] == f"arn:aws:iam::{one.id}:root" and who["Account"] == one.id
    assert one.client("iam").get_user()["User"]["Arn"] == who["Arn"]


def test_policies_come_back_as_they_were_given(one):
    iam = one.client("iam")
    iam.create_user(UserName="amy", Path="/dev/", Tags=[{"Key": "team", "Value": "red + blue"}])
    document = allow("ec2:*", "arn:aws:ec2:*:*:volume/*") | {"Id": 'a "quoted" text'}
    iam.put_user_policy(UserName="amy", PolicyName="p", PolicyDocument=json.dumps(document))
    # botocore decodes and parses what IAM sends URL-encoded.
    assert iam.get_user_policy(UserName="amy", PolicyName="p")["PolicyDocument"] == document
    assert iam.list_user_policies(UserName="amy")["PolicyNames"] == ["p"]
    user = iam.get_user(UserName="amy")["User"]
    assert user["Tags"] == [{"Key": "team", "Value": "red + blue"}]
    assert user["UserId"].startswith("AIDA") and user["Path"] == "/dev/"

    policy = iam.create_policy(PolicyName="m", PolicyDocument=json.dumps(document))["Policy"]
    iam.attach_user_policy(UserName="amy", PolicyArn=policy["Arn"])
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId="v1")["PolicyVersion"]
    assert version["Document"] == document and version["IsDefaultVersion"]
    assert iam.get_policy(PolicyArn=policy["Arn"])["Policy"]["AttachmentCount"] == 1
    refused("DeleteConflict", iam.delete_policy, PolicyArn=policy["Arn"])
    refused("DeleteConflict", iam.delete_user, UserName="amy")
    iam.detach_user_policy(UserName="amy", PolicyArn=policy["Arn"])
    iam.delete_policy(PolicyArn=policy["Arn"])
    iam.delete_user_policy(UserName="amy", PolicyName="p")
    iam.delete_user(UserName="amy")
    refused("NoSuchEntity", iam.get_user, UserName="amy")
    refused("MalformedPolicyDocument", iam.create_policy, PolicyName="m", PolicyDocument="{}")


def test_lists_are_paged(one):
    iam = one.client("iam")
    names = [f"page-{n}" for n in range(5)]
    for name in names:
        iam.create_group(GroupName=name)
    pages = iam.get_paginator("list_groups").paginate(PaginationConfig={"PageSize": 2})
    found = [group["GroupName"] for page in pages for group in page["Groups"]]
    assert found == names
    aws = iam.get_paginator("list_policies").paginate(Scope="AWS", PaginationConfig={"PageSize": 3})
    assert READ_ONLY in [policy["Arn"] for page in aws for policy in page["Policies"]]


def test_a_revoked_permission_is_gone_with_the_call_that_revokes_it(one):
    iam = one.client("iam")
    bob = one.user("bob").client("iam")
    iam.attach_user_policy(UserName="bob", PolicyArn=READ_ONLY)
    for _ in range(3):
        bob.list_users()
        iam.detach_user_policy(UserName="bob", PolicyArn=READ_ONLY)
        message = refused("AccessDenied", bob.list_users)
        assert "no identity-based policy allows the iam:ListUsers action" in message
        iam.attach_user_policy(UserName="bob", PolicyArn=READ_ONLY)
    key = iam.list_access_keys(UserName="bob")["AccessKeyMetadata"][0]["AccessKeyId"]
    iam.update_access_key(UserName="bob", AccessKeyId=key, Status="Inactive")
    refused("InvalidClientTokenId", bob.list_users)


def test_assuming_a_role_of_another_account(server, one, two):
    iam = one.client("iam")
    condition = {"StringEquals": {"sts:ExternalId": "agreed"}}
    document = trust(two.id, Condition=condition)
    role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=document)["Role"]
    # An account is shown by its root, however it was written.
    shown = json.loads(document.replace(f'"{two.id}"', f'"arn:aws:iam::{two.id}:root"'))
    assert iam.get_role(RoleName="reader")["Role"]["AssumeRolePolicyDocument"] == shown
    iam.attach_role_policy(RoleName="reader", PolicyArn=READ_ONLY)
    cid = two.user("cid", allow("sts:AssumeRole", role["Arn"])["Statement"][0])
    dan = two.user("dan").client("sts")
    call = {"RoleArn": role["Arn"], "RoleSessionName": "s1", "ExternalId": "agreed"}
    reply = cid.client("sts").assume_role(**call)
    credentials = reply["Credentials"]
    session = Account(
        server,
        one.id,
        credentials["AccessKeyId"],
        credentials["SecretAccessKey"],
        credentials["SessionToken"],
    )
    who = session.client("sts").get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{one.id}:assumed-role/reader/s1"
    session.client("iam").list_users()
    refused("AccessDenied", session.client("iam").create_user, UserName="new")
    refused("AccessDenied", dan.assume_role, **call)
    refused("AccessDenied", cid.client("sts").assume_role, **call | {"ExternalId": "other"})
    refused("AccessDenied", two.client("sts").assume_role, **call)

    limit = json.dumps(allow("iam:GetRole"))
    credentials = cid.client("sts").assume_role(**call, Policy=limit)["Credentials"]
    limited = Account(
        server,
        one.id,
        credentials["AccessKeyId"],
        credentials["SecretAccessKey"],
        credentials["SessionToken"],
    ).client("iam")
    limited.get_role(RoleName="reader")
    assert "no session policy allows" in refused("AccessDenied", limited.list_users)

    altered = Account(
        server, one.id, session.access_key, session.secret_key, session.session_token[:-8]
    )
    refused("InvalidClientTokenId", altered.client("sts").get_caller_identity)
    iam.detach_role_policy(RoleName="reader", PolicyArn=READ_ONLY)
    refused("AccessDenied", session.client("iam").list_users)
    iam.delete_role(RoleName="reader")
    refused("InvalidClientTokenId", session.client("sts").get_caller_identity)


def test_a_new_users_key_policy_principal_is_the_user_and_nobody_else(one):
    iam, kms = one.client("iam"), one.client("kms")
    eve = one.user("eve")
    arn = iam.get_user(UserName="eve")["User"]["Arn"]
    policy = allow("kms:*")
    policy["Statement"][0]["Principal"] = {"AWS": f"arn:aws:iam::{one.id}:root"}
    policy["Statement"].append(
        {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "kms:DescribeKey", "Resource": "*"}
    )
    key = kms.create_key(Policy=json.dumps(policy))["KeyMetadata"]["KeyId"]
    eve.client("kms").describe_key(KeyId=key)
    old = iam.get_user(UserName="eve")["User"]["UserId"]
    iam.delete_access_key(UserName="eve", AccessKeyId=eve.access_key)
    iam.delete_user(UserName="eve")
    again = one.user("eve")
    refused("AccessDeniedException", again.client("kms").describe_key, KeyId=key)
    assert old in kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]


def test_credentials_are_refused_in_the_words_of_the_service(server, one):
    wrong = Account(server, one.id, one.access_key, one.secret_key[:-1] + "x")
    refused("SignatureDoesNotMatch", wrong.client("sts").get_caller_identity)
    refused("InvalidSignatureException", wrong.client("kms").list_keys)
    refused("AuthFailure", wrong.client("ec2").describe_volumes)
    nobody = Account(server, one.id, "AKIAIOSFODNN7EXAMPLE", one.secret_key)
    refused("InvalidClientTokenId", nobody.client("iam").list_users)
    refused("UnrecognizedClientException", nobody.client("kms").list_keys)


def test_presigned_urls_are_good_for_their_time(one):
    url = one.client("sts").generate_presigned_url(
        "get_caller_identity", ExpiresIn=60, HttpMethod="GET"
    )
    with urllib.request.urlopen(url) as reply:
        assert f"arn:aws:iam::{one.id}:root" in reply.read().decode()
    url = one.client("sts").generate_presigned_url(
        "get_caller_identity", ExpiresIn=1, HttpMethod="GET"
    )

    def expired():
        try:
            urllib.request.urlopen(url)
        except urllib.error.HTTPError as error:
            return error.code == 403 and b"Signature expired" in error.read()

    eventually(expired)


def test_sessions_of_ones_own(server, one):
    fay = one.user("fay", allow(["iam:ListUsers", "kms:ListKeys"])["Statement"][0])
    credentials = fay.client("sts").get_session_token(DurationSeconds=900)["Credentials"]

    def session(service):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=server.url,
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials["SessionToken"],
        )

    session("kms").list_keys()
    # IAM is closed to such credentials, as it is on AWS without MFA.
    refused("InvalidClientTokenId", session("iam").list_users)


@pytest.mark.parametrize("transport", ["plain", "behind", "own"])
def test_policies_can_insist_on_tls(own_server, tmp_path, monkeypatch, transport):
    """`aws:SecureTransport` says how the request came; what EC2 calls for it counts as secure."""
    arguments = {"plain": [], "behind": ["--behind-tls"]}.get(transport)
    if arguments is None:
        ca, private, cert = certificates(tmp_path)
        arguments = ["--tls-cert", str(cert), "--tls-key", str(private)]
        monkeypatch.setenv("AWS_CA_BUNDLE", str(ca))
    owner = own_server(*arguments).account("owner")
    insecure = {
        "Sid": "OnlyOverTls",
        "Effect": "Deny",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    user = owner.user("careful", everything, insecure | {"Action": "*"}).client("kms")
    if transport == "plain":
        assert "explicit deny" in refused("AccessDeniedException", user.list_keys)
    else:
        assert user.list_keys()["Keys"] == []

    kms, ec2 = owner.client("kms"), owner.client("ec2")
    root = {"AWS": f"arn:aws:iam::{owner.id}:root"}
    uses = {"Principal": {"AWS": "*"}, "Action": ["kms:Decrypt", "kms:Generate*", "kms:*Grant"]}
    statements = [everything | {"Principal": root, "Action": "kms:*"}, insecure | uses]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    key = kms.create_key(Policy=policy)["KeyMetadata"]["KeyId"]
    if transport == "plain":
        spec = {"KeyId": key, "KeySpec": "AES_256"}
        refused("AccessDeniedException", kms.generate_data_key, **spec)
    made = ec2.create_volume(
        Size=1, AvailabilityZone="us-east-1a", Encrypted=True, KmsKeyId=key
    )
    ids = [made["VolumeId"]]
    eventually(lambda: ec2.describe_volumes(VolumeIds=ids)["Volumes"][0]["State"] == "available")
