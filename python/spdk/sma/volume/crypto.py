# SPDX-License-Identifier: Apache-2.0
"""Crypto engines, which encrypt volumes."""

import grpc


class CryptoException(Exception):
    """Raised by an engine to return an error to the caller. `code` is a grpc.StatusCode."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


class CryptoEngine:
    """A crypto engine. Volume ids are strings, keys consist of hexadecimal digits, and `cipher` and `tweak_mode` are
    values of the enums in VolumeCryptoParameters."""

    def __init__(self, name):
        self.name = name

    def init(self, client, params):
        """`client` is the same as for a device type. `params` are those of `crypto` in the configuration."""
        self._client = client

    def setup(self, volume_id, key, cipher, key2=None, tweak_mode=None):
        """Encrypts a volume."""
        raise NotImplementedError()

    def cleanup(self, volume_id):
        """Removes the encryption. Idempotent."""
        raise NotImplementedError()

    def verify(self, volume_id, key, cipher, key2=None, tweak_mode=None):
        """Raises CryptoException unless the volume is encrypted with exactly these parameters, or, if `key` is None,
        unless it is not encrypted."""
        raise NotImplementedError()

    def get_crypto_bdev(self, volume_id):
        """Returns the name of the crypto bdev; None if the volume is not encrypted."""
        raise NotImplementedError()


class CryptoEngineNop(CryptoEngine):
    """An engine that encrypts nothing."""

    def __init__(self):
        super().__init__("nop")

    def setup(self, volume_id, key, cipher, key2=None, tweak_mode=None):
        raise CryptoException(grpc.StatusCode.INVALID_ARGUMENT, "Crypto is disabled")

    def cleanup(self, volume_id):
        pass

    def verify(self, volume_id, key, cipher, key2=None, tweak_mode=None):
        if key is not None:
            raise CryptoException(grpc.StatusCode.INVALID_ARGUMENT, "Crypto is disabled")

    def get_crypto_bdev(self, volume_id):
        return None


_engines = {"nop": CryptoEngineNop()}
_engine = _engines["nop"]


def get_crypto_engine():
    """Returns the engine that is in use."""
    return _engine


def set_crypto_engine(name):
    """Selects a registered engine. Raises ValueError if there is none with this name."""
    global _engine
    if name not in _engines:
        raise ValueError(f"Unknown crypto engine: {name}")
    _engine = _engines[name]


def register_crypto_engine(engine):
    _engines[engine.name] = engine
