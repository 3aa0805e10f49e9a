# SPDX-License-Identifier: Apache-2.0
"""A QEMU with a vfio-user client (10.1 or later), which Debian 12 does not have. It is downloaded from a later suite of
the mirror that apt uses on this machine, and is unpacked into a separate folder: nothing is installed. About 50 MB are
downloaded once. As a program: creates FOLDER unless it exists."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

DEVICE = "vfio-user-pci"
PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Suites to try in this order; each entry has the suite with QEMU, and the one with its dependencies if that differs.
SUITES = [("trixie-backports", "trixie"), ("sid",)]
LIBRARIES = "usr/lib/x86_64-linux-gnu"
FIRMWARE = ["usr/share/qemu", "usr/share/seabios"]
NOT_NEEDED = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "var"]

# Uses the machine's apt settings, such as a proxy, except for sources, states and caches, and without hooks.
APT_SETTINGS = """\
Dir::Etc::sourcelist "{work}/sources.list";
Dir::Etc::sourceparts "{work}/none";
Dir::Etc::preferences "{work}/none";
Dir::Etc::preferencesparts "{work}/none";
Dir::State "{work}/state";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
Dir::Log "{work}";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
"""


class MissingError(RuntimeError):
    """Raised if no such QEMU is installed or can be downloaded."""


@dataclasses.dataclass(frozen=True)
class Qemu:
    """A QEMU and how to run it."""
    command: list[str]
    env: dict[str, str]


def run(command, **options):
    """Returns the output. Raises MissingError with the end of the output on failure."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise MissingError(f"{command[0]}: {' '.join(done.stdout.split()[-60:]) or done.returncode}")
    return done.stdout


def has_device(qemu):
    """Returns true if it runs and supports vfio-user-pci."""
    done = subprocess.run([*qemu.command, "-device", f"{DEVICE},help"], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, env={**os.environ, **qemu.env})
    return done.returncode == 0 and "socket=" in done.stdout


def in_tree(tree):
    """Returns the QEMU unpacked in this tree, run with the tree's loader, libraries, modules and firmware."""
    libraries = tree / LIBRARIES
    firmware = [argument for folder in FIRMWARE for argument in ("-L", str(tree / folder))]
    return Qemu([str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries),
                 str(tree / "usr/bin" / PROGRAM), *firmware], {"QEMU_MODULE_DIR": str(libraries / "qemu")})


def mirrors():
    """Returns the addresses of the Debian mirrors that apt uses for this machine's release."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    targets = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(CODENAME) $(COMPONENT) $(REPO_URI)",
                   "Created-By: Packages"])
    found = re.findall(rf"^(?:{re.escape(codename)} \S*|\S+ {re.escape(codename)}) main (\S+)$", targets, re.MULTILINE)
    if not codename or not found:
        raise MissingError("apt's sources name no mirror of this Debian")
    return list(dict.fromkeys(found))


def download(work, mirror, suites):
    """Downloads the packages and all dependencies, independent of what is installed; returns the files."""
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text("".join(
        f"deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n" for suite in suites))
    settings = work / "apt.conf"
    settings.write_text(APT_SETTINGS.format(work=work))
    run(["apt-get", "-c", settings, "--error-on=any", "update"])
    run(["apt-get", "-c", settings, "--yes", "--download-only", "--target-release", suites[0], "install", PACKAGE])
    return sorted((work / "cache/archives").glob("*.deb"))


def unpack(packages, tree):
    tree.mkdir()
    for package in packages:
        run(["dpkg-deb", "--extract", package, tree])
    for folder in NOT_NEEDED:
        shutil.rmtree(tree / folder, ignore_errors=True)


def fetch(folder):
    """Creates `folder` with a QEMU from the first suite that has one."""
    work = folder.with_name(folder.name + ".work")
    failures = []
    try:
        for mirror in mirrors():
            for suites in SUITES:
                try:
                    unpack(download(work, mirror, suites), work / "tree")
                    if not has_device(in_tree(work / "tree")):
                        raise MissingError(f"it has no {DEVICE}")
                except MissingError as error:
                    failures.append(f"{suites[0]}: {error}")
                    continue
                (work / "tree").rename(folder)
                return
        raise MissingError("; ".join(failures))
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def locked(path):
    """Ensures that only one program at a time prepares the folder."""
    with open(path, "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find(folder):
    """Returns the QEMU to use: the installed one if it is new enough, otherwise the one in `folder`, which is
    downloaded if it does not exist. Raises MissingError with the reason if there is none."""
    own = Qemu([PROGRAM], {})
    if shutil.which(PROGRAM) and has_device(own):
        return own
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise MissingError(f"there is no {tool} here")
    if platform.machine() != "x86_64":
        raise MissingError(f"not for {platform.machine()}")
    folder = pathlib.Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(folder.name + ".lock")):
        if not folder.exists():
            fetch(folder)
    return in_tree(folder)


if __name__ == "__main__":
    try:
        find(sys.argv[1])
    except MissingError as error:
        sys.exit(f"no QEMU with {DEVICE}: {error}")
