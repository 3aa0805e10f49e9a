#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "harness/vfio_user/client.h"

namespace sma::harness {

/// Memory of a guest that its client maps without a descriptor: the server reads and writes it by
/// messages, which are answered while the client waits for something (VfioUserClient). One for a
/// client.
class UnsharedRam {
 public:
  using Message = VfioUserClient::Message;

  UnsharedRam(VfioUserClient& client, uint64_t guest_address, size_t size_bytes);

  /// 0 or an errno value.
  int Map(uint32_t flags = vfio_user::kDmaReadable | vfio_user::kDmaWritable);
  uint64_t guest_address() const { return guest_address_; }
  std::span<std::byte> bytes() { return bytes_; }
  /// What the address of a byte is in the guest.
  uint64_t AddressOf(size_t offset) const { return guest_address_ + offset; }

  /// Sees each message first; true: it has dealt with it.
  void SetInterceptor(std::function<bool(const Message&)> interceptor) {
    intercept_ = std::move(interceptor);
  }
  /// Answers a message as it should be.
  void Answer(const Message& message);

  uint64_t reads() const { return reads_; }
  uint64_t writes() const { return writes_; }
  /// Of the largest message's data.
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
