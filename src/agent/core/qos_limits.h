// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <optional>

#include "absl/status/status.h"
#include "sma.pb.h"

namespace sma::core {

// Arithmetic of QosLimit. A field of 2^64-1 means "keep the limit" in a request and "never set" in
// the record; 0 means unlimited.

using Capabilities = GetQosCapabilitiesResponse::QosCapabilities;

/// Returns INVALID_ARGUMENT if `maximum` sets a limit that `capabilities` do not include.
absl::Status CheckSupported(const QosLimit& maximum, const Capabilities& capabilities);

/// Returns true if `maximum` keeps every limit that `capabilities` include.
bool ChangesNothing(const QosLimit& maximum, const Capabilities& capabilities);

/// Returns `before` with the limits that `maximum` sets. `before` is nullopt if no limit was ever
/// set.
QosLimit Merged(const std::optional<QosLimit>& before, const QosLimit& maximum);

/// Returns the limits that roll `maximum` back. A limit that was never set becomes unlimited.
QosLimit Inverse(const std::optional<QosLimit>& before, const QosLimit& maximum);

/// Returns `limits` as reported to clients: a limit that was never set is unlimited; nullopt if
/// there are none.
std::optional<QosLimit> ReportedLimits(const std::optional<QosLimit>& limits);

/// Returns limits in which every limit that `limits` sets is unlimited.
QosLimit Unlimited(const QosLimit& limits);

bool HasLimits(const QosLimit& limits);
bool SameLimits(const QosLimit& a, const QosLimit& b);

}  // namespace sma::core
