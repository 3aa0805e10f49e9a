// SPDX-License-Identifier: Apache-2.0

#include "storage_target/bdev_modules/iscsi/host_look_up.h"

#include <netdb.h>
#include <pthread.h>

#include <utility>

#include "base/host_name.h"
#include "base/mutex.h"

namespace sma::storage_target::bdev_iscsi {

using base::MutexLock;

/// State shared by the thread and the reactor; the thread may outlive the look-up.
struct HostLookUp::Shared {
  Done done;  // used in the reactor's thread; empty after the look-up was cancelled
  base::Mutex mutex;
  Reactor* reactor SMA_GUARDED_BY(mutex) = nullptr;  // null after cancellation
};

struct HostLookUp::Task {
  std::shared_ptr<Shared> shared;
  std::string host;
};

HostLookUp::HostLookUp(Reactor& reactor, const std::string& host, Done done)
    : shared_(std::make_shared<Shared>()) {
  shared_->done = std::move(done);
  {
    MutexLock lock(shared_->mutex);
    shared_->reactor = &reactor;
  }
  Start(host);
}

HostLookUp::~HostLookUp() {
  shared_->done = nullptr;
  MutexLock lock(shared_->mutex);
  shared_->reactor = nullptr;
}

void HostLookUp::Start(const std::string& host) {
  auto task = std::make_unique<Task>(Task{.shared = shared_, .host = host});
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  int error = ::pthread_create(&thread, &attributes, ThreadMain, task.get());
  ::pthread_attr_destroy(&attributes);
  if (error == 0) {
    [[maybe_unused]] Task* owned_by_thread = task.release();
    return;
  }
  MutexLock lock(shared_->mutex);
  shared_->reactor->Post([shared = shared_] {
    if (Done done = std::exchange(shared->done, nullptr)) done(EAI_AGAIN, "");
  });
}

void* HostLookUp::ThreadMain(void* argument) {
  std::unique_ptr<Task> task(static_cast<Task*>(argument));
  std::string ip;
  int error = base::LookUpHost(task->host, ip);
  MutexLock lock(task->shared->mutex);
  if (task->shared->reactor == nullptr) return nullptr;
  task->shared->reactor->Post([shared = task->shared, error, ip] {
    if (Done done = std::exchange(shared->done, nullptr)) done(error, ip);
  });
  return nullptr;
}

}  // namespace sma::storage_target::bdev_iscsi
