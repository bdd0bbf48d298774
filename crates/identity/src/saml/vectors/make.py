"""Writes canonical.json and responses.json anew, with lxml and signxml: what other programs make of
the same texts. Keys are thrown away; what is kept are certificates and what was signed.
"""

import datetime
import json
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from signxml import DigestAlgorithm, SignatureMethod, XMLSigner, methods

HERE = pathlib.Path(__file__).parent
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"

# Text, id of the element, prefixes that are kept.
CANONICAL = [
    ('<a ID="x"/>', "x", ""),
    ('<a ID="x" b="2" a="1"><c/><d></d></a>', "x", ""),
    ('<a xmlns="urn:a" ID="x"><b xmlns=""><c xmlns="urn:a"/></b></a>', "x", ""),
    ('<a xmlns="urn:a"><b xmlns="" ID="x"><c/></b></a>', "x", ""),
    ('<p:a xmlns:p="urn:p" xmlns:q="urn:q" ID="x"><q:b/><q:c/><p:d q:e="1"/></p:a>', "x", ""),
    ('<a xmlns:p="urn:p"><b ID="x"><p:c/><d p:e="1"><p:f/></d></b></a>', "x", ""),
    ('<a xmlns:p="urn:p" xmlns:q="urn:q"><b ID="x"><c/></b></a>', "x", "p"),
    ('<a xmlns="urn:a" xmlns:p="urn:p"><p:b ID="x"><c/></p:b></a>', "x", "p none"),
    ('<a xmlns:p="urn:1"><p:b ID="x"><p:c xmlns:p="urn:2"><p:d xmlns:p="urn:1"/></p:c></p:b></a>', "x", ""),
    ('<a xmlns:p="urn:1" xmlns:q="urn:1"><q:b ID="x" p:c="1" q:d="2" e="3"/></a>', "x", ""),
    ('<a ID="x" xmlns:z="urn:a" xmlns:y="urn:b" y:b="1" z:c="2" z:a="3" d="4"/>', "x", ""),
    ('<a ID="x" xml:lang="en"><b xml:space="preserve"> t </b></a>', "x", ""),
    ('<a xml:lang="en"><b ID="x"/></a>', "x", ""),
    ('<a ID="x">&lt;&gt;&amp;&quot;&apos;&#13;&#9;&#10;\u00e9\U0001f600</a>', "x", ""),
    ('<a ID="x" b="&lt;&gt;&amp;&quot;&apos;&#13;&#9;&#10; \t\n\u00e9"/>', "x", ""),
    ("<a ID='x' b='\"'>\r\n one \r two \n</a>", "x", ""),
    ('<a ID="x">\n  <b>\n    c\n  </b>\n</a>', "x", ""),
    ('<a  ID = "x"   b\n=\n"1"  ><b  /></a  >', "x", ""),
    ('<?xml version="1.0" encoding="UTF-8"?>\n<a ID="x"/>\n', "x", ""),
    ('<a xmlns:xs="urn:xs" xmlns:i="urn:i" ID="x"><b i:type="xs:string">v</b></a>', "x", "xs"),
]

RESPONSE = """<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"
    xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"
    xmlns:xs="http://www.w3.org/2001/XMLSchema" ID="_r1" Version="2.0"
    IssueInstant="2026-01-01T00:00:00Z" Destination="https://signin.aws.amazon.com/saml">
  <saml:Issuer>https://idp.example.org/saml</saml:Issuer>{response_signature}
  <samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>
  <saml:Assertion ID="_a1" Version="2.0" IssueInstant="2026-01-01T00:00:00Z">
    <saml:Issuer>https://idp.example.org/saml</saml:Issuer>{assertion_signature}
    <saml:Subject>
      <saml:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">amy &amp; b@example.org</saml:NameID>
      <saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
        <saml:SubjectConfirmationData NotOnOrAfter="2026-01-01T00:05:00.1234567Z"
            Recipient="https://signin.aws.amazon.com/saml"/>
      </saml:SubjectConfirmation>
    </saml:Subject>
    <saml:Conditions NotBefore="2025-12-31T23:59:00Z" NotOnOrAfter="2026-01-01T00:05:00Z">
      <saml:AudienceRestriction><saml:Audience>urn:amazon:webservices</saml:Audience></saml:AudienceRestriction>
    </saml:Conditions>
    <saml:AuthnStatement AuthnInstant="2026-01-01T00:00:00Z"/>
    <saml:AttributeStatement xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
      <saml:Attribute Name="https://aws.amazon.com/SAML/Attributes/Role">
        <saml:AttributeValue xsi:type="xs:string">arn:aws:iam::111111111111:role/dev,arn:aws:iam::111111111111:saml-provider/corp</saml:AttributeValue>
      </saml:Attribute>
      <saml:Attribute Name="https://aws.amazon.com/SAML/Attributes/RoleSessionName">
        <saml:AttributeValue xsi:type="xs:string">amy</saml:AttributeValue>
      </saml:Attribute>
    </saml:AttributeStatement>
  </saml:Assertion>
</samlp:Response>"""
PLACE = '<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Id="placeholder"/>'


def by_id(root, wanted):
    return next(node for node in root.iter() if node.get("ID") == wanted)


def canonical():
    cases = []
    for text, wanted, prefixes in CANONICAL:
        root = etree.fromstring(text.encode())
        out = etree.tostring(by_id(root, wanted), method="c14n", exclusive=True, with_comments=False,
                             inclusive_ns_prefixes=prefixes.split() or None)
        cases.append({"text": text, "id": wanted, "prefixes": prefixes, "canonical": out.decode()})
    return cases


def certificate(key):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
    start = datetime.datetime(2020, 1, 1)
    # Long expired: nobody asks.
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(start).not_valid_after(start + datetime.timedelta(1))
    made = made.sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


class Signer(XMLSigner):
    """Writes the prefixes that are kept also where signxml hashes with them and does not say so."""

    def _build_transforms_for_reference(self, *, transforms_node, reference, **rest):
        super()._build_transforms_for_reference(
            transforms_node=transforms_node, reference=reference, **rest)
        if reference.inclusive_ns_prefixes:
            etree.SubElement(transforms_node[-1], "{%s}InclusiveNamespaces" % EXCLUSIVE,
                             PrefixList=" ".join(reference.inclusive_ns_prefixes))


def sign(root, wanted, key, pem, method, digest, prefixes):
    signer = Signer(method=methods.enveloped, signature_algorithm=method, digest_algorithm=digest,
                    c14n_algorithm=EXCLUSIVE)
    node = by_id(root, wanted)
    signed = signer.sign(node, key=key, cert=pem, reference_uri="#" + wanted, id_attribute="ID",
                         inclusive_ns_prefixes=prefixes)
    if node.getparent() is None:
        return signed
    node.getparent().replace(node, signed)
    return root


def responses():
    rsa_key = rsa.generate_private_key(65537, 2048)
    cases = []
    for name, key, method, digest, signed, prefixes in [
        ("an assertion, RSA", rsa_key, SignatureMethod.RSA_SHA256, DigestAlgorithm.SHA256, ["_a1"], None),
        ("a response, RSA", rsa_key, SignatureMethod.RSA_SHA384, DigestAlgorithm.SHA384, ["_r1"], None),
        ("both, RSA", rsa_key, SignatureMethod.RSA_SHA512, DigestAlgorithm.SHA512, ["_a1", "_r1"], None),
        ("prefixes", rsa_key, SignatureMethod.RSA_SHA256, DigestAlgorithm.SHA256, ["_a1"], ["xs"]),
        ("P-256", ec.generate_private_key(ec.SECP256R1()), SignatureMethod.ECDSA_SHA256,
         DigestAlgorithm.SHA256, ["_a1"], None),
        ("P-384", ec.generate_private_key(ec.SECP384R1()), SignatureMethod.ECDSA_SHA384,
         DigestAlgorithm.SHA256, ["_a1"], None),
        ("P-521", ec.generate_private_key(ec.SECP521R1()), SignatureMethod.ECDSA_SHA512,
         DigestAlgorithm.SHA512, ["_a1"], None),
    ]:
        pem = certificate(key)
        text = RESPONSE.format(response_signature=PLACE if "_r1" in signed else "",
                               assertion_signature=PLACE if "_a1" in signed else "")
        root = etree.fromstring(text.encode())
        for wanted in signed:
            root = sign(root, wanted, key, pem, method, digest, prefixes)
        der = "".join(pem.splitlines()[1:-1])
        cases.append({"name": name, "certificate": der, "response": etree.tostring(root).decode()})
    return cases


for name, made in [("canonical", canonical()), ("responses", responses())]:
    text = json.dumps(made, indent=1)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
