// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <cstdint>

namespace sma::storage_target::nvme {

/// Status code type in bits 10:8, status code in bits 7:0 (NVMe Base 2.0 §3.3.3.2.1; Fabrics:
/// §3.3.3.2.1 "Command Specific Status Values, Fabrics").
enum class Status : uint16_t {
  kSuccess = 0x000,
  kInvalidOpcode = 0x001,
  kInvalidField = 0x002,
  kCommandIdConflict = 0x003,
  kDataTransferError = 0x004,
  kInternalError = 0x006,
  kAbortRequested = 0x007,
  kAbortedSqDeletion = 0x008,
  kAbortedFailedFused = 0x009,
  kAbortedMissingFused = 0x00a,
  kInvalidNamespaceOrFormat = 0x00b,
  kCommandSequenceError = 0x00c,
  kInvalidSglSegmentDescriptor = 0x00d,
  kInvalidNumberOfSglDescriptors = 0x00e,
  kDataSglLengthInvalid = 0x00f,
  kMetadataSglLengthInvalid = 0x010,
  kSglDescriptorTypeInvalid = 0x011,
  kInvalidPrpOffset = 0x013,
  kOperationDenied = 0x015,
  kInvalidSglOffset = 0x016,
  kHostIdInconsistentFormat = 0x018,
  kKeepAliveTimeoutInvalid = 0x01a,
  kAbortedPreempt = 0x01b,
  kNamespaceWriteProtected = 0x020,
  kCommandInterrupted = 0x021,
  kTransientTransportError = 0x022,
  kLbaOutOfRange = 0x080,
  kCapacityExceeded = 0x081,
  kNamespaceNotReady = 0x082,
  kReservationConflict = 0x083,

  kCompletionQueueInvalid = 0x100,
  kInvalidQueueIdentifier = 0x101,
  kInvalidQueueSize = 0x102,
  kAbortCommandLimitExceeded = 0x103,
  kAsyncEventRequestLimitExceeded = 0x105,
  kInvalidInterruptVector = 0x108,
  kInvalidLogPage = 0x109,
  kInvalidQueueDeletion = 0x10c,
  kFeatureNotSaveable = 0x10d,
  kFeatureNotChangeable = 0x10e,
  kFeatureNotNamespaceSpecific = 0x10f,
  kInvalidControllerIdentifier = 0x11f,

  // NVM command set.
  kConflictingAttributes = 0x180,
  kInvalidProtectionInformation = 0x181,
  kWriteToReadOnlyRange = 0x182,

  // Fabrics commands.
  kConnectIncompatibleFormat = 0x180,
  kConnectControllerBusy = 0x181,
  kConnectInvalidParameters = 0x182,
  kConnectRestartDiscovery = 0x183,
  kConnectInvalidHost = 0x184,
  kDisconnectInvalidQueueType = 0x185,
  kDiscoverRestart = 0x190,
  kAuthenticationRequired = 0x191,

  kWriteFault = 0x280,
  kUnrecoveredReadError = 0x281,
  kCompareFailure = 0x285,
  kAccessDenied = 0x286,
  kDeallocatedBlock = 0x287,

  kInternalPathError = 0x300,
  kAnaPersistentLoss = 0x301,
  kAnaInaccessible = 0x302,
  kAnaTransition = 0x303,
  kControllerPathingError = 0x360,
  kHostPathingError = 0x370,
  kHostAborted = 0x371,
};

/// Returns Completion::status without the phase tag. `do_not_retry` (DNR) is true if the same
/// command would fail again.
constexpr uint16_t StatusField(Status status, bool do_not_retry = false) {
  return static_cast<uint16_t>((static_cast<unsigned>(status) << 1) |
                               (do_not_retry ? 0x8000u : 0u));
}
constexpr Status StatusOf(uint16_t field) { return static_cast<Status>((field >> 1) & 0x7ff); }
constexpr bool DoNotRetry(uint16_t field) { return (field & 0x8000u) != 0; }
/// CRD: selects one of the controller's three command retry delay times (CRDT1 to CRDT3 of Identify
/// Controller) to wait before a retry; 0 means no delay.
constexpr unsigned RetryDelayIndex(uint16_t field) { return field >> 12 & 3; }

}  // namespace sma::storage_target::nvme
