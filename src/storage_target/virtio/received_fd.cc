// SPDX-License-Identifier: Apache-2.0

#include "storage_target/virtio/received_fd.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <thread>

#include "base/descriptor_limit.h"
#include "base/fd_passing.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/peer_log.h"
#include "storage_target/virtio/blocked_write_watch.h"

namespace sma::storage_target::virtio {
namespace {

constexpr uint64_t kUnmappedAtOnce = 16 << 20;  // takes up to 0.3 ms
constexpr size_t kMaxWaitingMappings = 4096;

void CloseFd(base::UniqueFd fd) {
  // Prevents most cases of a blocking close; the watch interrupts the others.
  const linger none{};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

void Unmap(std::span<std::byte> mapping, uint64_t page_bytes) {
  const uint64_t part_bytes = std::max(page_bytes, kUnmappedAtOnce);
  while (!mapping.empty()) {
    const std::span<std::byte> part = mapping.first(std::min(mapping.size(), part_bytes));
    ::munmap(part.data(), part.size());
    mapping = mapping.subspan(part.size());
  }
}

/// A thread that releases what another process has shared. Never destroyed, like BlockedWriteWatch.
class Releaser {
 public:
  explicit Releaser(const char* name) {
    std::thread thread([this] { Work(); });
    ::pthread_setname_np(thread.native_handle(), name);
    thread.detach();
  }

  /// Returns false if `limit` tasks are already waiting.
  bool Run(std::function<void()> release, size_t limit) {
    base::MutexLock lock(mutex_);
    if (waiting_.size() >= limit) return false;
    waiting_.push_back(std::move(release));
    changed_.NotifyAll();
    return true;
  }

 private:
  void Work() {
    BlockedWriteWatch::Calls& calls = BlockedWriteWatch::ForThisThread();
    while (true) {
      for (const auto& release : Next()) {
        calls.Begin();
        release();
        calls.End();
      }
    }
  }

  std::vector<std::function<void()>> Next() {
    base::MutexLock lock(mutex_);
    while (waiting_.empty()) changed_.Wait(mutex_);
    return std::exchange(waiting_, {});
  }

  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<std::function<void()>> waiting_ SMA_GUARDED_BY(mutex_);
};

}  // namespace

void CloseInBackground(base::UniqueFd fd) {
  static auto* closer = new Releaser("fd-closer");
  if (!fd) return;
  closer->Run([number = fd.Release()] { CloseFd(base::UniqueFd(number)); }, SIZE_MAX);
}

// Uses a thread of its own, because a close may block for long and would delay the unmapping, while
// the number of mappings is limited.
void UnmapInBackground(std::span<std::byte> mapping, uint64_t page_bytes) {
  static auto* unmapper = new Releaser("unmapper");
  if (!unmapper->Run([=] { Unmap(mapping, page_bytes); }, kMaxWaitingMappings))
    Unmap(mapping, page_bytes);
}

namespace {

uint32_t FirstReserved() {
  const uint32_t limit = base::DescriptorLimit();
  return limit - base::DescriptorReserve(limit);
}

bool TakesReserve(const std::vector<base::UniqueFd>& fds) {
  if (fds.empty()) return false;
  const uint32_t first_reserved = FirstReserved();
  return std::ranges::any_of(fds, [first_reserved](const base::UniqueFd& fd) {
    return static_cast<uint32_t>(fd.get()) >= first_reserved;
  });
}

}  // namespace

ssize_t ReceiveWithFds(int socket, std::span<std::byte> bytes, std::vector<ReceivedFd>& fds) {
  std::vector<base::UniqueFd> received;
  // The call is watched, because the kernel closes descriptors here that exceed this process's
  // limit.
  BlockedWriteWatch::Calls& calls = BlockedWriteWatch::ForThisThread();
  calls.Begin();
  const ssize_t size = base::ReceiveWithFds(socket, bytes, received, MSG_DONTWAIT);
  const int error = errno;
  calls.End();
  const bool takes_reserve = TakesReserve(received);
  for (base::UniqueFd& fd : received) fds.emplace_back(fd.Release());
  if (takes_reserve) {
    base::LogOfPeers().Log(spdlog::level::warn, "received descriptors",
                           "a guest's connection is closed, because no descriptors are left but "
                           "those reserved for JSON-RPC");
  }
  errno = takes_reserve ? EMFILE : error;
  return takes_reserve ? -1 : size;
}

// The kernel assigns the lowest free number, so all descriptors below `fd` are in use.
bool MayKeepDescriptor(int fd, size_t count) {
  constexpr size_t kMinimum = 16;
  const uint32_t first_reserved = FirstReserved();
  const uint32_t used = std::min(static_cast<uint32_t>(fd), first_reserved);
  return count < kMinimum || count * 2 <= first_reserved - used;
}

}  // namespace sma::storage_target::virtio
