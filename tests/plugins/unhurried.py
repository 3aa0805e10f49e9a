# SPDX-License-Identifier: Apache-2.0
"""A device type with slow calls: most wait, as for a remote system, and some compute without releasing the
interpreter."""

import time

from spdk.sma import DeviceManager
from spdk.sma.proto import sma_pb2


class UnhurriedDevice(DeviceManager):
    def __init__(self, client):
        super().__init__("unhurried", "nvme", client)

    def create_device(self, request):
        if request.nvme.physical_id % 8:
            time.sleep(0.25)
        else:
            end = time.perf_counter() + 0.02
            while time.perf_counter() < end:
                pass
        return sma_pb2.CreateDeviceResponse(handle=f"unhurried:{request.nvme.physical_id}")

    def owns_device(self, handle):
        return handle.startswith("unhurried:")


devices = [UnhurriedDevice]
