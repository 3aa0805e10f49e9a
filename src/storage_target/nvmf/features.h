// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstdint>

namespace sma::storage_target::nvmf {

/// Features whose values a controller stores for its host without acting on them (NVMe Base 2.0
/// §5.27.1).
struct Features {
  uint32_t arbitration = 0;
  uint32_t power_management = 0;
  uint32_t error_recovery = 0;
  uint32_t write_atomicity = 0;
  std::array<uint16_t, 9> over_temperature{0xffff, 0xffff, 0xffff, 0xffff, 0xffff,
                                           0xffff, 0xffff, 0xffff, 0xffff};
  std::array<uint16_t, 9> under_temperature{};  // both indexed by TMPSEL, in kelvins
  uint64_t timestamp_ms = 0;                    // as set by the host, since 1970
  uint64_t timestamp_set_ns = 0;  // time of setting on the reactor's clock; 0: never set
};

}  // namespace sma::storage_target::nvmf
