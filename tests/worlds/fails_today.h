#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

namespace sma::worlds {

/// Tests that the agent does not pass yet: "fails on today's core". They are run with
/// --gtest_also_run_disabled_tests alone; whoever mends the agent takes the line out.
inline constexpr std::string_view kFailsToday[] = {
    "Adoption_OfWhatCameSinceTheLastListing",
    "Death_UndoRemovesAnOperatorsNamespace",
    "Death_UndoRemovesHostsOfAnotherAgent",
    "Defect34_OperatorsServiceIsStopped",
    "Defect35_CreateDeviceWithKeys",
    "Defect36_AttachMeetsAnotherBdev",
    "Defect36_CreateMeetsAnotherBdev",
    "Defect36_DetachRemovesOperatorsNamespace",
    "Defect36_RemoteVolume",
    "Defect36_VfioUser",
    "Defect37_VfioUser",
    "Defect42_TheOtherServiceHasTheVolume",
    "Leak_DeathInCreateOfEncryptedVhost",
    "Leak_DeathInCreateOfEncryptedVhostByIscsi",
    "Leak_LayerOfAnAdoptedVolume",
    "Leak_ServiceOfAnAttachThatWasNotSent",
    "LyingNode_BringsAnothersUuid",
    "",  // no test's name
};

inline bool FailsToday(std::string_view test) {
  if (GTEST_FLAG_GET(also_run_disabled_tests)) return false;
  return std::find(std::begin(kFailsToday), std::end(kFailsToday), test) != std::end(kFailsToday);
}

}  // namespace sma::worlds
