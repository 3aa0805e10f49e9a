// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/request_table.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <set>
#include <vector>

#include "storage_target/nvmf/testing/fake_queue_pair.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

constexpr uint32_t kSize = 128;
constexpr size_t kSlotBytes = 4096;

class RequestTableTest : public testing::Test {
 protected:
  RequestTableTest() {
    table_.AddFirst(first_slot_);
    MappedMemory slots(kSlotBytes * (kSize - 1));
    slots_ = slots.data();
    EXPECT_TRUE(table_.Grow(kSize, std::move(slots), kSlotBytes));
  }
  TcpRequest& Take() {
    TcpRequest* request = table_.Allocate();
    EXPECT_NE(request, nullptr);
    EXPECT_EQ(request->state, TcpRequest::State::kFree);
    request->state = TcpRequest::State::kExecuting;
    return *request;
  }

  // Stands for the owner, of which only the address is used.
  alignas(QueuePair) std::byte owner_[sizeof(QueuePair)];
  RequestTable table_{reinterpret_cast<QueuePair&>(owner_)};
  std::byte first_slot_[1];
  std::byte* slots_ = nullptr;
};

TEST_F(RequestTableTest, HasAsManyRequestsAsTheQueueDepth) {
  std::set<uint16_t> indices;
  for (uint32_t i = 0; i < kSize; ++i) {
    TcpRequest& request = Take();
    EXPECT_EQ(&table_.At(request.index), &request);
    EXPECT_EQ(request.slot,
              request.index == 0 ? first_slot_ : slots_ + kSlotBytes * (request.index - 1U));
    EXPECT_EQ(request.out.request, &request);
    indices.insert(request.index);
  }
  EXPECT_EQ(indices.size(), kSize);
  EXPECT_FALSE(table_.has_free());
  EXPECT_EQ(table_.Allocate(), nullptr);
  table_.Free(table_.At(7));
  EXPECT_TRUE(table_.has_free());
  EXPECT_EQ(Take().index, 7);
}

TEST_F(RequestTableTest, ConstructsOnlyUsedRequests) {
  EXPECT_EQ(table_.count(), 1U);
  for (int i = 0; i < 100; ++i) table_.Free(Take());
  EXPECT_EQ(table_.count(), 1U);
  TcpRequest& first = Take();
  Take();
  EXPECT_EQ(table_.count(), 2U);
  table_.Free(first);
  Take();
  EXPECT_EQ(table_.count(), 2U);
}

TEST_F(RequestTableTest, TrimKeepsRequestsInUse) {
  for (uint32_t i = 0; i < kSize; ++i) Take();
  for (uint32_t i = 0; i < kSize; ++i) {
    if (i != 3 && i != 9) table_.Free(table_.At(i));
  }
  table_.At(9).received_size = 99;
  table_.Trim();
  EXPECT_EQ(table_.count(), 10U);
  EXPECT_EQ(table_.At(9).received_size, 99U);
  for (uint32_t i = 0; i < kSize - 2; ++i) Take();
  EXPECT_EQ(table_.Allocate(), nullptr);
  for (uint32_t i = 0; i < kSize; ++i) table_.Free(table_.At(i));
  table_.Trim();
  EXPECT_EQ(table_.count(), 1U);
  // The pages of the slots have been returned to the kernel.
  unsigned char resident = 0;
  void* page = slots_ + 4096;
  EXPECT_EQ(::mincore(page, 4096, &resident), 0);
  EXPECT_EQ(resident & 1, 0);
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
