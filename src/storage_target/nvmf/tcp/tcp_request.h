// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "storage_target/nvme/crc32c.h"
#include "storage_target/nvme/tcp_pdu.h"
#include "storage_target/nvmf/request.h"
#include "storage_target/nvmf/tcp/outgoing.h"

namespace sma::storage_target::nvmf::tcp {

/// A command of an NVMe/TCP connection. Its index in the connection is the transfer tag of its R2T.
struct TcpRequest : Request {
  enum class State : uint8_t {
    kFree,
    kExecuting,     // being executed; may wait for memory for its data
    kSendingR2t,    // its R2T is in the outgoing queue
    kAwaitingData,  // the host may send H2CData
    kResponding,    // its completion is in the outgoing queue
  };

  State state = State::kFree;
  bool data_corrupt = false;  // a data digest was wrong
  uint16_t index = 0;
  std::byte* slot = nullptr;    // memory for small data, permanently assigned
  std::byte* buffer = nullptr;  // from the group's pool, for larger data
  const std::byte* capsule_data =
      nullptr;                 // in-capsule data in the input buffer, while the capsule is parsed
  uint32_t received_size = 0;  // bytes of H2CData received
  uint64_t transfer_ns = 0;    // time at which its R2T or response was queued
  iovec data_iov{};            // the memory to which iovs points
  TcpRequest* next = nullptr;  // in the free list, or in the list of waiting requests

  struct Out : Outgoing {
    TcpRequest* request;
  } out;
  /// The header of the C2HData or R2T PDU, with digest and padding.
  std::array<std::byte, 132> header;
  /// The data digest, and the response capsule with its digest.
  std::array<std::byte, nvme::tcp::kDigestSize * 2 + sizeof(nvme::tcp::CapsuleResp)> trailer;
};

}  // namespace sma::storage_target::nvmf::tcp
