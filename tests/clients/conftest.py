"""Real clients against the real binary: one server a module, on a free port, in its own directory.

A client that is not installed skips its tests on a developer's machine and fails them in CI.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

BINARY = os.environ["STRONGROOM_BINARY"]
READY = re.compile(r"https?://[0-9.:]+")


def missing(message):
    """Skips a test for want of something; in CI, where nothing may be left out, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def require(program):
    """The path of a program, or a skip (a failure in CI) that names it."""
    path = shutil.which(program)
    if path is None:
        missing(f"{program} is not installed")
    return path


def certificates(directory):
    """A certificate authority of our own, and a key and certificate of 127.0.0.1."""
    openssl = require("openssl")
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    private, request, cert = (directory / name for name in ("tls.key", "tls.csr", "tls.pem"))
    (directory / "ext").write_text(
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for arguments in (
        [*new, "-x509", "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=test CA"],
        [*new, "-keyout", private, "-out", request, "-subj", "/CN=server"],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
         "-out", cert, "-days", "2", "-extfile", directory / "ext"],
    ):  # fmt: skip
        subprocess.run([openssl, *arguments], check=True, capture_output=True)
    return ca, private, cert


class Account:
    """An account's credentials and the ways to use them."""

    def __init__(self, server, account_id, access_key, secret_key, session_token=None):
        self.server, self.id = server, account_id
        self.access_key, self.secret_key, self.session_token = access_key, secret_key, session_token

    def env(self, region="us-east-1"):
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.server.dir),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.server.url,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_PAGER": "",
        }
        if self.session_token:
            env["AWS_SESSION_TOKEN"] = self.session_token
        return env

    def aws(self, *arguments, region="us-east-1", fails=None):
        """Runs the stock aws CLI; returns its JSON, or asserts that it fails with `fails`."""
        aws = [sys.executable, "-m", "awscli", *arguments, "--output", "json"]
        done = subprocess.run(aws, env=self.env(region), capture_output=True, text=True, timeout=120)
        if fails is not None:
            assert done.returncode != 0, f"aws {' '.join(arguments)} succeeded: {done.stdout}"
            assert re.search(fails, done.stderr), f"expected {fails!r} in: {done.stderr}"
            return done.stderr
        assert done.returncode == 0, f"aws {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def client(self, service, region="us-east-1"):
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self.server.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            aws_session_token=self.session_token,
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=True),
        )

    def user(self, name, *statements):
        """A new user of this account with one inline policy."""
        iam = self.client("iam")
        iam.create_user(UserName=name)
        if statements:
            self.user_policy(name, *statements)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return Account(self.server, self.id, key["AccessKeyId"], key["SecretAccessKey"])

    def user_policy(self, name, *statements):
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        self.client("iam").put_user_policy(
            UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy)
        )


class Server:
    """A `strongroom serve` of our own."""

    def __init__(self, directory, *arguments):
        self.dir = Path(directory)
        self.data = self.dir / "data"
        self.arguments = list(arguments)
        self.process = None
        self.listen = "127.0.0.1:0"
        self.start()

    def start(self):
        self.log = open(self.dir / "server.log", "a")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data-dir", str(self.data), "--listen", self.listen, *self.arguments],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        line = self.process.stdout.readline()
        match = READY.search(line)
        assert match, f"no ready line but {line!r}; log: {(self.dir / 'server.log').read_text()}"
        self.url = match.group(0)
        # A restart keeps the address, as clients expect.
        self.listen = self.url.split("://")[1]

    def stop(self):
        """SIGTERM; the server must end cleanly by itself."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        self.process.stdout.close()
        self.log.close()
        return code

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.log.close()

    def admin(self, *arguments):
        done = subprocess.run(
            [BINARY, "admin", "--data-dir", str(self.data), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def admin_trail(self, *arguments):
        """Records of the trail."""
        command = [BINARY, "trail", "--data-dir", str(self.data), "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def account(self, name=""):
        made = json.loads(self.admin("account", "create", "--name", name, "--json"))
        return Account(self, made["AccountId"], made["AccessKeyId"], made["SecretAccessKey"])

    def host(self, account, az="us-east-1a"):
        made = self.admin("host", "create", "--account", account.id, "--az", az, "--json")
        return json.loads(made)["InstanceId"]

    def socket(self, instance, device):
        return self.data / "attach" / instance / f"{device.rsplit('/')[-1]}.sock"


@pytest.fixture(scope="module")
def server():
    # Unix socket paths are short: not below a deep temporary directory.
    with tempfile.TemporaryDirectory(prefix="sr-") as directory:
        server = Server(directory)
        yield server
        assert server.stop() == 0, (Path(directory) / "server.log").read_text()


@pytest.fixture(scope="module")
def own_server():
    """Makes servers with arguments of the test's own choice; stops them at the end."""
    made = []
    with tempfile.TemporaryDirectory(prefix="sr-") as directory:

        def make(*arguments):
            home = Path(directory) / str(len(made))
            home.mkdir()
            made.append(Server(home, *arguments))
            return made[-1]

        yield make
        for server in made:
            if server.process.poll() is None:
                server.stop()


def eventually(check, seconds=60):
    """Polls until `check` returns something true; returns it."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"still not after {seconds} s: {check}"
        time.sleep(0.1)
