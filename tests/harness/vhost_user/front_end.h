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
#include "target/vhost_user/protocol.h"

namespace sma::harness {

namespace vhost_user = target::vhost_user;

/// The front end's side of a vhost-user connection, one message at a time. Nothing waits longer
/// than kTimeout. What fails is false or nullopt.
class FrontEnd {
 public:
  static constexpr std::chrono::seconds kTimeout{10};

  struct Message {
    vhost_user::Header header{};
    std::vector<std::byte> payload;
    std::vector<base::UniqueFd> fds;
  };

  /// Tries until somebody listens at `path`.
  bool Connect(const std::string& path);
  /// Goes on with a connected socket.
  void Adopt(base::UniqueFd socket);
  void Disconnect() { socket_.Reset(); }
  int fd() const { return socket_.get(); }

  /// Sends any message; the header's flags are `flags` and the version.
  bool Send(vhost_user::Request request, std::span<const std::byte> payload,
            std::span<const int> fds = {}, uint32_t flags = 0);
  bool SendBytes(std::span<const std::byte> bytes, std::span<const int> fds = {});
  std::optional<Message> Receive();
  /// True when the back end closed the connection; waits for that.
  bool WaitClosed();

  /// Sends and waits for the reply.
  std::optional<Message> Ask(vhost_user::Request request, std::span<const std::byte> payload = {},
                             std::span<const int> fds = {});
  std::optional<uint64_t> AskNumber(vhost_user::Request request);
  /// Sends and waits for the acknowledgement (REPLY_ACK must have been negotiated): true when it
  /// says success.
  bool Do(vhost_user::Request request, std::span<const std::byte> payload = {},
          std::span<const int> fds = {});
  template <typename T>
  bool DoWith(vhost_user::Request request, const T& payload, std::span<const int> fds = {}) {
    return Do(request, std::as_bytes(std::span(&payload, 1)), fds);
  }

  /// Features and protocol features: all that are offered but those in `without`.
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

  /// Everything that starts a vring; `ram` is where `driver` lies.
  bool StartVring(uint16_t index, const RingDriver& driver, const GuestRam& ram, uint32_t base,
                  int kick_fd, int call_fd);
  /// Stops it: its base, where the driver's next request stands.
  std::optional<uint32_t> StopVring(uint16_t index);
  bool SetVringFd(vhost_user::Request request, uint16_t index, int fd);

  uint64_t features() const { return features_; }
  bool Has(unsigned feature) const { return (features_ >> feature & 1) != 0; }

 private:
  base::UniqueFd socket_;
  uint64_t features_ = 0;
};

/// A region of memory as messages describe it.
vhost_user::MemoryRegionDescription Describe(const GuestRam& ram);

}  // namespace sma::harness
