# SPDX-License-Identifier: Apache-2.0
"""Base classes of a plugin's device types and crypto engines. docs/plugins.md explains how to write a plugin."""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)

from .device import DeviceException, DeviceManager  # noqa: E402
from .device import NvmfTcpDeviceManager, NvmfVfioDeviceManager, VhostBlkDeviceManager  # noqa: E402
from .volume import CryptoEngine, CryptoException  # noqa: E402
from .volume import get_crypto_engine, register_crypto_engine, set_crypto_engine  # noqa: E402

__all__ = ["CryptoEngine", "CryptoException", "DeviceException", "DeviceManager", "NvmfTcpDeviceManager",
           "NvmfVfioDeviceManager", "VhostBlkDeviceManager", "get_crypto_engine", "register_crypto_engine",
           "set_crypto_engine"]
