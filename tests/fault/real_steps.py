# SPDX-License-Identifier: Apache-2.0
"""Random steps of a real world."""

import concurrent.futures
import random
import time

from fault.real_storage import NODES, OPERATORS, SUBSYSTEMS, VOLUMES, subsystem_of, uuid_of

# Deadlines of calls in seconds: most have enough time.
DEADLINES = (20, 20, 20, 20, 1.0, 0.1, 0.02)
# How long after the start of a call somebody is killed, in seconds.
KILL_AFTER = (0.0, 0.002, 0.01, 0.05)
STOPPED_S = 4  # longer than the agent waits for a target that does not answer


class Steps:
    """Chooses and makes steps; each returns its description."""

    def __init__(self, world, seed):
        self._world = world
        self._random = random.Random(f"steps {seed}")
        # A few volumes only, so that many calls concern the same ones.
        self._volumes = self._random.sample(list(VOLUMES), 6)

    def begin(self):
        """Makes the devices."""
        return "; ".join(self._make_call("create", device, None, "", 20) for device in self._world.nvme_devices)

    def step(self):
        kinds = {self.calls: 45, self.kill: 18, self.neighbour: 14, self.operator: 20, self.stop_target: 2,
                 self.limits: 4}
        return self._random.choices(list(kinds), kinds.values())[0]()

    def _how(self, number):
        if subsystem_of(number) is None:
            return ""
        ways = ["discovery", "discovery", "direct", "direct"] + (["referral"] if subsystem_of(number)[0] == "a" else [])
        return f"{self._random.choice(ways)} {self._random.choice(['0', '1', '01'])}"

    def _random_call(self):
        """Returns the arguments of a call."""
        world, choose = self._world, self._random
        kind = choose.choices(["create", "attach", "detach", "delete"], [22, 45, 23, 10])[0]
        device = choose.choice((*world.nvme_devices, *world.vhost_devices))
        if device in world.vhost_devices and kind in ("attach", "detach"):
            device = choose.choice(world.nvme_devices)
        number = choose.choice(self._volumes)
        if kind == "delete" or (kind == "create" and device in world.nvme_devices and choose.random() < 0.7):
            number = None
        return kind, device, number, self._how(number) if number else "", choose.choice(DEADLINES)

    def _make_call(self, kind, device, number, how, timeout):
        code = self._world.call(kind, device, number, how, timeout)
        return f"{kind} device {device} volume {number} {how} ({timeout} s): {code.name}"

    def calls(self):
        """One to three calls at the same time."""
        calls = [self._random_call() for _ in range(self._random.choice([1, 1, 2, 3]))]
        with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
            return " | ".join(pool.map(lambda call: self._make_call(*call), calls))

    def kill(self):
        """Kills the agent, the target or both with SIGKILL during a call, and starts them again."""
        world, call = self._world, self._random_call()
        victim, after = self._random.choice(["agent", "target", "both"]), self._random.choice(KILL_AFTER)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self._make_call, *call)
            time.sleep(after)  # the call is at some step of its own
            if victim != "target":
                world.agent.kill()
            if victim != "agent":
                world.restart_target()
            if victim != "target":
                world.restart_agent()
            return f"kill {victim} {after} s after: {answer.result()}"

    def stop_target(self):
        """The target hangs, longer than the agent waits for it."""
        world, call = self._world, self._random_call()
        world.stop_target()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self._make_call, *call)
            time.sleep(STOPPED_S)
            world.resume_target()
            return f"target stopped for {STOPPED_S} s: {answer.result()}"

    def neighbour(self):
        """A storage node or the iSCSI portal is stopped, dies or comes back."""
        storage, choose = self._world.storage, self._random
        name = choose.choice([*NODES, "iscsi"])
        if name in storage.stopped | storage.dead:
            storage.bring_back(name)
            return f"{name} comes back"
        what = choose.choice(["stop", "kill"])
        (storage.stop if what == "stop" else storage.kill)(name)
        return f"{what} {name}"

    def limits(self):
        device, number = self._random.choice(self._world.nvme_devices), self._random.choice(self._volumes)
        thousands = self._random.choice([0, 500])
        self._world.limit(device, number, thousands)
        return f"limit volume {number} of device {device}: {thousands}"

    def operator(self):
        """The operator makes, reuses or removes something. Its calls may be refused."""
        world, choose, operator = self._world, self._random, self._world.operator
        device, number = choose.choice(world.nvme_devices), choose.choice(OPERATORS[1:])
        nqn, clash = world.nqn(device), choose.choice([None, uuid_of(choose.choice(self._volumes))])
        up = [name for name in SUBSYSTEMS if name[0] not in world.storage.stopped | world.storage.dead]
        what = choose.choice(["subsystem", "delete", "reuse", "namespace", "nsid", "replace", "host", "discover",
                              "stop", "connect", "disconnect", "vhost"])
        if what == "subsystem":
            done = operator.make_subsystem(nqn, number, clash)
        elif what == "delete":
            done = operator.delete_subsystem(nqn)
        elif what == "reuse":
            done = operator.delete_subsystem(nqn) and operator.make_subsystem(nqn, number, clash)
        elif what in ("namespace", "nsid"):
            done = operator.add_namespace(nqn, number, choose.choice([1, 2, 3]) if what == "nsid" else None, clash)
        elif what == "replace":
            done = operator.replace_namespace(nqn, number)
        elif what == "host":
            done = operator.add_host(nqn)
        elif what == "stop":
            done = operator.stop_discovery()
        elif what == "disconnect":
            done = operator.disconnect()
        elif what == "vhost":
            done = operator.make_vhost(world.vhost_name(choose.choice(world.vhost_devices)), number)
        elif not up:
            done = False
        else:
            name, index = choose.choice(up), choose.choice([0, 1])
            port = world.storage.port[name[0]]
            done = (operator.discover(name[0], index, port) if what == "discover" else
                    operator.connect(SUBSYSTEMS[name][0], index, port, world.storage.nqn(name)))
        return f"operator: {what} {nqn} {number} {clash or ''}: {'done' if done else 'refused'}"
