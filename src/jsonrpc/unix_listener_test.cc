// SPDX-License-Identifier: Apache-2.0

#include "jsonrpc/unix_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <vector>

namespace sma::jsonrpc {
namespace {

namespace fs = std::filesystem;

class UnixListenerTest : public testing::Test {
 protected:
  UnixListenerTest() {
    dir_ = fs::temp_directory_path() / ("unix_listener_test." + std::to_string(::getpid()));
    fs::create_directory(dir_);
    path_ = dir_ / "s.sock";
  }
  ~UnixListenerTest() override { fs::remove_all(dir_); }

  static base::UniqueFd Socket(const std::string& path,
                               int (*join)(int, const sockaddr*, socklen_t)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    if (join(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) fd.Reset();
    return fd;
  }
  static base::UniqueFd Connect(const std::string& path) { return Socket(path, ::connect); }
  // Listens without the lock file, as other programs do.
  static base::UniqueFd ListenOn(const std::string& path) {
    base::UniqueFd fd = Socket(path, ::bind);
    EXPECT_EQ(::listen(fd.get(), 1), 0);
    return fd;
  }

  static absl::StatusCode OpenCode(const std::string& path) {
    return UnixListener::Open(path, 0600).status().code();
  }

  static mode_t ModeOf(const std::string& path) {
    struct stat file {};
    EXPECT_EQ(::stat(path.c_str(), &file), 0);
    return file.st_mode & 07777;
  }

  fs::path dir_;
  std::string path_;
};

TEST_F(UnixListenerTest, AcceptsUntilItIsDestroyed) {
  auto listener = UnixListener::Open(path_, 0600);
  ASSERT_TRUE(listener.ok()) << listener.status();
  base::UniqueFd accepted;
  EXPECT_EQ((*listener)->Accept(accepted), UnixListener::Outcome::kNobody);
  base::UniqueFd peer = Connect(path_);
  ASSERT_TRUE(peer.valid());
  EXPECT_EQ((*listener)->Accept(accepted), UnixListener::Outcome::kAccepted);
  EXPECT_TRUE(accepted.valid());
  listener->reset();
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(UnixListenerTest, PermissionsAreIndependentOfTheUmask) {
  for (mode_t umask : {0000, 0077}) {
    const mode_t before = ::umask(umask);
    auto narrow = UnixListener::Open(path_, 0600);
    auto wide = UnixListener::Open(path_ + "2", 0666);
    ::umask(before);
    EXPECT_EQ(ModeOf(path_), 0600u);
    EXPECT_EQ(ModeOf(path_ + "2"), 0666u);
  }
}

TEST_F(UnixListenerTest, OnlyOneListensAtATime) {
  auto listener = UnixListener::Open(path_, 0600);
  ASSERT_TRUE(listener.ok());
  EXPECT_EQ(OpenCode(path_), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Connect(path_).valid());
  listener->reset();
  EXPECT_EQ(OpenCode(path_), absl::StatusCode::kOk);
}

TEST_F(UnixListenerTest, StaleSocketIsReplacedButNotALiveOne) {
  base::UniqueFd live = ListenOn(path_);
  EXPECT_EQ(OpenCode(path_), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Connect(path_).valid());
  live.Reset();
  EXPECT_TRUE(fs::exists(path_));
  EXPECT_EQ(OpenCode(path_), absl::StatusCode::kOk);
}

TEST_F(UnixListenerTest, AnotherProgramsSocketIsKept) {
  auto listener = UnixListener::Open(path_, 0600);
  ASSERT_TRUE(listener.ok());
  fs::remove(path_);
  base::UniqueFd other = ListenOn(path_);
  listener->reset();
  EXPECT_TRUE(Connect(path_).valid());
}

TEST_F(UnixListenerTest, BadPaths) {
  ::close(::open(path_.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_EQ(OpenCode(path_), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(fs::exists(path_));
  EXPECT_EQ(OpenCode(""), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenCode(std::string(108, 'x')), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenCode(dir_ / "none" / "s.sock"), absl::StatusCode::kNotFound);
}

TEST_F(UnixListenerTest, WithoutDescriptorsPeersAreDropped) {
  auto listener = UnixListener::Open(path_, 0600);
  ASSERT_TRUE(listener.ok());
  base::UniqueFd peer = Connect(path_);
  rlimit limit{}, none{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  base::UniqueFd probe(::open("/dev/null", O_RDONLY));
  const int next_fd = probe.get();
  probe.Reset();
  none = {static_cast<rlim_t>(next_fd), limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  base::UniqueFd accepted;
  EXPECT_EQ((*listener)->Accept(accepted), UnixListener::Outcome::kNoDescriptors);
  EXPECT_TRUE((*listener)->DropPeer());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  char byte;
  EXPECT_EQ(::recv(peer.get(), &byte, 1, 0), 0) << "the peer was not dropped";
  peer = Connect(path_);
  EXPECT_EQ((*listener)->Accept(accepted), UnixListener::Outcome::kAccepted);
}

}  // namespace
}  // namespace sma::jsonrpc
