"""Crypto engines: what encrypts volumes."""

import grpc


class CryptoException(Exception):
    """How an engine tells that it failed. `code`: a grpc.StatusCode."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


class CryptoEngine:
    """One way to encrypt volumes. Volume ids are text, keys hex digits, `cipher` and `tweak_mode` numbers of the enums
    in VolumeCryptoParameters."""

    def __init__(self, name):
        self.name = name

    def init(self, client, params):
        """`client` as a device type's; `params`: those of `crypto` in the configuration."""
        self._client = client

    def setup(self, volume_id, key, cipher, key2=None, tweak_mode=None):
        """Encrypts a volume."""
        raise NotImplementedError()

    def cleanup(self, volume_id):
        """Takes the encryption away; nothing where there is none."""
        raise NotImplementedError()

    def verify(self, volume_id, key, cipher, key2=None, tweak_mode=None):
        """CryptoException unless the volume is encrypted with just these; `key` None: unless it is clear."""
        raise NotImplementedError()

    def get_crypto_bdev(self, volume_id):
        """The name of the encrypted volume's bdev; None where the volume is clear."""
        raise NotImplementedError()


class CryptoEngineNop(CryptoEngine):
    """Encrypts nothing."""

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
    """The engine that is used."""
    return _engine


def set_crypto_engine(name):
    """Chooses a registered engine. ValueError: there is none of this name."""
    global _engine
    if name not in _engines:
        raise ValueError(f"Unknown crypto engine: {name}")
    _engine = _engines[name]


def register_crypto_engine(engine):
    _engines[engine.name] = engine
