#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "target/reactor/reactor.h"

namespace sma::target::bdev_iscsi {

/// An iSCSI target for tests, on a loopback port of the system's choice, in the thread of the
/// test's reactor: one disk in memory. Tests change how it misbehaves.
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
  /// How many of the bytes of a READ (16) are sent; the status is GOOD and no residual is told.
  std::optional<size_t> read_bytes;
  /// READ and WRITE commands are kept without an answer until Release.
  bool hold = false;

  /// Executes what is held; how much there was.
  int Release();
  void DropConnections();
  /// READ (16) and WRITE (16) commands seen, and ABORT TASK functions.
  int io_count = 0;
  int abort_count = 0;

 private:
  struct Pdu;
  class Acceptor;
  class Connection;

  Reactor& reactor_;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace sma::target::bdev_iscsi
