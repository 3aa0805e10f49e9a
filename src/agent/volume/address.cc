#include "agent/volume/address.h"

#include <fmt/format.h>
#include <netdb.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <thread>
#include <utility>

#include "base/ip_address.h"
#include "base/mutex.h"
#include "base/strings.h"

namespace sma::volume {

using base::MutexLock;

namespace {

constexpr size_t kMaxHostNameSize = 253;  // RFC 1035 §2.3.4 without the root's dot

bool IsHostName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxHostNameSize && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), [](char c) {
           c = base::ToLower(c);
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
         });
}

bool IsPort(std::string_view text) {
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port != 0;
}

// getaddrinfo(3) knows no deadline: it runs in a thread of its own, which nobody waits for longer
// than the caller may.
struct Lookup {
  base::Mutex mutex;
  base::CondVar changed;
  bool done SMA_GUARDED_BY(mutex) = false;
  int error SMA_GUARDED_BY(mutex) = 0;
  std::string ip SMA_GUARDED_BY(mutex);
};

void Look(const std::shared_ptr<Lookup>& lookup, const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  char ip[NI_MAXHOST] = "";
  if (error == 0) {
    error =
        getnameinfo(found->ai_addr, found->ai_addrlen, ip, sizeof(ip), nullptr, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
  }
  MutexLock lock(lookup->mutex);
  lookup->ip = ip;
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
  if (!IsPort(checked.trsvcid())) return bad("trsvcid is no port:", address.trsvcid());
  std::optional<base::IpAddress> ip = base::IpAddress::Parse(address.traddr());
  if (!ip && !IsHostName(address.traddr())) {
    return bad("traddr is neither an IP address nor a host name:", address.traddr());
  }
  checked.set_traddr(ip ? ip->ToString() : base::ToLower(address.traddr()));
  return checked;
}

absl::Status ResolveHost(const base::Context& context, nvmf::Address& address) {
  if (base::IpAddress::Parse(address.traddr())) return absl::OkStatus();
  auto lookup = std::make_shared<Lookup>();
  std::thread([lookup, host = address.traddr()] { Look(lookup, host); }).detach();
  uint64_t callback = context.AddCallback([lookup] {
    MutexLock lock(lookup->mutex);
    lookup->changed.NotifyAll();
  });
  absl::Status status;
  {
    MutexLock lock(lookup->mutex);
    while (!lookup->done && status.ok()) {
      lookup->changed.WaitUntil(lookup->mutex, context.deadline());
      status = context.status();
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

}  // namespace sma::volume
