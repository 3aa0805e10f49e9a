// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/vfio_user/vfio_user_transport.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <utility>

namespace sma::storage_target::nvmf::vfio_user {
namespace {

// Each piece of a command's data may begin in the middle of a page.
constexpr uint32_t kMaxIoSize = (MemoryRequest::kMaxPieces - 1) * nvme::kMinPageSize / 2;

}  // namespace

bool VfioUserTransport::IsValid(const Options& options) {
  const TransportLimits& limits = options.limits;
  return std::has_single_bit(limits.max_io_size) && limits.max_io_size >= 8192 &&
         limits.max_io_size <= std::bit_ceil(kMaxIoSize) && limits.max_queue_depth >= 8 &&
         limits.max_queue_depth <= 4096 && limits.max_admin_queue_depth >= 8 &&
         limits.max_admin_queue_depth <= limits.max_queue_depth && limits.max_io_queue_pairs >= 1 &&
         limits.max_io_queue_pairs <= Doorbells::kMaxQueueId;
}

VfioUserTransport::VfioUserTransport(Target& target, const Options& options)
    : Transport(options.limits), target_(target), options_(options) {}

VfioUserTransport::~VfioUserTransport() { assert(endpoints_.empty() && closing_.empty()); }

base::ErrnoOr<uint16_t> VfioUserTransport::Listen(const TransportAddress& address,
                                                  const std::string& subsystem_nqn) {
  using Result = base::ErrnoOr<uint16_t>;
  if (address.address.empty() || address.address.front() != '/') return Result::Error(EINVAL);
  Reactor& reactor = target_.NextReactor();
  auto opened = Endpoint::Open(target_, reactor, options_, address, subsystem_nqn);
  if (!opened.ok()) return Result::Error(opened.error());
  Endpoint* endpoint = opened->get();
  endpoints_.push_back({*std::move(opened), reactor});
  reactor.Post([endpoint] { endpoint->Start(); });
  return ++last_port_id_;
}

void VfioUserTransport::StopListening(const TransportAddress& address,
                                      const std::string& /*subsystem_nqn*/) {
  auto at = std::ranges::find_if(
      endpoints_, [&](const Entry& entry) { return entry.endpoint->address() == address; });
  assert(at != endpoints_.end());
  closing_.splice(closing_.end(), endpoints_, at);
  Endpoint* endpoint = at->endpoint.get();
  // The socket is removed now, because the caller may then remove the folder or listen there again.
  endpoint->RemoveSocket();
  at->reactor.Post([this, endpoint] {
    endpoint->Close(
        [this, endpoint] { target_.control().Post([this, endpoint] { OnClosed(endpoint); }); });
  });
}

void VfioUserTransport::OnClosed(const Endpoint* endpoint) {
  closing_.remove_if([&](const Entry& entry) { return entry.endpoint.get() == endpoint; });
  if (when_shut_down_ && closing_.empty()) std::exchange(when_shut_down_, nullptr)();
}

void VfioUserTransport::Shutdown(std::function<void()> done) {
  assert(endpoints_.empty());
  if (closing_.empty()) return done();
  when_shut_down_ = std::move(done);
}

}  // namespace sma::storage_target::nvmf::vfio_user
