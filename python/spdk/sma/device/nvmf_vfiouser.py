# SPDX-License-Identifier: Apache-2.0
from .built_in import BuiltInDeviceManager


class NvmfVfioDeviceManager(BuiltInDeviceManager):
    """The agent's device type `vfiouser`."""

    def __init__(self, client):
        super().__init__("vfiouser", "nvme", client)
