// SPDX-License-Identifier: Apache-2.0

#include "harness/vfio_user/unshared_ram.h"

#include <algorithm>
#include <cerrno>

namespace sma::harness {

using vfio_user::Command;
using vfio_user::DmaAccess;

UnsharedRam::UnsharedRam(VfioUserClient& client, uint64_t guest_address, size_t size_bytes)
    : client_(client), guest_address_(guest_address), bytes_(size_bytes) {
  client_.SetRequestHandler([this](const Message& message) { Serve(message); });
}

int UnsharedRam::Map(uint32_t flags) {
  vfio_user::DmaMapRequest map;
  map.flags = flags;
  map.address = guest_address_;
  map.size_bytes = bytes_.size();
  return client_.DoWith(Command::kDmaMap, map);
}

void UnsharedRam::Serve(const Message& message) {
  if (message.header.command == Command::kDmaRead) ++reads_;
  if (message.header.command == Command::kDmaWrite) ++writes_;
  largest_bytes_ = std::max(largest_bytes_, message.As<DmaAccess>().count);
  if (!intercept_ || !intercept_(message)) Answer(message);
}

void UnsharedRam::Answer(const Message& message) {
  const auto access = message.As<DmaAccess>();
  const bool inside = access.address >= guest_address_ && access.count <= bytes_.size() &&
                      access.address - guest_address_ <= bytes_.size() - access.count;
  if (!inside) {
    client_.Reply(message.header, {}, EFAULT);
    return;
  }
  const auto place = std::span(bytes_).subspan(access.address - guest_address_, access.count);
  const auto head = std::as_bytes(std::span(&access, 1));
  std::vector<std::byte> payload(head.begin(), head.end());
  if (message.header.command == Command::kDmaRead) {
    payload.insert(payload.end(), place.begin(), place.end());
  } else {
    std::copy(message.payload.begin() + sizeof access, message.payload.end(), place.begin());
  }
  client_.Reply(message.header, payload);
}

}  // namespace sma::harness
