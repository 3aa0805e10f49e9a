// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace sma::storage_target::vfio_user {

/// The limits that this server announces and enforces (vfio-user "VFIO_USER_VERSION"). QEMU refuses
/// a server that accepts more than 16 descriptors.
inline constexpr uint32_t kMaxMessageFds = 16;
inline constexpr uint32_t kMaxTransferBytes = 65536;
inline constexpr uint32_t kMaxDmaRegions = 1024;

/// The capabilities of a client.
struct ClientCapabilities {
  uint16_t minor_version = 0;
  uint32_t max_message_fds = 1;
  uint64_t max_transfer_bytes = 1 << 20;
  bool write_multiple = false;
};

/// Parses the payload of the client's first message. Returns nullopt if it is malformed or has
/// another major version.
std::optional<ClientCapabilities> ParseVersion(std::span<const std::byte> payload);

/// Returns the payload of the reply.
std::string MakeVersionReply(const ClientCapabilities& client);

}  // namespace sma::storage_target::vfio_user
