#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "target/nvme/crc32c.h"
#include "target/nvme/tcp_pdu.h"
#include "target/nvmf/request.h"
#include "target/nvmf/tcp/outgoing.h"

namespace sma::target::nvmf::tcp {

/// A command of an NVMe/TCP connection. Its index in the connection is the transfer tag of its R2T.
struct TcpRequest : Request {
  enum class State : uint8_t {
    kFree,
    kExecuting,     // the core's; memory for data may be on order
    kSendingR2t,    // its R2T is in the outgoing queue
    kAwaitingData,  // the host may send H2CData
    kResponding,    // in the outgoing queue
  };

  State state = State::kFree;
  bool data_corrupt = false;  // a data digest was wrong
  uint16_t index = 0;
  std::byte* slot = nullptr;    // memory for small data, this request's for life
  std::byte* buffer = nullptr;  // from the group's pool, for larger data
  const std::byte* capsule_data =
      nullptr;                 // where in-capsule data are in the input, while it is parsed
  uint32_t received_size = 0;  // bytes of H2CData so far
  iovec data_iov{};            // what iovs points to
  TcpRequest* next = nullptr;  // of the free list or of those that wait for memory

  struct Out : Outgoing {
    TcpRequest* request;
  } out;
  /// The header of the data or R2T PDU, with digest and padding.
  std::array<std::byte, 132> header;
  /// The data's digest and the response capsule with its digest.
  std::array<std::byte, nvme::tcp::kDigestSize * 2 + sizeof(nvme::tcp::CapsuleResp)> trailer;
};

}  // namespace sma::target::nvmf::tcp
