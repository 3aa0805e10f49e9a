// SPDX-License-Identifier: Apache-2.0

// Tests that errors contain the reason why the target cannot listen, although the target answers
// only "Invalid parameters".

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "base/unique_fd.h"
#include "devices/nvmf_common/listen_check.h"
#include "devices/nvmf_tcp/testing/nvmf_tcp_fixture.h"

namespace sma::nvmf_tcp {
namespace {

using testing::HasSubstr;

/// Another program that listens on a port of the loopback address.
class OtherListener {
 public:
  OtherListener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(name);
    auto* address = reinterpret_cast<sockaddr*>(&name);
    EXPECT_EQ(::bind(socket_.get(), address, size), 0);
    EXPECT_EQ(::listen(socket_.get(), 1), 0);
    EXPECT_EQ(::getsockname(socket_.get(), address, &size), 0);
    port_ = std::to_string(ntohs(name.sin_port));
  }
  const std::string& port() const { return port_; }

 private:
  base::UniqueFd socket_;
  std::string port_;
};

class ListenReasonTest : public NvmfTcpTest {
 protected:
  void RefuseListeners() {
    target_.SetFaultPlan([](uint64_t, const jsonrpc::Request& request) {
      return request.method == "nvmf_subsystem_add_listener" ? spdk::Fault::kRefuse
                                                             : spdk::Fault::kNone;
    });
  }
  std::string CreateError(const DeviceSpec& device) {
    auto created = manager_.CreateDevice(context_, device, nullptr);
    EXPECT_FALSE(created.ok());
    return created.ok() ? "" : std::string(created.outcome().message());
  }
};

TEST_F(ListenReasonTest, Defect67_CreateReportsAPortInUse) {
  OtherListener other;
  RefuseListeners();
  EXPECT_THAT(CreateError(Describe(other.port())),
              HasSubstr("listener 127.0.0.1 port " + other.port() + ": the port is in use ("));
}

TEST_F(ListenReasonTest, Defect67_CreateReportsANonlocalAddress) {
  DeviceSpec device = Describe();
  // An address reserved for documentation (RFC 5737) belongs to no host. The fake target refuses
  // it.
  device.params.mutable_nvmf_tcp()->set_traddr("192.0.2.77");
  EXPECT_THAT(CreateError(device), HasSubstr("the address does not belong to this host"));
}

TEST_F(ListenReasonTest, Defect67_RestoreReportsAPortInUse) {
  OtherListener other;
  RefuseListeners();
  const DeviceSpec device = Describe(other.port());
  RestoreResult result = manager_.Restore(context_, {.device = device, .volumes = {}});
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("the port is in use"));
}

TEST_F(ListenReasonTest, NoReasonIsAddedIfTheAddressIsFree) {
  std::string port;
  {
    OtherListener other;  // its port is free after it is closed
    port = other.port();
  }
  const spdk::TransportAddress address{
      .trtype = "tcp", .adrfam = "ipv4", .traddr = "127.0.0.1", .trsvcid = port};
  EXPECT_EQ(nvmf_common::ListenFailureReason(address), "");
  EXPECT_EQ(nvmf_common::ListenFailureReason(
                {.trtype = "vfiouser", .adrfam = "", .traddr = "/run/nowhere", .trsvcid = ""}),
            "");
}

}  // namespace
}  // namespace sma::nvmf_tcp
