// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "harness/vhost_user/guest_ram.h"
#include "harness/vhost_user/ring_driver.h"
#include "storage_target/vhost_user/protocol.h"

namespace sma::harness {

namespace vhost_user = storage_target::vhost_user;

/// The front-end side of a vhost-user connection, one message at a time. No call waits longer than
/// kTimeout. Failures are reported as false or nullopt.
class FrontEnd {
 public:
  static constexpr std::chrono::seconds kTimeout{10};

  struct Message {
    vhost_user::Header header{};
    std::vector<std::byte> payload;
    std::vector<base::UniqueFd> fds;
  };

  /// Retries until a back end listens at `path`.
  bool Connect(const std::string& path);
  /// Uses a connected socket.
  void Adopt(base::UniqueFd socket);
  void Disconnect() { socket_.Reset(); }
  int fd() const { return socket_.get(); }

  /// Sends a message with any request; the header's flags are `flags` and the version.
  bool Send(vhost_user::Request request, std::span<const std::byte> payload,
            std::span<const int> fds = {}, uint32_t flags = 0);
  bool SendBytes(std::span<const std::byte> bytes, std::span<const int> fds = {});
  std::optional<Message> Receive();
  /// Waits until the back end closes the connection; returns true if it does.
  bool WaitClosed();

  /// Sends a message and returns the reply.
  std::optional<Message> Ask(vhost_user::Request request, std::span<const std::byte> payload = {},
                             std::span<const int> fds = {});
  std::optional<uint64_t> AskNumber(vhost_user::Request request);
  /// Sends a message and waits for the acknowledgement (REPLY_ACK must have been negotiated);
  /// returns true if it reports success.
  bool Do(vhost_user::Request request, std::span<const std::byte> payload = {},
          std::span<const int> fds = {});
  template <typename T>
  bool DoWith(vhost_user::Request request, const T& payload, std::span<const int> fds = {}) {
    return Do(request, std::as_bytes(std::span(&payload, 1)), fds);
  }

  /// Negotiates all offered features and protocol features except those in `without`.
  bool Negotiate(uint64_t without = 0);
  bool SetMemTable(std::span<GuestRam* const> rams);
  bool AddMemReg(const GuestRam& ram);
  bool RemMemReg(const GuestRam& ram);

  struct InflightBuffer {
    vhost_user::InflightDescription description{};
    base::UniqueFd fd;
  };
  std::optional<InflightBuffer> GetInflight(uint16_t queue_count, uint16_t queue_size);
  bool SetInflight(const InflightBuffer& buffer);

  /// Sends all messages that start a vring; `ram` is the memory of `driver`.
  bool StartVring(uint16_t index, const RingDriver& driver, const GuestRam& ram, uint32_t base,
                  int kick_fd, int call_fd);
  /// Stops a vring and returns its base, the position of the driver's next request.
  std::optional<uint32_t> StopVring(uint16_t index);
  bool SetVringFd(vhost_user::Request request, uint16_t index, int fd);

  uint64_t features() const { return features_; }
  bool Has(unsigned feature) const { return (features_ >> feature & 1) != 0; }

 private:
  base::UniqueFd socket_;
  uint64_t features_ = 0;
};

/// Returns the description of a memory region for messages.
vhost_user::MemoryRegionDescription Describe(const GuestRam& ram);

}  // namespace sma::harness
