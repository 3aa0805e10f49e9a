// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>
#include <string_view>

#include "storage_target/nvme/fabrics.h"

namespace sma::storage_target::nvmf {

/// The address of a listener or a peer: TRTYPE, ADRFAM, TRADDR and TRSVCID of NVMe over Fabrics. A
/// value type.
struct TransportAddress {
  std::string type;  // TRTYPE in upper case: "TCP"
  nvme::AddressFamily family = nvme::AddressFamily::kNone;
  std::string address;     // TRADDR
  std::string service_id;  // TRSVCID

  /// IP addresses are compared by value, other addresses case-insensitively.
  friend bool operator==(const TransportAddress& a, const TransportAddress& b);

  /// Returns the address in a form for logs, such as "TCP 127.0.0.1:4420".
  std::string ToString() const;
};

}  // namespace sma::storage_target::nvmf
