#include "target/nvmf/tcp/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sma::target::nvmf::tcp {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class AdmissionTest : public testing::Test {
 protected:
  // As a transport does with a new connection; 0 when it is refused.
  Admission::Id Accept(const std::string& address, size_t group = 0) {
    return admission_.MakeRoom(address) ? admission_.Add(address, group) : 0;
  }
  std::vector<Admission::Id> evicted_;
  Admission admission_{{.connections = 8, .pending = 6, .pending_of_address = 4},
                       2,
                       [this](Admission::Id id, size_t /*group*/) { evicted_.push_back(id); }};
};

TEST_F(AdmissionTest, OneAddressReplacesItsOwnOldest) {
  std::vector<Admission::Id> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(Accept("a"));
  EXPECT_THAT(evicted_, ElementsAre(ids[0], ids[1]));
  EXPECT_EQ(admission_.pending(0), 4u);
  EXPECT_EQ(admission_.connection_count(), 4u);
}

TEST_F(AdmissionTest, TheAddressWithTheMostMakesRoomForOthers) {
  for (int i = 0; i < 4; ++i) Accept("flood");
  Admission::Id quiet = Accept("quiet");
  Accept("other");
  EXPECT_THAT(evicted_, IsEmpty());
  EXPECT_NE(Accept("new"), 0u);
  EXPECT_THAT(evicted_, ElementsAre(1u));
  admission_.LoggedIn(quiet);
  EXPECT_NE(Accept("newer"), 0u);
  EXPECT_EQ(evicted_.size(), 1u);  // the login made room
}

TEST_F(AdmissionTest, HostsThatHaveLoggedInAreNeverEvicted) {
  for (int i = 0; i < 8; ++i) admission_.LoggedIn(Accept("host", 1));
  EXPECT_EQ(Accept("host"), 0u);
  EXPECT_EQ(Accept("other"), 0u);
  EXPECT_FALSE(admission_.EvictPending());
  EXPECT_THAT(evicted_, IsEmpty());
  admission_.Gone(3);
  EXPECT_NE(Accept("other"), 0u);
}

TEST_F(AdmissionTest, AtTheBoundOfAllThoseWithoutLoginMakeRoom) {
  for (int i = 0; i < 6; ++i) admission_.LoggedIn(Accept("host"));
  Admission::Id idle = Accept("idle", 1);
  Accept("idle", 1);
  EXPECT_NE(Accept("host"), 0u);
  EXPECT_THAT(evicted_, ElementsAre(idle));
  // Its own end, and one that is not known.
  admission_.Gone(idle);
  admission_.Gone(idle);
  admission_.LoggedIn(idle);
  EXPECT_EQ(admission_.connection_count(), 8u);
  EXPECT_EQ(admission_.pending(1), 1u);
}

TEST_F(AdmissionTest, LoginBeforeEvictionCounts) {
  Admission::Id first = Accept("a");
  for (int i = 0; i < 4; ++i) Accept("a");
  ASSERT_THAT(evicted_, ElementsAre(first));
  EXPECT_EQ(admission_.connection_count(), 4u);
  admission_.LoggedIn(first);
  EXPECT_EQ(admission_.connection_count(), 5u);
  admission_.Gone(first);
  EXPECT_EQ(admission_.connection_count(), 4u);
}

TEST_F(AdmissionTest, SourceIsWhatOneHostHas) {
  EXPECT_EQ(Admission::SourceOf("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(Admission::SourceOf("2001:db8:1:2:3::4"), "2001:db8:1:2::");
  EXPECT_EQ(Admission::SourceOf("2001:db8:1:2:ffff::"), "2001:db8:1:2::");
  EXPECT_EQ(Admission::SourceOf("fe80::1%eth0"), "fe80::");
}

}  // namespace
}  // namespace sma::target::nvmf::tcp
