# SPDX-License-Identifier: Apache-2.0
"""An operator of the agent's target, with a ledger of what it made there: objects of its own, some with the names and
numbers that the agent's devices have, and objects in the agent's subsystems."""

import dataclasses
import time

from fault.real_storage import AGENTS_HOST, NODES, OPERATORS, subsystem_of, uuid_of
from harness.jsonrpc import RpcError
from harness.remote import address

OPERATORS_HOST = "nqn.2016-06.io.spdk:operators-host"
OWN_NQN = "nqn.2016-06.io.spdk:operators"
OWN_NSID = 7


def disk(number):
    return f"operators-{number}"


@dataclasses.dataclass
class Subsystem:
    """What a subsystem has."""
    serial: str
    hosts: set = dataclasses.field(default_factory=set)
    listeners: set = dataclasses.field(default_factory=set)  # ports
    namespaces: dict = dataclasses.field(default_factory=dict)  # {NSID: (bdev, UUID)}
    allows_any_host: bool = False


def listed_subsystems(rpc):
    """Returns {NQN: Subsystem} as the target lists them."""
    return {s["nqn"]: Subsystem(s["serial_number"], {h["nqn"] for h in s["hosts"]},
                                {a["trsvcid"] for a in s["listen_addresses"]},
                                {n["nsid"]: (n["bdev_name"], n["uuid"]) for n in s["namespaces"]}, s["allow_any_host"])
            for s in rpc("nvmf_get_subsystems") if s["subtype"] == "NVMe"}


class Operator:
    def __init__(self, rpc, port):
        """`rpc` makes a call to the target; `port`: of the operator's listeners. `relist` is called with an NQN before
        one of its NSIDs is used again. `may_be_deleted` tells whether a client may have deleted the device with an NQN
        since a time: its subsystem is deleted with all that is in it, whoever added that."""
        self._rpc = rpc
        self.relist = lambda nqn: None
        self.may_be_deleted = lambda nqn, since: False
        self.port = str(port)
        self._serials = 0
        self.mixed = set()  # NQNs of the agent's subsystems to which the operator has ever added something
        self.target_has_restarted()

    def configuration(self):
        """Returns the part of the target's configuration with the operator's objects, which exist after each start."""
        nvmf = [("nvmf_create_transport", {"trtype": "TCP"}),
                ("nvmf_create_subsystem", {"nqn": OWN_NQN, "serial_number": "OPERATOR"}),
                ("nvmf_subsystem_add_ns", {"nqn": OWN_NQN, "namespace": {"bdev_name": disk(OPERATORS[0]),
                                                                         "nsid": OWN_NSID}}),
                ("nvmf_subsystem_add_host", {"nqn": OWN_NQN, "host": OPERATORS_HOST}),
                ("nvmf_subsystem_add_listener", {"nqn": OWN_NQN, "listen_address": address(self.port)})]
        return [{"method": method, "params": params} for method, params in nvmf]

    def target_has_restarted(self):
        """Only the objects of its configuration exist again."""
        self.subsystems = {OWN_NQN: Subsystem("OPERATOR", {OPERATORS_HOST}, {self.port},
                                              {OWN_NSID: (disk(OPERATORS[0]), str(uuid_of(OPERATORS[0])))})}
        self.namespaces = {}  # {(NQN, NSID): (bdev, UUID)}, in the agent's subsystems
        self.hosts = set()  # (NQN, host), in the agent's subsystems
        self._added = {}  # {NQN: when something was first added to the agent's subsystem}
        self.services, self.controllers = set(), set()
        self.vhosts = {}  # {name: bdev}

    def _try(self, method, **params):
        """Returns the result; None if the target refuses the call."""
        try:
            return self._rpc(method, **params)
        except RpcError:
            return None

    # Changes. Each returns true if it has changed anything.

    def make_subsystem(self, nqn, number, uuid=None):
        """Makes a subsystem, perhaps with the NQN of a device, that exports the operator's disk."""
        self._serials += 1
        made = Subsystem(f"OPERATOR{self._serials}")
        if self._try("nvmf_create_subsystem", nqn=nqn, serial_number=made.serial) is None:
            return False
        self.subsystems[nqn] = made
        if self._try("nvmf_subsystem_add_host", nqn=nqn, host=OPERATORS_HOST) is not None:
            made.hosts.add(OPERATORS_HOST)
        if self._try("nvmf_subsystem_add_listener", nqn=nqn, listen_address=address(self.port)) is not None:
            made.listeners.add(self.port)
        uuid = str(uuid or uuid_of(number))
        nsid = self._try("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": disk(number), "uuid": uuid})
        if nsid is not None:
            made.namespaces[nsid] = (disk(number), uuid)
        return True

    def delete_subsystem(self, nqn):
        """Deletes a subsystem, whoever made it."""
        if self._try("nvmf_delete_subsystem", nqn=nqn) is None:
            return False
        self.subsystems.pop(nqn, None)
        self._forget(nqn)
        return True

    def add_namespace(self, nqn, number, nsid=None, uuid=None):
        """Adds a namespace to a subsystem that is not the operator's, at the first free NSID if none is given."""
        if nqn in self.subsystems:
            return False
        if nsid:
            self.relist(nqn)
        uuid = str(uuid or uuid_of(number))
        entry = {"bdev_name": disk(number), "uuid": uuid, **({"nsid": nsid} if nsid else {})}
        got = self._try("nvmf_subsystem_add_ns", nqn=nqn, namespace=entry)
        if got is None:
            return False
        self.namespaces[nqn, got] = (disk(number), uuid)
        self._note_added(nqn)
        return True

    def replace_namespace(self, nqn, number):
        """Removes a namespace of the agent, and reuses its NSID."""
        found = listed_subsystems(self._rpc).get(nqn)
        ours = [] if found is None or nqn in self.subsystems else [n for n in found.namespaces
                                                                  if (nqn, n) not in self.namespaces]
        if not ours or self._try("nvmf_subsystem_remove_ns", nqn=nqn, nsid=ours[0]) is None:
            return False
        self.add_namespace(nqn, number, nsid=ours[0])
        return True

    def add_host(self, nqn):
        if nqn in self.subsystems or self._try("nvmf_subsystem_add_host", nqn=nqn, host=OPERATORS_HOST) is None:
            return False
        self.hosts.add((nqn, OPERATORS_HOST))
        self._note_added(nqn)
        return True

    def _note_added(self, nqn):
        self.mixed.add(nqn)
        self._added.setdefault(nqn, time.monotonic())

    def _forget(self, nqn):
        """Forgets what was added to a subsystem of the agent that is deleted."""
        self.namespaces = {place: what for place, what in self.namespaces.items() if place[0] != nqn}
        self.hosts = {place for place in self.hosts if place[0] != nqn}
        self._added.pop(nqn, None)

    def _forget_deleted(self, listed):
        for nqn, since in list(self._added.items()):
            found = listed.get(nqn)
            lost = found is None or any(nsid not in found.namespaces for n, nsid in self.namespaces if n == nqn) or any(
                host not in found.hosts for n, host in self.hosts if n == nqn)
            if lost and self.may_be_deleted(nqn, since):
                self._forget(nqn)

    def remove_own(self, nqn):
        """Removes the operator's namespaces and hosts from a subsystem of the agent."""
        for place in [place for place in self.namespaces if place[0] == nqn]:
            self._try("nvmf_subsystem_remove_ns", nqn=nqn, nsid=place[1])
        for place in [place for place in self.hosts if place[0] == nqn]:
            self._try("nvmf_subsystem_remove_host", nqn=nqn, host=place[1])
        self._forget(nqn)

    def discover(self, node, index, port):
        name = f"operators-discovery-{node}{index}"
        if self._try("bdev_nvme_start_discovery", name=name, trtype="tcp", adrfam="ipv4", traddr=NODES[node][index],
                     trsvcid=str(port), hostnqn=AGENTS_HOST) is None:
            return False
        self.services.add(name)
        return True

    def stop_discovery(self):
        if not self.services:
            return False
        name = min(self.services)
        stopped = self._try("bdev_nvme_stop_discovery", name=name) is not None
        self.services.discard(name)
        return stopped

    def connect(self, number, index, port, nqn):
        name = f"operators-controller-{subsystem_of(number)}{index}"
        if self._try("bdev_nvme_attach_controller", name=name, trtype="tcp", adrfam="ipv4", hostnqn=AGENTS_HOST,
                     traddr=NODES[subsystem_of(number)[0]][index], trsvcid=str(port), subnqn=nqn) is None:
            return False
        self.controllers.add(name)
        return True

    def disconnect(self):
        if not self.controllers:
            return False
        name = min(self.controllers)
        gone = self._try("bdev_nvme_detach_controller", name=name) is not None
        self.controllers.discard(name)
        return gone

    def make_vhost(self, name, number):
        if self._try("vhost_create_blk_controller", ctrlr=name, dev_name=disk(number)) is None:
            return False
        self.vhosts[name] = disk(number)
        return True

    def remove_vhost(self, name):
        if name in self.vhosts and self._try("vhost_delete_controller", ctrlr=name) is not None:
            del self.vhosts[name]

    # The judge's questions.

    def harm(self):
        """Returns what has become of the operator's objects that it has not done itself: (missing or changed objects,
        objects of others in its subsystems)."""
        harmed, extra = [], []
        listed = listed_subsystems(self._rpc)
        self._forget_deleted(listed)
        for nqn, made in self.subsystems.items():
            found = listed.get(nqn)
            if found is None or (found.serial, found.allows_any_host) != (made.serial, made.allows_any_host):
                harmed.append(f"the operator's subsystem {nqn} is {found}, was {made}")
                continue
            for what in ("hosts", "listeners"):
                harmed += [f"{lost} of the operator's {nqn}" for lost in getattr(made, what) - getattr(found, what)]
                extra += [f"{more} in the operator's {nqn}" for more in getattr(found, what) - getattr(made, what)]
            harmed += [f"namespace {nsid} of the operator's {nqn}: {found.namespaces.get(nsid)}, was {was}"
                       for nsid, was in made.namespaces.items() if found.namespaces.get(nsid) != was]
            extra += [f"namespace {nsid} in the operator's {nqn}" for nsid in found.namespaces.keys() -
                      made.namespaces.keys()]
        for (nqn, nsid), was in self.namespaces.items():
            now = listed[nqn].namespaces.get(nsid) if nqn in listed else None
            if now != was:
                harmed.append(f"the operator's namespace {nsid} in {nqn}: {now}, was {was}")
        harmed += [f"the operator's host in {nqn}" for nqn, host in self.hosts
                   if nqn not in listed or host not in listed[nqn].hosts]
        harmed += [f"{name} of the operator" for name in self._lost_connections()]
        vhosts = {c["ctrlr"]: c["backend_specific"]["block"]["bdev"] for c in self._rpc("vhost_get_controllers")}
        harmed += [f"the operator's vhost controller {name}: {vhosts.get(name)}" for name, bdev in self.vhosts.items()
                   if vhosts.get(name) != bdev]
        return harmed, extra

    def _lost_connections(self):
        services = {service["name"] for service in self._rpc("bdev_nvme_get_discovery_info")}
        controllers = {controller["name"] for controller in self._rpc("bdev_nvme_get_controllers")}
        return sorted(self.services - services) + sorted(self.controllers - controllers)
