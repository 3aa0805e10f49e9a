// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "storage_target/bdev_modules/nvme/initiator/iov_cursor.h"
#include "storage_target/nvme/crc32c.h"
#include "storage_target/nvme/tcp_pdu.h"

namespace sma::storage_target::initiator {

/// The receiving half of an NVMe/TCP connection: reads large chunks, validates and parses the PDUs,
/// and copies data to the destination set by the handler. Data that are not yet in the buffer when
/// their PDU starts are read directly to the destination.
class PduReceiver {
 public:
  /// Processes the PDUs. A fault ends the connection.
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual nvme::tcp::Fault OnIcResp(const nvme::tcp::IcResp& pdu) = 0;
    virtual nvme::tcp::Fault OnResponse(const nvme::Completion& completion) = 0;
    virtual nvme::tcp::Fault OnR2t(const nvme::tcp::R2t& pdu) = 0;
    virtual void OnTermReq(const nvme::tcp::TermReq& pdu) = 0;
    /// Called at the start of a C2HData PDU, whose data_length is the size of its data. The handler
    /// sets `place` to the cursor of the destination, which must exist until OnDataEnd.
    virtual nvme::tcp::Fault OnDataBegin(const nvme::tcp::DataPdu& pdu, IovCursor** place) = 0;
    /// Called when all data have been received. `intact` is true if the digest is correct or there
    /// is none.
    virtual void OnDataEnd(const nvme::tcp::DataPdu& pdu, bool intact) = 0;
  };

  PduReceiver(const nvme::tcp::NegotiatedParams& negotiated, Handler& handler);
  PduReceiver(const PduReceiver&) = delete;
  PduReceiver& operator=(const PduReceiver&) = delete;

  /// Reads once from the socket and handles the received PDUs. Returns the number of bytes read; 0
  /// if the remote side has closed the connection; -EAGAIN if there is nothing to read; another
  /// negative errno if the socket has failed. After a fault, fault() is set.
  int64_t Receive(int fd);

  /// Stops handling PDUs. May be called by the handler within one of its functions.
  void Stop() { stopped_ = true; }

  const nvme::tcp::Fault& fault() const { return fault_; }
  /// Returns the header of the faulty PDU.
  std::span<const std::byte> culprit() const { return culprit_; }

 private:
  static constexpr size_t kBufferBytes = 256 * 1024;
  // After a PDU with at least this much data, the next read takes only a little of the bytes that
  // follow the data, because the next PDU's data are probably as large and can be read directly to
  // their destination.
  static constexpr uint32_t kLargeDataBytes = 32 * 1024;
  static constexpr size_t kTailBytes = 4 * 1024;
  static constexpr size_t kMaxDirectIovs = 64;

  int64_t ReadSocket(int fd);
  void AccountDirect(size_t size_bytes);
  void Handle();
  bool HandlePdu();     // false: more bytes are needed, or a fault or Stop occurred
  bool ContinueData();  // likewise
  nvme::tcp::Fault Dispatch(const std::byte* pdu, const nvme::tcp::Layout& layout);
  nvme::tcp::Fault BeginData(const std::byte* pdu, const nvme::tcp::Layout& layout);
  void Fail(nvme::tcp::Fault fault, const std::byte* pdu, size_t size_bytes);
  size_t available() const { return end_ - begin_; }

  const nvme::tcp::NegotiatedParams& negotiated_;
  Handler& handler_;
  std::unique_ptr<std::byte[]> buffer_;  // its pages are allocated when they are first filled
  size_t begin_ = 0;
  size_t end_ = 0;
  bool stopped_ = false;

  // State of the C2HData PDU that is being received.
  bool in_data_ = false;
  nvme::tcp::DataPdu data_pdu_;
  IovCursor* place_ = nullptr;
  uint32_t data_left_bytes_ = 0;
  nvme::Crc32c data_crc_;

  nvme::tcp::Fault fault_;
  std::span<const std::byte> culprit_;
};

}  // namespace sma::storage_target::initiator
