"""The life of a KMS key: material its owner imports, rotation, replicas in other regions."""

import base64
import datetime
import os

import pytest
from botocore.exceptions import ClientError
from conftest import eventually
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

HOME, AWAY = "us-east-1", "us-west-2"
CONTEXT = {"purpose": "test"}
FOR_EVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
HASHES = {"SHA_1": hashes.SHA1(), "SHA_256": hashes.SHA256()}


@pytest.fixture(scope="module")
def account(server):
    return server.account("life")


@pytest.fixture(scope="module")
def kms(account):
    return account.client("kms", HOME)


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def wrap(public, algorithm, material):
    """Wraps material as the KMS guide says, with nothing of the server's."""
    digest = HASHES[algorithm[algorithm.rindex("SHA") :]]
    public = serialization.load_der_public_key(public)
    oaep = padding.OAEP(padding.MGF1(digest), digest, None)
    if algorithm.startswith("RSAES_OAEP"):
        return public.encrypt(material, oaep)
    key = os.urandom(32)
    return public.encrypt(key, oaep) + aes_key_wrap_with_padding(key, material)


def bring(kms, key, material, algorithm="RSAES_OAEP_SHA_256", spec="RSA_2048", seconds=None, **more):
    """Imports material, which expires after `seconds`, counted from when there is a key to wrap it with."""
    given = kms.get_parameters_for_import(
        KeyId=key, WrappingAlgorithm=algorithm, WrappingKeySpec=spec
    )
    if seconds:
        more["ValidTo"] = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return kms.import_key_material(
        KeyId=key,
        ImportToken=given["ImportToken"],
        EncryptedKeyMaterial=wrap(given["PublicKey"], algorithm, material),
        **(more or FOR_EVER),
    )


def external(kms, **more):
    made = kms.create_key(Origin="EXTERNAL", **more)["KeyMetadata"]
    assert made["KeyState"] == "PendingImport"
    return made["KeyId"]


def described(kms, key):
    return kms.describe_key(KeyId=key)["KeyMetadata"]


def encrypt(kms, key, text=b"text"):
    return kms.encrypt(KeyId=key, Plaintext=text, EncryptionContext=CONTEXT)["CiphertextBlob"]


def decrypt(kms, blob):
    return kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"]


def versions(kms, key):
    pages = kms.get_paginator("list_key_rotations").paginate(
        KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL", PaginationConfig={"PageSize": 1}
    )
    return [entry for page in pages for entry in page["Rotations"]]


def test_material_is_wrapped_elsewhere_expires_and_comes_back(kms):
    key, material = external(kms), os.urandom(32)
    assert refused(kms.generate_data_key, KeyId=key, KeySpec="AES_256") == "KMSInvalidStateException"
    begun = datetime.datetime.now(datetime.timezone.utc)
    bring(kms, key, material, seconds=4, ExpirationModel="KEY_MATERIAL_EXPIRES")
    found, brought = described(kms, key), datetime.datetime.now(datetime.timezone.utc)
    assert (found["KeyState"], found["ExpirationModel"]) == ("Enabled", "KEY_MATERIAL_EXPIRES")
    at = found["ValidTo"]
    assert 3 <= (at - begun).total_seconds() and (at - brought).total_seconds() <= 4
    blob = encrypt(kms, key)
    # What is read in every request is kept in memory; that must not outlive the material.
    while datetime.datetime.now(datetime.timezone.utc) < at - datetime.timedelta(seconds=1):
        assert decrypt(kms, blob) == b"text"
    eventually(lambda: described(kms, key)["KeyState"] == "PendingImport", 30)
    named = {"CiphertextBlob": blob, "EncryptionContext": CONTEXT}
    assert refused(kms.decrypt, **named) == "KMSInvalidStateException"

    with pytest.raises(ClientError, match="IncorrectKeyMaterialException"):
        bring(kms, key, os.urandom(32))
    # The same material comes back by any way.
    for algorithm, spec in [
        ("RSAES_OAEP_SHA_1", "RSA_3072"),
        ("RSA_AES_KEY_WRAP_SHA_1", "RSA_2048"),
        ("RSA_AES_KEY_WRAP_SHA_256", "RSA_4096"),
    ]:
        again = bring(kms, key, material, algorithm, spec)
        assert decrypt(kms, blob) == b"text"
        kms.delete_imported_key_material(KeyId=key, KeyMaterialId=again["KeyMaterialId"])
        assert refused(kms.decrypt, **named) == "KMSInvalidStateException"
    bring(kms, key, material)
    assert "ValidTo" not in described(kms, key)
    assert decrypt(kms, blob) == b"text"


def test_keys_of_other_kinds_are_brought(kms):
    secret = os.urandom(48)
    key = external(kms, KeySpec="HMAC_384", KeyUsage="GENERATE_VERIFY_MAC")
    bring(kms, key, secret)
    made = kms.generate_mac(KeyId=key, Message=b"message", MacAlgorithm="HMAC_SHA_384")["Mac"]
    mac = hmac.HMAC(secret, hashes.SHA384())
    mac.update(b"message")
    mac.verify(made)

    for spec, private, wrapping in [
        ("ECC_NIST_P256", ec.generate_private_key(ec.SECP256R1()), "RSAES_OAEP_SHA_256"),
        ("ECC_SECG_P256K1", ec.generate_private_key(ec.SECP256K1()), "RSAES_OAEP_SHA_256"),
        ("ECC_NIST_EDWARDS25519", ed25519.Ed25519PrivateKey.generate(), "RSAES_OAEP_SHA_1"),
        ("RSA_3072", rsa.generate_private_key(65537, 3072), "RSA_AES_KEY_WRAP_SHA_256"),
    ]:
        key = external(kms, KeySpec=spec, KeyUsage="SIGN_VERIFY")
        document = private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        bring(kms, key, document, wrapping)
        assert kms.get_public_key(KeyId=key)["PublicKey"] == private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    asked = {"KeyId": key, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_4096"}
    assert refused(kms.get_parameters_for_import, **asked) == "UnsupportedOperationException"


def test_rotation_keeps_what_was_encrypted(kms):
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    blobs = []
    for number in range(3):
        blobs.append(encrypt(kms, key, b"%d" % number))
        kms.rotate_key_on_demand(KeyId=key)
    assert [decrypt(kms, blob) for blob in blobs] == [b"0", b"1", b"2"]
    found = versions(kms, key)
    assert [entry["KeyMaterialState"] for entry in found] == ["NON_CURRENT"] * 3 + ["CURRENT"]
    assert [entry.get("RotationType") for entry in found] == [None] + ["ON_DEMAND"] * 3
    assert found[-1]["KeyMaterialId"] == described(kms, key)["CurrentKeyMaterialId"]

    kms.enable_key_rotation(KeyId=key, RotationPeriodInDays=90)
    status = kms.get_key_rotation_status(KeyId=key)
    assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 90)
    days = (status["NextRotationDate"] - datetime.datetime.now(datetime.timezone.utc)).days
    assert days in (89, 90)
    kms.disable_key_rotation(KeyId=key)
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is False
    used = kms.get_key_last_usage(KeyId=key)["KeyLastUsage"]
    assert used["Operation"] == "Decrypt"
    for spec, usage in [("RSA_2048", "SIGN_VERIFY"), ("HMAC_256", "GENERATE_VERIFY_MAC")]:
        other = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]
        assert refused(kms.enable_key_rotation, KeyId=other) == "UnsupportedOperationException"
        assert refused(kms.rotate_key_on_demand, KeyId=other) == "UnsupportedOperationException"


def test_imported_material_is_rotated_to(kms):
    key, first, second = external(kms), os.urandom(32), os.urandom(32)
    bring(kms, key, first)
    blob = encrypt(kms, key)
    assert refused(kms.rotate_key_on_demand, KeyId=key) == "KMSInvalidStateException"
    new = {"ImportType": "NEW_KEY_MATERIAL", "KeyMaterialDescription": "the second", **FOR_EVER}
    bring(kms, key, second, **new)
    assert [v["KeyMaterialState"] for v in versions(kms, key)] == ["CURRENT", "PENDING_ROTATION"]
    kms.rotate_key_on_demand(KeyId=key)
    newer = encrypt(kms, key)
    for which, material in [(0, first), (1, second)]:
        one = versions(kms, key)[which]["KeyMaterialId"]
        kms.delete_imported_key_material(KeyId=key, KeyMaterialId=one)
        assert described(kms, key)["KeyState"] == "PendingImport"
        bring(kms, key, material, ImportType="EXISTING_KEY_MATERIAL", KeyMaterialId=one, **FOR_EVER)
    assert decrypt(kms, blob) == decrypt(kms, newer) == b"text"
    assert versions(kms, key)[1]["KeyMaterialDescription"] == "the second"


def test_a_replica_opens_what_its_primary_sealed_and_becomes_it(account, kms):
    away = account.client("kms", AWAY)
    made = kms.create_key(MultiRegion=True, Description="home")["KeyMetadata"]
    key = made["KeyId"]
    assert key.startswith("mrk-")
    blob = encrypt(kms, key)
    assert refused(away.describe_key, KeyId=key) == "NotFoundException"
    kms.replicate_key(KeyId=key, ReplicaRegion=AWAY, Description="away")
    eventually(lambda: described(away, key)["KeyState"] == "Enabled", 30)
    found = described(away, key)
    assert found["Arn"] == made["Arn"].replace(HOME, AWAY)
    assert found["MultiRegionConfiguration"]["MultiRegionKeyType"] == "REPLICA"
    assert decrypt(away, blob) == b"text"
    assert decrypt(kms, encrypt(away, key, b"back")) == b"back"

    kms.rotate_key_on_demand(KeyId=key)
    assert decrypt(away, encrypt(kms, key, b"new")) == b"new"
    assert refused(away.rotate_key_on_demand, KeyId=key) == "UnsupportedOperationException"
    kms.update_primary_region(KeyId=key, PrimaryRegion=AWAY)
    eventually(lambda: described(away, key)["KeyState"] == "Enabled", 30)
    eventually(lambda: described(kms, key)["KeyState"] == "Enabled", 30)
    family = described(kms, key)["MultiRegionConfiguration"]
    assert (family["MultiRegionKeyType"], family["PrimaryKey"]["Region"]) == ("REPLICA", AWAY)
    away.rotate_key_on_demand(KeyId=key)
    assert decrypt(kms, blob) == b"text"
    assert away.schedule_key_deletion(KeyId=key)["KeyState"] == "PendingReplicaDeletion"


def test_the_command_line_imports(account, kms, tmp_path):
    made = account.aws("kms", "create-key", "--origin", "EXTERNAL")
    key = made["KeyMetadata"]["KeyId"]
    algorithm = "RSA_AES_KEY_WRAP_SHA_256"
    given = account.aws(
        "kms", "get-parameters-for-import", "--key-id", key, "--wrapping-algorithm", algorithm,
        "--wrapping-key-spec", "RSA_3072",
    )  # fmt: skip
    token, wrapped = tmp_path / "token", tmp_path / "wrapped"
    token.write_bytes(base64.b64decode(given["ImportToken"]))
    public = base64.b64decode(given["PublicKey"])
    wrapped.write_bytes(wrap(public, algorithm, os.urandom(32)))
    account.aws(
        "kms", "import-key-material", "--key-id", key, "--import-token", f"fileb://{token}",
        "--encrypted-key-material", f"fileb://{wrapped}", "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE",
    )  # fmt: skip
    listed = account.aws(
        "kms", "list-key-rotations", "--key-id", key, "--include-key-material", "ALL_KEY_MATERIAL"
    )
    assert [entry["ImportState"] for entry in listed["Rotations"]] == ["IMPORTED"]
    assert decrypt(kms, encrypt(kms, key)) == b"text"
