#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace sma::target::vfio_user {

/// What this side can do, and what it takes from a peer that says nothing (vfio-user
/// "VFIO_USER_VERSION"). QEMU refuses a server that takes more than 16 descriptors.
inline constexpr uint32_t kMaxMessageFds = 16;
inline constexpr uint32_t kMaxTransferBytes = 65536;
inline constexpr uint32_t kMaxDmaRegions = 1024;

/// What a client can do.
struct ClientCapabilities {
  uint16_t minor_version = 0;
  uint32_t max_message_fds = 1;
  uint64_t max_transfer_bytes = 1 << 20;
  bool write_multiple = false;
};

/// The payload of the client's first message. nullopt: it is malformed, or of another major
/// version.
std::optional<ClientCapabilities> ParseVersion(std::span<const std::byte> payload);

/// The payload of the answer to it.
std::string MakeVersionReply(const ClientCapabilities& client);

}  // namespace sma::target::vfio_user
