"""Command lines of the aws CLI, read by `strongroom preflight` and by the stock CLI.

The stock CLI is stopped where it would make its client; the binary asks a server that only writes down what it was
asked. Both then hold the request that the line meant.
"""

import base64
import json
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from awscli import clidriver
from botocore.utils import parse_to_aware_datetime
from conftest import BINARY

OPS = Path(__file__).parents[2] / "crates/api/src/ops"
SERVICES = ["cloudtrail", "ebs", "ec2", "iam", "kms", "sts"]


@pytest.fixture(scope="module")
def asked():
    """The requests that preflights made, and the address they were made to."""
    requests = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            reply = json.dumps({"Preflight": json.dumps({"allowed": True}), "Text": ""}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield requests, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with files, and the environment both read."""
    for name, content in {
        "policy.json": b'{"Version":\r\n"2012-10-17"}', "bytes": b"\x00\x01\xff", "number": b"8\n", "text": b"hello\n",
        "tags.json": b' [{"Key": "a", "Value": "b"}]\n', "ids.json": b'["1", "2"]', "context": b"a=b,c=d\n",
        "volume.json": b'{"Size": 1, "AvailabilityZone": "z", "Encrypted": true}',
        "tag.json": b'{"Key": "a", "Value": "b"}',
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    # The stock CLI finds its own data by AWS_DATA_PATH, which it sets.
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_DATA_PATH"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FILES", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "B")
    return tmp_path


def ours(asked, words):
    """What the binary reads, or the message with which it refuses."""
    requests, url = asked
    before = len(requests)
    # Version 1 takes bytes as they are written; version 2, which is followed otherwise, when it is told to.
    line = [BINARY, "preflight", "--endpoint-url", url, *words, "--cli-binary-format", "raw-in-base64-out"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    if done.returncode:
        assert done.returncode == 1 and len(requests) == before, (words, done)
        return done.stderr
    (request,) = requests[before:]
    return request["Service"], request["Operation"], json.loads(request["Parameters"])


def stock(words, monkeypatch, driver=None):
    """What the stock CLI reads; `None` when it refuses."""
    found = []
    driver = driver or clidriver.create_clidriver()
    session = driver.session

    def invoke(_, service, operation, parameters, parsed_globals):
        model = session.get_service_model(service).operation_model(operation)
        shown = pages(session, service, operation, dict(parameters))
        found.append((service, operation, plain(model.input_shape, shown) if shown else {}))
        return 0

    monkeypatch.setattr(clidriver.CLIOperationCaller, "invoke", invoke)
    try:
        code = driver.main(words[1:])
    except SystemExit as stopped:
        code = stopped.code
    return found[0] if code == 0 else None


def pages(session, service, operation, parameters):
    """Parameters of the first page the CLI asks for."""
    config = parameters.pop("PaginationConfig", None)
    if config is None:
        return parameters
    paginator = session.get_paginator_model(service).get_paginator(operation)
    if "PageSize" in config:
        parameters[paginator["limit_key"]] = int(config["PageSize"])
    if "StartingToken" in config:
        parameters[paginator["input_token"]] = config["StartingToken"]
    return parameters


def plain(shape, value):
    """A value as preflights have it: bytes in base64, instants in seconds."""
    if shape.type_name == "structure":
        return {name: plain(shape.members[name], member) for name, member in value.items()}
    if shape.type_name == "list":
        return [plain(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: plain(shape.value, item) for key, item in value.items()}
    if shape.type_name == "timestamp":
        return parse_to_aware_datetime(value).timestamp()
    if shape.type_name == "blob":
        value = value.read() if hasattr(value, "read") else value
        return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
    return value


LINES = """
aws --region eu-west-1 --output json ec2 copy-snapshot --source-region us-east-1 --source-snapshot-id snap-1
aws --no-verify-ssl ec2 --no-paginate create-volume --size=8 --no-encrypted --region=x --availability-zone a
aws --no-encrypted ec2 --size=8 create-volume --size 9 --encrypted --size 10
aws ec2 create-volume --size -8 --kms-key-id=--size --no-dry-run
aws ec2 create-volume --size file://~/number --kms-key-id file://$FILES/text --snapshot-id file://${FILES}/number
aws ec2 create-volume --cli-input-json file://~/volume.json --size 9 --no-encrypted
aws ec2 create-volume --cli-input-json {"Size":1} --tag-specifications ResourceType=volume,Tags={Key=a,Value=b}
aws ec2 modify-snapshot-attribute --user-ids 1 --region x 2 --snapshot-id s
aws ec2 modify-snapshot-attribute --user-ids=["1","2"] --snapshot-id=s --group-names
aws ec2 modify-snapshot-attribute --user-ids file://~/ids.json --snapshot-id=s
aws ec2 modify-snapshot-attribute --snapshot-id=s --create-volume-permission Add=[{UserId=1},{Group=all}]
aws ec2 modify-snapshot-attribute --snapshot-id=s --create-volume-permission {"Remove":[{"UserId":"1"}]}
aws ec2 create-tags --resources a b --tags Key=k,Value=v Key='k,2',Value="it's" Key="k\\"3",Value=
aws ec2 create-tags --resources a --tags Key=k,Value=a\\,b Key=k\\,l\\,m,Value=a=b Value=[x,Key=k
aws ec2 create-tags --resources a --tags file://~/tags.json
aws ec2 create-tags --resources a --tags {"Key":"k","Value":"v"} {"Key":"l"}
aws ec2 create-tags --resources a --tags Key@=file://~/text,Value=file://~/text
aws|ec2|create-tags|--resources|a|--tags|Key = k , Value = a b |Key=' k ',Value=a {b} c
aws ec2 describe-volumes --filters Name=n,Values=a,b Values=a,b,Name=n Name=n,Values=[a,'b,c'] Name=n,Values=a
aws ec2 describe-volumes --filters Name=n,Values=a,'b,c',"d" Name=n,Values=[] --no-paginate
aws ec2 describe-volumes --page-size 5 --max-items 3 --volume-ids a
aws ec2 describe-tags --starting-token abc
aws ec2 describe-volumes --max-results 5
aws iam list-users --max-items 3
aws iam list-users --max-items 3 --page-size 5
aws iam list-users --no-paginate --max-items 3
aws iam list-users --marker m --max-items 3
aws kms list-keys --limit 3
aws kms list-keys --page-size 3
aws iam create-policy --policy-name p --policy-document file://~/policy.json
aws iam create-open-id-connect-provider --url https://h --client-id-list a b --thumbprint-list
aws kms encrypt --key-id k --plaintext hello --encryption-context a=b,aws:ebs:id=vol-1
aws kms encrypt --key-id k --plaintext fileb://~/bytes --encryption-context {"a":"b"}
aws kms encrypt --key-id k --plaintext file://~/text --encryption-context file://~/context
aws kms create-grant --key-id k --grantee-principal p --operations Decrypt --constraints EncryptionContextSubset={a=b}
aws kms import-key-material --key-id k --import-token fileb://~/bytes --encrypted-key-material a --valid-to 2026-01-02
aws ebs put-snapshot-block --snapshot-id s --block-index 1 --block-data ~/bytes --data-length 3 --checksum c \
--checksum-algorithm SHA256
aws ebs get-snapshot-block --snapshot-id s --block-index 1 --block-token t out
aws ebs get-snapshot-block out --snapshot-id s --block-index=1 --block-token=t
aws ebs list-snapshot-blocks --snapshot-id s --max-results 100 --next-token n
aws cloudtrail lookup-events --start-time 2026-01-02T03:04:05Z --end-time 2026-01-02T05:04:05.5+02:00
aws cloudtrail lookup-events --start-time 1767323045 --end-time 1767323045.25
aws cloudtrail lookup-events --start-time 2026-01-01T23:34:05-0330 --end-time 2026-01-02
aws cloudtrail lookup-events --lookup-attributes AttributeKey=EventName,AttributeValue=x
aws ec2 create-volume --size big
aws ec2 create-volume --size
aws ec2 create-volume stray
aws ec2 create-volume --encrypted true
aws ec2 create-volume --encrypted=true
aws ec2 create-volume --size=8 9
aws ec2 create-volume --max-items 3
aws ec2 describe-volumes --max-results 5 --page-size 5
aws ec2 describe-volumes --no-paginate --max-items 5
aws ec2 create-tags --resources a --tags Key=k, --region x
aws ec2 create-tags --resources a --tags Key=k,Key=l
aws ec2 create-tags --resources a --tags Key='k
aws ec2 create-tags --resources a --tags nonsense
aws ec2 create-tags --resources a --tags file://~/none
aws ebs get-snapshot-block --snapshot-id s --block-index 1 --block-token t
aws ebs get-snapshot-block --snapshot-id s --block-index 1 --block-token t out more
aws ebs get-snapshot-block --cli-input-json {} out
aws ebs put-snapshot-block --snapshot-id s --block-index 1 --block-data none --data-length 3 --checksum c \
--checksum-algorithm SHA256
aws ebs list-snapshot-blocks --snapshot-id s --max-items 100
aws --region
aws --output xml ec2 describe-volumes
aws ec2 CopySnapshot
""".strip().splitlines()


@pytest.mark.parametrize("line", LINES)
def test_a_line_means_what_it_means_to_the_stock_cli(asked, home, monkeypatch, line):
    words = line.split("|" if "|" in line else " ")
    monkeypatch.chdir(home)
    expected, found = stock(words, monkeypatch), ours(asked, words)
    if expected is None:
        assert isinstance(found, str), found
    else:
        assert found == expected


def served(driver):
    """The stock CLI's services and operations that the server has, too, and the sources of the latter."""
    table = driver._get_command_table()
    for service in SERVICES:
        have = {path.stem.replace("_", ""): path for path in (OPS / service).glob("*.rs")}
        for name, operation in table[service]._get_command_table().copy().items():
            if source := have.get(name.replace("-", "")):
                yield service, name, operation, source.read_text()


def test_every_option_is_known(asked, home, monkeypatch):
    """One line for each operation, with all its options: what both read is the same."""
    values = {"string": "x", "integer": "1", "long": "1", "blob": "~/bytes", "timestamp": "2026-01-02T03:04:05Z"}
    driver = clidriver.create_clidriver()
    for service, name, operation, source in served(driver):
        options = {}
        for option, argument in operation.arg_table.items():
            shape = argument.argument_model
            if option.startswith(("no-", "cli-input", "generate-")) or option in ("starting-token", "outfile"):
                continue
            if getattr(argument, "_UNDOCUMENTED", False) and option != "max-items":
                continue
            if argument.cli_type_name == "boolean":
                options[option] = []
            elif shape.type_name == "list" and shape.member.type_name in values:
                options[option] = ["x", "y"] if shape.member.type_name == "string" else ["1"]
            elif shape.type_name in ("list", "structure", "map"):
                options[option] = ["[]" if shape.type_name == "list" else "{}"]
            else:
                kind = argument.cli_type_name if argument.cli_type_name in values else shape.type_name
                options[option] = ["1" if option in ("max-items", "page-size") else values[kind]]
        while True:
            given = [word for option, words in options.items() for word in ["--" + option, *words]]
            words = ["aws", service, name, *given, *(["out"] if "outfile" in operation.arg_table else [])]
            found = ours(asked, words)
            refused = re.search(r"--(\S+): (\w+) is not supported by the server", str(found))
            if not refused:
                break
            assert re.search(rf"unsupported\([^)]*\b{refused[2]}\b", source), refused[0]
            del options[refused[1]]
        assert found == stock(words, monkeypatch, driver), words


def test_pages_are_those_of_the_stock_cli(asked, home):
    for service, name, operation, _ in served(clidriver.create_clidriver()):
        found = ours(asked, ["aws", service, name, "--max-items", "1"])
        known = "max-items" in operation.arg_table
        assert known != ("Unknown options: --max-items" in str(found)), (service, name, found)
