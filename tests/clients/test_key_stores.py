"""Custom key stores: keys whose material is made on a PKCS#11 token and stays there."""

import os
import sqlite3
import threading
import time

import botocore
import pytest
from conftest import eventually
from steps import attach, create_volume, detach
from test_roots import PIN, softhsm  # noqa: F401

CLUSTER = "cluster-abcdefghijk"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
CONTEXT = {"purpose": "test"}


def code(call, **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def state(kms, store):
    [found] = kms.describe_custom_key_stores(CustomKeyStoreId=store)["CustomKeyStores"]
    return found


def connected(kms, store):
    kms.connect_custom_key_store(CustomKeyStoreId=store)
    return eventually(lambda: state(kms, store) if state(kms, store)["ConnectionState"] != "CONNECTING" else None)


@pytest.fixture
def hsm(own_server, softhsm):  # noqa: F811
    source = softhsm("tenants")
    module = source.split("module-path=")[1].split("&")[0]
    server = own_server("--key-store", f"{CLUSTER}=pkcs11:token=tenants?module-path={module}")
    owner = server.account("owner")
    store = owner.client("kms").create_custom_key_store(
        CustomKeyStoreName="vault", CloudHsmClusterId=CLUSTER,
        TrustAnchorCertificate=CERTIFICATE, KeyStorePassword=PIN,
    )["CustomKeyStoreId"]  # fmt: skip
    return server, owner, store


def refused_by_name(kms, key):
    """What a key in a custom key store is not offered (KMS guide, "Key states", notes 7 and 9)."""
    wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    material = {"ImportToken": b"x", "EncryptedKeyMaterial": b"x", "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
    for call, more in [
        (kms.enable_key_rotation, {}), (kms.disable_key_rotation, {}), (kms.rotate_key_on_demand, {}),
        (kms.get_key_rotation_status, {}), (kms.list_key_rotations, {}),
        (kms.get_parameters_for_import, wrapping), (kms.import_key_material, material),
        (kms.delete_imported_key_material, {}),
    ]:  # fmt: skip
        assert code(call, KeyId=key, **more)[0] == "UnsupportedOperationException", call


def test_keys_on_a_token(hsm, softhsm):  # noqa: F811
    server, owner, store = hsm
    kms = owner.client("kms")
    assert connected(kms, store)["ConnectionState"] == "CONNECTED"
    key = kms.create_key(Origin="AWS_CLOUDHSM", CustomKeyStoreId=store)["KeyMetadata"]
    assert (key["Origin"], key["CustomKeyStoreId"], key["CloudHsmClusterId"]) == (
        "AWS_CLOUDHSM", store, CLUSTER,
    )  # fmt: skip
    assert key["KeyState"] == "Enabled"

    def encrypt(**more):
        return kms.encrypt(KeyId=key["KeyId"], Plaintext=b"text", EncryptionContext=CONTEXT, **more)

    assert len(kms.generate_random(NumberOfBytes=40, CustomKeyStoreId=store)["Plaintext"]) == 40
    blob = encrypt()["CiphertextBlob"]
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"text", key["Arn"])
    assert code(kms.decrypt, CiphertextBlob=blob)[0] == "InvalidCiphertextException"
    assert code(kms.decrypt, CiphertextBlob=blob[:-1] + bytes([blob[-1] ^ 1]), EncryptionContext=CONTEXT)[0] == "InvalidCiphertextException"
    made = kms.generate_data_key(KeyId=key["KeyId"], KeySpec="AES_256", EncryptionContext=CONTEXT)
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == made["Plaintext"]
    # To a key here and back to the token; within the token as well.
    plain = kms.create_key()["KeyMetadata"]["KeyId"]
    for target in (plain, key["KeyId"], key["KeyId"]):
        blob = kms.re_encrypt(
            CiphertextBlob=blob, SourceEncryptionContext=CONTEXT,
            DestinationKeyId=target, DestinationEncryptionContext=CONTEXT,
        )["CiphertextBlob"]  # fmt: skip
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"text"

    # No row holds material, sealed or not.
    rows = sqlite3.connect(f"file:{server.data / 'meta.sqlite'}?mode=ro", uri=True)
    [(token,)] = rows.execute("SELECT token FROM kms_materials WHERE key_id = ?", (key["KeyId"],))
    assert token == b"\x03"
    rows.close()

    # A volume under such a key.
    volume = create_volume(owner, "--size", "1", "--encrypted", "--kms-key-id", key["Arn"])
    attach(owner, volume)
    detach(owner, volume)

    # Its material neither rotates nor is imported, whether the token is there or not.
    refused_by_name(kms, key["KeyId"])

    # Away: disconnected, with a restart in between, and back.
    assert code(kms.delete_custom_key_store, CustomKeyStoreId=store)[0] == "CustomKeyStoreInvalidStateException"
    kms.disconnect_custom_key_store(CustomKeyStoreId=store)
    assert code(kms.delete_custom_key_store, CustomKeyStoreId=store)[0] == "CustomKeyStoreHasCMKsException"
    shown = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
    assert (shown["KeyState"], shown["Enabled"]) == ("Unavailable", False)
    refused_by_name(kms, key["KeyId"])
    failed = code(encrypt)
    assert failed == ("KMSInvalidStateException", f"{key['Arn']} is unavailable.")
    wrong = dict(CustomKeyStoreId=store, KeyStorePassword="not the pin")
    kms.update_custom_key_store(**wrong)
    refused = connected(kms, store)
    assert (refused["ConnectionState"], refused["ConnectionErrorCode"]) == ("FAILED", "INVALID_CREDENTIALS")
    kms.disconnect_custom_key_store(CustomKeyStoreId=store)
    kms.update_custom_key_store(CustomKeyStoreId=store, KeyStorePassword=PIN)
    assert connected(kms, store)["ConnectionState"] == "CONNECTED"
    server.stop()
    server.start()
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"text"

    # The token is gone while the store is connected: its keys wait, others do not.
    server.stop()
    away = softhsm.tokens.with_name("away")
    softhsm.tokens.rename(away)
    softhsm.tokens.mkdir()
    server.start()
    assert code(encrypt)[0] == "KeyUnavailableException"
    assert kms.encrypt(KeyId=plain, Plaintext=b"x")
    server.stop()
    softhsm.tokens.rmdir()
    away.rename(softhsm.tokens)
    server.start()
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"text"


def test_many_callers_of_a_token_and_of_others(hsm):
    """Nobody waits for a token who does not use it, and those who do are all answered."""
    _, owner, store = hsm
    kms = owner.client("kms")
    connected(kms, store)
    key = kms.create_key(Origin="AWS_CLOUDHSM", CustomKeyStoreId=store)["KeyMetadata"]["KeyId"]
    done = []

    def use():
        client = owner.client("kms")
        for _ in range(10):
            blob = client.encrypt(KeyId=key, Plaintext=os.urandom(64))["CiphertextBlob"]
            done.append(client.decrypt(CiphertextBlob=blob)["KeyId"])

    threads = [threading.Thread(target=use) for _ in range(8)]
    [thread.start() for thread in threads]
    plain = kms.create_key()["KeyMetadata"]["KeyId"]
    begun = time.monotonic()
    kms.encrypt(KeyId=plain, Plaintext=b"x")
    assert time.monotonic() - begun < 5
    [thread.join() for thread in threads]
    assert len(done) == 80


def test_external_key_stores_are_refused_by_name(hsm):
    _, owner, _ = hsm
    failed = owner.aws(
        "kms", "create-custom-key-store", "--custom-key-store-name", "x",
        "--custom-key-store-type", "EXTERNAL_KEY_STORE",
        fails="ValidationException.*EXTERNAL_KEY_STORE",
    )  # fmt: skip
    assert "external key stores" in failed
