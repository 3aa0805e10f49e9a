// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/transport_address.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/ip_address.h"

namespace sma::storage_target::nvmf {

bool operator==(const TransportAddress& a, const TransportAddress& b) {
  if (a.type != b.type || a.family != b.family || a.service_id != b.service_id) return false;
  if (absl::EqualsIgnoreCase(a.address, b.address)) return true;
  auto ip_a = base::IpAddress::Parse(a.address);
  return ip_a.has_value() && ip_a == base::IpAddress::Parse(b.address);
}

std::string TransportAddress::ToString() const {
  bool v6 = family == nvme::AddressFamily::kIpv6;
  std::string host = v6 ? absl::StrCat("[", address, "]") : address;
  return service_id.empty() ? absl::StrCat(type, " ", host)
                            : absl::StrCat(type, " ", host, ":", service_id);
}

}  // namespace sma::storage_target::nvmf
