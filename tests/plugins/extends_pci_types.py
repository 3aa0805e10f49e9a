# SPDX-License-Identifier: Apache-2.0
"""Extends the device types for VMs: some physical ids are restricted."""

import grpc
from spdk.sma import DeviceException, NvmfVfioDeviceManager, VhostBlkDeviceManager

RESERVED = 100


class ReservedPlaces:
    def create_device(self, request):
        if getattr(request, self.protocol).physical_id >= RESERVED:
            raise DeviceException(grpc.StatusCode.PERMISSION_DENIED, "the place is reserved")
        return super().create_device(request)


class Disk(ReservedPlaces, VhostBlkDeviceManager):
    def __init__(self, client):
        super().__init__(client)
        self.name = "disk"


class Controller(ReservedPlaces, NvmfVfioDeviceManager):
    def __init__(self, client):
        super().__init__(client)
        self.name = "controller"


devices = [Disk, Controller]
