// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvme/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <climits>

namespace sma::storage_target::nvme {

void Crc32c::Update(const void* bytes, size_t size_bytes) {
  // ISA-L takes a pointer to non-const, although it only reads the bytes, and takes the size as an
  // int.
  auto* at = static_cast<unsigned char*>(const_cast<void*>(bytes));
  while (size_bytes > 0) {
    size_t piece = std::min<size_t>(size_bytes, INT_MAX);
    state_ = crc32_iscsi(at, static_cast<int>(piece), state_);
    at += piece;
    size_bytes -= piece;
  }
}

}  // namespace sma::storage_target::nvme
