// SPDX-License-Identifier: Apache-2.0

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "storage_target/nvme/nqn.h"
#include "storage_target/nvme/tcp_pdu.h"

using sma::storage_target::nvme::tcp::CommonHeader;
using sma::storage_target::nvme::tcp::Layout;
using sma::storage_target::nvme::tcp::NegotiatedParams;

// Checks that in every header that CheckHeader accepts, all parts lie within the PDU and the data
// are within the limits.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  sma::storage_target::nvme::IsValidNqn({reinterpret_cast<const char*>(bytes), size});
  CommonHeader header;
  if (size < sizeof header + 4) return 0;
  std::memcpy(&header, bytes, sizeof header);
  const uint8_t* choice = bytes + sizeof header;
  NegotiatedParams negotiated{.initialized = (choice[0] & 1) != 0,
                              .header_digest = (choice[0] & 2) != 0,
                              .data_digest = (choice[0] & 4) != 0,
                              .hpda = static_cast<uint8_t>(choice[1] & 31),
                              .cpda = static_cast<uint8_t>(choice[2] & 31),
                              .maxh2cdata = 131072,
                              .max_in_capsule = 4096};
  bool from_host = (choice[0] & 8) != 0;
  Layout layout;
  if (sma::storage_target::nvme::tcp::CheckHeader(header, from_host, negotiated, layout)) return 0;
  uint64_t end = uint64_t{layout.data_offset} + layout.data_size + (layout.data_digest ? 4 : 0);
  bool limited = header.type != sma::storage_target::nvme::tcp::PduType::kC2hData;
  if (layout.data_offset < layout.header_size || end != layout.size || layout.size != header.plen ||
      (limited && layout.data_size > 131072)) {
    std::abort();
  }
  return 0;
}
