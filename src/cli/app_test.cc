// SPDX-License-Identifier: Apache-2.0

#include "cli/app.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/testing/app_fixture.h"
#include "cli/testing/test_certificate.h"

namespace sma::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(AppTest, ErrorsOfTheAgent) {
  agent_->status = grpc::Status(grpc::StatusCode::NOT_FOUND, "no such device");
  EXPECT_EQ(Smactl({"device", "delete", "h"}), 5);
  EXPECT_EQ(out_, "");
  EXPECT_EQ(err_, "smactl: NOT_FOUND: no such device\n");
  EXPECT_EQ(Smactl({"--json", "device", "delete", "h"}), 5);
  EXPECT_EQ(
      json::parse(err_),
      json({{"error", {{"code", 5}, {"status", "NOT_FOUND"}, {"message", "no such device"}}}}));
  agent_->status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "target is away");
  EXPECT_EQ(Smactl({"device", "delete", "h"}), 14);
  EXPECT_EQ(err_, "smactl: UNAVAILABLE: target is away\n");
}

TEST_F(AppTest, NoAgent) {
  agent_.reset();
  EXPECT_EQ(Smactl({"device", "delete", "h"}), 14);
  EXPECT_THAT(err_, HasSubstr("cannot connect to the agent at " + address_));
}

TEST_F(AppTest, Timeout) {
  const auto before = std::chrono::system_clock::now();
  EXPECT_EQ(Smactl({"device", "create", "nvme", "--physical-id", "1", "--timeout", "90s"}), 0);
  EXPECT_GT(agent_->deadline, before + std::chrono::seconds(80));
  EXPECT_LT(agent_->deadline, before + std::chrono::seconds(100));
  EXPECT_EQ(Smactl({"device", "create", "nvme", "--physical-id", "1", "--timeout", "soon"}), 3);
}

TEST_F(AppTest, AddressFromTheEnvironment) {
  ::setenv("SMA_ADDRESS", address_.c_str(), 1);
  EXPECT_EQ(RunWith({"smactl", "device", "delete", "h"}), 0) << err_;
  EXPECT_EQ(RunWith({"smactl", "--address", "bad address", "device", "delete", "h"}), 3);
  ::unsetenv("SMA_ADDRESS");
}

TEST_F(AppTest, Health) {
  EXPECT_EQ(Smactl({"health"}), 0) << err_;
  EXPECT_EQ(out_, "SERVING\n");
  agent_->server->GetHealthCheckService()->SetServingStatus(false);
  EXPECT_EQ(Smactl({"health", "--json"}), 14);
  EXPECT_EQ(json::parse(out_), json({{"status", "NOT_SERVING"}}));
  EXPECT_EQ(Smactl({"health", "no.such.Service"}), 5);
}

TEST_F(AppTest, UsageErrorsAndHelp) {
  EXPECT_EQ(Smactl({}), 3);
  EXPECT_EQ(Smactl({"frobnicate"}), 3);
  EXPECT_EQ(Smactl({"device"}), 3);
  EXPECT_EQ(Smactl({"device", "delete"}), 3);
  EXPECT_EQ(Smactl({"device", "delete", "h", "more"}), 3);
  EXPECT_EQ(Smactl({"--cert", "x", "health"}), 3);
  EXPECT_EQ(Smactl({"--version"}), 0);
  for (std::vector<std::string> command : {std::vector<std::string>{},
                                           {"device", "create", "nvmf-tcp"},
                                           {"device", "create", "nvme"},
                                           {"device", "create", "virtio-blk"},
                                           {"device", "delete"},
                                           {"device", "list"},
                                           {"device", "show"},
                                           {"device", "adopt"},
                                           {"volume", "list"},
                                           {"volume", "show"},
                                           {"volume", "attach"},
                                           {"volume", "detach"},
                                           {"qos", "set"},
                                           {"qos", "get"},
                                           {"qos", "capabilities"},
                                           {"call"},
                                           {"health"},
                                           {"status"},
                                           {"watch"},
                                           {"plugin", "list"},
                                           {"completion", "bash"},
                                           {"completion", "zsh"}}) {
    command.push_back("--help");
    EXPECT_EQ(Smactl(command), 0);
    EXPECT_THAT(out_, HasSubstr("Examples:\n")) << command[0];
    EXPECT_THAT(err_, IsEmpty());
  }
}

TEST_F(AppTest, BashCompletion) {
  ASSERT_EQ(Smactl({"completion", "bash"}), 0);
  const std::string script = WriteFile("completion.bash", out_);
  auto complete = [&](const std::string& line) {
    const std::string command =
        "bash -c 'source " + script + "; COMP_WORDS=(" + line +
        "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _smactl; echo \"${COMPREPLY[@]}\"'";
    FILE* pipe = ::popen(command.c_str(), "r");
    char buffer[4096] = "";
    const size_t size = std::fread(buffer, 1, sizeof(buffer) - 1, pipe);
    ::pclose(pipe);
    return std::string(buffer, size);
  };
  EXPECT_EQ(complete("smactl de"), "device\n");
  EXPECT_EQ(complete("smactl device create n"), "nvmf-tcp nvme\n");
  EXPECT_EQ(complete("smactl --address device dev"), "device\n");
  EXPECT_EQ(complete("smactl --json qos set h --rd"), "--rd-bw --rd-iops\n");
  EXPECT_EQ(complete("smactl --ca f"), "\n");
}

TEST_F(AppTest, ZshCompletionHasTheSameCommands) {
  ASSERT_EQ(Smactl({"completion", "zsh"}), 0);
  EXPECT_THAT(out_, HasSubstr("#compdef smactl\n"));
  EXPECT_THAT(out_, HasSubstr("'/device/create') candidates='nvmf-tcp nvme virtio-blk "));
}

TEST_F(AppTest, MutualTls) {
  const TestCertificate certificate = MakeTestCertificate();
  grpc::SslServerCredentialsOptions ssl(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  ssl.pem_root_certs = certificate.pem;
  ssl.pem_key_cert_pairs = {{certificate.key_pem, certificate.pem}};
  FakeAgent agent("127.0.0.1:0", grpc::SslServerCredentials(ssl));
  address_ = "127.0.0.1:" + std::to_string(agent.port);
  const std::string cert = WriteFile("cert.pem", certificate.pem);
  const std::string key = WriteFile("key.pem", certificate.key_pem);
  EXPECT_EQ(Smactl({"--ca", cert, "--cert", cert, "--key", key, "health"}), 0) << err_;
  EXPECT_EQ(Smactl({"--ca", cert, "health"}), 14);
  EXPECT_EQ(Smactl({"health"}), 14);
  EXPECT_EQ(Smactl({"--ca", cert + "x", "health"}), 3);
}

}  // namespace
}  // namespace sma::cli
