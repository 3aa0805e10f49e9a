// SPDX-License-Identifier: Apache-2.0

#include "storage_target/vhost_user/controller.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <future>

#include "harness/vhost_user/front_end.h"
#include "storage_target/vhost_user/testing/test_target.h"
#include "storage_target/virtio/guest_socket.h"

namespace sma::storage_target::vhost_user {
namespace {

class ControllerTest : public testing::Test {
 protected:
  void SetUp() override { target_.AddDisk("disk"); }
  bool Exists(const std::string& name) const {
    return std::filesystem::exists(target_.SocketPath(name));
  }
  TestTarget target_;
};

TEST_F(ControllerTest, ChecksItsParameters) {
  EXPECT_EQ(target_.Create({.name = "a", .bdev_name = "disk"}), 0);
  EXPECT_EQ(target_.Create({.name = "a", .bdev_name = "disk"}), EEXIST);
  EXPECT_EQ(target_.Create({.name = "b", .bdev_name = "none"}), ENODEV);
  EXPECT_EQ(target_.Create({.name = "b", .bdev_name = "disk"}), 0) << "a bdev may have several";
  EXPECT_EQ(target_.Create({.name = "", .bdev_name = "disk"}), EINVAL);
  for (const char* name : {"../c", "..", ".", "/c", "c/d", "c\nd", "c\x1b[2J", "c\x7f"}) {
    EXPECT_EQ(target_.Create({.name = name, .bdev_name = "disk"}), EINVAL) << name;
  }
  EXPECT_EQ(target_.Create({.name = std::string("c\0d", 3), .bdev_name = "disk"}), EINVAL);
  EXPECT_EQ(target_.Create({.name = std::string(200, 'c'), .bdev_name = "disk"}), ENAMETOOLONG);
  EXPECT_EQ(target_.Create({.name = "c", .bdev_name = "disk", .cores = {{7}}}), EINVAL);
  EXPECT_EQ(target_.Create({.name = "c", .bdev_name = "disk", .cores = {{1}}}), 0);
  target_.Run([](bdev::Registry&, ControllerTable& table) {
    ASSERT_EQ(table.List().size(), 3u);
    EXPECT_EQ(table.List()[1]->name(), "b");
    EXPECT_EQ(table.Find("c")->options().reactors.size(), 1u);
    EXPECT_EQ(table.Find("d"), nullptr);
  });
}

TEST_F(ControllerTest, TheTableKeepsOrderAndNames) {
  for (const char* name : {"c", "a", "b"}) {
    EXPECT_EQ(target_.Create({.name = name, .bdev_name = "disk"}), 0);
  }
  target_.Run([](bdev::Registry&, ControllerTable& table) {
    EXPECT_EQ(table.Delete("c"), 0);
    EXPECT_EQ(table.Delete("c"), ENODEV);
    EXPECT_EQ(table.Find("c"), nullptr);
  });
  EXPECT_EQ(target_.Create({.name = "c", .bdev_name = "disk"}), 0);
  target_.Run([](bdev::Registry&, ControllerTable& table) {
    std::string names;
    for (const Controller* controller : table.List()) names += controller->name();
    EXPECT_EQ(names, "abc");
    EXPECT_EQ(table.Find("c"), table.List().back());
  });
}

// Returns the CPU time of this thread, in nanoseconds, for looking up a name many times.
int64_t TimeToFind(const ControllerTable& table, const std::string& name) {
  timespec begin{}, end{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
  for (int i = 0; i < 20'000; ++i) EXPECT_NE(table.Find(name), nullptr);
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
  return (end.tv_sec - begin.tv_sec) * int64_t{1'000'000'000} + end.tv_nsec - begin.tv_nsec;
}

TEST_F(ControllerTest, FindingAControllerDoesNotDependOnTheNumberOfOthers) {
  int64_t alone = 0;
  EXPECT_EQ(target_.Create({.name = "first", .bdev_name = "disk"}), 0);
  target_.Run([&](bdev::Registry&, ControllerTable& table) {
    TimeToFind(table, "first");  // so that the code is there
    alone = TimeToFind(table, "first");
  });
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(target_.Create({.name = "other" + std::to_string(i), .bdev_name = "disk"}), 0);
  }
  ASSERT_EQ(target_.Create({.name = "last", .bdev_name = "disk"}), 0);
  target_.Run([&](bdev::Registry&, ControllerTable& table) {
    EXPECT_LT(TimeToFind(table, "last"), 10 * alone);
  });
}

TEST_F(ControllerTest, TheSocketIsPrivateWhateverTheUmask) {
  const auto mode_with = [&](mode_t umask, const std::string& name) {
    const mode_t before = ::umask(umask);
    EXPECT_EQ(target_.Create({.name = name, .bdev_name = "disk"}), 0);
    ::umask(before);
    struct stat status {};
    EXPECT_EQ(::lstat(target_.SocketPath(name).c_str(), &status), 0);
    return status.st_mode & 07777;
  };
  EXPECT_EQ(mode_with(0, "a"), 0600U);
  EXPECT_EQ(mode_with(0777, "b"), 0600U);
  target_.Run([](bdev::Registry&, ControllerTable&) {
    virtio::SetGuestSocketAccess({.mode = 0660, .has_group = true, .group = ::getegid()});
  });
  EXPECT_EQ(mode_with(022, "c"), 0660U);
  target_.Run([](bdev::Registry&, ControllerTable&) { virtio::SetGuestSocketAccess({}); });
}

TEST_F(ControllerTest, DeleteRemovesTheSocket) {
  ASSERT_EQ(target_.Create({.name = "a", .bdev_name = "disk"}), 0);
  EXPECT_TRUE(Exists("a"));
  EXPECT_EQ(target_.Delete("a"), 0);
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(target_.Delete("a"), ENODEV);
}

TEST_F(ControllerTest, DeleteIsRefusedWhileAFrontEndIsConnected) {
  ASSERT_EQ(target_.Create({.name = "a", .bdev_name = "disk"}), 0);
  harness::FrontEnd front_end;
  ASSERT_TRUE(front_end.Connect(target_.SocketPath("a")));
  ASSERT_TRUE(front_end.AskNumber(Request::kGetFeatures));
  EXPECT_EQ(target_.Delete("a"), EBUSY);
  EXPECT_TRUE(Exists("a"));
  EXPECT_TRUE(front_end.AskNumber(Request::kGetFeatures)) << "still served";
  front_end.Disconnect();
  ASSERT_TRUE(target_.WaitForSessions("a", 0));
  EXPECT_EQ(target_.Delete("a"), 0);
}

TEST_F(ControllerTest, ReplacesAStaleSocket) {
  {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    const std::string path = target_.SocketPath("a");
    std::memcpy(address.sun_path, path.data(), path.size());
    base::UniqueFd left(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::bind(left.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  EXPECT_TRUE(Exists("a"));
  EXPECT_EQ(target_.Create({.name = "a", .bdev_name = "disk"}), 0);
  EXPECT_TRUE(harness::FrontEnd().Connect(target_.SocketPath("a")));
}

TEST_F(ControllerTest, AFrontEndThatConnectsDuringCloseIsNotServed) {
  ASSERT_EQ(target_.Create({.name = "a", .bdev_name = "disk"}), 0);
  harness::FrontEnd late;
  std::promise<void> closed;
  // The reactor polls its sockets in the round in which this task runs, after the task.
  target_.Run([&](bdev::Registry& registry, ControllerTable& table) {
    registry.control().Post([&] {
      EXPECT_TRUE(late.Connect(target_.SocketPath("a")));
      table.Close([&] { closed.set_value(); });
    });
  });
  closed.get_future().wait();
  EXPECT_FALSE(Exists("a"));
}

TEST_F(ControllerTest, KeepsForeignFiles) {
  std::ofstream(target_.SocketPath("file")) << "text";
  EXPECT_EQ(target_.Create({.name = "file", .bdev_name = "disk"}), EEXIST);
  EXPECT_TRUE(std::filesystem::is_regular_file(target_.SocketPath("file")));
  // Tests a path at which another program's socket exists; in this test it is one of the target's
  // own sockets.
  ASSERT_EQ(target_.Create({.name = "a", .bdev_name = "disk"}), 0);
  std::filesystem::create_symlink(target_.SocketPath("a"), target_.SocketPath("link"));
  EXPECT_EQ(target_.Create({.name = "link", .bdev_name = "disk"}), EEXIST);
  std::filesystem::rename(target_.SocketPath("a"), target_.SocketPath("b"));
  EXPECT_EQ(target_.Create({.name = "b", .bdev_name = "disk"}), EADDRINUSE);
  EXPECT_TRUE(Exists("b"));
}

TEST_F(ControllerTest, StaysWhileTheBdevIsRemoved) {
  const base::Uuid uuid = base::Uuid::Random();
  target_.AddDisk("other", 4096, uuid);
  ASSERT_EQ(target_.Create({.name = "a", .bdev_name = "other"}), 0);
  target_.RemoveDisk("other");
  auto has_bdev = [&] {
    bool has = false;
    target_.Run(
        [&](bdev::Registry&, ControllerTable& table) { has = table.Find("a")->bdev() != nullptr; });
    return has;
  };
  EXPECT_FALSE(has_bdev());
  target_.AddDisk("other", 512, uuid);
  EXPECT_FALSE(has_bdev()) << "another block size";
  target_.RemoveDisk("other");
  target_.AddDisk("new name", 4096, uuid);
  EXPECT_TRUE(has_bdev());
  EXPECT_EQ(target_.Delete("a"), 0);
}

TEST_F(ControllerTest, CloseEndsTheSessions) {
  ASSERT_EQ(target_.Create({.name = "a", .bdev_name = "disk"}), 0);
  ASSERT_EQ(target_.Create({.name = "b", .bdev_name = "disk"}), 0);
  harness::FrontEnd front_end;
  ASSERT_TRUE(front_end.Connect(target_.SocketPath("a")));
  ASSERT_TRUE(front_end.AskNumber(Request::kGetFeatures));
  target_.StopTable();
  EXPECT_TRUE(front_end.WaitClosed());
  EXPECT_FALSE(Exists("a"));
  EXPECT_FALSE(Exists("b"));
}

}  // namespace
}  // namespace sma::storage_target::vhost_user
