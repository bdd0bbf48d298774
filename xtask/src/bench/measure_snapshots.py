"""Times snapshots and copies through the public API, as a client sees them.

Usage: measure_snapshots.py ENDPOINT ACCESS_KEY SECRET_KEY DATA_DIR HOST PID ROUNDS

Prints a JSON object of lists, one value a round: seconds for names ending in "_s", and for the copy
under another key its bytes and the server's processor seconds.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import boto3
from botocore.config import Config

endpoint, access_key, secret_key, data_dir, host, pid, rounds = sys.argv[1:8]
REGION = "us-east-1"
GIB = 1 << 30
TICKS_PER_SECOND = 100
SECONDS_MAX = 600


def client(service):
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


ec2, kms = client("ec2"), client("kms")
results = {}


def note(name, value):
    results.setdefault(name, []).append(value)
    print(f"{name}: {value:.4f}", file=sys.stderr)


def wait(check):
    end = time.monotonic() + SECONDS_MAX
    while not check():
        assert time.monotonic() < end, "a state was not reached in time"
        time.sleep(0.01)


def volume_is(volume, state):
    return lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == state


def snapshot_done(snapshot):
    def done():
        found = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        assert found["State"] != "error", found
        return found["State"] == "completed"

    return done


def processor_seconds():
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def volume(size_gib, device, key):
    made = ec2.create_volume(
        AvailabilityZone=REGION + "a", Size=size_gib, Encrypted=True, KmsKeyId=key
    )["VolumeId"]
    wait(volume_is(made, "available"))
    ec2.attach_volume(VolumeId=made, InstanceId=host, Device=device)
    wait(volume_is(made, "in-use"))
    name = device.removeprefix("/dev/")
    return made, f"nbd+unix:///?socket={data_dir}/attach/{host}/{name}.sock"


def write(uri, *arguments):
    fio = ["fio", "--name=fill", "--ioengine=nbd", f"--uri={uri}", "--iodepth=8", "--end_fsync=1"]
    subprocess.run([*fio, "--refill_buffers", *arguments], check=True, stdout=subprocess.DEVNULL)


def timed_snapshot(volume, name):
    start = time.monotonic()
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    note(f"{name}_call_s", time.monotonic() - start)
    wait(snapshot_done(snapshot))
    note(f"{name}_complete_s", time.monotonic() - start)
    return snapshot


def timed_copy(snapshot, name, **options):
    start = time.monotonic()
    made = ec2.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=snapshot, **options)
    wait(snapshot_done(made["SnapshotId"]))
    note(f"{name}_s", time.monotonic() - start)


def main():
    key, other = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    for number in range(int(rounds)):
        letter = chr(ord("f") + number * 2)
        small, small_uri = volume(1, f"/dev/sd{letter}", key)
        write(small_uri, "--rw=write", "--bs=1m", "--size=1g")
        small_snapshot = timed_snapshot(small, "full_1gib")

        large, large_uri = volume(1024, f"/dev/sd{chr(ord(letter) + 1)}", key)
        scattered = ["--rw=randwrite", "--bs=512k", "--norandommap", f"--randseed={number}"]
        write(large_uri, *scattered, "--size=1t", "--io_size=1g")
        large_snapshot = timed_snapshot(large, "sparse_1tib")
        write(large_uri, *scattered, "--size=1t", "--io_size=64m")
        timed_snapshot(large, "incremental_1tib")

        timed_copy(small_snapshot, "same_key_1gib", Encrypted=True, KmsKeyId=key)
        timed_copy(large_snapshot, "same_key_1tib", Encrypted=True, KmsKeyId=key)
        before = processor_seconds()
        timed_copy(small_snapshot, "other_key_1gib", Encrypted=True, KmsKeyId=other)
        note("other_key_processor", processor_seconds() - before)
        for volume_id in (small, large):
            ec2.detach_volume(VolumeId=volume_id)
            wait(volume_is(volume_id, "available"))
            ec2.delete_volume(VolumeId=volume_id)
    print(json.dumps(results))


main()
