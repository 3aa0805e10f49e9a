# SPDX-License-Identifier: Apache-2.0
"""Extends the device type for NVMe/TCP: only hosts of one organisation are allowed."""

import grpc
from spdk.sma import DeviceException, NvmfTcpDeviceManager


class PoliteNvmfTcp(NvmfTcpDeviceManager):
    def __init__(self, client):
        super().__init__(client)
        self.name = "polite_nvmf_tcp"

    def create_device(self, request):
        for host in request.nvmf_tcp.hosts:
            if not host.startswith("nqn.2014-08.org.example:"):
                raise DeviceException(grpc.StatusCode.PERMISSION_DENIED, f"{host} is not let in")
        return super().create_device(request)


devices = [PoliteNvmfTcp]
