// SPDX-License-Identifier: Apache-2.0

#include "agent/volume/address.h"

#include <gtest/gtest.h>
#include <netdb.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "base/mutex.h"

namespace sma::volume {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;

nvmf::Address Address(const std::string& trtype, const std::string& traddr,
                      const std::string& trsvcid) {
  nvmf::Address address;
  address.set_trtype(trtype);
  address.set_traddr(traddr);
  address.set_trsvcid(trsvcid);
  return address;
}

std::string Checked(const std::string& trtype, const std::string& traddr,
                    const std::string& trsvcid) {
  auto checked = CheckAddress(Address(trtype, traddr, trsvcid), "field", "8009");
  if (!checked.ok()) return std::string(checked.status().message());
  return checked->trtype() + " " + checked->traddr() + " " + checked->trsvcid();
}

TEST(AddressTest, HasOneCanonicalForm) {
  EXPECT_EQ(Checked("TCP", "127.0.0.1", "4420"), "tcp 127.0.0.1 4420");
  EXPECT_EQ(Checked("Rdma", "10.1.2.3", "4420"), "rdma 10.1.2.3 4420");
  EXPECT_EQ(Checked("", "127.0.0.1", ""), "tcp 127.0.0.1 8009");
  EXPECT_EQ(Checked("tcp", "FD00:0:0::0A", "1"), "tcp fd00::a 1");
  EXPECT_EQ(Checked("tcp", "0:0:0:0:0:0:0:1", "65535"), "tcp ::1 65535");
  EXPECT_EQ(Checked("tcp", "Storage-1.Example.COM", "8009"), "tcp storage-1.example.com 8009");
}

TEST(AddressTest, InvalidAddressesAreRefused) {
  for (const char* trtype : {"tpc", "fc", "TCP ", "pcie"}) {
    EXPECT_TRUE(Checked(trtype, "127.0.0.1", "1").starts_with("field: trtype")) << trtype;
  }
  for (const char* port : {"0", "65536", "-1", "+1", "1x", " 1", "http", "0x10"}) {
    EXPECT_TRUE(Checked("tcp", "127.0.0.1", port).starts_with("field: trsvcid")) << port;
  }
  // The last hosts in the list are not valid IPv4 addresses, although the system's resolver accepts
  // them.
  for (const char* host : {"", ".", "a..b", "-a", "a b", "a/b", "[::1]", "::g", "1.2.3.4.5",
                           "127.1", "0x7f000001.1", "256.0.0.1"}) {
    EXPECT_TRUE(Checked("tcp", host, "1").starts_with("field: traddr")) << host;
  }
  EXPECT_TRUE(Checked("tcp", std::string(64, 'a'), "1").starts_with("field: traddr"));
  std::string long_name(254, 'a');
  for (size_t i = 50; i < long_name.size(); i += 50) long_name[i] = '.';
  EXPECT_TRUE(Checked("tcp", long_name, "1").starts_with("field: traddr"));
  EXPECT_EQ(Checked("tcp", long_name.substr(1), "1"), "tcp " + long_name.substr(1) + " 1");
}

TEST(AddressTest, TheTargetGetsTheAddressFamily) {
  EXPECT_EQ(ToTransportAddress(Address("tcp", "10.0.0.1", "1")).adrfam, "ipv4");
  EXPECT_EQ(ToTransportAddress(Address("tcp", "fd00::1", "1")).adrfam, "ipv6");
}

TEST(AddressTest, AnIpAddressIsNotLookedUp) {
  nvmf::Address address = Address("tcp", "::1", "1");
  HostResolver resolver([](const std::string&, std::string&) -> int {
    ADD_FAILURE();
    return 0;
  });
  EXPECT_TRUE(resolver.Resolve(base::Context::Background(), address).ok());
}

TEST(AddressTest, ThisHostHasAnAddress) {
  nvmf::Address address = Address("tcp", "localhost", "1");
  ASSERT_TRUE(ResolveHost(base::Context::Background(), address).ok());
  EXPECT_TRUE(address.traddr() == "127.0.0.1" || address.traddr() == "::1") << address.traddr();
}

TEST(AddressTest, ErrorsOfALookup) {
  auto code = [](int error) {
    nvmf::Address address = Address("tcp", "storage", "1");
    HostResolver resolver(
        [error](const std::string& /*host*/, std::string& /*ip*/) { return error; });
    absl::Status status = resolver.Resolve(base::Context::Background(), address);
    EXPECT_EQ(address.traddr(), "storage");
    EXPECT_TRUE(std::string(status.message()).starts_with("host storage: "));
    return status.code();
  };
  EXPECT_EQ(code(EAI_NONAME), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(EAI_FAIL), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(EAI_AGAIN), StatusCode::kUnavailable);
}

// A resolver that takes as long as the test requires.
class SlowLookUp {
 public:
  ~SlowLookUp() { Answer(); }
  ResolveFunction function() {
    return [state = state_](const std::string& host, std::string& ip) {
      base::MutexLock lock(state->mutex);
      ++state->count;
      if (host == "healthy") {
        ip = "10.0.0.2";
        return 0;
      }
      while (!state->may_answer) state->changed.Wait(state->mutex);
      ip = "10.0.0.1";
      return 0;
    };
  }
  void Answer() {
    base::MutexLock lock(state_->mutex);
    state_->may_answer = true;
    state_->changed.NotifyAll();
  }
  int count() const {
    base::MutexLock lock(state_->mutex);
    return state_->count;
  }

 private:
  struct State {
    base::Mutex mutex;
    base::CondVar changed;
    bool may_answer SMA_GUARDED_BY(mutex) = false;
    int count SMA_GUARDED_BY(mutex) = 0;
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

TEST(AddressTest, ASlowLookupEndsWithTheCallersContext) {
  SlowLookUp slow;
  HostResolver resolver(slow.function(), std::chrono::hours(1));
  nvmf::Address address = Address("tcp", "storage", "1");
  EXPECT_EQ(resolver.Resolve(base::Context::WithTimeout(milliseconds(5)), address).code(),
            StatusCode::kDeadlineExceeded);
  base::Context cancelled = base::Context::Background();
  std::thread canceller([&] { cancelled.Cancel(); });
  EXPECT_EQ(resolver.Resolve(cancelled, address).code(), StatusCode::kCancelled);
  canceller.join();
  EXPECT_EQ(address.traddr(), "storage");
  std::thread answerer([&] { slow.Answer(); });
  EXPECT_TRUE(resolver.Resolve(base::Context::Background(), address).ok());
  answerer.join();
  EXPECT_EQ(address.traddr(), "10.0.0.1");
}

// A name server that does not answer for one host delays the first call for this host for a bounded
// time, later ones hardly, and calls for other hosts not at all.
TEST(AddressTest, AMuteNameServerDelaysOneCall) {
  SlowLookUp slow;
  HostResolver resolver(slow.function(), std::chrono::seconds(1));
  nvmf::Address address = Address("tcp", "storage", "1");
  const auto context = base::Context::WithTimeout(std::chrono::seconds(20));
  absl::Status status = resolver.Resolve(context, address);
  EXPECT_EQ(status, absl::UnavailableError("host storage: the name server does not answer"));
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(resolver.Resolve(context, address), status);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(900));
  EXPECT_EQ(slow.count(), 1) << "one thread waits for the name server";
  nvmf::Address healthy = Address("tcp", "healthy", "1");
  EXPECT_TRUE(resolver.Resolve(context, healthy).ok());
  EXPECT_EQ(healthy.traddr(), "10.0.0.2");
  slow.Answer();
  while (!(status = resolver.Resolve(context, address)).ok() && context.status().ok()) {
  }
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(address.traddr(), "10.0.0.1");
}

}  // namespace
}  // namespace sma::volume
