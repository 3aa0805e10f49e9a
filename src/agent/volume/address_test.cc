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
  EXPECT_TRUE(ResolveHost(base::Context::Background(), address,
                          [](const std::string&, std::string&) -> int {
                            ADD_FAILURE();
                            return 0;
                          })
                  .ok());
}

TEST(AddressTest, ThisHostHasAnAddress) {
  nvmf::Address address = Address("tcp", "localhost", "1");
  ASSERT_TRUE(ResolveHost(base::Context::Background(), address).ok());
  EXPECT_TRUE(address.traddr() == "127.0.0.1" || address.traddr() == "::1") << address.traddr();
}

TEST(AddressTest, ErrorsOfALookup) {
  auto code = [](int error) {
    nvmf::Address address = Address("tcp", "storage", "1");
    absl::Status status =
        ResolveHost(base::Context::Background(), address,
                    [error](const std::string& /*host*/, std::string& /*ip*/) { return error; });
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
    return [state = state_](const std::string& /*host*/, std::string& ip) {
      base::MutexLock lock(state->mutex);
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

 private:
  struct State {
    base::Mutex mutex;
    base::CondVar changed;
    bool may_answer SMA_GUARDED_BY(mutex) = false;
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

TEST(AddressTest, ASlowLookupEndsWithTheCallersContext) {
  SlowLookUp slow;
  nvmf::Address address = Address("tcp", "storage", "1");
  EXPECT_EQ(
      ResolveHost(base::Context::WithTimeout(milliseconds(5)), address, slow.function()).code(),
      StatusCode::kDeadlineExceeded);
  base::Context cancelled = base::Context::Background();
  std::thread canceller([&] { cancelled.Cancel(); });
  EXPECT_EQ(ResolveHost(cancelled, address, slow.function()).code(), StatusCode::kCancelled);
  canceller.join();
  EXPECT_EQ(address.traddr(), "storage");
  std::thread answerer([&] { slow.Answer(); });
  EXPECT_TRUE(ResolveHost(base::Context::Background(), address, slow.function()).ok());
  answerer.join();
  EXPECT_EQ(address.traddr(), "10.0.0.1");
}

}  // namespace
}  // namespace sma::volume
