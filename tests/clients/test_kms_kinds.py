"""KMS keys of every kind, checked with an implementation of the algorithms that is not the server's."""

import base64
import hashlib
import hmac

import pytest
from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import (
    ec, ed25519, mldsa, mlkem, padding, rsa, utils,
)

HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES = {
    "ECC_NIST_P256": ec.SECP256R1(),
    "ECC_NIST_P384": ec.SECP384R1(),
    "ECC_NIST_P521": ec.SECP521R1(),
    "ECC_SECG_P256K1": ec.SECP256K1(),
}
MESSAGE = b"a message"


@pytest.fixture(scope="module")
def kms(server):
    return server.account("kinds").client("kms")


def create(kms, spec, usage):
    return kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def public_key(kms, key):
    return serialization.load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])


def verify(public, algorithm, message, signature, prehashed=False):
    """Raises InvalidSignature unless the signature is right."""
    if algorithm in ("ED25519_SHA_512", "ML_DSA_SHAKE_256"):
        return public.verify(signature, message)
    digest = HASHES[algorithm[-3:]]
    hashed = utils.Prehashed(digest) if prehashed else digest
    if algorithm.startswith("ECDSA"):
        return public.verify(signature, message, ec.ECDSA(hashed))
    if "PSS" in algorithm:
        scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
    else:
        scheme = padding.PKCS1v15()
    return public.verify(signature, message, scheme, hashed)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("RSA_2048", rsa.RSAPublicKey),
        ("ECC_NIST_P256", ec.EllipticCurvePublicKey),
        ("ECC_NIST_P384", ec.EllipticCurvePublicKey),
        ("ECC_NIST_P521", ec.EllipticCurvePublicKey),
        ("ECC_SECG_P256K1", ec.EllipticCurvePublicKey),
        ("ECC_NIST_EDWARDS25519", ed25519.Ed25519PublicKey),
        ("ML_DSA_44", mldsa.MLDSA44PublicKey),
        ("ML_DSA_65", mldsa.MLDSA65PublicKey),
        ("ML_DSA_87", mldsa.MLDSA87PublicKey),
    ],
)
def test_signatures_are_verified_elsewhere_and_here(kms, spec, kind):
    key = create(kms, spec, "SIGN_VERIFY")
    described = kms.get_public_key(KeyId=key)
    public = serialization.load_der_public_key(described["PublicKey"])
    assert isinstance(public, kind)
    if spec in CURVES:
        assert public.curve.name == CURVES[spec].name
    assert described["KeySpec"] == spec
    for algorithm in described["SigningAlgorithms"]:
        named = {"KeyId": key, "SigningAlgorithm": algorithm}
        signature = kms.sign(Message=MESSAGE, **named)["Signature"]
        verify(public, algorithm, MESSAGE, signature)
        with pytest.raises(InvalidSignature):
            verify(public, algorithm, b"another", signature)
        assert kms.verify(Message=MESSAGE, Signature=signature, **named)["SignatureValid"]
        other = {"Message": b"another", "Signature": signature, **named}
        assert refused(kms.verify, **other) == "KMSInvalidSignatureException"
        if algorithm in ("ED25519_SHA_512", "ML_DSA_SHAKE_256"):
            continue
        digest = hashlib.new("sha" + algorithm[-3:], MESSAGE).digest()
        hashed = {"Message": digest, "MessageType": "DIGEST", **named}
        signature = kms.sign(**hashed)["Signature"]
        verify(public, algorithm, digest, signature, prehashed=True)
        assert kms.verify(Signature=signature, **hashed)["SignatureValid"]


def test_macs_are_those_of_python(kms):
    for bits in ["224", "256", "384", "512"]:
        key = create(kms, f"HMAC_{bits}", "GENERATE_VERIFY_MAC")
        named = {"KeyId": key, "MacAlgorithm": f"HMAC_SHA_{bits}", "Message": MESSAGE}
        mac = kms.generate_mac(**named)["Mac"]
        assert len(mac) * 8 == int(bits)
        assert kms.verify_mac(Mac=mac, **named)["MacValid"]
        # The key never leaves the server, so a MAC of another key is what there is to compare with.
        strange = hmac.new(b"another key", MESSAGE, "sha" + bits).digest()
        assert refused(kms.verify_mac, Mac=strange, **named) == "KMSInvalidMacException"


def test_both_sides_of_an_agreement_have_one_secret(kms):
    for spec in ["ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"]:
        key = create(kms, spec, "KEY_AGREEMENT")
        peer = ec.generate_private_key(CURVES[spec])
        der = peer.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        made = kms.derive_shared_secret(KeyId=key, KeyAgreementAlgorithm="ECDH", PublicKey=der)
        assert made["SharedSecret"] == peer.exchange(ec.ECDH(), public_key(kms, key))


@pytest.mark.parametrize(
    ("spec", "kind", "length"),
    [
        # Python's cryptography has no ML-KEM-512; published vectors check that one.
        ("ML_KEM_512", None, 768),
        ("ML_KEM_768", mlkem.MLKEM768PublicKey, 1088),
        ("ML_KEM_1024", mlkem.MLKEM1024PublicKey, 1568),
    ],
)
def test_what_is_encapsulated_elsewhere_is_decapsulated_here(kms, spec, kind, length):
    key = create(kms, spec, "ENCAPSULATE_DECAPSULATE")
    described = kms.get_public_key(KeyId=key)
    assert (described["KeySpec"], described["EncapsulationAlgorithms"]) == (spec, ["ML_KEM"])
    named = {"KeyId": key, "EncapsulationAlgorithm": "ML_KEM"}
    made = kms.encapsulate(**named)
    sealed = made["SharedSecretCiphertextBlob"]
    assert (len(made["SharedSecret"]), len(sealed)) == (32, length)
    opened = kms.decapsulate(SharedSecretCiphertextBlob=sealed, **named)
    assert opened["SharedSecret"] == made["SharedSecret"]
    if kind is not None:
        public = serialization.load_der_public_key(described["PublicKey"])
        assert isinstance(public, kind)
        secret, elsewhere = public.encapsulate()
        opened = kms.decapsulate(SharedSecretCiphertextBlob=elsewhere, **named)
        assert opened["SharedSecret"] == secret
    altered = bytes([sealed[0] ^ 1]) + sealed[1:]
    opened = kms.decapsulate(SharedSecretCiphertextBlob=altered, **named)
    assert opened["SharedSecret"] != made["SharedSecret"]
    cut = {"SharedSecretCiphertextBlob": sealed[1:], **named}
    assert refused(kms.decapsulate, **cut) == "InvalidCiphertextException"


def test_rsa_ciphertexts_made_elsewhere_open_here(kms):
    key = create(kms, "RSA_2048", "ENCRYPT_DECRYPT")
    public = public_key(kms, key)
    for name, digest in [("1", hashes.SHA1()), ("256", hashes.SHA256())]:
        named = {"KeyId": key, "EncryptionAlgorithm": f"RSAES_OAEP_SHA_{name}"}
        oaep = padding.OAEP(padding.MGF1(digest), digest, None)
        opened = kms.decrypt(CiphertextBlob=public.encrypt(MESSAGE, oaep), **named)
        assert opened["Plaintext"] == MESSAGE
        blob = kms.encrypt(Plaintext=MESSAGE, **named)["CiphertextBlob"]
        assert kms.decrypt(CiphertextBlob=blob, **named)["Plaintext"] == MESSAGE


def test_data_key_pairs_sign_elsewhere(kms):
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    context = {"for": "signing"}
    for spec in ["RSA_2048", *CURVES, "ECC_NIST_EDWARDS25519"]:
        made = kms.generate_data_key_pair(
            KeyId=key, KeyPairSpec=spec, EncryptionContext=context
        )
        private = serialization.load_der_private_key(made["PrivateKeyPlaintext"], None)
        assert made["PublicKey"] == private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        opened = kms.decrypt(
            CiphertextBlob=made["PrivateKeyCiphertextBlob"], EncryptionContext=context
        )
        assert opened["Plaintext"] == made["PrivateKeyPlaintext"]


def test_what_is_not_offered_for_ml_kem_is_refused_by_name(kms):
    unsupported = "UnsupportedOperationException"
    kind = {"KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE"}
    assert refused(kms.create_key, Origin="EXTERNAL", **kind) == unsupported
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    pair = {"KeyId": key, "KeyPairSpec": "ML_KEM_768"}
    assert refused(kms.generate_data_key_pair, **pair) == unsupported


def test_the_command_line_signs_verifies_and_gives_random_bytes(server, tmp_path):
    account = server.account("kinds-cli")
    made = account.aws(
        "kms", "create-key", "--key-spec", "ECC_NIST_P384", "--key-usage", "SIGN_VERIFY"
    )
    key = made["KeyMetadata"]["KeyId"]
    message = tmp_path / "message"
    message.write_bytes(MESSAGE)
    named = ["--key-id", key, "--message", f"fileb://{message}"]
    named += ["--signing-algorithm", "ECDSA_SHA_384"]
    signature = tmp_path / "signature"
    signature.write_bytes(base64.b64decode(account.aws("kms", "sign", *named)["Signature"]))
    reply = account.aws("kms", "verify", *named, "--signature", f"fileb://{signature}")
    assert reply["SignatureValid"] is True
    random = account.aws("kms", "generate-random", "--number-of-bytes", "32")
    assert len(base64.b64decode(random["Plaintext"])) == 32
