// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "storage_target/vhost_user/protocol.h"
#include "storage_target/virtio/received_fd.h"

namespace sma::storage_target::vhost_user {

/// A message with the descriptors that were received with it.
struct Message {
  /// Larger than any supported message.
  static constexpr size_t kMaxPayloadBytes = 512;
  static constexpr size_t kMaxFds = kMaxTableRegions;

  /// Returns the payload, or its beginning, as a T; bytes that the peer did not send are zero. T
  /// must not be larger than kMaxPayloadBytes.
  template <typename T>
  T As() const {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMaxPayloadBytes);
    T value{};
    std::memcpy(&value, payload.data(), std::min<size_t>(sizeof value, header.payload_bytes));
    return value;
  }

  Request request() const { return static_cast<Request>(header.request); }
  bool wants_reply() const { return (header.flags & Header::kNeedReply) != 0; }

  Header header{};
  std::array<std::byte, kMaxPayloadBytes> payload;
  std::vector<virtio::ReceivedFd> fds;
};

/// Checks the flags, the size and the number of descriptors of a front end's message. Returns a
/// description of the error, or an empty string. After the check, every other member that is used
/// lies within the payload. An unknown request passes.
std::string_view FindFormError(const Message& message);

/// Returns the specification's name of a request without its prefix ("SET_MEM_TABLE"), or "an
/// unknown request".
std::string_view RequestName(Request request);

}  // namespace sma::storage_target::vhost_user
