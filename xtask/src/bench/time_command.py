"""Runs a command and prints its wall-clock and processor seconds as JSON."""

import json
import resource
import subprocess
import sys
import time

start = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
wall = time.monotonic() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"wall": wall, "processor": used.ru_utime + used.ru_stime}))
