// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_iscsi {

/// An iSCSI target for tests, with one disk in memory. It listens on a loopback port chosen by the
/// system and runs on the thread of the test's reactor. Its members control the injection of
/// faults.
class FakePortal {
 public:
  static constexpr uint32_t kBlockSize = 512;
  static constexpr char kTarget[] = "iqn.2016-06.io.spdk:disk0";

  explicit FakePortal(Reactor& reactor);
  ~FakePortal();
  FakePortal(const FakePortal&) = delete;
  FakePortal& operator=(const FakePortal&) = delete;

  std::string url() const;

  std::string content = std::string(64 * kBlockSize, '\0');
  bool write_protected = false;
  /// Number of bytes of a READ (16) that are sent; the status is GOOD, without a residual count.
  std::optional<size_t> read_bytes;
  /// Range of bytes of a READ (16) that are not sent: first, and one past the last.
  std::pair<size_t, size_t> read_gap;
  /// Residual count of READ (16) and WRITE (16) commands with status GOOD (RFC 7143 §11.4.5.1):
  /// positive for an underflow, negative for an overflow.
  int residual = 0;
  /// The format of the NAA designator in the page "Device Identification", and the target's name.
  uint8_t naa = 6;
  std::string target = kTarget;
  /// The last byte of the unit's identifier: another value means another unit, which has the same
  /// content here.
  uint8_t unit = 7;
  /// false: no unit is connected at the LUN.
  bool connected = true;
  /// The next READ or WRITE is answered with this unit attention (ASC and ASCQ) instead of being
  /// executed. At that moment `unit` becomes `next_unit`.
  std::optional<uint16_t> unit_attention;
  uint8_t next_unit = 7;
  /// Operation codes of commands that the unit does not support.
  std::set<uint8_t> unknown_opcodes{};
  /// Keeps READ and WRITE commands unanswered until Release.
  bool hold = false;

  /// Executes the held commands and returns their number.
  int Release();
  void DropConnections();
  // Statistics:

  /// Received READ (16) and WRITE (16) commands.
  int io_count = 0;
  /// Executed SYNCHRONIZE CACHE (16) and (10) commands, and received ABORT TASK functions.
  int flush_count = 0;
  int abort_count = 0;
  /// The ISID of the session of each INQUIRY for the page "Device Identification".
  std::vector<std::string> identity_isids{};
  /// Connections that the initiator has reset.
  int reset_count = 0;
  /// The ISID of each connection, in the order of the logins.
  std::vector<std::string> isids{};

 private:
  struct Pdu;
  class Acceptor;
  class Connection;

  Reactor& reactor_;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace sma::storage_target::bdev_iscsi
