// SPDX-License-Identifier: Apache-2.0

#include "sma/outcome.h"

#include <gtest/gtest.h>

#include <string>

namespace sma::core {
namespace {

using State = Outcome::State;

const absl::Status kLost = absl::UnavailableError("lost");

TEST(OutcomeTest, StatusOfACallConverts) {
  EXPECT_EQ(Outcome(absl::OkStatus()).state(), State::kDone);
  EXPECT_EQ(Outcome(kLost).state(), State::kNotDone);
  EXPECT_EQ(Outcome(jsonrpc::WithFateUnknown(kLost)).state(), State::kUnknown);
}

// Only the state carries the outcome: the reason, as passed on to a client or to another outcome,
// carries no marker.
TEST(OutcomeTest, ReasonHasNoMarker) {
  const Outcome outcome = jsonrpc::WithFateUnknown(kLost);
  EXPECT_FALSE(jsonrpc::IsFateUnknown(outcome.status()));
  EXPECT_EQ(Outcome(outcome.status()).state(), State::kNotDone);
  EXPECT_FALSE(jsonrpc::IsFateUnknown(Outcome::NotDone(jsonrpc::WithFateUnknown(kLost)).status()));
}

TEST(OutcomeTest, ReasonKeepsTheTargetsError) {
  const Outcome outcome = jsonrpc::TargetErrorStatus("method", {.code = -16, .message = "busy"});
  EXPECT_EQ(jsonrpc::GetTargetError(outcome.WithContext("device").status())->code, -16);
}

TEST(OutcomeTest, WhatIsSettled) {
  EXPECT_TRUE(Outcome().is_settled());
  EXPECT_TRUE(Outcome::NotDone(kLost).is_settled());
  EXPECT_TRUE(Outcome::DeviceMissing(kLost).is_settled());
  EXPECT_TRUE(Outcome::NeedsSetup(kLost).is_settled());
  EXPECT_FALSE(Outcome::UnderWay(kLost).is_settled());
  EXPECT_FALSE(Outcome::Unknown(kLost).is_settled());
}

TEST(OutcomeTest, RolledBackOrUnknown) {
  EXPECT_EQ(Outcome(kLost).AfterUndo({}).state(), State::kNotDone);
  EXPECT_EQ(Outcome(kLost).AfterUndo(kLost).state(), State::kUnknown);
  EXPECT_EQ(Outcome::Unknown(kLost).AfterUndo({}).state(), State::kNotDone);
  EXPECT_EQ(Outcome(kLost).AfterUndo(Outcome::UnderWay(kLost)).state(), State::kUnknown);
}

TEST(OutcomeTest, ContextKeepsTheState) {
  for (const Outcome& outcome : {Outcome::UnderWay(kLost), Outcome::DeviceMissing(kLost)}) {
    const Outcome named = outcome.WithContext("device");
    EXPECT_EQ(named.state(), outcome.state());
    EXPECT_EQ(named.message(), "device: lost");
    EXPECT_EQ(named.code(), kLost.code());
  }
  EXPECT_TRUE(Outcome().WithContext("device").ok());
}

TEST(OutcomeTest, FirstOutcomeThatIsNotDoneIsKept) {
  Outcome first;
  first.Update(Outcome::UnderWay(kLost));
  first.Update(Outcome::Unknown(kLost));
  EXPECT_EQ(first.state(), State::kUnderWay);
}

TEST(OutcomeOrTest, ValueOrOutcome) {
  const OutcomeOr<std::string> value = std::string("1");
  EXPECT_TRUE(value.ok());
  EXPECT_EQ(*value, "1");
  const OutcomeOr<std::string> unknown = jsonrpc::WithFateUnknown(kLost);
  EXPECT_FALSE(unknown.ok());
  EXPECT_TRUE(unknown.outcome().is_unknown());
  EXPECT_EQ(OutcomeOr<std::string>(absl::StatusOr<std::string>("2"))->size(), 1u);
}

}  // namespace
}  // namespace sma::core
