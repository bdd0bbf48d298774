"""Turns samples into the bytes botocore sends, and has botocore read our replies.

Reads the samples as JSON on standard input; writes below the folder that is its argument. Nothing
is sent: every request is taken out of the client just before it would be, and answered with our
reply. Time, credentials and random ids are fixed.
"""

import base64
import datetime
import io
import json
import os
import pathlib
import shutil
import sys
import uuid

for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull

import botocore.auth
import botocore.session
import botocore.signers
from botocore.awsrequest import AWSResponse
from botocore.config import Config

NOW = datetime.datetime(2026, 11, 21, 9, 30)
# Not signed, and of no meaning to the server.
LEFT_OUT = {
    "accept-encoding", "amz-sdk-invocation-id", "amz-sdk-request", "connection",
    "content-length", "user-agent",
}


def fixed_now(remove_tzinfo=True):
    return NOW if remove_tzinfo else NOW.replace(tzinfo=datetime.timezone.utc)


botocore.auth.get_current_datetime = fixed_now
botocore.signers.get_current_datetime = fixed_now
uuid.uuid4 = lambda: uuid.UUID("2f1f0e9e-0000-4000-8000-000000000002")


class Raw(io.BytesIO):
    def stream(self, **_):
        yield self.read()


def given(shape, value):
    """A parameter as botocore takes it: bytes are bytes."""
    if shape.type_name == "structure":
        return {name: given(shape.members[name], item) for name, item in value.items()}
    if shape.type_name == "list":
        return [given(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: given(shape.value, item) for key, item in value.items()}
    return base64.b64decode(value) if shape.type_name == "blob" else value


def plain(value):
    """What botocore read, as our JSON has it. Absent and empty are one to most clients."""
    if isinstance(value, dict):
        items = ((key, plain(item)) for key, item in value.items() if key != "ResponseMetadata")
        return {key: item for key, item in items if item not in ([], {})}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return plain(value.read()) if hasattr(value, "read") else value


def file_of(request):
    target = request.url.split("/", 3)
    target = "/" + (target[3] if len(target) > 3 else "")
    if target.startswith("/?"):
        target = "/" + target[1:]
    lines = [f"{request.method} {target}"]
    for name, value in sorted(request.headers.items()):
        if name.lower() not in LEFT_OUT:
            value = value.decode() if isinstance(value, bytes) else value
            lines.append(f"{name}: {value}")
    if not any(line.lower().startswith("host: ") for line in lines):
        lines.append("Host: " + request.url.split("/")[2])
    body = request.body or b""
    if hasattr(body, "read"):
        body = body.read()
    body = body.encode() if isinstance(body, str) else bytes(body)
    return "\n".join(lines).encode() + b"\n\n" + body


class Client:
    def __init__(self, session, service, sample):
        self.client = session.create_client(
            service,
            region_name="us-east-1",
            aws_access_key_id=sample["access_key_id"],
            aws_secret_access_key=sample["secret_key"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        self.client.meta.events.register("before-send." + service, self.instead_of_sending)

    def instead_of_sending(self, request, **_):
        self.sent = file_of(request)
        headers = dict(self.sample["headers"])
        body = base64.b64decode(self.sample["body"])
        headers["Content-Length"] = str(len(body))
        return AWSResponse(request.url, self.sample["status"], headers, Raw(body))

    def call(self, sample):
        self.sample = sample
        model = self.client.meta.service_model.operation_model(sample["operation"])
        shape = model.input_shape
        parameters = given(shape, sample["request"]) if shape else {}
        return self.client._make_api_call(sample["operation"], parameters)


def main():
    root = pathlib.Path(sys.argv[1])
    samples = json.load(sys.stdin)
    for folder in root.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    session, clients, values, failures = botocore.session.Session(), {}, {}, []
    for sample in samples:
        service, operation, case = sample["service"], sample["operation"], sample["case"]
        if service not in clients:
            clients[service] = Client(session, service, sample)
        client = clients[service]
        try:
            read = plain(client.call(sample))
        except Exception as error:
            failures.append(f"{service} {operation} {case}: {error}")
            continue
        if read != plain(sample["reply"]):
            failures.append(f"{service} {operation} {case}: we meant\n{plain(sample['reply'])}"
                            f"\nbotocore read\n{read}")
        folder = root / service / operation
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case}.http").write_bytes(client.sent)
        (folder / f"{case}.reply.http").write_bytes(base64.b64decode(sample["file"]))
        kept = {"request": sample["request"], "reply": sample["reply"]}
        values.setdefault(folder, {})[case] = kept
    for folder, cases in values.items():
        (folder / "values.json").write_text(json.dumps(cases), encoding="utf-8")
    if failures:
        sys.exit("\n\n".join(failures))


main()
