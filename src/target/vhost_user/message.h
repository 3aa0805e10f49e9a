#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "target/vhost_user/protocol.h"

namespace sma::target::vhost_user {

/// A message with the descriptors that came with it.
struct Message {
  /// More than any message that is understood.
  static constexpr size_t kMaxPayloadBytes = 512;
  static constexpr size_t kMaxFds = kMaxTableRegions;

  /// The payload, or its beginning, as a T; what the peer did not send is zero. Only types of at
  /// most kMaxPayloadBytes.
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
  std::vector<base::UniqueFd> fds;
};

/// What is wrong with the form of a front end's message: its flags, its size, the descriptors with
/// it; empty when nothing is. Every other member that is used afterwards is within the payload. A
/// request that is not known passes.
std::string_view FindFormError(const Message& message);

/// The specification's name of a request without its prefix ("SET_MEM_TABLE"); "an unknown request"
/// for others.
std::string_view RequestName(Request request);

}  // namespace sma::target::vhost_user
