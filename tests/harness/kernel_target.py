# SPDX-License-Identifier: Apache-2.0
"""The Linux kernel's NVMe/TCP target (nvmet-tcp) in the VM."""

import itertools
import uuid

SUBSYSTEMS = "/sys/kernel/config/nvmet/subsystems"
PORTS = "/sys/kernel/config/nvmet/ports"


class KernelTarget:
    """Subsystems in the guest, reached through forwarded ports of this machine."""

    def __init__(self, machine):
        self.machine = machine
        self._numbers = itertools.count(1)

    def make_subsystem(self, nqn, hosts=None):
        """`hosts`: the NQNs that may connect; None: any."""
        script = f"set -e; mkdir {SUBSYSTEMS}/{nqn}; cd {SUBSYSTEMS}/{nqn}\n"
        if hosts is None:
            script += "echo 1 >attr_allow_any_host\n"
        for host in hosts or ():
            known = f"/sys/kernel/config/nvmet/hosts/{host}"
            script += f"[ -d {known} ] || mkdir {known}; ln -s {known} allowed_hosts/{host}\n"
        self.machine.run(script)

    def add_namespace(self, nqn, nsid, size_mib=64, volume=None, block_size=512, disk=None):
        """Adds a namespace over a disk of the guest, such as /dev/vda, or over one in its memory; returns its UUID."""
        volume = volume or uuid.uuid4()
        if disk is None:
            name = f"disk{next(self._numbers)}"
            disk = f"/dev/{name}"
            self.machine.run(f"""set -e
                mkdir /sys/kernel/config/nullb/{name}; cd /sys/kernel/config/nullb/{name}
                echo {size_mib} >size; echo {block_size} >blocksize; echo 1 >memory_backed; echo 1 >discard
                echo 1 >power""")
        self.machine.run(f"""set -e
            mkdir {SUBSYSTEMS}/{nqn}/namespaces/{nsid}; cd {SUBSYSTEMS}/{nqn}/namespaces/{nsid}
            echo -n {disk} >device_path
            echo -n {volume} >device_uuid
            echo -n {volume} >device_nguid
            echo 1 >enable""")
        return volume

    def remove_namespace(self, nqn, nsid):
        self.machine.run(f"echo 0 >{SUBSYSTEMS}/{nqn}/namespaces/{nsid}/enable; "
                         f"rmdir {SUBSYSTEMS}/{nqn}/namespaces/{nsid}")

    def listen(self, port, *nqns, is_known=False):
        """Serves the subsystems on `port` of this machine's loopback, which its discovery log also names; returns that
        port.

        The kernel listens on the guest's loopback, so that the log has an address that is valid on this machine too; a
        forwarder in the guest passes connections from outside to it. `is_known`: the port was used before a reboot."""
        directory = f"{PORTS}/{port}"
        outside = self._outside(port)
        self.machine.run(f"""set -e
            mkdir {directory}; cd {directory}
            echo ipv4 >addr_adrfam; echo tcp >addr_trtype; echo 127.0.0.1 >addr_traddr; echo {port} >addr_trsvcid
            nc -ll -p {outside} -e nc 127.0.0.1 {port} >/dev/null 2>&1 </dev/null &""")
        for nqn in nqns:
            self.link(nqn, port)
        if not is_known:
            self.machine.monitor(f"hostfwd_add net0 tcp:127.0.0.1:{port}-:{outside}")
        return port

    @staticmethod
    def _outside(port):
        """Returns the guest's port for connections from outside, a different one for each `port`."""
        return port + 1 if port < 65535 else port - 1

    def link(self, nqn, port):
        self.machine.run(f"ln -s {SUBSYSTEMS}/{nqn} {PORTS}/{port}/subsystems/{nqn}")

    def unlink(self, nqn, port):
        """Removes the subsystem from this port, which also ends the connections through it."""
        self.machine.run(f"rm {PORTS}/{port}/subsystems/{nqn}")

    def clear(self):
        """Removes all objects."""
        self.machine.run(f"""
            for link in {PORTS}/*/subsystems/*; do [ -L "$link" ] && rm "$link"; done
            for port in {PORTS}/*; do [ -d "$port" ] && rmdir "$port"; done
            for enable in {SUBSYSTEMS}/*/namespaces/*/enable; do [ -f "$enable" ] && echo 0 >"$enable"; done
            for namespace in {SUBSYSTEMS}/*/namespaces/*; do [ -d "$namespace" ] && rmdir "$namespace"; done
            for host in {SUBSYSTEMS}/*/allowed_hosts/*; do [ -L "$host" ] && rm "$host"; done
            for subsystem in {SUBSYSTEMS}/*; do [ -d "$subsystem" ] && rmdir "$subsystem"; done
            for disk in /sys/kernel/config/nullb/disk*; do [ -d "$disk" ] && rmdir "$disk"; done
            true""")
