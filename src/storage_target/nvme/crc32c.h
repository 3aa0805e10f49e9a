// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>

namespace sma::storage_target::nvme {

/// Incremental CRC32C (RFC 3720 §12.1), for the header and data digests of NVMe/TCP 1.0 §3.3.1.
class Crc32c {
 public:
  void Update(const void* bytes, size_t size_bytes);
  /// Returns the CRC of all bytes so far. Little-endian on the wire.
  uint32_t value() const { return ~state_; }

  static uint32_t Of(const void* bytes, size_t size_bytes) {
    Crc32c crc;
    crc.Update(bytes, size_bytes);
    return crc.value();
  }

 private:
  uint32_t state_ = 0xffffffff;
};

}  // namespace sma::storage_target::nvme
