// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <functional>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "jsonrpc/server.h"

namespace sma::jsonrpc {

/// A Server with its own thread, for tests and benchmarks that need a target.
class ServerThread {
 public:
  /// `prepare` registers methods and opens sockets; it runs before the thread starts.
  explicit ServerThread(const std::function<void(Server&)>& prepare, ServerOptions options = {})
      : server_(options), wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    prepare(server_);
    thread_ = std::thread([this] { Loop(); });
  }

  /// Stops the thread, then destroys the server.
  ~ServerThread() {
    {
      base::MutexLock lock(mutex_);
      stopping_ = true;
    }
    Wake();
    thread_.join();
  }

  /// Runs `task` on the server's thread and waits for it.
  void Run(std::function<void(Server&)> task) {
    std::promise<void> done;
    {
      base::MutexLock lock(mutex_);
      tasks_.push_back([&] {
        task(server_);
        done.set_value();
      });
    }
    Wake();
    done.get_future().wait();
  }

 private:
  void Wake() {
    const uint64_t one = 1;
    [[maybe_unused]] ssize_t written = ::write(wake_.get(), &one, sizeof(one));
  }

  void Loop() {
    while (true) {
      pollfd fds[2] = {{server_.fd(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
      ::poll(fds, 2, -1);
      if (fds[0].revents != 0) server_.Poll();
      if (fds[1].revents == 0) continue;
      uint64_t count;
      [[maybe_unused]] ssize_t size = ::read(wake_.get(), &count, sizeof(count));
      std::vector<std::function<void()>> tasks;
      {
        base::MutexLock lock(mutex_);
        tasks.swap(tasks_);
        if (stopping_) return;
      }
      for (auto& task : tasks) task();
    }
  }

  Server server_;
  base::UniqueFd wake_;
  base::Mutex mutex_;
  bool stopping_ SMA_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void()>> tasks_ SMA_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace sma::jsonrpc
