#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

namespace sma::worlds {

/// Tests that the agent does not pass yet: "fails on today's core". They are run with
/// --gtest_also_run_disabled_tests alone; whoever mends the agent takes the line out.
/// Of Death_UndoRemovesAnOperatorsNamespace see docs/adr/0013: nothing tells the two apart.
/// Defect42_TwoEndpointsInTwoCalls fails in one run of thirty: two calls at once may each start a
/// service before either has read a discovery log.
inline constexpr std::string_view kFailsToday[] = {
    "Death_UndoRemovesAnOperatorsNamespace", "Defect42_TwoEndpointsInTwoCalls",
    "",  // no test's name
};

inline bool FailsToday(std::string_view test) {
  if (GTEST_FLAG_GET(also_run_disabled_tests)) return false;
  return std::find(std::begin(kFailsToday), std::end(kFailsToday), test) != std::end(kFailsToday);
}

}  // namespace sma::worlds
