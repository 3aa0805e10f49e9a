# SPDX-License-Identifier: Apache-2.0
from .built_in import BuiltInDeviceManager


class NvmfTcpDeviceManager(BuiltInDeviceManager):
    """The agent's device type `nvmf_tcp`."""

    def __init__(self, client):
        super().__init__("nvmf_tcp", "nvmf_tcp", client)
