"""IAM and STS beyond users and policies: sign-in, service-linked roles, web identity, federation."""

import base64
import hashlib
import http.server
import json
import ssl
import subprocess
import sys
import threading
import time

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import Account, require

READ_ONLY = "arn:aws:iam::aws:policy/IAMReadOnlyAccess"
SUBJECT = "system:serviceaccount:default:app"


def allow(action, resource="*", **more):
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code, caught.value
    return caught.value.response["Error"]["Message"]


def acting(server, account_id, credentials):
    return Account(
        server,
        account_id,
        credentials["AccessKeyId"],
        credentials["SecretAccessKey"],
        credentials["SessionToken"],
    )


@pytest.fixture(scope="module")
def one(server):
    return server.account("one")


def test_an_alias_and_a_summary(one):
    one.aws("iam", "create-account-alias", "--account-alias", "acme-prod")
    assert one.aws("iam", "list-account-aliases")["AccountAliases"] == ["acme-prod"]
    one.aws("iam", "delete-account-alias", "--account-alias", "acme-prod")
    iam = one.client("iam")
    before = iam.get_account_summary()["SummaryMap"]["Users"]
    one.user("counted")
    assert iam.get_account_summary()["SummaryMap"]["Users"] == before + 1


def test_a_login_profile(one):
    iam = one.client("iam")
    amy = one.user("amy", json.loads(allow("iam:ChangePassword"))["Statement"][0]).client("iam")
    refused("PasswordPolicyViolation", iam.create_login_profile, UserName="amy", Password="short")
    made = iam.create_login_profile(
        UserName="amy", Password="Correct-Horse1", PasswordResetRequired=True
    )
    assert made["LoginProfile"]["PasswordResetRequired"]
    change = amy.change_password
    refused("AccessDenied", change, OldPassword="Correct-Horse2", NewPassword="Battery-Staple1")
    change(OldPassword="Correct-Horse1", NewPassword="Battery-Staple1")
    assert not iam.get_login_profile(UserName="amy")["LoginProfile"]["PasswordResetRequired"]
    one.aws("iam", "update-login-profile", "--user-name", "amy", "--password-reset-required")
    iam.delete_login_profile(UserName="amy")
    refused("NoSuchEntity", iam.get_login_profile, UserName="amy")


def test_a_service_linked_role(one):
    iam = one.client("iam")
    role = one.aws(
        "iam", "create-service-linked-role", "--aws-service-name", "backup.amazonaws.com"
    )["Role"]
    assert role["Path"] == "/aws-service-role/backup.amazonaws.com/"
    name = role["RoleName"]
    refused("UnmodifiableEntity", iam.delete_role, RoleName=name)
    refused("UnmodifiableEntity", iam.attach_role_policy, RoleName=name, PolicyArn=READ_ONLY)
    task = iam.delete_service_linked_role(RoleName=name)["DeletionTaskId"]
    status = iam.get_service_linked_role_deletion_status(DeletionTaskId=task)
    assert status["Status"] == "SUCCEEDED"
    refused("NoSuchEntity", iam.get_role, RoleName=name)


def test_the_last_use_of_an_access_key_outlives_the_server(own_server):
    server = own_server()
    one = server.account("uses")
    bob = one.user("bob", json.loads(allow("kms:ListKeys"))["Statement"][0])
    iam = one.client("iam")
    last = iam.get_access_key_last_used(AccessKeyId=bob.access_key)
    assert last["UserName"] == "bob" and last["AccessKeyLastUsed"]["ServiceName"] == "N/A"
    bob.client("kms", region="eu-west-1").list_keys()
    last = iam.get_access_key_last_used(AccessKeyId=bob.access_key)["AccessKeyLastUsed"]
    assert (last["ServiceName"], last["Region"]) == ("kms", "eu-west-1")
    assert server.stop() == 0
    server.start()
    iam = one.client("iam")
    again = iam.get_access_key_last_used(AccessKeyId=bob.access_key)["AccessKeyLastUsed"]
    assert again == last


def test_temporary_credentials_are_for_regions_that_are_served(one):
    sts = one.client("sts", region="ap-south-2")
    with pytest.raises(sts.exceptions.RegionDisabledException, match="ap-south-2.*us-east-1"):
        sts.get_session_token()
    refused("ValidationError", sts.get_caller_identity)


def test_everything_in_one_list(one):
    iam = one.client("iam")
    iam.create_group(GroupName="listed")
    iam.put_group_policy(GroupName="listed", PolicyName="p", PolicyDocument=allow("ec2:*"))
    pages = iam.get_paginator("get_account_authorization_details").paginate(
        Filter=["Group", "User"], PaginationConfig={"PageSize": 2}
    )
    groups = [group for page in pages for group in page["GroupDetailList"]]
    (listed,) = [group for group in groups if group["GroupName"] == "listed"]
    # botocore decodes and parses what IAM sends URL-encoded.
    assert listed["GroupPolicyList"][0]["PolicyDocument"] == json.loads(allow("ec2:*"))


def test_simulations(one):
    iam = one.client("iam")
    key = "arn:aws:kms:us-east-1:222222222222:key/k"
    policy = allow("kms:Decrypt", Condition={"StringEquals": {"kms:ViaService": "ec2"}})
    ask = {"PolicyInputList": [policy], "ActionNames": ["kms:Decrypt"], "ResourceArns": [key]}
    (result,) = iam.simulate_custom_policy(**ask)["EvaluationResults"]
    assert result["EvalDecision"] == "implicitDeny"
    (on_key,) = result["ResourceSpecificResults"]
    assert on_key["MissingContextValues"] == ["kms:ViaService"]
    entry = {
        "ContextKeyName": "kms:ViaService",
        "ContextKeyType": "string",
        "ContextKeyValues": ["ec2"],
    }
    ask["ResourceArns"].append(key + "2")
    (result,) = iam.simulate_custom_policy(**ask, ContextEntries=[entry])["EvaluationResults"]
    assert (result["EvalResourceName"], result["EvalDecision"]) == ("*", "allowed")
    on_each = [(r["EvalResourceName"], r["EvalResourceDecision"]) for r in result["ResourceSpecificResults"]]
    assert on_each == [(arn, "allowed") for arn in ask["ResourceArns"]]
    (statement,) = result["MatchedStatements"]
    start, end = statement["StartPosition"], statement["EndPosition"]
    assert start["Line"] == end["Line"] == 1
    place = slice(start["Column"] - 1, end["Column"] - 1)
    assert json.loads(policy[place]) == json.loads(policy)["Statement"][0]
    one.user("sim")
    arn = iam.get_user(UserName="sim")["User"]["Arn"]
    iam.attach_user_policy(UserName="sim", PolicyArn=READ_ONLY)
    reply = iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=["iam:GetUser", "iam:TagUser"])
    assert [r["EvalDecision"] for r in reply["EvaluationResults"]] == ["allowed", "implicitDeny"]


def test_a_federated_user(server, one):
    maker = one.user("maker", json.loads(allow(["sts:GetFederationToken", "kms:*"]))["Statement"][0])
    sts = maker.client("sts")
    reply = sts.get_federation_token(Name="ann", Policy=allow("kms:ListKeys"))
    ann = acting(server, one.id, reply["Credentials"])
    who = ann.client("sts").get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{one.id}:federated-user/ann"
    ann.client("kms").list_keys()
    refused("AccessDeniedException", ann.client("kms").create_key)
    refused("InvalidClientTokenId", ann.client("iam").list_users)
    info = one.aws("sts", "get-access-key-info", "--access-key-id", maker.access_key)
    assert info["Account"] == one.id


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """An OpenID Connect issuer on the loopback: RS256 with a key and a certificate of its own."""

    def __init__(self, directory):
        self.openssl = require("openssl")
        self.dir = directory
        make = [
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
            "req -newkey rsa:2048 -nodes -subj /CN=issuer -keyout tls.key -out tls.csr",
            "x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out tls.pem",
            "genrsa -out token.key 2048",
        ]
        (directory / "ext").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        for command in make:
            self.run(*command.split())
        chain = (directory / "tls.pem").read_text() + (directory / "ca.pem").read_text()
        (directory / "chain.pem").write_text(chain)
        der = self.run("x509", "-in", "ca.pem", "-outform", "DER")
        self.thumbprint = hashlib.sha1(der).hexdigest()
        modulus = self.run("rsa", "-in", "token.key", "-noout", "-modulus").decode().split("=")[1]
        key = {"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256", "e": "AQAB"}
        self.jwks = {"keys": [key | {"n": b64(bytes.fromhex(modulus.strip()))}]}
        self.start()

    def run(self, *arguments):
        done = subprocess.run([self.openssl, *arguments], cwd=self.dir, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self):
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                documents = {
                    "/.well-known/openid-configuration": {
                        "issuer": issuer.url,
                        "jwks_uri": f"{issuer.url}/keys",
                    },
                    "/keys": issuer.jwks,
                }
                found = documents.get(self.path)
                body = json.dumps(found).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.dir / "chain.pem", self.dir / "tls.key")
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def token(self, **claims):
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": SUBJECT,
            "aud": ["sts.amazonaws.com"],
            "iat": now,
            "exp": now + 600,
        } | claims
        parts = [{"alg": "RS256", "kid": "k1"}, claims]
        signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
        (self.dir / "signed").write_text(signed)
        signature = self.run("dgst", "-sha256", "-sign", "token.key", "signed")
        return f"{signed}.{b64(signature)}"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    issuer = Issuer(tmp_path_factory.mktemp("issuer"))
    yield issuer
    issuer.http.shutdown()
    issuer.http.server_close()


def test_a_service_account_of_a_cluster(server, one, issuer, tmp_path):
    iam = one.client("iam")
    made = iam.create_open_id_connect_provider(
        Url=issuer.url, ClientIDList=["sts.amazonaws.com"], ThumbprintList=[issuer.thumbprint]
    )
    arn = made["OpenIDConnectProviderArn"]
    name = issuer.url.removeprefix("https://")
    assert arn == f"arn:aws:iam::{one.id}:oidc-provider/{name}"
    trust = {
        "Effect": "Allow",
        "Principal": {"Federated": arn},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{name}:sub": SUBJECT, f"{name}:aud": "sts.amazonaws.com"}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": trust})
    role = iam.create_role(RoleName="pod", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.attach_role_policy(RoleName="pod", PolicyArn=READ_ONLY)

    sts = boto3.client(
        "sts", "us-east-1", endpoint_url=server.url, config=Config(signature_version=UNSIGNED)
    )
    call = {"RoleArn": role, "RoleSessionName": "s1"}
    reply = sts.assume_role_with_web_identity(**call, WebIdentityToken=issuer.token())
    assert reply["SubjectFromWebIdentityToken"] == SUBJECT and reply["Provider"] == name
    pod = acting(server, one.id, reply["Credentials"])
    pod.client("iam").list_users()
    refused("AccessDenied", pod.client("iam").create_user, UserName="new")

    # As an SDK in a container does by itself, from the environment.
    (tmp_path / "token").write_text(issuer.token())
    env = {
        "AWS_ROLE_ARN": role,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_SESSION_NAME": "container",
        "AWS_ENDPOINT_URL": server.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "PATH": one.env()["PATH"],
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "awscli", "sts", "get-caller-identity", "--output", "json"],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Arn"].endswith("assumed-role/pod/container")

    def assume(code, **claims):
        token = issuer.token(**claims)
        refused(code, sts.assume_role_with_web_identity, **call, WebIdentityToken=token)

    assume("ExpiredTokenException", exp=int(time.time()) - 1)
    assume("IDPRejectedClaim", nbf=int(time.time()) + 3600)
    assume("InvalidIdentityToken", aud="another")
    assume("AccessDenied", sub="system:serviceaccount:default:other")
    header, claims, signature = issuer.token().split(".")
    forged = f"{header}.{claims}.{signature[::-1]}"
    refused(
        "InvalidIdentityToken",
        sts.assume_role_with_web_identity,
        **call,
        WebIdentityToken=forged,
    )
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assume("InvalidIdentityToken")


def test_an_issuer_whose_certificate_rests_on_nothing_known(server, one, issuer, tmp_path):
    iam = one.client("iam")
    arn = iam.create_open_id_connect_provider(
        Url=issuer.url, ClientIDList=["sts.amazonaws.com"], ThumbprintList=["00" * 20]
    )["OpenIDConnectProviderArn"]
    sts = boto3.client(
        "sts",
        "us-east-1",
        endpoint_url=server.url,
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )
    call = {
        "RoleArn": f"arn:aws:iam::{one.id}:role/pod",
        "RoleSessionName": "s1",
        "WebIdentityToken": issuer.token(),
    }
    refused("IDPCommunicationError", sts.assume_role_with_web_identity, **call)
    # Keys can be handed over instead of being fetched.
    (tmp_path / "keys.json").write_text(json.dumps(issuer.jwks))
    arguments = ["--account", one.id, "--url", issuer.url]
    server.admin("oidc-keys", *arguments, "--file", str(tmp_path / "keys.json"))
    # `pod` trusts this provider by its ARN.
    reply = sts.assume_role_with_web_identity(**call)
    assert reply["Audience"] == "sts.amazonaws.com"
    server.admin("oidc-keys", *arguments)
    refused("IDPCommunicationError", sts.assume_role_with_web_identity, **call)
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
