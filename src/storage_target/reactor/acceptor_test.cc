// SPDX-License-Identifier: Apache-2.0

#include "storage_target/reactor/acceptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <string>
#include <vector>

#include "base/descriptor_limit.h"
#include "spdlog/spdlog.h"

namespace sma::storage_target {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::chrono::nanoseconds CpuTime() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// Changes the process's limit of descriptors during its lifetime.
class ScopedDescriptorLimit {
 public:
  explicit ScopedDescriptorLimit(rlim_t limit) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit low{.rlim_cur = limit, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &low);
  }
  ~ScopedDescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  ScopedDescriptorLimit(const ScopedDescriptorLimit&) = delete;
  ScopedDescriptorLimit& operator=(const ScopedDescriptorLimit&) = delete;

 private:
  rlimit before_{};
};

class AcceptorTest : public testing::Test {
 protected:
  AcceptorTest() : listener_(MakeSocket()) {
    // An abstract address, chosen by the kernel.
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)),
              0);
    EXPECT_EQ(::listen(listener_.get(), SOMAXCONN), 0);
    address_bytes_ = sizeof address_;
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address_), &address_bytes_);
    // UndefinedBehaviorSanitizer needs descriptors when it encounters a type for the first time,
    // and none are left later.
    spdlog::error("{}: cannot accept connections: {}", std::string("test"), "not a failure");
  }

  void Start(Acceptor::Options options) {
    options.name = "test";
    acceptor_ = std::make_unique<Acceptor>(*reactor_, std::move(listener_), std::move(options),
                                           [this](AcceptedPeer peer) {
                                             accepted_.push_back(std::move(peer.socket));
                                             if (stop_after_ == accepted_.size())
                                               acceptor_->SetAccepting(false);
                                           });
    ASSERT_EQ(acceptor_->SetAccepting(true), 0);
  }
  void Connect(size_t count = 1) {
    for (size_t i = 0; i < count; ++i) {
      clients_.push_back(MakeSocket());
      ASSERT_EQ(
          ::connect(clients_.back().get(), reinterpret_cast<sockaddr*>(&address_), address_bytes_),
          0);
    }
  }
  bool Accepts(size_t count) {
    return reactor_->RunUntil([&] { return accepted_.size() == count; }, seconds(10));
  }
  void ExpectNothingIsAccepted() {
    const size_t before = accepted_.size();
    const auto used = CpuTime();
    EXPECT_FALSE(reactor_->RunUntil([&] { return accepted_.size() != before; }, milliseconds(500)));
    EXPECT_LT(CpuTime() - used, milliseconds(100)) << "the loop is busy";
  }

  std::unique_ptr<Reactor> reactor_ =
      Reactor::ForThisThread({.poll = std::chrono::microseconds(0), .name = "test"});
  base::UniqueFd listener_;
  sockaddr_un address_{};
  socklen_t address_bytes_ = 0;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<base::UniqueFd> clients_;
  std::vector<base::UniqueFd> accepted_;
  size_t stop_after_ = 0;

 private:
  static base::UniqueFd MakeSocket() {
    return base::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }
};

TEST_F(AcceptorTest, AcceptsWhileAllowed) {
  bool may_accept = true;
  Start({.may_accept = [&] { return may_accept; }});
  stop_after_ = 3;
  Connect(4);
  EXPECT_TRUE(Accepts(3));
  EXPECT_FALSE(acceptor_->accepting());
  ExpectNothingIsAccepted();
  may_accept = false;
  ASSERT_EQ(acceptor_->SetAccepting(true), 0);
  ExpectNothingIsAccepted();
  EXPECT_FALSE(acceptor_->accepting());
  may_accept = true;
  ASSERT_EQ(acceptor_->SetAccepting(true), 0);
  EXPECT_TRUE(Accepts(4));
}

TEST_F(AcceptorTest, WaitsForDescriptorsWithoutABusyLoop) {
  Start({});
  Connect();
  {
    ScopedDescriptorLimit none(0);
    ExpectNothingIsAccepted();
  }
  EXPECT_TRUE(Accepts(1));
}

TEST_F(AcceptorTest, MayBeStoppedWhileItWaitsForDescriptors) {
  Start({});
  Connect();
  ScopedDescriptorLimit none(0);
  ExpectNothingIsAccepted();
  ASSERT_EQ(acceptor_->SetAccepting(false), 0);
  ExpectNothingIsAccepted();
  acceptor_.reset();
  EXPECT_EQ(reactor_->timer_count(), 0U);
}

TEST_F(AcceptorTest, KeepsTheReserve) {
  constexpr rlim_t kLimit = 128;
  Start({.keep_reserve = true});
  Connect(40);
  // Uses all but twenty of the descriptors that connections may use.
  std::vector<base::UniqueFd> files;
  const auto last = static_cast<int>(kLimit - base::DescriptorReserve(kLimit) - 1);
  do {
    files.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  } while (files.back().get() < last);
  files.resize(files.size() - 20);
  ScopedDescriptorLimit limit(kLimit);
  EXPECT_TRUE(Accepts(20));
  ExpectNothingIsAccepted();
  files.resize(files.size() - 10);
  EXPECT_TRUE(Accepts(30));
  ExpectNothingIsAccepted();
  files.clear();
  EXPECT_TRUE(Accepts(40));
}

}  // namespace
}  // namespace sma::storage_target
