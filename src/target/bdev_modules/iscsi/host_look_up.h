#pragma once

#include <functional>
#include <memory>
#include <string>

#include "target/reactor/reactor.h"

namespace sma::target::bdev_iscsi {

/// Looks up the address of a host in a thread of its own, so that no reactor waits for it. Used in
/// the reactor's thread, and destroyed before the reactor.
class HostLookUp {
 public:
  /// `error`: of getaddrinfo(3), 0 when there is an `ip`. It may destroy the look-up.
  using Done = std::function<void(int error, const std::string& ip)>;

  /// `done` is called from the event loop, once.
  HostLookUp(Reactor& reactor, const std::string& host, Done done);
  /// `done` is not called any more. Does not wait for the thread.
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

}  // namespace sma::target::bdev_iscsi
