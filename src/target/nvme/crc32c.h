#pragma once

#include <cstddef>
#include <cstdint>

namespace sma::target::nvme {

/// CRC32C (RFC 3720 §12.1) over bytes that come in pieces: the header and data digests of
/// NVMe/TCP 1.0 §3.3.1.
class Crc32c {
 public:
  void Update(const void* bytes, size_t size_bytes);
  /// Of all bytes so far. On the wire it is little-endian.
  uint32_t value() const { return ~state_; }

  static uint32_t Of(const void* bytes, size_t size_bytes) {
    Crc32c crc;
    crc.Update(bytes, size_bytes);
    return crc.value();
  }

 private:
  uint32_t state_ = 0xffffffff;
};

}  // namespace sma::target::nvme
