# SPDX-License-Identifier: Apache-2.0
"""Creates the initramfs of the VM from installed Debian packages: busybox, nvme-cli, fio, file system tools with their
libraries, and the modules of the newest kernel in /boot."""

import hashlib
import os
import pathlib
import re
import shutil
import stat
import subprocess

INIT = pathlib.Path(__file__).with_name("init.sh")
PROGRAMS = ["nvme", "fio", "mkfs.ext4", "e2fsck", "resize2fs"]
MODULES = ["virtio_pci", "virtio_net", "virtio_blk", "nvme", "nvme-tcp", "nvmet-tcp", "null_blk", "ext4", "shpchp",
           "crc32c_generic"]
SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class MissingError(RuntimeError):
    """Raised if a required package is not installed."""


def find_kernel():
    """Returns (path of the kernel, its version): the newest in /boot whose modules are installed."""
    kernels = [(tuple(int(n) for n in re.findall(r"\d+", path.name)), path)
               for path in pathlib.Path("/boot").glob("vmlinuz-*-amd64")
               if (pathlib.Path("/lib/modules") / path.name.removeprefix("vmlinuz-")).is_dir()]
    if not kernels:
        raise MissingError("no kernel in /boot: install linux-image-amd64 (scripts/setup)")
    path = max(kernels)[1]
    return path, path.name.removeprefix("vmlinuz-")


def module_files(version):
    """Returns the files of MODULES and of their dependencies, in the order in which to load them."""
    files = []
    for module in MODULES:
        result = subprocess.run(["modprobe", "-S", version, "--show-depends", module], capture_output=True, text=True,
                                env={**os.environ, "PATH": SEARCH_PATH})
        if result.returncode != 0:
            raise MissingError(f"kernel module {module}: {result.stderr.strip()}")
        for line in result.stdout.splitlines():
            words = line.split()
            if words and words[0] == "insmod" and words[1] not in files:
                files.append(words[1])
    return files


def program_path(name):
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise MissingError(f"{name} is not installed (scripts/setup)")
    return path


def libraries_of(programs):
    """Returns the shared libraries of the programs, including the loader."""
    output = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"(/\S+\.so\S*)(?: \(0x)", output)))


class Archive:
    """An archive in cpio's "newc" format, which the kernel unpacks (Documentation/driver-api/early-userspace)."""

    def __init__(self, file):
        self._file = file
        self._inode = 0
        self._folders = set()

    def _entry(self, name, mode, data=b"", device=(0, 0)):
        self._inode += 1
        name_bytes = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, 0, len(data), 0, 0, *device,
                  len(name_bytes), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._write_padded(header + name_bytes)
        self._write_padded(data)

    def _write_padded(self, data):
        self._file.write(data)
        self._file.write(b"\0" * (-len(data) % 4))

    def folder(self, name):
        """Adds a folder and its parents."""
        if name and name not in self._folders:
            self.folder(name.rpartition("/")[0])
            self._folders.add(name)
            self._entry(name, stat.S_IFDIR | 0o755)

    def data(self, name, data, mode=0o644):
        self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name, to):
        self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFLNK | 0o777, to.encode())

    def device(self, name, major, minor):
        self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def close(self):
        self._entry("TRAILER!!!", 0)


def content(version):
    """Returns [(name in the archive, source file)] of everything that is copied."""
    programs = [program_path(name) for name in PROGRAMS]
    files = [("bin/busybox", program_path("busybox"))]
    files += [("bin/" + pathlib.Path(path).name, path) for path in programs]
    files += [(path.lstrip("/"), path) for path in libraries_of(programs)]
    files += [("modules/" + pathlib.Path(path).name, path) for path in module_files(version)]
    return files


def build(cache_dir):
    """Returns (kernel, initramfs). Builds the initramfs unless one with exactly these contents exists."""
    kernel, version = find_kernel()
    files = content(version)
    digest = hashlib.sha256(INIT.read_bytes() + pathlib.Path(__file__).read_bytes())
    for name, path in files:
        status = os.stat(path)
        digest.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    cache_dir.mkdir(parents=True, exist_ok=True)
    image = cache_dir / f"initramfs-{digest.hexdigest()[:16]}.cpio"
    if not image.exists():
        unfinished = cache_dir / f"{image.name}.{os.getpid()}"
        with open(unfinished, "wb") as file:
            write_archive(Archive(file), files)
        unfinished.rename(image)
    return kernel, image


def write_archive(archive, files):
    for folder in ("dev", "proc", "sys", "tmp", "run", "mnt", "etc/nvme", "lib64"):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.data("init", INIT.read_bytes(), 0o755)
    archive.data("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
    archive.data("etc/mtab", b"")
    names = {name for name, _ in files}
    applets = subprocess.run([program_path("busybox"), "--list"], check=True, capture_output=True, text=True).stdout
    for applet in applets.split():
        if f"bin/{applet}" not in names:
            archive.link(f"bin/{applet}", "busybox")
    for name, path in files:
        archive.data(name, pathlib.Path(path).read_bytes(), 0o755)
    order = [name.removeprefix("modules/") for name in (n for n, _ in files) if name.startswith("modules/")]
    archive.data("modules/order", "\n".join(order).encode() + b"\n")
    archive.close()
