"""The Linux kernel's own NVMe/TCP target (nvmet-tcp) in the virtual machine."""

import itertools
import re
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

    def add_namespace(self, nqn, nsid, size_mib=64, volume=None):
        """A namespace over a disk in the guest's memory; its UUID."""
        volume = volume or uuid.uuid4()
        disk = f"disk{next(self._numbers)}"
        self.machine.run(f"""set -e
            mkdir /sys/kernel/config/nullb/{disk}; cd /sys/kernel/config/nullb/{disk}
            echo {size_mib} >size; echo 512 >blocksize; echo 1 >memory_backed; echo 1 >discard; echo 1 >power
            mkdir {SUBSYSTEMS}/{nqn}/namespaces/{nsid}; cd {SUBSYSTEMS}/{nqn}/namespaces/{nsid}
            echo -n /dev/{disk} >device_path
            echo -n {volume} >device_uuid
            echo -n {volume} >device_nguid
            echo 1 >enable""")
        return volume

    def remove_namespace(self, nqn, nsid):
        self.machine.run(f"echo 0 >{SUBSYSTEMS}/{nqn}/namespaces/{nsid}/enable; "
                         f"rmdir {SUBSYSTEMS}/{nqn}/namespaces/{nsid}")

    def listen(self, *nqns, guest_port=4420):
        """Serves the subsystems on a port of the guest; the port of 127.0.0.1 that leads there."""
        directory = f"{PORTS}/{guest_port}"
        self.machine.run(f"""set -e
            mkdir {directory}; cd {directory}
            echo ipv4 >addr_adrfam; echo tcp >addr_trtype; echo 0.0.0.0 >addr_traddr; echo {guest_port} >addr_trsvcid
            """)
        for nqn in nqns:
            self.link(nqn, guest_port)
        return self.forward(guest_port)

    def link(self, nqn, guest_port=4420):
        self.machine.run(f"ln -s {SUBSYSTEMS}/{nqn} {PORTS}/{guest_port}/subsystems/{nqn}")

    def unlink(self, nqn, guest_port=4420):
        """Ends the connections to the subsystem through this port, too."""
        self.machine.run(f"rm {PORTS}/{guest_port}/subsystems/{nqn}")

    def forward(self, guest_port):
        self.machine.monitor(f"hostfwd_add net0 tcp:127.0.0.1:0-:{guest_port}")
        forwarded = re.findall(rf"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+{guest_port}\s",
                               self.machine.monitor("info usernet"))
        return int(forwarded[-1])

    def clear(self):
        """Removes everything that is there."""
        self.machine.run(f"""
            for link in {PORTS}/*/subsystems/*; do [ -L "$link" ] && rm "$link"; done
            for port in {PORTS}/*; do [ -d "$port" ] && rmdir "$port"; done
            for enable in {SUBSYSTEMS}/*/namespaces/*/enable; do [ -f "$enable" ] && echo 0 >"$enable"; done
            for namespace in {SUBSYSTEMS}/*/namespaces/*; do [ -d "$namespace" ] && rmdir "$namespace"; done
            for host in {SUBSYSTEMS}/*/allowed_hosts/*; do [ -L "$host" ] && rm "$host"; done
            for subsystem in {SUBSYSTEMS}/*; do [ -d "$subsystem" ] && rmdir "$subsystem"; done
            for disk in /sys/kernel/config/nullb/disk*; do [ -d "$disk" ] && rmdir "$disk"; done
            true""")
