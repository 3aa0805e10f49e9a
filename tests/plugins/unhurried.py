"""A device type whose calls take a while."""

import time

from spdk.sma import DeviceManager
from spdk.sma.proto import sma_pb2


class UnhurriedDevice(DeviceManager):
    def __init__(self, client):
        super().__init__("unhurried", "nvme", client)

    def create_device(self, request):
        time.sleep(0.25)
        return sma_pb2.CreateDeviceResponse(handle=f"unhurried:{request.nvme.physical_id}")

    def owns_device(self, handle):
        return handle.startswith("unhurried:")


devices = [UnhurriedDevice]
