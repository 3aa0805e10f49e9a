// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/address.h"

#include <fmt/format.h>
#include <netdb.h>

#include <charconv>
#include <memory>
#include <thread>
#include <utility>

#include "base/host_name.h"
#include "base/ip_address.h"
#include "base/mutex.h"
#include "base/strings.h"

namespace sma::volume {

using base::MutexLock;

namespace {

bool IsPort(std::string_view text) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port != 0;
}

// A lookup of a host name. getaddrinfo(3) cannot be cancelled and has no timeout: it runs in a
// detached thread, and the caller stops waiting for it when its context ends.
struct Lookup {
  base::Mutex mutex;
  base::CondVar changed;
  bool done SMA_GUARDED_BY(mutex) = false;
  int error SMA_GUARDED_BY(mutex) = 0;
  std::string ip SMA_GUARDED_BY(mutex);
};

void RunLookup(const std::shared_ptr<Lookup>& lookup, const ResolveFunction& resolve,
               const std::string& host) {
  std::string ip;
  int error = resolve(host, ip);
  MutexLock lock(lookup->mutex);
  lookup->ip = std::move(ip);
  lookup->error = error;
  lookup->done = true;
  lookup->changed.NotifyAll();
}

}  // namespace

absl::StatusOr<nvmf::Address> CheckAddress(const nvmf::Address& address, std::string_view field,
                                           std::string_view default_port) {
  auto bad = [field](std::string_view what, const std::string& value) {
    return absl::InvalidArgumentError(fmt::format("{}: {} '{}'", field, what, value));
  };
  nvmf::Address checked;
  checked.set_trtype(address.trtype().empty() ? "tcp" : base::ToLower(address.trtype()));
  if (checked.trtype() != "tcp" && checked.trtype() != "rdma") {
    return bad("trtype is neither tcp nor rdma:", address.trtype());
  }
  checked.set_trsvcid(address.trsvcid().empty() ? std::string(default_port) : address.trsvcid());
  if (!IsPort(checked.trsvcid())) return bad("trsvcid is not a valid port:", address.trsvcid());
  std::optional<base::IpAddress> ip = base::IpAddress::Parse(address.traddr());
  if (!ip && !base::IsHostName(address.traddr())) {
    return bad("traddr is neither an IP address nor a host name:", address.traddr());
  }
  checked.set_traddr(ip ? ip->ToString() : base::ToLower(address.traddr()));
  return checked;
}

absl::Status ResolveHost(const base::Context& context, nvmf::Address& address,
                         const ResolveFunction& resolve) {
  if (base::IpAddress::Parse(address.traddr())) return absl::OkStatus();
  auto lookup = std::make_shared<Lookup>();
  std::thread([lookup, resolve, host = address.traddr()] {
    RunLookup(lookup, resolve, host);
  }).detach();
  uint64_t callback = context.AddCallback([lookup] {
    MutexLock lock(lookup->mutex);
    lookup->changed.NotifyAll();
  });
  absl::Status status;
  {
    MutexLock lock(lookup->mutex);
    // The context is checked before each wait, because its callback does not run for a cancellation
    // that preceded AddCallback.
    while (!lookup->done && (status = context.status()).ok()) {
      lookup->changed.WaitUntil(lookup->mutex, context.deadline());
    }
    if (!status.ok()) {
      status = absl::Status(status.code(), fmt::format("host {}: the name was not resolved in time",
                                                       address.traddr()));
    }
    if (lookup->done && lookup->error == 0) {
      status = absl::OkStatus();
      address.set_traddr(lookup->ip);
    } else if (lookup->done) {
      bool unknown = lookup->error == EAI_NONAME || lookup->error == EAI_FAIL;
      status = absl::Status(
          unknown ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kUnavailable,
          fmt::format("host {}: {}", address.traddr(), gai_strerror(lookup->error)));
    }
  }
  context.RemoveCallback(callback);
  return status;
}

spdk::TransportAddress ToTransportAddress(const nvmf::Address& address) {
  std::optional<base::IpAddress> ip = base::IpAddress::Parse(address.traddr());
  return {.trtype = address.trtype(),
          .adrfam = ip && ip->is_v6() ? "ipv6" : "ipv4",
          .traddr = address.traddr(),
          .trsvcid = address.trsvcid()};
}

std::string NodeName(const spdk::TransportAddress& address) {
  return fmt::format("{} port {}", address.traddr, address.trsvcid);
}

}  // namespace sma::volume
