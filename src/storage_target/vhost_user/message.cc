// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vhost_user/message.h"

#include <algorithm>
#include <optional>

namespace sma::storage_target::vhost_user {
namespace {

struct Form {
  Request request;
  std::string_view name;
  size_t min_bytes;
  size_t max_bytes;
  size_t min_fds;
  size_t max_fds;
};

constexpr size_t kU64 = sizeof(uint64_t);
constexpr size_t kState = sizeof(VringState);
constexpr size_t kInflight = sizeof(InflightDescription);
constexpr size_t kRegion = sizeof(SingleMemoryRegion);

constexpr Form kForms[] = {
    {Request::kGetFeatures, "GET_FEATURES", 0, 0, 0, 0},
    {Request::kSetFeatures, "SET_FEATURES", kU64, kU64, 0, 0},
    {Request::kSetOwner, "SET_OWNER", 0, 0, 0, 0},
    {Request::kResetOwner, "RESET_OWNER", 0, 0, 0, 0},
    {Request::kSetMemTable, "SET_MEM_TABLE", kMemoryTableHeaderBytes, sizeof(MemoryTable), 0,
     kMaxTableRegions},
    {Request::kSetVringNum, "SET_VRING_NUM", kState, kState, 0, 0},
    {Request::kSetVringAddr, "SET_VRING_ADDR", sizeof(VringAddr), sizeof(VringAddr), 0, 0},
    {Request::kSetVringBase, "SET_VRING_BASE", kState, kState, 0, 0},
    {Request::kGetVringBase, "GET_VRING_BASE", kState, kState, 0, 0},
    {Request::kSetVringKick, "SET_VRING_KICK", kU64, kU64, 0, 1},
    {Request::kSetVringCall, "SET_VRING_CALL", kU64, kU64, 0, 1},
    {Request::kSetVringErr, "SET_VRING_ERR", kU64, kU64, 0, 1},
    {Request::kGetProtocolFeatures, "GET_PROTOCOL_FEATURES", 0, 0, 0, 0},
    {Request::kSetProtocolFeatures, "SET_PROTOCOL_FEATURES", kU64, kU64, 0, 0},
    {Request::kGetQueueNum, "GET_QUEUE_NUM", 0, 0, 0, 0},
    {Request::kSetVringEnable, "SET_VRING_ENABLE", kState, kState, 0, 0},
    {Request::kSetBackendReqFd, "SET_BACKEND_REQ_FD", 0, 0, 1, 1},
    {Request::kGetConfig, "GET_CONFIG", kConfigHeaderBytes, sizeof(ConfigSpace), 0, 0},
    {Request::kSetConfig, "SET_CONFIG", kConfigHeaderBytes, sizeof(ConfigSpace), 0, 0},
    {Request::kGetInflightFd, "GET_INFLIGHT_FD", kInflightMinBytes, kInflight, 0, 0},
    {Request::kSetInflightFd, "SET_INFLIGHT_FD", kInflightMinBytes, kInflight, 1, 1},
    {Request::kResetDevice, "RESET_DEVICE", 0, 0, 0, 0},
    {Request::kGetMaxMemSlots, "GET_MAX_MEM_SLOTS", 0, 0, 0, 0},
    {Request::kAddMemReg, "ADD_MEM_REG", kRegion, kRegion, 1, 1},
    {Request::kRemMemReg, "REM_MEM_REG", kRegion, kRegion, 0, 1},
};

const Form* FindForm(Request request) {
  const Form* form = std::ranges::find(kForms, request, &Form::request);
  return form == std::end(kForms) ? nullptr : form;
}

bool TableFits(const Message& message) {
  const size_t count = message.As<MemoryTable>().region_count;
  return count <= kMaxTableRegions && count == message.fds.size() &&
         message.header.payload_bytes ==
             kMemoryTableHeaderBytes + count * sizeof(MemoryRegionDescription);
}

bool ConfigFits(const Message& message) {
  const auto space = message.As<ConfigSpace>();
  return space.size_bytes <= kMaxConfigBytes &&
         message.header.payload_bytes == kConfigHeaderBytes + space.size_bytes &&
         space.offset <= kMaxConfigBytes - space.size_bytes;
}

// The payloads of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR specify whether a descriptor is
// sent with the message.
bool VringFdFits(const Message& message) {
  const bool none = (message.As<uint64_t>() & kVringNoFd) != 0;
  return message.fds.size() == (none ? 0 : 1);
}

bool ContentFits(const Message& message) {
  switch (message.request()) {
    case Request::kSetMemTable:
      return TableFits(message);
    case Request::kGetConfig:
    case Request::kSetConfig:
      return ConfigFits(message);
    case Request::kSetVringKick:
    case Request::kSetVringCall:
    case Request::kSetVringErr:
      return VringFdFits(message);
    default:
      return true;
  }
}

}  // namespace

std::string_view FindFormError(const Message& message) {
  const Header& header = message.header;
  if ((header.flags & Header::kVersionMask) != Header::kVersion) return "unsupported version";
  if ((header.flags & Header::kReply) != 0) return "a reply without a request";
  const Form* form = FindForm(message.request());
  if (form == nullptr) return {};
  if (header.payload_bytes < form->min_bytes || header.payload_bytes > form->max_bytes) {
    return "wrong payload size";
  }
  if (message.fds.size() < form->min_fds || message.fds.size() > form->max_fds) {
    return "wrong number of descriptors";
  }
  if (!ContentFits(message)) return "payload and descriptors do not match";
  return {};
}

std::string_view RequestName(Request request) {
  const Form* form = FindForm(request);
  return form == nullptr ? "an unknown request" : form->name;
}

}  // namespace sma::storage_target::vhost_user
