# SPDX-License-Identifier: Apache-2.0
"""A target, an agent with fail points, and objects of an operator, none of which may be lost, leaked or changed by a
fault."""

import json
import uuid

import grpc
from harness import wire
from harness.agent import Agent, free_port
from harness.target import Target
from harness.wait import wait_until

BLOCK_SIZE = 512
OPERATORS_HOST = "nqn.2016-06.io.spdk:operators-host"
CLIENTS_HOST = "nqn.2016-06.io.spdk:clients-host"
OPERATORS_NQN = "nqn.2016-06.io.spdk:operators"
LIMIT_KEYS = ("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec")


def nqn(number):
    return f"nqn.2016-06.io.spdk:device-{number}"


def handle(number):
    return f"nvmf-tcp:{nqn(number)}"


class World:
    """A context manager. `volumes` are bdevs of the target's configuration, which exist after every start; and so do
    the operator's subsystem, its namespace, host and listener."""

    def __init__(self, bin_dir, work_dir, volume_count=3):
        self.volumes = [uuid.UUID(int=(0x5a << 120) + number) for number in range(volume_count)]
        self.operators_volume = uuid.UUID(int=0x0b << 120)
        self.port, self.operators_port = free_port(), free_port()
        self._target_arguments = []
        self.target = Target(bin_dir, work_dir, arguments=self._target_arguments)
        self._rpc = None
        self._prepare_target()
        configuration = work_dir / "target.json"
        configuration.write_text(json.dumps(self._saved_configuration()))
        self._target_arguments += ["-c", str(configuration)]
        self.plan_path = work_dir / "plan"
        self._plans = 0
        config = {"socket": str(self.target.socket), "state_dir": str(work_dir / "state"), "drift_period": 0}
        self.agent = Agent("sma-faulty", [bin_dir / "sma-faulty"], work_dir, config,
                           env={"SMA_FAULT_PLAN": str(self.plan_path)})
        self.admin = None
        self._connect_admin()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.agent.kill()
        self.target.kill()

    def _connect_admin(self):
        self.admin = wire.admin_grpc.AdminStub(self.agent.client.channel)

    # The target.

    def rpc(self, method, **params):
        if self._rpc is None:
            self._rpc = self.target.connect()
        return self._rpc.call(method, **params)

    def _prepare_target(self):
        for volume in [*self.volumes, self.operators_volume]:
            self.rpc("bdev_null_create", name=f"null-{volume}", num_blocks=2048, block_size=BLOCK_SIZE,
                     uuid=str(volume))
        self.rpc("nvmf_create_transport", trtype="TCP")
        self.rpc("nvmf_create_subsystem", nqn=OPERATORS_NQN, serial_number="OPERATOR")
        self.rpc("nvmf_subsystem_add_ns", nqn=OPERATORS_NQN,
                 namespace={"bdev_name": f"null-{self.operators_volume}", "nsid": 7})
        self.rpc("nvmf_subsystem_add_host", nqn=OPERATORS_NQN, host=OPERATORS_HOST)
        self.rpc("nvmf_subsystem_add_listener", nqn=OPERATORS_NQN,
                 listen_address={"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1",
                                 "trsvcid": str(self.operators_port)})

    def _saved_configuration(self):
        names = [subsystem["subsystem"] for subsystem in self.rpc("framework_get_subsystems")]
        return {"subsystems": [{"subsystem": name, "config": self.rpc("framework_get_config", name=name)}
                               for name in names]}

    def restart_target(self):
        """Starts a new process with the objects of its configuration."""
        self._rpc = None
        self.target.kill()
        self.target.start()

    def wait_target_is_back(self, pid_before):
        """Waits for the restart of a target that may have died in the last step of a call, after its answer."""
        if self.target.process.pid == pid_before:
            self.target.process.wait()
            self.restart_target()

    def supervise_target(self, stop):
        """Restarts the target after it has died, like `sma --embedded` or systemd, until `stop` is set."""
        while not stop.wait(0.005):
            if self.target.process.exit_status is not None:
                self.restart_target()
                return

    # The agent.

    def plan(self, step, when, victim=0):
        """Makes `victim` (a process id; 0: the agent) die at a later step."""
        part = self.plan_path.with_suffix(".part")
        self._plans += 1
        part.write_text(f"{step} {when} {victim} {self._plans}\n")
        part.rename(self.plan_path)

    def end_plan(self):
        self.plan_path.unlink(missing_ok=True)

    def agent_died(self):
        return self.agent.process.exit_status is not None

    def restart_agent(self):
        self.agent.kill()
        self.agent.start()
        self._connect_admin()

    def start_agent_that_may_die(self):
        """Starts the agent, waits until it has restored everything or has died, and restarts it in that case."""
        try:
            self.agent.start_process()
            self._connect_admin()
        except ChildProcessError:
            pass  # it is already dead
        wait_until(lambda: self.agent_died() or self._is_settled_soon(), 20, "the agent has restored all, or is dead")
        if self.agent_died():
            self.restart_agent()
        self.wait_settled()

    def _is_settled_soon(self):
        try:
            self.wait_settled(0.2)
        except (grpc.RpcError, TimeoutError):
            return False
        return True

    def wait_serving(self):
        wait_until(lambda: self.admin.GetStatus(wire.admin.GetStatusRequest(), timeout=10).serving, 20, "serving")

    def wait_settled(self, timeout_s=20.0):
        """Waits until the agent serves and has no unfinished work."""
        def settled():
            status = self.admin.GetStatus(wire.admin.GetStatusRequest(), timeout=10)
            return status.serving and not status.restore.active and status.degraded_count == 0
        wait_until(settled, timeout_s, "the agent serves and all is ready")

    def set_limits(self, number, volume, rw_iops):
        request = wire.sma.SetQosRequest(device_handle=handle(number), volume_id=self.volumes[volume].bytes)
        request.maximum.rw_iops = rw_iops
        self.agent.client.stub.SetQos(request, timeout=30)

    # The objects: {nqn: {"hosts": .., "listeners": .., "volumes": {uuid: limits}}}, a comparable value.

    def on_target(self):
        limits = {bdev["uuid"]: tuple(bdev["assigned_rate_limits"].get(key, 0) for key in LIMIT_KEYS)
                  for bdev in self.rpc("bdev_get_bdevs")}
        return {s["nqn"]: {"hosts": sorted(host["nqn"] for host in s["hosts"]),
                           "listeners": sorted(a["trsvcid"] for a in s["listen_addresses"]),
                           "volumes": {ns["uuid"]: limits[ns["uuid"]] for ns in s["namespaces"]}}
                for s in self.rpc("nvmf_get_subsystems") if s["subtype"] == "NVMe"}

    def in_record(self):
        """Returns {nqn: [volume ids]} as listed by the agent."""
        devices = self.admin.ListDevices(wire.admin.ListDevicesRequest(), timeout=10).devices
        return {d.nvmf_tcp.subnqn: sorted(str(uuid.UUID(bytes=v)) for v in d.volume_ids) for d in devices}

    def bdev_names(self):
        return sorted(bdev["name"] for bdev in self.rpc("bdev_get_bdevs"))
