// SPDX-License-Identifier: Apache-2.0

#include "agent/embedded/embedded_target.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/testing/listen_as.h"

namespace sma::embedded {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

constexpr uid_t kOtherUser = 65534;

class EmbeddedTargetTest : public testing::Test {
 protected:
  EmbeddedTargetTest() {
    std::string name = testing::TempDir() + "sma_embedded_XXXXXX";
    folder_ = mkdtemp(name.data());
    options_.binary = FAKE_TARGET;
    options_.socket = folder_ + "/rpc.sock";
    options_.log_file = folder_ + "/log";
    options_.first_pause = milliseconds(1);
    options_.longest_pause = seconds(60);
  }

  ~EmbeddedTargetTest() override {
    target_.reset();
    if (std::optional<Process> left = Listener()) {
      left->Signal(SIGKILL);
      EXPECT_TRUE(left->WaitForEnd(seconds(20)));
    }
    std::filesystem::remove_all(folder_);
  }

  void Start() {
    auto target = EmbeddedTarget::Start(options_);
    ASSERT_TRUE(target.ok()) << target.status();
    target_ = *std::move(target);
    absl::Status status = target_->WaitUntilListening(base::Context::WithTimeout(seconds(20)));
    ASSERT_TRUE(status.ok()) << status;
  }

  std::optional<Process> Listener() {
    auto listener = Process::ListeningOn(options_.socket);
    EXPECT_TRUE(listener.ok()) << listener.status();
    return listener.ok() ? *std::move(listener) : std::nullopt;
  }

  std::string Log() {
    std::ostringstream text;
    text << std::ifstream(options_.log_file).rdbuf();
    return text.str();
  }

  template <typename Condition>
  static bool WaitFor(Condition condition) {
    auto give_up = steady_clock::now() + seconds(20);
    while (!condition()) {
      if (steady_clock::now() > give_up) return false;
      usleep(1000);
    }
    return true;
  }

  std::string folder_;
  EmbeddedTargetOptions options_;
  std::unique_ptr<EmbeddedTarget> target_;
};

TEST_F(EmbeddedTargetTest, StartsInASessionOfItsOwn) {
  Start();
  EXPECT_FALSE(target_->adopted());
  EXPECT_EQ(getsid(target_->pid()), target_->pid());
  EXPECT_THAT(Log(), HasSubstr("listening on " + options_.socket));
}

TEST_F(EmbeddedTargetTest, InheritsNoDescriptors) {
  base::UniqueFd open_without_cloexec(::open("/dev/null", O_RDONLY));
  Start();
  std::string fds = "/proc/" + std::to_string(target_->pid()) + "/fd";
  size_t null_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(fds)) {
    std::error_code error;
    null_files += std::filesystem::read_symlink(entry.path(), error) == "/dev/null" ? 1 : 0;
  }
  EXPECT_EQ(null_files, 1u) << "only standard input";
}

TEST_F(EmbeddedTargetTest, SignalsThatTheAgentBlocksReachTheTarget) {
  sigset_t term, before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, &before);
  options_.stop_at_end = true;
  Start();
  auto began = steady_clock::now();
  target_.reset();
  EXPECT_LT(steady_clock::now() - began, seconds(9)) << "SIGTERM ended it";
  EXPECT_FALSE(Listener());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_F(EmbeddedTargetTest, OutlivesTheAgentAndIsAdoptedByTheNextOne) {
  Start();
  pid_t pid = target_->pid();
  target_.reset();
  ASSERT_TRUE(Listener());
  Start();
  EXPECT_TRUE(target_->adopted());
  EXPECT_EQ(target_->pid(), pid);
}

TEST_F(EmbeddedTargetTest, IsRestartedWhenItDies) {
  Start();
  for (uint32_t round = 1; round <= 3; ++round) {
    pid_t pid = target_->pid();
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    ASSERT_TRUE(WaitFor([&] { return target_->restarts() == round; }));
    EXPECT_NE(target_->pid(), pid);
    ASSERT_TRUE(WaitFor([&] { return Listener().has_value(); }));
  }
}

TEST_F(EmbeddedTargetTest, AnAdoptedTargetIsRestartedWhenItDies) {
  Start();
  target_.reset();
  Start();
  ASSERT_TRUE(target_->adopted());
  ASSERT_EQ(kill(target_->pid(), SIGKILL), 0);
  ASSERT_TRUE(WaitFor([&] { return target_->restarts() == 1; }));
  ASSERT_TRUE(WaitFor([&] { return Listener().has_value(); }));
}

TEST_F(EmbeddedTargetTest, StopsWithTheAgentIfConfigured) {
  options_.stop_at_end = true;
  Start();
  target_.reset();
  EXPECT_FALSE(Listener());
}

TEST_F(EmbeddedTargetTest, AnAdoptedForeignProgramIsNotStopped) {
  Start();
  target_.reset();
  options_.binary = "/bin/true";
  options_.stop_at_end = true;
  Start();
  ASSERT_TRUE(target_->adopted());
  target_.reset();
  EXPECT_TRUE(Listener());
}

TEST_F(EmbeddedTargetTest, AProcessOfAnotherUserIsRefusedAtTheStart) {
  if (geteuid() != 0) GTEST_SKIP() << "must be root to listen as another user";
  base::UniqueFd listener = base::ListenAs(kOtherUser, options_.socket);
  ASSERT_TRUE(listener);
  absl::Status status = EmbeddedTarget::Start(options_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(options_.socket));
  EXPECT_THAT(std::string(status.message()), HasSubstr("user 65534"));
}

TEST_F(EmbeddedTargetTest, AProcessOfAnotherUserDoesNotReplaceATargetThatDied) {
  if (geteuid() != 0) GTEST_SKIP() << "must be root to listen as another user";
  options_.first_pause = milliseconds(20);
  Start();
  unlink(options_.socket.c_str());
  base::UniqueFd listener = base::ListenAs(kOtherUser, options_.socket);
  ASSERT_TRUE(listener);
  ASSERT_EQ(kill(target_->pid(), SIGKILL), 0);
  // The first attempt finds the other user's process; the target is started once that process no
  // longer listens.
  char byte = 0;
  base::UniqueFd client;
  ASSERT_TRUE(WaitFor([&] {
    client.Reset(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK));
    return client.valid();
  }));
  EXPECT_LE(read(client.get(), &byte, 1), 0) << "nothing is sent to it";
  EXPECT_EQ(target_->restarts(), 0u);
  EXPECT_EQ(target_->WaitUntilListening(base::Context::WithTimeout(seconds(20))).code(),
            absl::StatusCode::kPermissionDenied);
  unlink(options_.socket.c_str());
  listener.Reset();
  EXPECT_TRUE(WaitFor([&] { return target_->restarts() == 1; }));
}

TEST_F(EmbeddedTargetTest, AMissingProgramIsReported) {
  options_.binary = folder_ + "/none";
  absl::Status status = EmbeddedTarget::Start(options_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(options_.binary));
}

TEST_F(EmbeddedTargetTest, AProgramThatEndsImmediatelyIsReportedAndRestartedWithPauses) {
  options_.arguments = {"--fail", "3"};
  options_.first_pause = seconds(30);
  auto target = EmbeddedTarget::Start(options_);
  ASSERT_TRUE(target.ok()) << target.status();
  absl::Status status = (*target)->WaitUntilListening(base::Context::WithTimeout(seconds(20)));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("exit status 3"));
  EXPECT_EQ((*target)->restarts(), 0u);
  auto began = steady_clock::now();
  target->reset();
  EXPECT_LT(steady_clock::now() - began, seconds(20)) << "a pause does not delay the end";
}

TEST_F(EmbeddedTargetTest, WaitingEndsWithTheContext) {
  options_.binary = "/bin/sleep";
  options_.arguments = {};
  // `sleep` does not accept -r and exits; a long pause prevents a second start during the test.
  options_.first_pause = seconds(30);
  auto target = EmbeddedTarget::Start(options_);
  ASSERT_TRUE(target.ok());
  base::Context context = base::Context::Background();
  context.Cancel();
  absl::Status status = (*target)->WaitUntilListening(context);
  EXPECT_FALSE(status.ok());
}

}  // namespace
}  // namespace sma::embedded
