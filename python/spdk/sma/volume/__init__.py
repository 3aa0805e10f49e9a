# SPDX-License-Identifier: Apache-2.0
from .crypto import CryptoEngine, CryptoException, get_crypto_engine, register_crypto_engine, set_crypto_engine

__all__ = ["CryptoEngine", "CryptoException", "VolumeException", "get_crypto_engine", "register_crypto_engine",
           "set_crypto_engine"]


class VolumeException(Exception):
    """Like DeviceException, for a volume."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message
