// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvmf/tcp/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sma::storage_target::nvmf::tcp {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;

class AdmissionTest : public testing::Test {
 protected:
  // Handles a new connection as a transport does; returns 0 if it is refused.
  Admission::Id Accept(const std::string& address, size_t group = 0) {
    return admission_.MakeRoom(address) ? admission_.Add(address, group) : 0;
  }
  std::vector<Admission::Id> evicted_;
  std::vector<Admission::State> evicted_in_;
  Admission admission_{{.connections = 8, .pending = 6, .pending_of_address = 4},
                       2,
                       [this](Admission::Id id, size_t /*group*/, Admission::State state) {
                         evicted_.push_back(id);
                         evicted_in_.push_back(state);
                       }};
};

TEST_F(AdmissionTest, AnAddressReplacesItsOwnOldestConnection) {
  std::vector<Admission::Id> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(Accept("a"));
  EXPECT_THAT(evicted_, ElementsAre(ids[0], ids[1]));
  EXPECT_THAT(evicted_in_, Each(Admission::State::kPending));
  EXPECT_EQ(admission_.pending(0), 4u);
  EXPECT_EQ(admission_.connection_count(), 4u);
}

TEST_F(AdmissionTest, EvictsFromTheAddressWithTheMostConnections) {
  for (int i = 0; i < 4; ++i) Accept("flood");
  Admission::Id quiet = Accept("quiet");
  Accept("other");
  EXPECT_THAT(evicted_, IsEmpty());
  EXPECT_NE(Accept("new"), 0u);
  EXPECT_THAT(evicted_, ElementsAre(1u));
  admission_.SetConnected(quiet, false);
  EXPECT_NE(Accept("newer"), 0u);
  EXPECT_EQ(evicted_.size(), 1u);  // the completed Connect made room
}

TEST_F(AdmissionTest, ConnectedHostsAreNeverEvicted) {
  for (int i = 0; i < 8; ++i) admission_.SetConnected(Accept("host", 1), false);
  EXPECT_EQ(Accept("host"), 0u);
  EXPECT_EQ(Accept("other"), 0u);
  EXPECT_FALSE(admission_.EvictOne());
  EXPECT_THAT(evicted_, IsEmpty());
  admission_.Remove(3);
  EXPECT_NE(Accept("other"), 0u);
}

// Anybody may connect to the discovery subsystem.
TEST_F(AdmissionTest, DiscoveryConnectionsMakeRoomForHosts) {
  const Admission::Id quiet = Accept("quiet");
  admission_.SetConnected(quiet, true);
  std::vector<Admission::Id> flood;
  for (int i = 0; i < 7; ++i) {
    flood.push_back(Accept("flood"));
    admission_.SetConnected(flood.back(), true);
  }
  EXPECT_THAT(evicted_, IsEmpty());
  for (size_t i = 0; i < 6; ++i) {
    const Admission::Id host = Accept("host");
    ASSERT_NE(host, 0u);
    ASSERT_EQ(evicted_.size(), i + 1);
    EXPECT_EQ(evicted_.back(), flood[i]);
    EXPECT_EQ(evicted_in_.back(), Admission::State::kDiscovery);
    admission_.Remove(flood[i]);
    admission_.SetConnected(host, false);
  }
  EXPECT_EQ(admission_.connection_count(), 8u);
}

TEST_F(AdmissionTest, EvictsPendingConnectionsAtTheTotalLimit) {
  for (int i = 0; i < 6; ++i) admission_.SetConnected(Accept("host"), false);
  Admission::Id idle = Accept("idle", 1);
  Accept("idle", 1);
  EXPECT_NE(Accept("host"), 0u);
  EXPECT_THAT(evicted_, ElementsAre(idle));
  // Reports the end of the evicted connection, and of an unknown ID.
  admission_.Remove(idle);
  admission_.Remove(idle);
  admission_.SetConnected(idle, false);
  EXPECT_EQ(admission_.connection_count(), 8u);
  EXPECT_EQ(admission_.pending(1), 1u);
}

TEST_F(AdmissionTest, AConnectionThatConnectsBeforeItsEvictionStays) {
  Admission::Id first = Accept("a");
  for (int i = 0; i < 4; ++i) Accept("a");
  ASSERT_THAT(evicted_, ElementsAre(first));
  EXPECT_EQ(admission_.connection_count(), 4u);
  admission_.SetConnected(first, false);
  EXPECT_EQ(admission_.connection_count(), 5u);
  admission_.Remove(first);
  EXPECT_EQ(admission_.connection_count(), 4u);
}

TEST_F(AdmissionTest, SourceIsAnAddressOrPrefixOfOneHost) {
  EXPECT_EQ(Admission::SourceOf("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(Admission::SourceOf("2001:db8:1:2:3::4"), "2001:db8:1:2::");
  EXPECT_EQ(Admission::SourceOf("2001:db8:1:2:ffff::"), "2001:db8:1:2::");
  EXPECT_EQ(Admission::SourceOf("fe80::1%eth0"), "fe80::");
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
