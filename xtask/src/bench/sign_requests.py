"""Prepares one account's worth of resources and prints signed requests, byte for byte as botocore
sends them, as JSON: {"name": hexadecimal}. They are valid for the five minutes of a signature.

Usage: sign_requests.py ENDPOINT ACCESS_KEY SECRET_KEY [forge]

With "forge" the requests are Decrypt, and CreateKey of an RSA key of 4096 bits.
"""

import json
import sys
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

VOLUMES = 10
REGION = "us-east-1"

endpoint, access_key, secret_key = sys.argv[1:4]
forge = sys.argv[4:] == ["forge"]
captured = []


def client(service):
    made = boto3.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )
    made.meta.events.register("before-send", lambda request, **_: captured.append(request))
    return made


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def last_request():
    request = captured[-1]
    url = urlsplit(request.url)
    body = request.body or b""
    body = body if isinstance(body, bytes) else body.encode()
    lines = [f"{request.method} {url.path or '/'}{'?' + url.query if url.query else ''} HTTP/1.1"]
    lines.append(f"Host: {url.netloc}")
    skipped = ("host", "content-length", "connection", "expect")
    lines += [f"{k}: {text(v)}" for k, v in request.headers.items() if k.lower() not in skipped]
    lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines).encode() + b"\r\n\r\n" + body).hex()


kms, ec2 = client("kms"), client("ec2")
key = kms.create_key()["KeyMetadata"]["KeyId"]
context = {"purpose": "benchmark"}
blob = kms.encrypt(KeyId=key, Plaintext=b"x" * 32, EncryptionContext=context)["CiphertextBlob"]
if forge:
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"x" * 32
    requests = {"Decrypt": last_request()}
    kms.create_key(KeySpec="RSA_4096", KeyUsage="SIGN_VERIFY")
    requests["CreateKey"] = last_request()
    print(json.dumps(requests))
    sys.exit()
volumes = [
    ec2.create_volume(AvailabilityZone=REGION + "a", Size=1, Encrypted=True)["VolumeId"]
    for _ in range(VOLUMES)
]

assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"x" * 32
requests = {"KMS Decrypt": last_request()}
assert len(kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)["Plaintext"]) == 32
requests["KMS GenerateDataKey"] = last_request()
assert len(ec2.describe_volumes(VolumeIds=volumes)["Volumes"]) == VOLUMES
requests[f"EC2 DescribeVolumes, {VOLUMES} volumes"] = last_request()
print(json.dumps(requests))
