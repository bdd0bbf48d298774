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


# Ed25519ph (RFC 8032, 5.1), which Python's cryptography lacks: the verification, from the text of the RFC.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ONE = (0, 1)


def add(one, two):
    (x1, y1), (x2, y2) = one, two
    cross = D * x1 * x2 * y1 * y2
    return (
        (x1 * y2 + x2 * y1) * pow(1 + cross, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - cross, -1, P) % P,
    )


def times(number, point):
    total = ONE
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def point(encoded):
    y = int.from_bytes(encoded, "little")
    odd, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return (P - x if x & 1 != odd else x, y)


def ed25519ph_verifies(public, message, signature):
    base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    dom2 = b"SigEd25519 no Ed25519 collisions" + bytes([1, 0])
    hashed = hashlib.sha512(message).digest()
    k = hashlib.sha512(dom2 + r + public + hashed).digest()
    k = int.from_bytes(k, "little") % ORDER
    return s < ORDER and times(s, base) == add(point(r), times(k, point(public)))


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
        if algorithm == "ED25519_PH_SHA_512":
            continue
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


def test_ed25519ph_hashes_the_digest_once_more(kms):
    # RFC 8032, 7.3: the verification above is one.
    public = bytes.fromhex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf")
    known = bytes.fromhex(
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
        "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
    )
    assert ed25519ph_verifies(public, b"abc", known)
    assert not ed25519ph_verifies(public, b"abd", known)

    key = create(kms, "ECC_NIST_EDWARDS25519", "SIGN_VERIFY")
    described = kms.get_public_key(KeyId=key)
    assert described["SigningAlgorithms"] == ["ED25519_SHA_512", "ED25519_PH_SHA_512"]
    public = described["PublicKey"][-32:]
    digest = hashlib.sha512(MESSAGE).digest()
    named = {"KeyId": key, "SigningAlgorithm": "ED25519_PH_SHA_512", "MessageType": "DIGEST"}
    signature = kms.sign(Message=digest, **named)["Signature"]
    assert ed25519ph_verifies(public, digest, signature)
    assert not ed25519ph_verifies(public, MESSAGE, signature)
    assert kms.verify(Message=digest, Signature=signature, **named)["SignatureValid"]
    other = hashlib.sha512(b"another").digest()
    wrong = {"Message": other, "Signature": signature, **named}
    assert refused(kms.verify, **wrong) == "KMSInvalidSignatureException"
    raw = {**named, "MessageType": "RAW"}
    assert refused(kms.sign, Message=digest, **raw) == "ValidationException"
    assert refused(kms.sign, Message=digest[1:], **named) == "ValidationException"


@pytest.mark.parametrize("spec", ["ML_DSA_44", "ML_DSA_65", "ML_DSA_87"])
def test_a_mu_made_elsewhere_is_signed_as_the_message_is(kms, spec):
    key = create(kms, spec, "SIGN_VERIFY")
    public = public_key(kms, key)
    # FIPS 204, 6.2 and 5.2: of the hash of the public key, a zero, the length of the context, and the message.
    hashed = hashlib.shake_256(public.public_bytes_raw()).digest(64)
    mu = hashlib.shake_256(hashed + bytes([0, 0]) + MESSAGE).digest(64)
    named = {"KeyId": key, "SigningAlgorithm": "ML_DSA_SHAKE_256"}
    of_mu = {"Message": mu, "MessageType": "EXTERNAL_MU", **named}
    of_message = {"Message": MESSAGE, "MessageType": "RAW", **named}
    for asked in [of_mu, of_message]:
        signature = kms.sign(**asked)["Signature"]
        public.verify(signature, MESSAGE)
        for one in [of_mu, of_message]:
            assert kms.verify(Signature=signature, **one)["SignatureValid"]
        other = {**of_mu, "Message": bytes(64), "Signature": signature}
        assert refused(kms.verify, **other) == "KMSInvalidSignatureException"
    assert refused(kms.sign, **{**of_mu, "Message": mu[1:]}) == "ValidationException"


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


def test_ml_kem_data_key_pairs_open_elsewhere_what_is_encapsulated_to_them(kms):
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    for spec, kind in [
        # Python's cryptography has no ML-KEM-512; published vectors check that one.
        ("ML_KEM_512", None),
        ("ML_KEM_768", mlkem.MLKEM768PrivateKey),
        ("ML_KEM_1024", mlkem.MLKEM1024PrivateKey),
    ]:
        made = kms.generate_data_key_pair(KeyId=key, KeyPairSpec=spec)
        # KMS API: "the length of the private key is the same for all ML-KEM key pair specs".
        assert len(made["PrivateKeyPlaintext"]) == 86
        opened = kms.decrypt(CiphertextBlob=made["PrivateKeyCiphertextBlob"])
        assert opened["Plaintext"] == made["PrivateKeyPlaintext"]
        quiet = kms.generate_data_key_pair_without_plaintext(KeyId=key, KeyPairSpec=spec)
        assert "PrivateKeyPlaintext" not in quiet and quiet["PublicKey"] != made["PublicKey"]
        if kind is None:
            continue
        private = serialization.load_der_private_key(made["PrivateKeyPlaintext"], None)
        assert isinstance(private, kind)
        public = serialization.load_der_public_key(made["PublicKey"])
        secret, sealed = public.encapsulate()
        assert private.decapsulate(sealed) == secret


def test_ml_kem_keys_are_not_imported(kms):
    kind = {"KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE"}
    external = refused(kms.create_key, Origin="EXTERNAL", **kind)
    assert external == "UnsupportedOperationException"


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
