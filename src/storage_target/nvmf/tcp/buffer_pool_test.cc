// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/buffer_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

namespace sma::storage_target::nvmf::tcp {
namespace {

using testing::ElementsAre;

constexpr size_t kLarge = 131072;

class TestUser : public BufferPool::User {
 public:
  // Without `host`, each user is a host of its own.
  TestUser(BufferPool& pool, std::vector<int>& order, int name, const std::string& host = "",
           int id = 0)
      : pool_(pool), order_(order), name_(name) {
    static int count = 0;
    pool_.Join(*this, host.empty() ? "host " + std::to_string(++count) : host, std::to_string(id));
  }
  ~TestUser() override {
    pool_.StopWaiting(*this);
    for (auto& [buffer, size] : buffers_) pool_.Free(*this, buffer, size);
    pool_.Leave(*this);
  }

  // Requests memory for a command, as a connection does.
  bool Want(size_t size) {
    if (wanted_.empty() && Take(size)) return true;
    wanted_.push_back(size);
    pool_.Wait(*this);
    return false;
  }
  void FreeOne() {
    pool_.Free(*this, buffers_.front().first, buffers_.front().second);
    buffers_.pop_front();
  }
  size_t buffer_count() const { return buffers_.size(); }

 private:
  bool Take(size_t size) {
    std::byte* buffer = pool_.Allocate(*this, size);
    if (buffer == nullptr) return false;
    buffers_.emplace_back(buffer, size);
    order_.push_back(name_);
    return true;
  }
  BufferPool::Turn TakeTurn() override {
    if (!Take(wanted_.front())) return BufferPool::Turn::kNotServed;
    wanted_.pop_front();
    return wanted_.empty() ? BufferPool::Turn::kServedLast : BufferPool::Turn::kServed;
  }

  BufferPool& pool_;
  std::vector<int>& order_;
  const int name_;
  std::deque<std::pair<std::byte*, size_t>> buffers_;
  std::deque<size_t> wanted_;
};

class BufferPoolTest : public testing::Test {
 protected:
  void RunRound() {
    int rounds = 0;
    reactor_->RunUntil([&] { return ++rounds > 2; }, std::chrono::seconds(10));
  }
  std::unique_ptr<Reactor> reactor_ = Reactor::ForThisThread({});
  BufferPool pool_{*reactor_, 4 << 20};
  std::vector<int> order_;
};

TEST_F(BufferPoolTest, OneUserLeavesMemoryForOthers) {
  TestUser greedy(pool_, order_, 1);
  while (greedy.Want(kLarge)) {
  }
  EXPECT_LE(greedy.used_bytes(), pool_.used_bytes());
  EXPECT_LE(greedy.used_bytes() * 4, size_t{4} << 20);
  TestUser other(pool_, order_, 2);
  EXPECT_TRUE(other.Want(kLarge));
  EXPECT_TRUE(other.Want(kLarge));
}

TEST_F(BufferPoolTest, OneHostLeavesMemoryForOthers) {
  std::vector<std::unique_ptr<TestUser>> users;
  for (int i = 0; i < 64; ++i) {
    users.push_back(std::make_unique<TestUser>(pool_, order_, 1, "greedy"));
    while (users.back()->Want(kLarge)) {
    }
  }
  EXPECT_EQ(pool_.HostUsedBytes(*users[0]), 12 * kLarge);
  EXPECT_FALSE(pool_.OthersWait(*users[0]));
  // Its waiting commands do not hold up those of another host.
  std::vector<std::unique_ptr<TestUser>> others;
  for (int i = 0; i < 6; ++i) {
    others.push_back(std::make_unique<TestUser>(pool_, order_, 2, "other"));
    EXPECT_TRUE(others.back()->Want(kLarge)) << i;
  }
  EXPECT_TRUE(pool_.OthersWait(*others[0]));
  // There is something for many more.
  for (int i = 0; i < 8; ++i) {
    others.push_back(std::make_unique<TestUser>(pool_, order_, 3));
    EXPECT_TRUE(others.back()->Want(kLarge)) << i;
    others.back()->Want(kLarge);
  }
}

TEST_F(BufferPoolTest, AHostWithManyIdentifiersLeavesMemoryForOthers) {
  std::vector<std::unique_ptr<TestUser>> users;
  const auto take_all = [&](int id) {
    size_t count = 0;
    do {
      users.push_back(std::make_unique<TestUser>(pool_, order_, 1, "greedy", id));
      while (users.back()->Want(kLarge)) ++count;
    } while (users.back()->buffer_count() > 0);
    return count;
  };
  EXPECT_EQ(take_all(1), 12U);
  EXPECT_EQ(take_all(2), 6U);  // another identifier is another account
  for (int id = 3; id < 40; ++id) take_all(id);
  EXPECT_EQ(pool_.used_bytes(), size_t{3} << 20);
  TestUser other(pool_, order_, 2);
  EXPECT_TRUE(other.Want(kLarge));
}

TEST_F(BufferPoolTest, UsersOfOneHostTakeTurns) {
  std::vector<std::unique_ptr<TestUser>> holders;
  for (int i = 0; i < 12; ++i) {
    holders.push_back(std::make_unique<TestUser>(pool_, order_, 0, "host"));
    EXPECT_TRUE(holders.back()->Want(kLarge)) << i;
  }
  TestUser large(pool_, order_, 1, "host");
  TestUser small(pool_, order_, 2, "host");
  EXPECT_FALSE(large.Want(4 * kLarge));
  EXPECT_FALSE(small.Want(4096));
  order_.clear();
  holders[0]->FreeOne();
  RunRound();
  EXPECT_THAT(order_, ElementsAre());  // a small buffer does not overtake a large one
  holders[1]->FreeOne();
  RunRound();
  EXPECT_THAT(order_, ElementsAre(1));
  for (int i = 2; i < 5; ++i) holders[i]->FreeOne();
  RunRound();
  EXPECT_THAT(order_, ElementsAre(1, 2));
  EXPECT_FALSE(pool_.has_waiting());
}

TEST_F(BufferPoolTest, EveryUserGetsOneBufferWhileThereIsMemory) {
  std::vector<std::unique_ptr<TestUser>> users;
  for (int i = 0; i < 32; ++i) {
    users.push_back(std::make_unique<TestUser>(pool_, order_, i));
    EXPECT_TRUE(users.back()->Want(kLarge)) << i;
  }
  EXPECT_EQ(pool_.used_bytes(), size_t{4} << 20);
  TestUser late(pool_, order_, 99);
  EXPECT_FALSE(late.Want(4096));
  users[5]->FreeOne();
  RunRound();
  EXPECT_EQ(late.buffer_count(), 1u);
}

TEST_F(BufferPoolTest, WaitingUsersTakeTurns) {
  std::vector<std::unique_ptr<TestUser>> holders;
  for (int i = 0; i < 32; ++i) {
    holders.push_back(std::make_unique<TestUser>(pool_, order_, 0));
    holders.back()->Want(kLarge);
  }
  TestUser many(pool_, order_, 1);
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(many.Want(8192));
  TestUser few(pool_, order_, 2);
  EXPECT_FALSE(few.Want(8192));
  order_.clear();
  for (int i = 0; i < 8; ++i) holders[i]->FreeOne();
  RunRound();
  EXPECT_THAT(order_, ElementsAre(1, 2, 1, 1, 1));
  EXPECT_FALSE(pool_.has_waiting());
}

TEST_F(BufferPoolTest, SmallBuffersDoNotOvertakeALargeOne) {
  std::vector<std::unique_ptr<TestUser>> holders;
  for (int i = 0; i < 32; ++i) {
    holders.push_back(std::make_unique<TestUser>(pool_, order_, 0));
    holders.back()->Want(kLarge);
  }
  TestUser large(pool_, order_, 1);
  auto small = std::make_unique<TestUser>(pool_, order_, 2);
  EXPECT_FALSE(large.Want(2 * kLarge));
  EXPECT_FALSE(small->Want(4096));
  order_.clear();
  holders[0]->FreeOne();
  RunRound();
  EXPECT_THAT(order_, ElementsAre());
  TestUser fresh(pool_, order_, 3);
  EXPECT_FALSE(fresh.Want(4096));
  holders[1]->FreeOne();
  RunRound();
  ASSERT_FALSE(order_.empty());
  EXPECT_EQ(order_[0], 1);
}

TEST_F(BufferPoolTest, ADestroyedUserDoesNotBlockOthers) {
  std::vector<std::unique_ptr<TestUser>> holders;
  for (int i = 0; i < 32; ++i) {
    holders.push_back(std::make_unique<TestUser>(pool_, order_, 0));
    holders.back()->Want(kLarge);
  }
  auto large = std::make_unique<TestUser>(pool_, order_, 1);
  TestUser small(pool_, order_, 2);
  EXPECT_FALSE(large->Want(2 * kLarge));
  EXPECT_FALSE(small.Want(4096));
  order_.clear();
  holders[0]->FreeOne();
  RunRound();
  EXPECT_EQ(small.buffer_count(), 0u);
  large.reset();
  RunRound();
  EXPECT_EQ(small.buffer_count(), 1u);
}

TEST_F(BufferPoolTest, ReturnsMemoryWhenIdle) {
  TestUser user(pool_, order_, 1);
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(user.Want(kLarge));
  pool_.Trim();
  EXPECT_EQ(pool_.touched_bytes(), 6 * kLarge);
  while (user.buffer_count() > 1) user.FreeOne();
  pool_.Trim();  // was in use a moment ago
  EXPECT_EQ(pool_.touched_bytes(), 6 * kLarge);
  user.FreeOne();
  for (int i = 0; i < 3; ++i) pool_.Trim();
  EXPECT_EQ(pool_.touched_bytes(), 0u);
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
