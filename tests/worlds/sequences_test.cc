// SPDX-License-Identifier: Apache-2.0

// Tests short sequences of steps, one for each numbered defect: ownership of objects, the disk
// behind a name, and the effects of a failing neighbour.

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "absl/strings/str_replace.h"
#include "worlds/sequence.h"

namespace sma::worlds {
namespace {

const SimOptions kSlowDiscovery{.discovery_lag = 3};
const SimOptions kIncomplete{.incomplete_descriptions = 1};

const Sequence kSequences[] = {
    {.name = "Defect34_TwoAddressesByDiscovery",
     .script = "create 0; create 1; attach 1 0 d1; attach 3 1 d2; detach 1 0"},
    {.name = "Defect34_TwoAddressesByDiscoveryAndDelete",
     .script = "create 0; create 1; attach 1 0 d1; attach 3 1 d2; delete 0"},
    {.name = "Defect34_TwoAddressesOneHost",
     .script = "create 0; create 1; attach 1 0 d1s; attach 3 1 d2s; detach 1 0"},
    {.name = "Defect34_DiscoveryThenDirect",
     .script = "create 0; create 1; attach 1 0 d1; attach 3 1 p2; detach 1 0"},
    {.name = "Defect34_DiscoveryThenDirectOneHost",
     .script = "create 0; create 1; attach 1 0 d1s; attach 3 1 p1s; detach 1 0"},
    {.name = "Defect34_DirectBesideAnotherOwnersDiscovery",
     .script = "create 2; op discover 2 1; attach 3 2 p1; op stop 2 1"},
    {.name = "Defect34_DirectThenDiscovery",
     .script = "create 0; create 1; attach 1 0 p1; attach 2 1 d2; detach 1 0"},
    {.name = "Defect34_DirectThenDiscoveryOneHost",
     .script = "create 0; create 1; attach 1 0 p1s; attach 2 1 d2s; delete 0"},
    {.name = "Defect34_OneSubsystemTwoKinds",
     .script = "create 0; create 1; attach 2 1 d1; attach 1 0 p1; detach 1 0; detach 2 1"},
    {.name = "Defect34_FailedAttachThroughTheFirstAddress",
     .script = "create 0; create 1; vanish 1; attach 3 1 d2; attach 1 0 d1; expect error"},
    {.name = "Defect34_AfterRestartOfTheAgent",
     .script = "create 0; create 1; attach 1 0 d1; attach 3 1 d2; restart agent; detach 1 0"},
    {.name = "Defect34_OperatorsServiceIsStopped",
     .script = "create 0; op discover 1 1; attach 3 0 d2; op stop 1 1"},
    {.name = "Defect34_OperatorsControllerServes",
     .script = "create 0; op control 1 1; attach 1 0 p1s; detach 1 0"},
    {.name = "Adoption_CreateDeviceAdoptsTheVolumes",
     .script = "op copy 0 9; create 0; restart target; delete 0"},
    {.name = "Defect35_AdoptedEncryptedVolume", .script = "op copy 0 10; adopt 0; restart target"},
    {.name = "Defect35_CreateDeviceWithoutKeys",
     .script = "op copy 0 10; restart agent; create 0 10 c; restart target"},
    {.name = "Defect35_AttachVolumeWithoutKeys",
     .script = "op copy 0 10; restart agent; create 0; attach 10 0 c; restart target"},
    {.name = "Defect35_AttachVolumeWithKeys",
     .script = "op copy 0 10; restart agent; create 0; attach 10 0; expect OK; restart target"},
    {.name = "Defect35_CreateDeviceWithKeys",
     .script = "op copy 0 10; restart agent; create 0 10; expect OK; restart target"},
    // Another agent creates a layer, with the volume's keys, while the volume's own is missing.
    {.name = "Defect35_AnothersLayerAndDelete",
     .script = "create 2; attach 10 2; op rmdisk 10; restart target; op disk 10; op copy 3 10; "
               "compare; delete 2"},
    {.name = "Defect35_AnothersLayerAndDetach",
     .script = "create 2; attach 12 2; op rmdisk 12; restart target; op disk 12; op copy 3 12; "
               "compare; detach 12 2"},
    {.name = "Defect35_AnothersLayerAndAttachAgain",
     .script = "create 2; attach 12 2; op rmdisk 12; restart target; op disk 12; op copy 3 12; "
               "attach 12 2; expect error; restart agent; detach 12 2; expect OK"},
    {.name = "Defect35_AnothersLayerOfAnAdoptedVolume",
     .script = "op copy 2 12; adopt 2; op rmdisk 12; restart target; op disk 12; op copy 3 12; "
               "compare; delete 2"},
    // SPDK cannot delete an adopted layer whose disk is missing, and creates it again with the
    // disk.
    {.name = "Adoption_LayerWithoutItsDiskAndDelete",
     .script = "op copy 0 10; adopt 0; op rmdisk 10; delete 0; expect OK"},
    {.name = "Adoption_LayerComesBackWithItsDisk",
     .script = "op copy 0 10; adopt 0; op rmdisk 10; delete 0; expect OK; op disk 10; create 0"},
    {.name = "Adoption_OfWhatCameSinceTheLastListing",
     .script = "op copy 0; create 0; expect OK; restart target"},
    {.name = "Defect36_AttachMeetsAnotherBdev", .script = "create 0; op ns 0 0 9; attach 9 0"},
    {.name = "Defect36_CreateMeetsAnotherBdev", .script = "create 0; op ns 0 0 9; create 0 9"},
    {.name = "Defect36_AttachMeetsTheClearBase", .script = "create 0; op raw 0 12; attach 12 0"},
    {.name = "Defect36_RepeatedAttachMeetsAnotherBdev",
     .script = "create 0; attach 9 0; op rmns 0 9; op ns 0 0 9; attach 9 0"},
    {.name = "Defect36_DetachRemovesOperatorsNamespace",
     .script = "create 0; op ns 0 0 9; attach 9 0; detach 9 0"},
    {.name = "Defect36_DetachRemovesTheOneInItsPlace",
     .script = "create 0; attach 9 0; op rmns 0 9; op ns 0 0 9; detach 9 0"},
    {.name = "Defect36_RemoteVolume", .script = "create 0; op ns 0 0 1; attach 1 0 d1"},
    {.name = "Defect37_DeathInCreateDevice", .script = "op subsystem 0; die $N create 0 9"},
    {.name = "Defect37_DeathInCreateOfAnothersDevice", .script = "op copy 1 9; die $N create 1 9"},
    {.name = "Defect37_DeathInCreateOfAnothersEncryptedDevice",
     .script = "op copy 1 12; die $N create 1 12"},
    {.name = "Defect37_DeathInCreateDeviceWithRemoteVolume",
     .script = "op subsystem 0; die $N create 0 1"},
    {.name = "Defect38_OperatorTakesTheNqn",
     .script = "create 0; attach 9 0; op delete 0; op subsystem 0; compare"},
    {.name = "Defect38_OperatorTakesTheNqnOfAnOpenDevice",
     .script = "create 3; op delete 3; op subsystem 3; compare"},
    {.name = "Defect38_DeleteAfterOperatorTookTheNqn",
     .script = "create 0; op delete 0; op subsystem 0; delete 0"},
    {.name = "Defect38_AttachAfterOperatorTookTheNqn",
     .script = "create 0; op delete 0; op subsystem 0; attach 9 0"},
    {.name = "Defect38_CreateAgainAfterOperatorTookTheNqn",
     .script = "create 0; op delete 0; op subsystem 0; create 0"},
    {.name = "Defect38_AfterRestartOfTheAgent",
     .script = "create 0; attach 9 0; op delete 0; op subsystem 0; restart agent; delete 0"},
    {.name = "Defect39_OperatorUsesTheNsid",
     .script = "create 0; attach 9 0; op rmns 0 9; op ns 0 1; detach 9 0"},
    {.name = "Defect39_OperatorUsesTheNsidOfAnEncryptedVolume",
     .script = "create 0; attach 12 0; op rmns 0 12; op ns 0 1; detach 12 0"},
    {.name = "Defect40_DeathWhileAnEndpointIsAdded",
     .script = "create 0; attach 1 0 d1; die $N attach 1 0 d2; detach 1 0"},
    {.name = "Defect40_DeathWhileAPathIsAdded",
     .script = "create 0; attach 1 0 p1; die $N attach 1 0 p2; detach 1 0"},
    {.name = "Defect41_OneUnitTwoVolumes",
     .script = "create 0; create 1; attach 7 0; attach 8 1 =7c; expect error"},
    {.name = "Defect42_TwoEndpointsOfOneService",
     .script = "create 0; attach 5 0 d12",
     .options = {.sim = kSlowDiscovery}},
    {.name = "Defect42_TwoEndpointsInTwoCalls",
     .script = "create 0; attach 5 0 d1 | attach 6 0 d2",
     .options = {.sim = kSlowDiscovery}},
    {.name = "Defect42_TheOtherServiceHasTheVolume",
     .script = "create 0; hang 5 1; attach 5 0 d12; up 5 1; compare; compare"},
    {.name = "Defect43_IncompleteDescription",
     .script = "create 0; attach 1 0 d1q; expect OK",
     .options = {.sim = kIncomplete}},
    {.name = "Defect44_LimitStaysAfterDetach",
     .script = "create 0; attach 9 0; qos 9 0 5; detach 9 0"},
    {.name = "Defect44_LimitStaysAfterDelete",
     .script = "create 0; attach 9 0; qos 9 0 5; delete 0"},
    {.name = "Defect44_SecondLimiterInEncryptedLife",
     .script = "op clear 10; create 0; attach 10 0 c; qos 10 0 5; detach 10 0; op cipher 10; "
               "attach 10 0; qos 10 0 0; expect OK"},
    {.name = "Defect45_AttachAgainAfterOperatorsDelete",
     .script = "create 0; attach 9 0; attach 11 0; op delete 0; attach 9 0",
     .options = {.checks_exposure = true}},
    {.name = "Defect45_AttachAnotherAfterOperatorsDelete",
     .script = "create 0; attach 9 0; op delete 0; attach 11 0",
     .options = {.checks_exposure = true}},
    {.name = "Defect45_CreateAgainAfterOperatorsDelete",
     .script = "create 0 9; attach 11 0; op delete 0; create 0",
     .options = {.checks_exposure = true}},
    // The same sequences for VM devices.
    {.name = "Defect36_VfioUser",
     .script = "create 5; op ns 5 0 9; attach 9 5",
     .options = {.has_machine = true}},
    {.name = "Defect37_VfioUser",
     .script = "op subsystem 5; die $N create 5 9",
     .options = {.has_machine = true}},
    {.name = "Defect38_VfioUser",
     .script = "create 5; attach 9 5; op delete 5; op subsystem 5; compare",
     .options = {.has_machine = true}},
    {.name = "Defect38_VfioUserDelete",
     .script = "create 5; op delete 5; op subsystem 5; delete 5",
     .options = {.has_machine = true}},
    {.name = "Defect39_VfioUser",
     .script = "create 5; attach 9 5; op rmns 5 9; op ns 5 1; detach 9 5",
     .options = {.has_machine = true}},
    {.name = "Defect44_VfioUser",
     .script = "create 5; attach 9 5; qos 9 5 5; detach 9 5",
     .options = {.has_machine = true}},
    {.name = "Defect44_Vhost",
     .script = "create 6 9; qos 9 6 5; delete 6",
     .options = {.has_machine = true}},
    {.name = "Defect34_Vhost",
     .script = "create 6 1 d1; create 1; attach 3 1 d2; delete 6",
     .options = {.has_machine = true}},
    {.name = "Defect37_Vhost",
     .script = "op vhost 6; die $N create 6 9",
     .options = {.has_machine = true}},
    {.name = "Defect38_Vhost",
     .script = "create 6 9; delete 6; op vhost 6; delete 6; create 6 9; expect error",
     .options = {.has_machine = true}},
    {.name = "Defect38_VhostTakenWhileTheMachineIsDown",
     .script = "create 6 9; restart machine; op rmvhost 6; op vhost 6; compare; delete 6",
     .options = {.has_machine = true}},
    // An adopted device has the default serial number, which all subsystems without one of their
    // own share.
    {.name = "Defect38_OperatorTakesTheNqnOfAnAdoptedDevice",
     .script = "op copy 0 12; adopt 0; op delete 0; op subsystem 0; compare"},
    {.name = "Defect38_DeleteAfterOperatorTookTheNqnOfAnAdoptedDevice",
     .script = "op copy 0 9; adopt 0; op delete 0; op subsystem 0; delete 0"},
    {.name = "Defect38_AttachAfterOperatorTookTheNqnOfAnAdoptedDevice",
     .script = "op copy 3 12; adopt 3; op delete 3; op subsystem 3; attach 1 3 p12s"},
    {.name = "Defect38_CreateAfterOperatorTookTheNqnOfAnAdoptedDevice",
     .script = "op copy 0 9; create 0; op delete 0; op subsystem 0; create 0"},
    {.name = "Adoption_DeathWhileAnAdoptedDeviceIsRecreated",
     .script = "op copy 0 9; adopt 0; op delete 0; die $N attach 11 0"},
    // An operator's controller of the device's name and the volume's bdev, which no VM uses.
    {.name = "Takeover_DeathInCreateOfAnotherControllersDevice",
     .script = "op vhost 6 9; die $N create 6 9",
     .options = {.has_machine = true}},
    {.name = "Takeover_RefusalsInCreateOfAnotherControllersDevice",
     .script = "op vhost 6 9; fault $N refuse create 6 9",
     .options = {.has_machine = true}},
    {.name = "Takeover_CreateOfAnotherControllersDevice",
     .script = "op vhost 6 9; create 6 9; expect OK; delete 6; expect OK",
     .options = {.has_machine = true}},
    {.name = "Leak_DeathInCreateOfEncryptedVhost",
     .script = "die $N create 6 10",
     .options = {.has_machine = true}},
    {.name = "Leak_DeathInCreateOfEncryptedVhostByIscsi",
     .script = "die $N create 6 8",
     .options = {.has_machine = true}},
    {.name = "Leak_DeathInCreateOfEncryptedVfioUser",
     .script = "die $N create 5 10",
     .options = {.has_machine = true}},
    {.name = "Leak_DeathInCreateOfEncrypted", .script = "die $N create 0 10"},
    {.name = "Key_LateDetachOfAnEncryptedVolumeWithoutBase",
     .script = "create 1 10; op rmdisk 10; fault 6 late detach 10 1"},
    {.name = "Key_LateDeleteOfAnEncryptedVolumeWithoutBase",
     .script = "create 1 10; op rmdisk 10; fault 6 late delete 1; op disk 10"},
    {.name = "Key_BaseGoesAndComesBackAroundADetach",
     .script = "create 1; attach 10 1; op rmdisk 10; op disk 10; detach 10 1; attach 10 1"},
    {.name = "Leak_KeyOfAnAttachToABaseThatAnotherHas",
     .script = "create 0; create 3; op copy 1 10; die $N attach 10 0"},
    {.name = "Leak_DeathInAttachOfEncryptedIscsi", .script = "create 0; die $N attach 8 0"},
    {.name = "Death_UndoRemovesAnOperatorsNamespace",
     .script = "create 1; op raw 1 9; die $N attach 9 1"},
    {.name = "Fault_UndoRemovesAnOperatorsNamespace",
     .script = "create 1; op raw 1 9; fault 4 lose attach 9 1"},
    {.name = "Fault_UndoOfAHungAttachRemovesAnOperatorsNamespace",
     .script = "create 1; op raw 1 9; fault 4 hang attach 9 1"},
    {.name = "Fault_UndoAfterHungQueriesRemovesAnOperatorsNamespace",
     .script = "create 1; op raw 1 9; fault $N hang attach 9 1; attach 9 1"},
    {.name = "Fault_UndoAfterLateQueriesRemovesAnOperatorsNamespace",
     .script = "create 1; op raw 1 9; fault $N late attach 9 1; attach 9 1"},
    {.name = "Death_UndoRemovesAnOperatorsNamespaceAndDetach",
     .script = "create 1; op raw 1 9; die $N attach 9 1; detach 9 1"},
    {.name = "Death_UndoRemovesAnOperatorsNamespaceOfAnEncryptedVolume",
     .script = "create 1; op raw 1 12; die $N attach 12 1"},
    {.name = "Death_UndoRemovesAnOperatorsNamespaceVfioUser",
     .script = "create 5; op raw 5 9; die $N attach 9 5",
     .options = {.has_machine = true}},
    {.name = "Fault_UndoLeavesAListenerInAnOperatorsSubsystem",
     .script = "op subsystem 3; fault $N drop create 3 1 p1"},
    {.name = "Death_UndoRemovesHostsOfAnotherAgent", .script = "op copy 1; die $N create 1"},
    {.name = "Leak_ServiceOfAnAttachThatWasNotSent",
     .script = "create 0 6 d2s; attach 5 0 p2s; detach 6 0; restart target; "
               "fault 5 notsent attach 6 0 d2"},
    {.name = "Leak_HungPathAppearsAfterDetach",
     .script = "create 3; hang 5 1; attach 5 3 p12; detach 5 3; up 5 0"},
    {.name = "Leak_HungPathAppearsAfterDelete",
     .script = "create 3; attach 3 3 p1; hang 3 2; attach 3 3 p2; delete 3; up 3 0"},
    {.name = "Defect42_AnotherCallAfterRestartOfTheTarget",
     .script = "create 2 6 d12; restart target; create 0 2 d12s",
     .options = {.sim = {.discovery_lag = 4}}},
    {.name = "Defect42_RepeatedAttachAfterRestartOfTheTarget",
     .script = "create 3 4 d12; restart target; attach 4 3 d1",
     .options = {.sim = {.discovery_lag = 4}}},
    {.name = "Leak_ServiceOfAVolumeThatMovedToItsController",
     .script = "create 0 5 d12; attach 6 0 p12; detach 5 0; vanish 6",
     .options = {.sim = {.discovery_lag = 2}}},
    {.name = "Qos_AfterADetachThatWasRefused",
     .script = "create 6 11; qos 11 6 2; detach 11 6; qos 11 6 0",
     .options = {.has_machine = true}},
    {.name = "Qos_OfADiskThatAnotherClaimedLater",
     .script = "create 7 9; op copy 0 9; qos 9 7 0; expect OK",
     .options = {.has_machine = true}},
    {.name = "Leak_KeyOfAnAdoptedVolume",
     .script = "op copy 0 12; adopt 0; fault $N refuse delete 0"},
    {.name = "Leak_KeyOfAnAdoptedVolumeAfterDeath",
     .script = "op copy 0 10; adopt 0; die $N delete 0"},
    {.name = "Leak_KeyOfAVolumeAdoptedByAttach",
     .script = "op copy 0 10; restart agent; create 0; attach 10 0; fault $N refuse detach 10 0"},
    {.name = "Leak_LayerOfAnAdoptedVolume", .script = "op copy 3 12; adopt 3; delete 3"},
    {.name = "Defect40_DeathInAttach", .script = "create 0; die $N attach 1 0 d12; detach 1 0"},
    {.name = "Defect40_DeathInDetach",
     .script = "create 0; create 1; attach 1 0 d1; attach 2 1 d1; die $N detach 1 0"},
    // Failure domains, as far as they can be tested with simulated time.
    {.name = "Defect52_OneHungNodeAndCallsToAnother",
     .script = "create 0; hang 1 0; attach 1 0 p1; expect error; vanish 6; attach 6 0 p1; "
               "expect error; appear 6; attach 6 0 p1; expect OK"},
    {.name = "Defect52_OneHungNodeAndLocalVolumes",
     .script = "create 0; hang 1 0; attach 1 0 p1; expect error; op rmdisk 12; attach 12 0; "
               "expect error; op disk 12; attach 12 0; expect OK; detach 12 0; expect OK"},
    {.name = "Defect52_OneHungNodeAndEncryptedRemoteVolumes",
     .script = "create 0; attach 4 0 d1; hang 1 0; attach 1 0 p1; expect error; detach 4 0; "
               "expect OK"},
    {.name = "Defect52_OneHungNodeAndRestore",
     .script = "create 0; attach 9 0; hang 1 0; attach 1 0 p1; expect error; op delete 0; "
               "compare; detach 9 0; expect OK"},
    {.name = "Defect53_DetachOfABusyDeadVolume",
     .script = "create 0; attach 1 0 d1; busy 1; down 1 0; detach 1 0; expect OK"},
    {.name = "Defect53_DetachOfABusyDeadDirectVolume",
     .script = "create 0; attach 1 0 p12; busy 1; down 1 0; detach 1 0; expect OK"},
    {.name = "Defect53_DetachOfABusyDeadEncryptedVolume",
     .script = "create 0; attach 4 0 p1; busy 4; down 4 0; detach 4 0; expect OK"},
    {.name = "Defect53_DetachOfABusyDeadVolumeWithOthers",
     .script = "create 0; attach 1 0 d1; attach 2 0 d1; busy 1; down 1 0; detach 1 0; expect OK; "
               "detach 1 0; expect OK"},
    {.name = "Defect53_DetachOfABusyDeadDirectVolumeWithOthers",
     .script =
         "create 0; create 1; attach 1 0 p1; attach 2 1 p1; busy 1; down 1 0; detach 1 0; "
         "expect OK; attach 1 1 p1; expect UNAVAILABLE; restart agent; up 1 0; late; compare"},
    {.name = "Defect53_DeleteWithABusyDeadVolumeWithOthers",
     .script = "create 0; create 1; attach 1 0 d1; attach 2 1 d1; busy 1; down 1 0; delete 0; "
               "expect OK; delete 0; expect OK; detach 2 1; expect OK"},
    {.name = "Defect53_VfioUserWithOthers",
     .script = "create 5; create 1; attach 1 5 d1; attach 2 1 d1; busy 1; down 1 0; delete 5; "
               "expect OK",
     .options = {.has_machine = true}},
    {.name = "Defect53_DeleteWithABusyDeadVolume",
     .script = "create 0; attach 1 0 d1; busy 1; down 1 0; delete 0; expect OK"},
    {.name = "Defect53_VfioUser",
     .script = "create 5; attach 1 5 d1; busy 1; down 1 0; delete 5; expect OK",
     .options = {.has_machine = true}},
    {.name = "Defect56_ListingIsTooLarge",
     .script = "create 0; attach 9 0; qos 9 0 1; restart agent; op delete 0; compare",
     .options = {.sim = {.has_too_many_bdevs = true}}},
    // Another client creates a disk with the UUID of a volume whose storage node is down.
    {.name = "Impostor_OfAnIscsiVolume",
     .script = "create 0; attach 7 0; down 7 0; restart target; op impostor 7; compare; "
               "op rmdisk 7; detach 7 0; expect OK"},
    {.name = "Impostor_OfADirectVolume",
     .script = "create 0; attach 1 0 p1; down 1 0; restart target; op impostor 1; compare; "
               "op rmdisk 1; detach 1 0; expect OK"},
    {.name = "Impostor_OfADiscoveredVolume",
     .script = "create 0; attach 1 0 d1; down 1 0; restart target; op impostor 1; compare; "
               "op rmdisk 1; detach 1 0; expect OK"},
    {.name = "Impostor_IsReplacedByTheVolume",
     .script = "create 0; attach 1 0 p1; down 1 0; restart target; op impostor 1; compare; "
               "op rmdisk 1; up 1 0; compare"},
    {.name = "LyingNode_BringsAnothersUuid",
     .script = "create 0; create 1; swap 1 6; attach 3 0 d1; attach 6 1 d1"},
    {.name = "LyingNode_BringsAnothersUuidToDirect",
     .script = "create 0; create 1; swap 1 6; attach 3 0 d1; attach 6 1 p1"},
};

class SequenceTest : public testing::TestWithParam<Sequence> {};

void RunOnce(const Sequence& sequence, const std::string& script) {
  World world(sequence.options);
  world.Run(script);
  world.Finish();
  if (world.problems().empty()) return;
  std::string text = script + "\n";
  for (const std::string& problem : world.problems()) text += "  " + problem + "\n";
  if (std::getenv("SMA_WORLDS_LOG") != nullptr) {
    for (const std::string& line : world.target().log()) text += "    " + line + "\n";
  }
  ADD_FAILURE() << text;
}

TEST_P(SequenceTest, KeepsTheRules) {
  const Sequence& sequence = GetParam();
  spdlog::set_level(std::getenv("SMA_WORLDS_LOG") != nullptr ? spdlog::level::info
                                                             : spdlog::level::off);
  const std::string script = sequence.script;
  const bool is_swept = script.find("$N") != std::string::npos;
  for (int death = 1; death <= (is_swept ? kMaxDeath : 1) && !HasFailure(); ++death) {
    RunOnce(sequence, absl::StrReplaceAll(script, {{"$N", std::to_string(death)}}));
  }
}

INSTANTIATE_TEST_SUITE_P(Worlds, SequenceTest, testing::ValuesIn(kSequences),
                         [](const auto& sequence) { return std::string(sequence.param.name); });

}  // namespace
}  // namespace sma::worlds
