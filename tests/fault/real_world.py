# SPDX-License-Identifier: Apache-2.0
"""A world of real processes: an agent, its target, storage nodes, an iSCSI portal, hosts, guests and an operator."""

import contextlib
import json

import grpc
from fault.history import History
from fault.real_judge import Judge
from fault.real_operator import Operator, disk, listed_subsystems
from fault.real_storage import LOCAL, NODE_BLOCK, NUMBERS, OPERATORS, VOLUMES, Storage, uuid_of
from harness import wire
from harness.agent import free_port, start_sma
from harness.jsonrpc import JsonRpcClient
from harness.target import Target
from harness.wait import wait_until

LIMITS = ("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec")
# How long the agent may take for what it does in the background: withdrawing and removing, and restoring.
REMOVED_S, RESTORED_S = 20, 60
State = wire.admin.State


class World:
    """A context manager. Devices 0 to 2 are of type nvmf_tcp, 3 and 4 of type vhost_blk."""

    nvme_devices, vhost_devices = (0, 1, 2), (3, 4)

    def __init__(self, bin_dir, work_dir, seed, drift_period=2, keeps_keys=True):
        self.work_dir, self.port = work_dir, free_port()
        self.storage = Storage(bin_dir, work_dir)
        self.operator = Operator(self.rpc, free_port())
        configuration = work_dir / "target.json"
        configuration.write_text(json.dumps(self._target_configuration()))
        self.target = Target(bin_dir, work_dir, ["-c", str(configuration), "-S", str(work_dir)])
        config = {"crypto": {"name": "bdev_crypto"}, "discovery_timeout": 3, "drift_period": drift_period,
                  "devices": [{"name": "nvmf_tcp"}, {"name": "vhost_blk", "params": {"sock_path": str(work_dir)}}]}
        if keeps_keys:
            key_file = work_dir / "sealing.key"
            key_file.write_text("5e" * 32)
            key_file.chmod(0o400)
            config["sealing_key"] = {"file": str(key_file)}
        self.agent = start_sma(bin_dir, work_dir, socket=str(self.target.socket), **config)
        self.history = History()
        self.later = []  # (device, volume): volumes that a host has seen after their removal
        self.target_is_stopped = False
        self.removed_s, self.restored_s = REMOVED_S, RESTORED_S
        self.judge = Judge(self, seed)
        self.operator.relist = self.judge.relist
        self.operator.may_be_deleted = self._may_be_deleted
        self._at_start = self.lists()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.judge.close()
        self.agent.kill()
        self.target.kill()
        self.storage.__exit__()

    def _target_configuration(self):
        bdevs = [{"method": "bdev_aio_create",
                  "params": {"name": name, "uuid": str(uuid_of(number)), "block_size": NODE_BLOCK,
                             "filename": str(self.storage.file(number))}}
                 for number, name in [*((n, f"local-{n}") for n in LOCAL), *((n, disk(n)) for n in OPERATORS)]]
        return {"subsystems": [{"subsystem": "bdev", "config": bdevs},
                               {"subsystem": "nvmf", "config": self.operator.configuration()}]}

    # Names.

    def nqn(self, device):
        return f"nqn.2016-06.io.spdk:device-{device}"

    def vhost_name(self, device):
        return f"sma-{device}"

    def host_of(self, device):
        return f"nqn.2016-06.io.spdk:host-{device}"

    def handle(self, device):
        return f"virtio_blk:sma-{device}" if device in self.vhost_devices else f"nvmf-tcp:{self.nqn(device)}"

    def _may_be_deleted(self, nqn, since):
        # A call that failed may be finished later.
        return any(call.kind == "delete" and self.nqn(call.device) == nqn and
                   (call.ended >= since or not call.succeeded) for call in self.history.calls)

    # The target.

    def rpc(self, method, **params):
        with JsonRpcClient(self.target.socket, timeout_s=60) as client:
            return client.call(method, **params)

    def target_answers(self):
        return not self.target_is_stopped and self.target.process.exit_status is None

    def restart_target(self):
        self.target.kill()
        self.operator.target_has_restarted()
        self.target_is_stopped = False
        self.target.start()

    def stop_target(self):
        self.target.process.pause()
        self.target_is_stopped = True

    def resume_target(self):
        if self.target_is_stopped:
            self.target.process.resume()
            self.target_is_stopped = False

    def lists(self):
        """Returns everything that the target lists, comparable."""
        return {"subsystems": listed_subsystems(self.rpc),
                "bdevs": sorted(bdev["name"] for bdev in self.rpc("bdev_get_bdevs")),
                "limits": sorted(bdev["name"] for bdev in self.rpc("bdev_get_bdevs")
                                 if any(bdev["assigned_rate_limits"].get(key, 0) for key in LIMITS)),
                "controllers": sorted(c["name"] for c in self.rpc("bdev_nvme_get_controllers")),
                "services": sorted(s["name"] for s in self.rpc("bdev_nvme_get_discovery_info")),
                "vhost": sorted(c["ctrlr"] for c in self.rpc("vhost_get_controllers")),
                "keys": sorted(key["name"] for key in self.rpc("accel_crypto_keys_get"))}

    # The agent.

    def agent_is_alive(self):
        return self.agent.process.exit_status is None

    def restart_agent(self):
        self.agent.kill()
        self.agent.start_process()

    def call(self, kind, device, volume, how="", timeout=20):
        """Makes a call, and returns its code. "create" with a volume attaches it."""
        known = self.history.begin(kind, device, volume)
        code = self._code(kind, device, volume, how, timeout)
        self.history.end(known, code == grpc.StatusCode.OK)
        return code

    def _code(self, kind, device, volume, how, timeout):
        stub = self.agent.client.stub
        try:
            if kind == "create":
                stub.CreateDevice(self._create_request(device, volume, how), timeout=timeout)
            elif kind == "delete":
                self.agent.client.delete_device(self.handle(device), timeout=timeout)
            elif kind == "attach":
                stub.AttachVolume(self.storage.request(self.handle(device), volume, how), timeout=timeout)
            elif kind == "detach":
                self.agent.client.detach_volume(self.handle(device), uuid_of(volume), timeout=timeout)
        except grpc.RpcError as error:
            return error.code()
        except ValueError:
            return grpc.StatusCode.CANCELLED  # the client was closed, since the agent was killed
        return grpc.StatusCode.OK

    def _create_request(self, device, volume, how):
        request = wire.sma.CreateDeviceRequest()
        if device in self.vhost_devices:
            request.virtio_blk.physical_id = device
        else:
            request.nvmf_tcp.subnqn, request.nvmf_tcp.adrfam = self.nqn(device), "ipv4"
            request.nvmf_tcp.traddr, request.nvmf_tcp.trsvcid = "127.0.0.1", str(self.port)
            request.nvmf_tcp.hosts.append(self.host_of(device))
        if volume is not None:
            request.volume.CopyFrom(self.storage.request("", volume, how).volume)
        return request

    def limit(self, device, volume, thousands):
        """Calls SetQos. Limits are high, so that the judge's reads do not wait."""
        request = wire.sma.SetQosRequest(device_handle=self.handle(device), volume_id=uuid_of(volume).bytes)
        request.maximum.rw_iops = thousands
        with contextlib.suppress(grpc.RpcError):
            self.agent.client.stub.SetQos(request, timeout=10)

    def admin(self):
        return wire.admin_grpc.AdminStub(self.agent.client.channel)

    def status(self):
        return self.admin().GetStatus(wire.admin.GetStatusRequest(), timeout=10)

    def recorded(self):
        """Returns ({handle: state}, {(handle, volume): (state, how it is connected, last error)}) of the record."""
        devices = self.admin().ListDevices(wire.admin.ListDevicesRequest(), timeout=10).devices
        volumes = self.admin().ListVolumes(wire.admin.ListVolumesRequest(), timeout=10).volumes
        by_id = {uuid.bytes: number for uuid, number in NUMBERS.items()}

        def described(volume):
            how = "direct 01" if volume.nvmf.HasField("direct") else "discovery 01"
            return State.Name(volume.state), how, volume.last_error.message
        return ({d.handle: State.Name(d.state) for d in devices},
                {(v.device_handle, by_id[v.volume_id]): described(v) for v in volumes})

    # After each step.

    def judge_step(self):
        """Checks the rules; returns the problems so far."""
        self.judge.check()
        seen, self.later = self.later, []
        for device, number in set(seen):
            if not (self.target_answers() and self.agent_is_alive()):
                continue
            with contextlib.suppress(TimeoutError):
                wait_until(lambda d=device, n=number: not self._is_exported(d, n) or self.history.may_be(d, n),
                           self.removed_s, "removed")
                continue
            self.judge.problem(f"device {device} still shows volume {number}, which was removed")
        return self.judge.problems

    def _is_exported(self, device, number):
        if device in self.vhost_devices:
            return any(c["ctrlr"] == self.vhost_name(device) for c in self.rpc("vhost_get_controllers"))
        nqn, operator = self.nqn(device), self.operator
        found = listed_subsystems(self.rpc).get(nqn)
        return found is not None and nqn not in operator.subsystems and any(
            uuid == str(uuid_of(number)) and (nqn, nsid) not in operator.namespaces
            for nsid, (_, uuid) in found.namespaces.items())

    # The end.

    def finish(self):
        """Brings all neighbours back, and checks that nothing is lost; then removes everything, and checks that nothing
        is left. Returns all problems."""
        self.storage.bring_all_back()
        self.resume_target()
        if not self.agent_is_alive():
            self.restart_agent()
        self._remove_conflicts()
        self.judge_step()
        if not self.judge.problems:
            self._check_nothing_is_lost()
        if not self.judge.problems:
            self._check_nothing_leaks()
        return self.judge.problems

    def _remove_conflicts(self):
        """The operator removes what has the names and numbers of devices."""
        for device in self.nvme_devices:
            nqn = self.nqn(device)
            if nqn in self.operator.subsystems:
                self.operator.delete_subsystem(nqn)
            self.operator.remove_own(nqn)
        for name in [self.vhost_name(device) for device in self.vhost_devices]:
            wait_until(lambda n=name: self.operator.remove_vhost(n) or n not in self.operator.vhosts, 10,
                       "no guest uses the operator's disk")

    def _check_nothing_is_lost(self):
        try:
            wait_until(lambda: not self._lost(), self.restored_s, "restored", interval_s=0.1)
        except TimeoutError:
            for what in self._lost():
                self.judge.problem(f"lost: {what}")

    def _lost(self):
        try:
            if not self.status().serving:
                return [f"the agent does not serve: {self.status().not_serving_reason}"]
            devices, volumes = self.recorded()
        except grpc.RpcError as error:
            return [f"the agent: {error.code()}"]
        found = [f"{handle} is in state {state}" for handle, state in devices.items() if state != "STATE_READY"]
        for device in (*self.nvme_devices, *self.vhost_devices):
            is_there, handle = self.handle(device) in devices, self.handle(device)
            if not (self.history.may_be(device) if is_there else self.history.may_be_absent(device)):
                found.append(f"{handle} is {'' if is_there else 'not '}in the record")
            for number in VOLUMES:
                is_attached = (handle, number) in volumes
                if not (self.history.may_be if is_attached else self.history.may_be_absent)(device, number):
                    found.append(f"volume {number} is {'' if is_attached else 'not '}recorded at {handle}")
                elif is_attached and not self._is_readable(device, number, *volumes[handle, number]):
                    found.append(f"volume {number} of {handle} cannot be read: {volumes[handle, number]}")
        return found

    def _is_readable(self, device, number, state, how, _):
        if state == "STATE_KEY_NEEDED":
            self.call("create" if device in self.vhost_devices else "attach", device, number, how)
        return self.judge.reads_volume(device, number)

    def _check_nothing_leaks(self):
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: all(self._code("delete", device, None, "", 20) == grpc.StatusCode.OK
                                   for device in (*self.nvme_devices, *self.vhost_devices)), self.removed_s, "deleted")
        for nqn in [self.nqn(device) for device in self.nvme_devices]:
            # A subsystem to which the operator had added something was left to it.
            if nqn in self.operator.mixed and nqn in listed_subsystems(self.rpc):
                self.operator.delete_subsystem(nqn)
        harmed, extra = self.operator.harm()
        for what in harmed + extra:
            self.judge.problem(f"harmed at the end: {what}")
        self._remove_operators()
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: self.lists() == self._at_start and self.recorded() == ({}, {}), self.removed_s,
                       "removed")
        at_end = self.lists()
        for what, before in self._at_start.items():
            if at_end[what] != before:
                self.judge.problem(f"leaked: {what}: {at_end[what]}, at the start: {before}")
        if self.recorded() != ({}, {}):
            self.judge.problem(f"leaked: in the record {self.recorded()}")

    def _remove_operators(self):
        operator = self.operator
        while operator.services or operator.controllers:
            operator.stop_discovery()
            operator.disconnect()
        for nqn in operator.subsystems.keys() - self._at_start["subsystems"].keys():
            operator.delete_subsystem(nqn)
