#pragma once

#include <string>
#include <string_view>

#include "target/nvme/fabrics.h"

namespace sma::target::nvmf {

/// Where a transport listens or a peer is: TRTYPE, ADRFAM, TRADDR and TRSVCID of NVMe over Fabrics.
/// A value type.
struct TransportAddress {
  std::string type;  // TRTYPE in upper case: "TCP"
  nvme::AddressFamily family = nvme::AddressFamily::kNone;
  std::string address;     // TRADDR
  std::string service_id;  // TRSVCID

  /// True when both name the same place: IP addresses compare by value, other addresses without
  /// case.
  friend bool operator==(const TransportAddress& a, const TransportAddress& b);

  /// "TCP 127.0.0.1:4420", for logs.
  std::string ToString() const;
};

}  // namespace sma::target::nvmf
