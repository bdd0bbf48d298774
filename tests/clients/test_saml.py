"""SAML: an identity provider of the test's own, made of signxml and lxml, and what is refused of it."""

import base64
import copy
import datetime
import json
import os
import random

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from conftest import Account
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives import padding as blocks
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import SignatureMethod, XMLSigner, XMLVerifier, methods

ENTITY = "https://idp.example.org/saml"
SIGN_IN = "https://signin.aws.amazon.com/saml"
ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
DS = "http://www.w3.org/2000/09/xmldsig#"
XENC = "http://www.w3.org/2001/04/xmlenc#"
XENC11 = "http://www.w3.org/2009/xmlenc11#"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
READ_ONLY = "arn:aws:iam::aws:policy/IAMReadOnlyAccess"


def at(seconds):
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


class Provider:
    def __init__(self):
        self.key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
        start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
        made = made.public_key(self.key.public_key()).serial_number(1)
        made = made.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=9))
        made = made.sign(self.key, hashes.SHA256())
        self.pem = made.public_bytes(serialization.Encoding.PEM).decode()
        self.der = base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()

    def metadata(self):
        return f"""<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{ENTITY}">
  <!-- as a provider would have it -->
  <md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
    <md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data>
      <ds:X509Certificate>{self.der}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
    <md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="{ENTITY}"/>
  </md:IDPSSODescriptor>
</md:EntityDescriptor>"""

    def response(self, attributes, signed="_a", method=SignatureMethod.RSA_SHA256, **changes):
        values = {
            "subject": "amy@example.org", "issuer": ENTITY, "audience": "urn:amazon:webservices",
            "recipient": SIGN_IN, "issued": at(0), "until": at(300),
            "status": "urn:oasis:names:tc:SAML:2.0:status:Success",
        } | changes
        stated = "".join(
            f'<saml:Attribute Name="{ATTRIBUTES}{name}">'
            + "".join(f"<saml:AttributeValue>{value}</saml:AttributeValue>" for value in given)
            + "</saml:Attribute>"
            for name, given in attributes.items()
        )
        place = {signed: f'<ds:Signature xmlns:ds="{DS}" Id="placeholder"/>'}
        root = etree.fromstring("""<samlp:Response xmlns:samlp="{samlp}" xmlns:saml="{saml}" ID="_r" Version="2.0"
    IssueInstant="{issued}">
  <saml:Issuer>{issuer}</saml:Issuer>{around}
  <samlp:Status><samlp:StatusCode Value="{status}"/></samlp:Status>
  <saml:Assertion ID="_a" Version="2.0" IssueInstant="{issued}">
    <saml:Issuer>{issuer}</saml:Issuer>{own}
    <saml:Subject>
      <saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">{subject}</saml:NameID>
      <saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
        <saml:SubjectConfirmationData NotOnOrAfter="{until}" Recipient="{recipient}"/>
      </saml:SubjectConfirmation>
    </saml:Subject>
    <saml:Conditions NotBefore="{issued}" NotOnOrAfter="{until}">
      <saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience></saml:AudienceRestriction>
    </saml:Conditions>
    <saml:AuthnStatement AuthnInstant="{issued}"/>
    <saml:AttributeStatement>{stated}</saml:AttributeStatement>
  </saml:Assertion>
</samlp:Response>""".format(samlp=SAMLP, saml=SAML, stated=stated, around=place.get("_r", ""),
                            own=place.get("_a", ""), **values))
        node = next(node for node in root.iter() if node.get("ID") == signed)
        signer = XMLSigner(method=methods.enveloped, signature_algorithm=method, c14n_algorithm=EXCLUSIVE)
        done = signer.sign(node, key=self.key, cert=self.pem, reference_uri="#" + signed, id_attribute="ID")
        if signed == "_r":
            return done
        done.tail = node.tail
        node.getparent().replace(node, done)
        return root


class Stage:
    """A provider that an account knows, and a role that trusts it."""

    def __init__(self, server):
        self.server, self.idp = server, Provider()
        self.account = server.account("saml")
        self.iam = self.account.client("iam")
        made = self.iam.create_saml_provider(Name="corp", SAMLMetadataDocument=self.idp.metadata())
        self.arn = made["SAMLProviderArn"]
        trust = {
            "Effect": "Allow",
            "Principal": {"Federated": self.arn},
            "Action": ["sts:AssumeRoleWithSAML", "sts:TagSession"],
            "Condition": {"StringEquals": {"saml:aud": SIGN_IN},
                          "StringLike": {"saml:sub": "*@example.org"}},
        }
        document = json.dumps({"Version": "2012-10-17", "Statement": trust})
        role = self.iam.create_role(RoleName="employee", AssumeRolePolicyDocument=document)
        self.role = role["Role"]["Arn"]
        self.iam.attach_role_policy(RoleName="employee", PolicyArn=READ_ONLY)
        self.attributes = {"Role": [f"{self.arn},{self.role}"], "RoleSessionName": ["amy"]}
        self.sts = boto3.client("sts", "us-east-1", endpoint_url=server.url,
                                config=Config(signature_version=UNSIGNED))

    def assume(self, response, **more):
        text = response if isinstance(response, bytes) else etree.tostring(response)
        call = {"RoleArn": self.role, "PrincipalArn": self.arn} | more
        return self.sts.assume_role_with_saml(**call, SAMLAssertion=base64.b64encode(text).decode())

    def refused(self, code, response, **more):
        with pytest.raises(ClientError) as caught:
            self.assume(response, **more)
        assert caught.value.response["Error"]["Code"] == code, caught.value


@pytest.fixture(scope="module")
def stage(server):
    return Stage(server)


def test_an_employee_of_a_company(server, stage):
    attributes = stage.attributes | {"PrincipalTag:team": ["red"], "SessionDuration": ["1800"]}
    for signed in ["_a", "_r"]:
        reply = stage.assume(stage.idp.response(attributes, signed), DurationSeconds=3600)
        assert reply["Subject"] == "amy@example.org" and reply["SubjectType"] == "persistent"
        assert reply["Issuer"] == ENTITY and reply["Audience"] == SIGN_IN
        assert reply["AssumedRoleUser"]["Arn"].endswith("assumed-role/employee/amy")
        left = reply["Credentials"]["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
        assert 1700 < left.total_seconds() <= 1800
    given = reply["Credentials"]
    amy = Account(server, stage.account.id, given["AccessKeyId"], given["SecretAccessKey"],
                  given["SessionToken"])
    amy.client("iam").list_users()
    shown = stage.iam.get_saml_provider(SAMLProviderArn=stage.arn)
    assert shown["SAMLMetadataDocument"] == stage.idp.metadata()
    listed = stage.account.aws("iam", "list-saml-providers")["SAMLProviderList"]
    assert [entry["Arn"] for entry in listed] == [stage.arn]


def test_responses_that_are_worth_nothing(stage):
    idp, attributes = stage.idp, stage.attributes
    refused = stage.refused
    refused("ExpiredTokenException", idp.response(attributes, issued=at(-310)))
    refused("ExpiredTokenException", idp.response(attributes, until=at(-1)))
    refused("InvalidIdentityToken", idp.response(attributes, audience="https://sp.example.org"))
    refused("InvalidIdentityToken", idp.response(attributes, recipient="https://sp.example.org"))
    refused("InvalidIdentityToken", idp.response(attributes, issuer="https://other.example.org"))
    refused("IDPRejectedClaim", idp.response(attributes, status="urn:oasis:names:tc:SAML:2.0:status:Responder"))
    refused("AccessDenied", idp.response(attributes, subject="eve@other.org"))
    refused("AccessDenied", idp.response(attributes | {"Role": [f"{stage.arn},{stage.role}2"]}))
    refused("InvalidIdentityToken", idp.response({"Role": attributes["Role"]}))
    refused("InvalidIdentityToken", Provider().response(attributes))
    refused("ValidationError", idp.response(attributes), DurationSeconds=43200)
    text = etree.tostring(idp.response(attributes))
    stage.assume(text)
    refused("InvalidIdentityToken", text.replace(b"amy@", b"a<!---->my@"))
    refused("InvalidIdentityToken", text.replace(b">amy@", b">eve@"))
    refused("InvalidIdentityToken", b'<!DOCTYPE a [<!ENTITY b "c">]>' + text)
    refused("InvalidIdentityToken", text.replace(b"saml:Assertion", b"saml:EncryptedAssertion"))


def harmless(text, draw):
    """Another way to write the same: what a canonical form is for."""
    return draw.choice([
        lambda: text.replace(b"\n", b"\r\n"),
        lambda: b'<?xml version="1.0" encoding="UTF-8"?>\n' + text + b"\n",
        lambda: text.replace(b' ID="_a" Version="2.0"', b"\n Version='2.0'\t ID = '_a'"),
        lambda: text.replace(b"<samlp:Response ", b'<samlp:Response xmlns:unused="urn:unused" '),
        lambda: text.replace(b"amy@example.org", b"amy&#64;example.org"),
        lambda: text.replace(b'"/>', b'"  />'),
        lambda: text.replace(b"<samlp:Status>", b"<samlp:Status   >").replace(b"</samlp:Status>", b"</samlp:Status >"),
    ])()


def moved(text, draw):
    """Elements and texts changed, doubled, moved and removed, some of them around what is signed."""
    root = etree.fromstring(text)
    forged = copy.deepcopy(next(root.iter(f"{{{SAML}}}Assertion")))
    next(forged.iter(f"{{{SAML}}}NameID")).text = "eve@example.org"
    for _ in range(draw.randint(1, 3)):
        nodes = list(root.iter())
        node, other = draw.choice(nodes), draw.choice(nodes)
        kind = draw.randrange(7)
        if kind == 0 and node.text:
            node.text = draw.choice([node.text + " ", "x" + node.text, ""])
        elif kind == 1 and node.attrib:
            node.set(draw.choice(list(node.attrib)), draw.choice(["_a", "_r", "x"]))
        elif kind == 2:
            other.append(copy.deepcopy(node))
        elif kind == 3 and node.getparent() is not None and other not in node.iter():
            other.insert(0, node)
        elif kind == 4 and node.getparent() is not None:
            node.getparent().remove(node)
        elif kind == 5:
            evil = copy.deepcopy(forged)
            evil.set("ID", draw.choice(["_a", "_evil"]))
            node.insert(draw.randint(0, len(node)), evil)
        elif kind == 6 and node.getparent() is not None:
            around = etree.SubElement(node.getparent(), draw.choice([f"{{{SAML}}}Advice", f"{{{DS}}}Object", "x"]))
            around.append(node)
    return etree.tostring(root)


# How the key is wrapped: the algorithm's name, its parameters, and the hash of both.
TRANSPORTS = {
    "sha1": (f"{XENC}rsa-oaep-mgf1p", "", hashes.SHA1()),
    "sha256": (
        f"{XENC11}rsa-oaep",
        f'<ds:DigestMethod Algorithm="{XENC}sha256"/>'
        f'<x:MGF xmlns:x="{XENC11}" Algorithm="{XENC11}mgf1sha256"/>',
        hashes.SHA256(),
    ),
    "sha512": (
        f"{XENC11}rsa-oaep",
        f'<ds:DigestMethod Algorithm="{XENC}sha512"/>'
        f'<x:MGF xmlns:x="{XENC11}" Algorithm="{XENC11}mgf1sha512"/>',
        hashes.SHA512(),
    ),
}


def encrypt(response, public, bits, mode, transport):
    """The response with its assertion encrypted, as XML Encryption has it."""
    assertion = next(response.iter(f"{{{SAML}}}Assertion"))
    key, text = os.urandom(bits // 8), etree.tostring(assertion, with_tail=False)
    if mode == "gcm":
        nonce, name = os.urandom(12), f"{XENC11}aes{bits}-gcm"
        sealed = nonce + AESGCM(key).encrypt(nonce, text, None)
    else:
        vector, name = os.urandom(16), f"{XENC}aes{bits}-cbc"
        pad = blocks.ANSIX923(128).padder()
        done = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
        sealed = vector + done.update(pad.update(text) + pad.finalize()) + done.finalize()
    wrapping, parameters, digest = TRANSPORTS[transport]
    wrapped = public.encrypt(key, padding.OAEP(padding.MGF1(digest), digest, None))
    wrapped, sealed = base64.encodebytes(wrapped).decode(), base64.encodebytes(sealed).decode()
    encrypted = etree.fromstring(f"""<saml:EncryptedAssertion xmlns:saml="{SAML}">
  <xenc:EncryptedData xmlns:xenc="{XENC}" Type="{XENC}Element" Id="_data">
    <xenc:EncryptionMethod Algorithm="{name}"/>
    <ds:KeyInfo xmlns:ds="{DS}"><xenc:EncryptedKey>
      <xenc:EncryptionMethod Algorithm="{wrapping}">{parameters}</xenc:EncryptionMethod>
      <xenc:CipherData><xenc:CipherValue>{wrapped}</xenc:CipherValue></xenc:CipherData>
    </xenc:EncryptedKey></ds:KeyInfo>
    <xenc:CipherData><xenc:CipherValue>{sealed}</xenc:CipherValue></xenc:CipherData>
  </xenc:EncryptedData>
</saml:EncryptedAssertion>""")
    assertion.getparent().replace(assertion, encrypted)
    return response


def test_assertions_that_are_encrypted(server):
    stage = Stage(server)
    iam, idp, named = stage.iam, stage.idp, {"SAMLProviderArn": stage.arn}

    def pem(key, form):
        return key.private_bytes(
            serialization.Encoding.PEM, form, serialization.NoEncryption()
        ).decode()

    one, two = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 3072)
    response = lambda: idp.response(stage.attributes)  # noqa: E731
    stage.refused("InvalidIdentityToken", encrypt(response(), one.public_key(), 256, "gcm", "sha256"))
    iam.update_saml_provider(
        AddPrivateKey=pem(one, serialization.PrivateFormat.PKCS8),
        AssertionEncryptionMode="Required", **named,
    )
    # What openssl calls the traditional form is PKCS #1.
    iam.update_saml_provider(
        AddPrivateKey=pem(two, serialization.PrivateFormat.TraditionalOpenSSL), **named
    )
    shown = iam.get_saml_provider(**named)
    assert shown["AssertionEncryptionMode"] == "Required" and len(shown["PrivateKeyList"]) == 2
    for bits in [128, 192, 256]:
        for mode in ["gcm", "cbc"]:
            for transport in TRANSPORTS:
                for key in [one, two]:
                    sent = encrypt(response(), key.public_key(), bits, mode, transport)
                    assert stage.assume(sent)["Subject"] == "amy@example.org"
    stage.refused("InvalidIdentityToken", response())
    strange = rsa.generate_private_key(65537, 2048).public_key()
    stage.refused("InvalidIdentityToken", encrypt(response(), strange, 256, "gcm", "sha256"))
    forged = Provider().response(stage.attributes)
    stage.refused("InvalidIdentityToken", encrypt(forged, one.public_key(), 256, "cbc", "sha1"))
    first = shown["PrivateKeyList"][0]["KeyId"]
    iam.update_saml_provider(RemovePrivateKey=first, **named)
    stage.refused("InvalidIdentityToken", encrypt(response(), one.public_key(), 128, "gcm", "sha1"))
    stage.assume(encrypt(response(), two.public_key(), 128, "gcm", "sha1"))
    iam.delete_saml_provider(**named)


def test_what_is_accepted_is_what_another_program_says_was_signed(stage):
    def peer(text):
        try:
            root = etree.fromstring(text)
            # What it says of keys is not signed, and the server does not look at it.
            for info in root.findall(f".//{{{DS}}}Signature/{{{DS}}}KeyInfo"):
                info.getparent().remove(info)
            done = XMLVerifier().verify(root, x509_cert=stage.idp.pem, id_attribute="ID")
            return [node.text for node in done.signed_xml.iter(f"{{{SAML}}}NameID")]
        except Exception:
            return None

    draw = random.Random(24)
    accepted = refused = 0
    texts = {signed: etree.tostring(stage.idp.response(stage.attributes, signed)) for signed in ["_a", "_r"]}
    for number in range(240):
        signed = draw.choice(["_a", "_r"])
        same = number % 4 == 0
        text = (harmless if same else moved)(texts[signed], draw)
        try:
            ours = [stage.assume(text)["Subject"]]
            accepted += 1
        except ClientError as error:
            assert error.response["Error"]["Code"] != "InternalFailure", text
            ours = None
            refused += 1
        if same or ours:
            assert ours == peer(text) == ["amy@example.org"], text
    assert accepted >= 60 and refused >= 100, (accepted, refused)
