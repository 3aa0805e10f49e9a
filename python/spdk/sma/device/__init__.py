# SPDX-License-Identifier: Apache-2.0
from .device import DeviceException, DeviceManager
from .nvmf_tcp import NvmfTcpDeviceManager
from .nvmf_vfiouser import NvmfVfioDeviceManager
from .vhost_blk import VhostBlkDeviceManager

__all__ = ["DeviceException", "DeviceManager", "NvmfTcpDeviceManager", "NvmfVfioDeviceManager",
           "VhostBlkDeviceManager"]
