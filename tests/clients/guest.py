"""A Linux guest under QEMU without hardware help: Debian's kernel, busybox, and the tools of a job.

The guest has no disk of its own. Its root is an archive in memory that holds what a job needs; the
job is a shell script that speaks to the test on the serial console, in lines that begin with "SR ".
"""

import gzip
import io
import lzma
import os
import queue
import re
import shutil
import stat
import subprocess
import threading
import time
from pathlib import Path

from conftest import BINARY, missing, require

# The newest kernel of Debian bookworm's security archive that has a ublk driver.
KERNEL = re.compile(r"^linux-image-6\.12\.(\d+)\+deb12-cloud-amd64(-unsigned)?$")
CACHE = Path(BINARY).resolve().parents[1] / "guest"

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt /run /tmp /etc /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/sbin:/bin HOME=/
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
ln -s /proc/mounts /etc/mtab
ip link set lo up
for module in $(cat /modules/order); do insmod /modules/$module.ko || echo "SR failed insmod $module"; done
echo "SR up $(cut -d" " -f1 /proc/uptime)"
. /job
echo "SR off"
poweroff -f
"""


def kernel():
    """The unpacked kernel package, fetched once with the machine's own package manager."""
    require("qemu-system-x86_64")
    unpacked = sorted(CACHE.glob("kernel/boot/vmlinuz-*"))
    if unpacked:
        return unpacked[-1]
    for tool in ["apt-cache", "apt-get", "dpkg-deb"]:
        require(tool)
    names = subprocess.run(
        ["apt-cache", "pkgnames", "linux-image-6.12."], capture_output=True, text=True, timeout=120
    ).stdout.split()
    found = sorted((int(m.group(1)), m.group(0)) for m in map(KERNEL.match, names) if m)
    if not found:
        missing("no package linux-image-6.12.*+deb12-cloud-amd64; apt-get update finds it on Debian 12")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Several test processes may want it at once; each unpacks by itself and the first one wins.
    work = CACHE / f"kernel.{os.getpid()}"
    work.mkdir()
    done = subprocess.run(
        ["apt-get", "download", found[-1][1]], cwd=work, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        shutil.rmtree(work)
        missing(f"apt-get download {found[-1][1]}: {done.stderr}")
    package = next(work.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=work, check=True, timeout=300)
    package.unlink()
    try:
        work.rename(CACHE / "kernel")
    except OSError:
        shutil.rmtree(work)
    return sorted(CACHE.glob("kernel/boot/vmlinuz-*"))[-1]


class Root:
    """The archive the guest starts from (cpio, format newc)."""

    def __init__(self):
        self.bytes, self.number, self.made = io.BytesIO(), 0, set()

    def add(self, path, content, mode):
        for parent in reversed(Path(path).parents):
            if str(parent) not in (".", "/") and parent not in self.made:
                self.made.add(parent)
                self.entry(str(parent), b"", stat.S_IFDIR | 0o755)
        self.entry(path, content, mode)

    def entry(self, path, content, mode):
        self.number += 1
        name = path.lstrip("/").encode() + b"\0"
        fields = [self.number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        for part in (header + name, content):
            self.bytes.write(part)
            self.bytes.write(b"\0" * (-self.bytes.tell() % 4))

    def file(self, path, content, mode=0o755):
        self.add(path, content, stat.S_IFREG | mode)

    def program(self, path):
        """A program of this machine with the libraries it needs, each where it is here."""
        path = Path(path).resolve()
        if path in self.made:
            return
        self.made.add(path)
        self.file(f"/sbin/{path.name}", path.read_bytes())
        self.libraries(path)

    def libraries(self, path):
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, timeout=60).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            if library not in self.made:
                self.made.add(library)
                self.file(library, Path(library).read_bytes())

    def modules(self, image, wanted):
        folder = image.parents[1] / "lib/modules" / image.name.removeprefix("vmlinuz-")
        files = {p.name.split(".")[0].replace("-", "_"): p for p in folder.rglob("*.ko*")}
        order = []

        def load(name):
            name = name.replace("-", "_")
            # What is not a module is built in.
            if name in order or name not in files:
                return
            packed = files[name].read_bytes()
            content = lzma.decompress(packed) if files[name].suffix == ".xz" else packed
            depends = re.search(rb"\0?depends=([^\0]*)\0", content)
            for other in filter(None, depends.group(1).decode().split(",")):
                load(other)
            order.append(name)
            self.file(f"/modules/{name}.ko", content, 0o644)

        for name in wanted:
            load(name)
        self.file("/modules/order", "\n".join(order).encode(), 0o644)

    def archive(self):
        self.entry("TRAILER!!!", b"", 0)
        return gzip.compress(self.bytes.getvalue(), compresslevel=1)


class Guest:
    """A running guest. Lines of its job come back from `line` without their mark."""

    def __init__(self, home, job, arguments, modules, programs=(), linked=(), megabytes=384):
        self.image = kernel()
        self.home = Path(home)
        root = Root()
        root.file("/bin/busybox", Path(require("busybox")).read_bytes())
        root.modules(self.image, modules)
        for program in programs:
            root.program(program)
        for program in linked:
            root.libraries(program)
        root.file("/init", INIT.encode())
        root.file("/job", job.encode())
        archive = self.home / "root.gz"
        archive.write_bytes(root.archive())
        command = [
            require("qemu-system-x86_64"),
            *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"),
            *("-machine", "q35,memory-backend=ram", "-nodefaults", "-no-user-config"),
            *("-object", f"memory-backend-memfd,id=ram,share=on,size={megabytes}M"),
            *("-m", f"{megabytes}M", "-display", "none", "-serial", "stdio", "-no-reboot"),
            *("-kernel", self.image, "-initrd", archive),
            *("-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable"),
            *arguments,
        ]
        self.command = [str(part) for part in command]
        self.log = open(self.home / "console.log", "a+")
        # A processor of an emulated machine sometimes never sees its first timers. The kernel says so; nothing
        # but the emulator has a part in it, and no disk was written yet.
        for _ in range(3):
            if self.boots():
                return
            self.kill()
            assert "Possible timer handling issue on cpu" in self.console(), self.console()
        raise AssertionError(f"the guest does not come up:\n{self.console()}")

    def boots(self):
        """Switches the guest on. Whether it came up; one that ends before is left to who asks for its lines."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.lines = queue.Queue()
        heard = threading.Event()
        threading.Thread(target=self.listen, args=(self.process, self.lines, heard), daemon=True).start()
        return heard.wait(timeout=120)

    def listen(self, process, lines, heard):
        for line in process.stdout:
            self.log.write(line)
            self.log.flush()
            found = re.search(r"SR ([^\r\n]*)[\r\n]", line)
            if found:
                lines.put(found.group(1))
                heard.set()
        lines.put(None)
        heard.set()

    def line(self, seconds=120):
        """The job's next line, or None when the guest has ended."""
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            self.kill()
            raise AssertionError(f"the guest is silent:\n{self.console()}") from None
        assert line is None or not line.startswith("failed"), f"{line}\n{self.console()}"
        return line

    def until(self, start, seconds=120):
        """The lines up to the first one that begins with `start`, that one included."""
        lines = []
        while True:
            line = self.line(seconds)
            assert line is not None, f"the guest ended before {start!r}:\n{self.console()}"
            lines.append(line)
            if line.startswith(start):
                return lines

    def heard(self):
        """The lines that have come already."""
        return [self.line() for _ in range(self.lines.qsize())]

    def rest(self):
        """The lines left when the guest has ended."""
        lines = []
        while (line := self.line()) is not None:
            lines.append(line)
        return lines

    def console(self):
        return (self.home / "console.log").read_text(errors="replace")[-6000:]

    def kill(self):
        """The plug is pulled."""
        self.process.kill()
        self.process.wait(timeout=60)

    def end(self):
        """Waits for the guest to switch itself off."""
        rest = self.rest()
        assert self.process.wait(timeout=60) == 0, self.console()
        assert rest[-1:] == ["off"], self.console()
        return rest[:-1]
