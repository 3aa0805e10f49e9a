// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vfio_user/version.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "storage_target/vfio_user/protocol.h"

namespace sma::storage_target::vfio_user {
namespace {

using Json = nlohmann::json;

// Returns nullptr if there is no such member.
const Json* Find(const Json& object, const char* name) {
  auto at = object.find(name);
  return at == object.end() ? nullptr : &*at;
}

template <typename T>
bool ReadNumber(const Json& capabilities, const char* name, T& value) {
  const Json* found = Find(capabilities, name);
  if (found == nullptr) return true;
  if (!found->is_number_unsigned()) return false;
  value = static_cast<T>(std::min<uint64_t>(found->get<uint64_t>(), std::numeric_limits<T>::max()));
  return true;
}

bool ReadCapabilities(const Json& capabilities, ClientCapabilities& client) {
  if (!capabilities.is_object()) return false;
  if (!ReadNumber(capabilities, "max_msg_fds", client.max_message_fds)) return false;
  if (!ReadNumber(capabilities, "max_data_xfer_size", client.max_transfer_bytes)) return false;
  const Json* multiple = Find(capabilities, "write_multiple");
  if (multiple == nullptr) return true;
  if (!multiple->is_boolean()) return false;
  client.write_multiple = multiple->get<bool>();
  return true;
}

}  // namespace

std::optional<ClientCapabilities> ParseVersion(std::span<const std::byte> payload) {
  Version version;
  if (payload.size() < sizeof version) return std::nullopt;
  std::memcpy(&version, payload.data(), sizeof version);
  if (version.major_number != kMajorVersion) return std::nullopt;
  ClientCapabilities client;
  client.minor_version = std::min(version.minor_number, kMinorVersion);
  std::string_view text(reinterpret_cast<const char*>(payload.data()) + sizeof version,
                        payload.size() - sizeof version);
  if (text.empty()) return client;
  if (text.back() != '\0') return std::nullopt;
  text.remove_suffix(1);
  if (text.empty()) return client;
  const Json data = Json::parse(text, nullptr, false);
  if (!data.is_object()) return std::nullopt;
  const Json* capabilities = Find(data, "capabilities");
  if (capabilities != nullptr && !ReadCapabilities(*capabilities, client)) return std::nullopt;
  return client;
}

std::string MakeVersionReply(const ClientCapabilities& client) {
  Json capabilities = {{"max_msg_fds", kMaxMessageFds},
                       {"max_data_xfer_size", kMaxTransferBytes},
                       {"max_dma_maps", kMaxDmaRegions},
                       {"pgsizes", 4096}};
  if (client.write_multiple) capabilities["write_multiple"] = true;
  Version version;
  version.minor_number = client.minor_version;
  std::string reply(reinterpret_cast<const char*>(&version), sizeof version);
  reply += Json({{"capabilities", std::move(capabilities)}}).dump();
  reply.push_back('\0');
  return reply;
}

}  // namespace sma::storage_target::vfio_user
