# SPDX-License-Identifier: Apache-2.0
"""AES-XTS with OpenSSL's libcrypto, for the expected contents of encrypted volumes on the disk."""

import ctypes
import ctypes.util

SECTOR = 512

_libcrypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
for _name in ("EVP_CIPHER_CTX_new", "EVP_aes_128_xts", "EVP_aes_256_xts"):
    getattr(_libcrypto, _name).restype = ctypes.c_void_p


def encrypt_unit(key, tweak, plain):
    """Encrypts one data unit. `key`: the bytes of both keys; `tweak`: an integer, little-endian on the disk (IEEE
    1619)."""
    cipher = _libcrypto.EVP_aes_128_xts if len(key) == 32 else _libcrypto.EVP_aes_256_xts
    context = ctypes.c_void_p(_libcrypto.EVP_CIPHER_CTX_new())
    out, size = ctypes.create_string_buffer(len(plain)), ctypes.c_int()
    tweak_bytes = tweak.to_bytes(16, "little")
    assert _libcrypto.EVP_EncryptInit_ex(context, ctypes.c_void_p(cipher()), None, key, tweak_bytes) == 1
    assert _libcrypto.EVP_EncryptUpdate(context, out, ctypes.byref(size), plain, len(plain)) == 1
    _libcrypto.EVP_CIPHER_CTX_free(context)
    return out.raw


def encrypt_blocks(key, mode, first_lba, plain, block_size):
    """Encrypts blocks from `first_lba` on, in one of SPDK's tweak modes."""
    unit = SECTOR if mode.startswith("INCR_512") else block_size
    number = first_lba * block_size // unit
    sealed = b""
    for offset in range(0, len(plain), unit):
        tweak = {"SIMPLE_LBA": number,
                 "JOIN_NEG_LBA_WITH_LBA": (~number & (2**63 - 1)) << 64 | number,
                 "INCR_512_FULL_LBA": number,
                 "INCR_512_UPPER_LBA": number << 64}[mode]
        sealed += encrypt_unit(key, tweak, plain[offset:offset + unit])
        number += 1
    return sealed
