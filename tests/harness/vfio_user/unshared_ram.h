// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "harness/vfio_user/client.h"

namespace sma::harness {

/// Guest memory that the client maps without a descriptor: the server accesses it by sending
/// messages, which the client handles while it waits for an answer (VfioUserClient). There must be
/// at most one per client.
class UnsharedRam {
 public:
  using Message = VfioUserClient::Message;

  UnsharedRam(VfioUserClient& client, uint64_t guest_address, size_t size_bytes);

  /// Maps the memory. Returns 0 or an errno value.
  int Map(uint32_t flags = vfio_user::kDmaReadable | vfio_user::kDmaWritable);
  uint64_t guest_address() const { return guest_address_; }
  std::span<std::byte> bytes() { return bytes_; }
  /// Returns the guest address of a byte.
  uint64_t AddressOf(size_t offset) const { return guest_address_ + offset; }

  /// Sets a function that receives each message first and returns true if it has handled the
  /// message.
  void SetInterceptor(std::function<bool(const Message&)> interceptor) {
    intercept_ = std::move(interceptor);
  }
  /// Answers a message correctly.
  void Answer(const Message& message);

  uint64_t reads() const { return reads_; }
  uint64_t writes() const { return writes_; }
  /// Returns the data size of the largest message.
  uint64_t largest_bytes() const { return largest_bytes_; }

 private:
  void Serve(const Message& message);

  VfioUserClient& client_;
  const uint64_t guest_address_;
  std::vector<std::byte> bytes_;
  std::function<bool(const Message&)> intercept_;
  uint64_t reads_ = 0;
  uint64_t writes_ = 0;
  uint64_t largest_bytes_ = 0;
};

}  // namespace sma::harness
