# SPDX-License-Identifier: Apache-2.0
"""The volumes of the real worlds, their contents, and the storage nodes that have them.

    node a, 127.0.0.2 and 127.0.0.3:  subsystem a1 with volumes 1 (clear) and 2 (encrypted), a2 with 3 (clear)
    node b, 127.0.0.4 and 127.0.0.5:  subsystem b1 with volumes 4 (encrypted) and 5 (clear); it refers to node a
    iSCSI, one portal:                volumes 6 (clear) and 7 (encrypted)
    the target's own disks:           volumes 8, 9 (clear), 10, 11 (encrypted); OPERATORS are the operator's disks

The discovery service of a node lists all its subsystems at all its addresses.
"""

import functools
import hashlib
import uuid

from harness import wire, xts
from harness.agent import free_port
from harness.iscsi_target import IscsiTarget
from harness.remote import ExportingTarget, address, attach_request

SIZE = 1 << 20
SECTOR = 512
NODE_BLOCK, ISCSI_BLOCK = 4096, 512
NODES = {"a": ("127.0.0.2", "127.0.0.3"), "b": ("127.0.0.4", "127.0.0.5")}
SUBSYSTEMS = {"a1": (1, 2), "a2": (3,), "b1": (4, 5)}
ISCSI = (6, 7)
LOCAL = (8, 9, 10, 11)
VOLUMES = range(1, 12)
OPERATORS = (20, 21, 22, 23)
ENCRYPTED = {2, 4, 7, 10, 11}
AGENTS_HOST = "nqn.2016-06.io.spdk:agents-host"


def uuid_of(number):
    """Returns the UUID of a disk. A virtio-blk disk shows only the first 20 characters of it."""
    return uuid.UUID(int=(0x7E000000 + number << 96) + (0x4000 << 64) + (0x8000 << 48))


NUMBERS = {uuid_of(number): number for number in (*VOLUMES, *OPERATORS)}


def subsystem_of(number):
    """Returns the name of the subsystem that has a volume; None if it is not on a node."""
    return next((name for name, volumes in SUBSYSTEMS.items() if number in volumes), None)


def block_size_of(number):
    return ISCSI_BLOCK if number in ISCSI else NODE_BLOCK


def keys_of(number):
    return tuple(hashlib.sha256(f"key {which} {number}".encode()).hexdigest()[:32] for which in (1, 2))


@functools.cache
def contents(number):
    """Returns what a host reads from a disk. Each sector differs from all others of all disks."""
    return b"".join(hashlib.sha256(f"{number}/{sector}".encode()).digest() * (SECTOR // 32)
                    for sector in range(SIZE // SECTOR))


@functools.cache
def medium(number):
    """Returns what is stored on the medium of a disk."""
    if number not in ENCRYPTED:
        return contents(number)
    key = bytes.fromhex("".join(keys_of(number)))
    return xts.encrypt_blocks(key, "SIMPLE_LBA", 0, contents(number), block_size_of(number))


@functools.cache
def _sectors():
    return {data[at:at + SECTOR]: name
            for number in (*VOLUMES, *OPERATORS)
            for name, data in ((f"disk {number}", contents(number)), (f"the cipher text of {number}", medium(number)))
            for at in range(0, SIZE, SECTOR)
            if name[0] == "d" or number in ENCRYPTED}


def describe(data):
    """Says whose bytes these are."""
    return _sectors().get(bytes(data[:SECTOR]), f"unknown bytes {bytes(data[:8]).hex()}...")


def crypto_of(number):
    """Returns the crypto parameters of a volume; None if it is clear."""
    if number not in ENCRYPTED:
        return None
    key, key2 = keys_of(number)
    return wire.sma.VolumeCryptoParameters(key=key.encode(), key2=key2.encode(), cipher="AES_XTS",
                                           tweak_mode="TWEAK_MODE_SIMPLE_LBA")


class Storage:
    """The nodes and the iSCSI portal. A context manager."""

    def __init__(self, bin_dir, work_dir):
        self._work_dir = work_dir
        self.port = {name: free_port() for name in NODES}
        self.stopped = set()  # names of the neighbours that are stopped with SIGSTOP
        self.dead = set()
        for number in (*VOLUMES, *OPERATORS):
            self.file(number).write_bytes(medium(number))
        self.nodes = {name: ExportingTarget(bin_dir, work_dir, name=f"node-{name}") for name in NODES}
        self.portal = IscsiTarget(work_dir)
        for index in range(len(ISCSI)):
            self.portal.make_lun(index, size_mib=1)
        for name, volumes in SUBSYSTEMS.items():
            self._export(name, volumes)
        for host in NODES["a"]:
            self.nodes["b"].export_call("nvmf_discovery_add_referral", address=address(self.port["a"], host))

    def _export(self, name, volumes):
        node, nqn = self.nodes[name[0]], self.nqn(name)
        for number in volumes:
            node.export_call("bdev_aio_create", name=f"disk-{number}", filename=str(self.file(number)),
                             block_size=NODE_BLOCK, uuid=str(uuid_of(number)))
        node.export_call("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
        for number in volumes:
            node.export_call("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": f"disk-{number}"})
        for host in NODES[name[0]]:
            node.listen(nqn, self.port[name[0]], host)

    def nqn(self, name):
        return f"nqn.2016-06.io.spdk:real-{name}"

    def file(self, number):
        """Returns the path of a disk's medium."""
        if number in ISCSI:
            return self._work_dir / f"lun{ISCSI.index(number)}.img"
        return self._work_dir / f"disk-{number}.img"

    def damaged(self):
        """Returns the disks whose media no longer have their contents."""
        return [number for number in (*VOLUMES, *OPERATORS) if self.file(number).read_bytes() != medium(number)]

    def neighbour(self, name):
        return self.portal if name == "iscsi" else self.nodes[name]

    def stop(self, name):
        if name not in self.dead | self.stopped:
            self.neighbour(name).process.pause()
            self.stopped.add(name)

    def kill(self, name):
        if name not in self.dead:
            self.neighbour(name).kill()
            self.stopped.discard(name)
            self.dead.add(name)

    def bring_back(self, name):
        if name in self.stopped:
            self.neighbour(name).process.resume()
            self.stopped.discard(name)
        if name in self.dead:
            if name == "iscsi":
                self.portal.start()
            else:
                self.nodes[name].restart()
            self.dead.discard(name)

    def bring_all_back(self):
        for name in sorted(self.stopped | self.dead):
            self.bring_back(name)

    def request(self, handle, number, how):
        """Returns the request that attaches a volume. `how`: for a volume on a node "discovery", "direct" or
        "referral", and the indices of its node's addresses, such as "direct 01"."""
        message = attach_request(handle, uuid_of(number))
        parameters = message.volume
        if number in ENCRYPTED:
            parameters.crypto.CopyFrom(crypto_of(number))
        if number in ISCSI:
            parameters.iscsi.portal, parameters.iscsi.lun = f"127.0.0.1:{self.portal.port}", 1
            parameters.iscsi.target_iqn = f"iqn.2016-06.io.tgt:disk{ISCSI.index(number)}"
            parameters.iscsi.initiator_iqn = "iqn.2016-06.io.spdk:agent"
        elif (name := subsystem_of(number)) is not None:
            way, _, indices = how.partition(" ")
            node = "b" if way == "referral" else name[0]
            parameters.nvmf.hostnqn = AGENTS_HOST
            for index in indices:
                place = {"trtype": "tcp", "traddr": NODES[node][int(index)], "trsvcid": str(self.port[node])}
                if way == "direct":
                    parameters.nvmf.direct.addresses.add(**place)
                else:
                    parameters.nvmf.discovery.discovery_endpoints.add(**place)
            if way == "direct":
                parameters.nvmf.subnqn = self.nqn(name)
        return message

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in [*NODES, "iscsi"]:
            self.neighbour(name).kill()
