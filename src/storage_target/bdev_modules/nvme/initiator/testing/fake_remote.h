// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/nvme/crc32c.h"
#include "storage_target/nvme/fabrics.h"
#include "storage_target/nvme/tcp_pdu.h"

namespace sma::storage_target::initiator {

/// A PDU that was received from the host.
struct HostPdu {
  nvme::tcp::CommonHeader header{};
  std::string bytes;  // the complete PDU
  std::string data;

  template <typename Pdu>
  Pdu As() const {
    Pdu pdu;
    std::memcpy(&pdu, bytes.data(), sizeof pdu);
    return pdu;
  }
  nvme::Command command() const { return As<nvme::tcp::CapsuleCmd>().command; }
};

/// The controller's end of a connection, for tests that read and write every PDU themselves. Runs
/// on the test's thread: while it waits, it calls `pump`, which drives the host's end.
class FakeRemote {
 public:
  FakeRemote() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    fd_.Reset(fds[0]);
    host_fd_.Reset(fds[1]);
  }

  /// Uses a connected non-blocking socket; TakeHostEnd must not be called.
  explicit FakeRemote(base::UniqueFd fd) : fd_(std::move(fd)) {}

  /// Returns the host's end. Called at most once.
  base::UniqueFd TakeHostEnd() { return std::move(host_fd_); }
  void set_pump(std::function<void()> pump) { pump_ = std::move(pump); }
  int fd() const { return fd_.get(); }
  void CloseConnection() { fd_.Reset(); }
  nvme::tcp::NegotiatedParams& negotiated() { return negotiated_; }

  /// Returns the next PDU from the host; fails the test if none arrives in time.
  HostPdu Read() {
    HostPdu pdu;
    if (!ReadBytes(sizeof pdu.header, pdu.bytes)) return pdu;
    std::memcpy(&pdu.header, pdu.bytes.data(), sizeof pdu.header);
    if (!ReadBytes(pdu.header.plen, pdu.bytes)) return pdu;
    nvme::tcp::Layout layout;
    nvme::tcp::Fault fault = CheckHeader(pdu.header, /*from_host=*/true, negotiated_, layout);
    EXPECT_FALSE(fault) << "type " << static_cast<int>(pdu.header.type) << " fes "
                        << static_cast<int>(fault.fes) << " fei " << fault.fei;
    pdu.data = pdu.bytes.substr(layout.data_offset, layout.data_size);
    CheckDigests(pdu, layout);
    return pdu;
  }

  /// Returns true if the host sends nothing more and closes the connection.
  bool ReadsEnd() {
    char byte;
    for (int i = 0; i < kPatience; ++i) {
      if (pump_) pump_();
      ssize_t size = recv(fd_.get(), &byte, 1, 0);
      if (size == 0) return true;
      if (size > 0) return false;
    }
    return false;
  }

  void SendBytes(std::string_view bytes) {
    for (int i = 0; i < kPatience && !bytes.empty(); ++i) {
      ssize_t size = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size > 0) bytes.remove_prefix(static_cast<size_t>(size));
      if (size < 0 && errno == EPIPE) return;
      if (pump_) pump_();
    }
    EXPECT_TRUE(bytes.empty()) << "the host does not read";
  }

  /// Sends `pdu` with its data, lengths and digests filled in.
  template <typename Pdu>
  void Send(Pdu pdu, std::string_view data = {}) {
    SendBytes(Encode(pdu, data));
  }

  /// Returns the bytes that Send would send.
  template <typename Pdu>
  std::string Encode(Pdu pdu, std::string_view data = {}) const {
    uint8_t kept = pdu.header.flags;
    nvme::tcp::Layout layout;
    pdu.header =
        MakeHeader(pdu.header.type, negotiated_, static_cast<uint32_t>(data.size()), &layout);
    pdu.header.flags |= kept;
    std::string bytes(layout.size, '\0');
    std::memcpy(bytes.data(), &pdu, sizeof pdu);
    if ((pdu.header.flags & nvme::tcp::kFlagHeaderDigest) != 0) {
      PutDigest(bytes, sizeof pdu, bytes.substr(0, sizeof pdu));
    }
    bytes.replace(layout.data_offset, data.size(), data);
    if (layout.data_digest) PutDigest(bytes, layout.data_offset + data.size(), data);
    return bytes;
  }

  void SendResponse(uint16_t cid, nvme::Status status = nvme::Status::kSuccess, uint32_t dw0 = 0) {
    nvme::tcp::CapsuleResp pdu;
    pdu.completion = {.dw0 = dw0, .cid = cid, .status = nvme::StatusField(status)};
    Send(pdu);
  }
  void SendData(uint16_t cid, uint32_t offset, std::string_view data, uint8_t flags) {
    nvme::tcp::DataPdu pdu;
    pdu.header.flags = flags;
    pdu.cccid = cid;
    pdu.data_offset = offset;
    pdu.data_length = static_cast<uint32_t>(data.size());
    Send(pdu, data);
  }
  void SendR2t(uint16_t cid, uint16_t ttag, uint32_t offset, uint32_t length) {
    nvme::tcp::R2t pdu;
    pdu.cccid = cid;
    pdu.ttag = ttag;
    pdu.offset = offset;
    pdu.length = length;
    Send(pdu);
  }

  /// Reads the ICReq and answers it, accepting the digests that the host requests.
  nvme::tcp::IcReq Initialize(uint32_t maxh2cdata = 128 * 1024, uint8_t cpda = 0) {
    auto request = Read().As<nvme::tcp::IcReq>();
    nvme::tcp::IcResp response;
    response.digests = request.digests;
    response.cpda = cpda;
    response.maxh2cdata = maxh2cdata;
    SendBytes({reinterpret_cast<const char*>(&response), sizeof response});
    negotiated_.initialized = true;
    negotiated_.header_digest = (request.digests & nvme::tcp::kDigestHeader) != 0;
    negotiated_.data_digest = (request.digests & nvme::tcp::kDigestData) != 0;
    negotiated_.cpda = cpda;
    negotiated_.maxh2cdata = maxh2cdata;
    negotiated_.max_in_capsule = 8192;
    return request;
  }

  /// Calls Initialize and accepts the Connect command, which is returned.
  HostPdu Accept(uint16_t controller_id = 1, uint32_t maxh2cdata = 128 * 1024, uint8_t cpda = 0) {
    Initialize(maxh2cdata, cpda);
    HostPdu connect = Read();
    SendResponse(connect.command().cid, nvme::Status::kSuccess, controller_id);
    return connect;
  }

 private:
  static constexpr int kPatience = 20000;

  static void PutDigest(std::string& bytes, size_t offset, std::string_view of) {
    uint32_t digest = nvme::Crc32c::Of(of.data(), of.size());
    std::memcpy(bytes.data() + offset, &digest, sizeof digest);
  }

  static void CheckDigests(const HostPdu& pdu, const nvme::tcp::Layout& layout) {
    auto digest_at = [&](size_t offset) {
      uint32_t digest = 0;
      std::memcpy(&digest, pdu.bytes.data() + offset, sizeof digest);
      return digest;
    };
    if ((pdu.header.flags & nvme::tcp::kFlagHeaderDigest) != 0) {
      EXPECT_EQ(digest_at(pdu.header.hlen), nvme::Crc32c::Of(pdu.bytes.data(), pdu.header.hlen));
    }
    if (layout.data_digest) {
      EXPECT_EQ(digest_at(layout.data_offset + layout.data_size),
                nvme::Crc32c::Of(pdu.data.data(), pdu.data.size()));
    }
  }

  // Reads until `bytes` has `size` bytes.
  bool ReadBytes(size_t size, std::string& bytes) {
    size_t have = bytes.size();
    bytes.resize(size);
    for (int i = 0; i < kPatience && have < size; ++i) {
      if (pump_) pump_();
      ssize_t got = recv(fd_.get(), bytes.data() + have, size - have, 0);
      if (got > 0) have += static_cast<size_t>(got);
      if (got == 0) break;
    }
    EXPECT_EQ(have, size) << "no whole PDU from the host";
    return have == size;
  }

  base::UniqueFd fd_;
  base::UniqueFd host_fd_;
  std::function<void()> pump_;
  nvme::tcp::NegotiatedParams negotiated_;
};

}  // namespace sma::storage_target::initiator
