#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "target/bdev_modules/nvme/initiator/iov_cursor.h"
#include "target/nvme/crc32c.h"
#include "target/nvme/tcp_pdu.h"

namespace sma::target::initiator {

/// The receiving half of an NVMe/TCP connection: reads much at once, checks and takes apart the
/// PDUs, and puts data where the handler says; what is not yet in the buffer when its PDU begins is
/// read straight to its place.
class PduReceiver {
 public:
  /// What the PDUs mean. A fault ends the connection.
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual nvme::tcp::Fault OnIcResp(const nvme::tcp::IcResp& pdu) = 0;
    virtual nvme::tcp::Fault OnResponse(const nvme::Completion& completion) = 0;
    virtual nvme::tcp::Fault OnR2t(const nvme::tcp::R2t& pdu) = 0;
    virtual void OnTermReq(const nvme::tcp::TermReq& pdu) = 0;
    /// A C2HData begins, whose data_length is the size of its data: `place` is to point to the
    /// cursor that the data go to, which must stay until OnDataEnd.
    virtual nvme::tcp::Fault OnDataBegin(const nvme::tcp::DataPdu& pdu, IovCursor** place) = 0;
    /// All of the data are in place. `intact`: no digest, or the right one.
    virtual void OnDataEnd(const nvme::tcp::DataPdu& pdu, bool intact) = 0;
  };

  PduReceiver(const nvme::tcp::Agreement& agreement, Handler& handler);
  PduReceiver(const PduReceiver&) = delete;
  PduReceiver& operator=(const PduReceiver&) = delete;

  /// Reads once from the socket and handles what has come. How many bytes were read; 0 when the
  /// remote side has closed the connection; -EAGAIN when there is nothing; another negative errno
  /// when the socket is broken. With a fault, fault() says so.
  int64_t Receive(int fd);

  /// Handles no more: for a handler that has had enough while one of its functions runs.
  void Stop() { stopped_ = true; }

  const nvme::tcp::Fault& fault() const { return fault_; }
  /// The header of the PDU at fault.
  std::span<const std::byte> culprit() const { return culprit_; }

 private:
  static constexpr size_t kBufferBytes = 256 * 1024;
  // After a PDU with this much data the next read takes little of what follows the data, because
  // the next PDU's data are probably as large and better read straight to their place.
  static constexpr uint32_t kLargeDataBytes = 32 * 1024;
  static constexpr size_t kTailBytes = 4 * 1024;
  static constexpr size_t kMaxDirectIovs = 64;

  int64_t ReadSocket(int fd);
  void AccountDirect(size_t size_bytes);
  void Handle();
  bool HandlePdu();     // false: more bytes are needed, or it is over
  bool ContinueData();  // likewise
  nvme::tcp::Fault Dispatch(const std::byte* pdu, const nvme::tcp::Layout& layout);
  nvme::tcp::Fault BeginData(const std::byte* pdu, const nvme::tcp::Layout& layout);
  void Fail(nvme::tcp::Fault fault, const std::byte* pdu, size_t size_bytes);
  size_t available() const { return end_ - begin_; }

  const nvme::tcp::Agreement& agreement_;
  Handler& handler_;
  std::unique_ptr<std::byte[]> buffer_;  // memory is used as far as it was ever filled
  size_t begin_ = 0;
  size_t end_ = 0;
  bool stopped_ = false;

  // The C2HData under way.
  bool in_data_ = false;
  nvme::tcp::DataPdu data_pdu_;
  IovCursor* place_ = nullptr;
  uint32_t data_left_bytes_ = 0;
  nvme::Crc32c data_crc_;

  nvme::tcp::Fault fault_;
  std::span<const std::byte> culprit_;
};

}  // namespace sma::target::initiator
