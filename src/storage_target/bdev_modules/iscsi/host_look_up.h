// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <memory>
#include <string>

#include "storage_target/reactor/reactor.h"

namespace sma::storage_target::bdev_iscsi {

/// Resolves a host name in a separate thread, so that no reactor blocks. Used in the reactor's
/// thread, and destroyed before the reactor.
class HostLookUp {
 public:
  /// `error` is the result of getaddrinfo(3); `ip` is set if it is 0. May destroy the look-up.
  using Done = std::function<void(int error, const std::string& ip)>;

  /// `done` is called once, from the event loop.
  HostLookUp(Reactor& reactor, const std::string& host, Done done);
  /// Cancels the look-up: `done` is not called afterwards. Does not wait for the thread.
  ~HostLookUp();
  HostLookUp(const HostLookUp&) = delete;
  HostLookUp& operator=(const HostLookUp&) = delete;

 private:
  struct Shared;
  struct Task;

  static void* ThreadMain(void* task);
  void Start(const std::string& host);

  const std::shared_ptr<Shared> shared_;
};

}  // namespace sma::storage_target::bdev_iscsi
