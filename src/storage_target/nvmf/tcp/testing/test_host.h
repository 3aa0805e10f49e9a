// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/nvme/crc32c.h"
#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvme/nqn.h"
#include "storage_target/nvme/property.h"
#include "storage_target/nvme/tcp_pdu.h"

namespace sma::storage_target::nvmf::tcp {

/// A host that sends arbitrary PDUs and checks each received PDU. Blocks.
class TestHost {
 public:
  static constexpr char kHostNqn[] = "nqn.2016-06.io.spdk:host";

  explicit TestHost(base::UniqueFd fd) : fd_(std::move(fd)) {}

  struct Pdu {
    nvme::tcp::CommonHeader header;
    std::vector<std::byte> bytes;  // the whole PDU
    std::vector<std::byte> data;
    template <typename T>
    T As() const {
      T pdu{};  // zeroes for missing bytes
      std::memcpy(static_cast<void*>(&pdu), bytes.data(), std::min(sizeof pdu, bytes.size()));
      return pdu;
    }
    nvme::tcp::PduType type() const { return header.type; }
    nvme::Status status() const {
      return nvme::StatusOf(As<nvme::tcp::CapsuleResp>().completion.status);
    }
    nvme::tcp::FatalError fes() const { return As<nvme::tcp::TermReq>().fes; }
  };

  void Send(const void* bytes, size_t size) {
    ASSERT_EQ(::send(fd_.get(), bytes, size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
  }
  template <typename T>
  void SendStruct(const T& pdu) {
    Send(&pdu, sizeof pdu);
  }

  /// Receives the next PDU; nullopt if the connection ends, or if nothing arrives for 10 s, which
  /// fails the test.
  std::optional<Pdu> Receive() {
    Pdu pdu;
    if (!ReadExactly(&pdu.header, sizeof pdu.header)) return std::nullopt;
    if (pdu.header.plen < sizeof pdu.header) {
      ADD_FAILURE() << "a PDU shorter than its header";
      return std::nullopt;
    }
    pdu.bytes.resize(pdu.header.plen);
    std::memcpy(pdu.bytes.data(), &pdu.header, sizeof pdu.header);
    if (!ReadExactly(pdu.bytes.data() + sizeof pdu.header, pdu.header.plen - sizeof pdu.header))
      return std::nullopt;
    nvme::tcp::Layout layout;
    bool fault = static_cast<bool>(nvme::tcp::CheckHeader(pdu.header, false, negotiated, layout));
    EXPECT_FALSE(fault && pdu.type() != nvme::tcp::PduType::kIcResp) << "a PDU with a bad header";
    if (!fault) {
      auto begin = pdu.bytes.begin() + layout.data_offset;
      pdu.data.assign(begin, begin + layout.data_size);
    }
    return pdu;
  }

  bool IsClosed() {
    char byte;
    pollfd ready{fd_.get(), POLLIN, 0};
    if (::poll(&ready, 1, 10'000) != 1) return false;
    return ::recv(fd_.get(), &byte, 1, 0) <= 0;
  }

  void Initialize(uint8_t digests = 0, uint8_t hpda = 0) {
    nvme::tcp::IcReq request;
    request.digests = digests;
    request.hpda = hpda;
    SendStruct(request);
    auto pdu = Receive();
    ASSERT_TRUE(pdu);
    ASSERT_EQ(pdu->type(), nvme::tcp::PduType::kIcResp);
    auto response = pdu->As<nvme::tcp::IcResp>();
    negotiated = {.initialized = true,
                  .header_digest = (response.digests & nvme::tcp::kDigestHeader) != 0,
                  .data_digest = (response.digests & nvme::tcp::kDigestData) != 0,
                  .hpda = hpda,
                  .cpda = response.cpda,
                  .maxh2cdata = response.maxh2cdata,
                  .max_in_capsule = 8192};
  }

  /// Sends a command, with `data` in its capsule if there is any.
  void SendCommand(nvme::Command command, std::span<const std::byte> data = {}) {
    nvme::tcp::CapsuleCmd capsule;
    nvme::tcp::Layout layout;
    capsule.header = nvme::tcp::MakeHeader(nvme::tcp::PduType::kCapsuleCmd, negotiated,
                                           static_cast<uint32_t>(data.size()), &layout);
    command.flags = nvme::kPsdtSgl;
    if (!data.empty()) {
      command.sgl = {.length = static_cast<uint32_t>(data.size()),
                     .type = nvme::SglType::kDataBlockOffset};
    } else {
      command.sgl.type = nvme::SglType::kTransportDataBlock;
    }
    capsule.command = command;
    SendPdu(&capsule, sizeof capsule, layout, data);
  }

  void SendH2cData(const nvme::tcp::R2t& r2t, uint32_t offset, std::span<const std::byte> data,
                   bool last = true) {
    nvme::tcp::DataPdu pdu;
    nvme::tcp::Layout layout;
    pdu.header = nvme::tcp::MakeHeader(nvme::tcp::PduType::kH2cData, negotiated,
                                       static_cast<uint32_t>(data.size()), &layout);
    if (last) pdu.header.flags |= nvme::tcp::kFlagLastPdu;
    pdu.cccid = r2t.cccid;
    pdu.ttag = r2t.ttag;
    pdu.data_offset = offset;
    pdu.data_length = static_cast<uint32_t>(data.size());
    SendPdu(&pdu, sizeof pdu, layout, data);
  }

  /// Sends a command and waits for its response.
  Pdu Execute(const nvme::Command& command, std::span<const std::byte> data = {}) {
    SendCommand(command, data);
    auto pdu = Receive();
    EXPECT_TRUE(pdu);
    return pdu.value_or(Pdu());
  }

  static nvme::ConnectData ConnectDataFor(
      const std::string& subsystem_nqn,
      uint16_t controller_id = nvme::ConnectData::kAnyControllerId) {
    nvme::ConnectData data;
    data.controller_id = controller_id;
    data.host_id[15] = 1;
    nvme::SetPadded(data.subsystem_nqn, subsystem_nqn, '\0');
    nvme::SetPadded(data.host_nqn, kHostNqn, '\0');
    return data;
  }

  nvme::Completion Connect(const nvme::ConnectData& data, uint16_t queue_id = 0,
                           uint16_t sq_size = 31, uint32_t keep_alive_ms = 0) {
    nvme::ConnectCommand command;
    command.queue_id = queue_id;
    command.sq_size = sq_size;
    command.keep_alive_ms = keep_alive_ms;
    Pdu pdu = Execute(std::bit_cast<nvme::Command>(command), std::as_bytes(std::span(&data, 1)));
    return pdu.As<nvme::tcp::CapsuleResp>().completion;
  }

  nvme::Completion SetProperty(nvme::Property property, uint32_t value) {
    nvme::PropertyCommand command;
    command.type = nvme::FabricsType::kPropertySet;
    command.offset = static_cast<uint32_t>(property);
    command.value = value;
    return Execute(std::bit_cast<nvme::Command>(command)).As<nvme::tcp::CapsuleResp>().completion;
  }
  nvme::Completion GetProperty(nvme::Property property, uint8_t size = nvme::kPropertySize4) {
    nvme::PropertyCommand command;
    command.attributes = size;
    command.offset = static_cast<uint32_t>(property);
    return Execute(std::bit_cast<nvme::Command>(command)).As<nvme::tcp::CapsuleResp>().completion;
  }
  nvme::Completion Enable() {
    return SetProperty(nvme::Property::kCc, nvme::kCcEnable |
                                                nvme::kSqEntryShift << nvme::kCcIosqesShift |
                                                nvme::kCqEntryShift << nvme::kCcIocqesShift);
  }

  int fd() const { return fd_.get(); }
  void Close() { fd_.Reset(); }

  nvme::tcp::NegotiatedParams negotiated;

 private:
  bool ReadExactly(void* out, size_t size) {
    auto* at = static_cast<char*>(out);
    while (size > 0) {
      pollfd ready{fd_.get(), POLLIN, 0};
      if (::poll(&ready, 1, 10'000) != 1) {
        ADD_FAILURE() << "no data received";
        return false;
      }
      ssize_t got = ::recv(fd_.get(), at, size, 0);
      if (got <= 0) return false;
      at += got;
      size -= static_cast<size_t>(got);
    }
    return true;
  }

  void SendPdu(const void* header, size_t header_size, const nvme::tcp::Layout& layout,
               std::span<const std::byte> data) {
    std::vector<std::byte> bytes(layout.size);
    std::memcpy(bytes.data(), header, header_size);
    if (layout.header_size > header_size) {
      uint32_t digest = nvme::Crc32c::Of(header, header_size);
      std::memcpy(bytes.data() + header_size, &digest, sizeof digest);
    }
    if (!data.empty()) std::memcpy(bytes.data() + layout.data_offset, data.data(), data.size());
    if (layout.data_digest) {
      uint32_t digest = nvme::Crc32c::Of(data.data(), data.size());
      std::memcpy(bytes.data() + layout.data_offset + data.size(), &digest, sizeof digest);
    }
    Send(bytes.data(), bytes.size());
  }

  base::UniqueFd fd_;
};

}  // namespace sma::storage_target::nvmf::tcp
