#pragma once

#include <optional>

#include "absl/status/status.h"
#include "sma.pb.h"

namespace sma::core {

// Arithmetic of QosLimit: a field of 2^64-1 means "leave it as it is" in a request and "never set"
// in the record; 0 means unlimited.

using Capabilities = GetQosCapabilitiesResponse::QosCapabilities;

/// INVALID_ARGUMENT: `maximum` sets a limit that `capabilities` do not have.
absl::Status CheckSupported(const QosLimit& maximum, const Capabilities& capabilities);

/// Whether `maximum` leaves every limit that there is.
bool ChangesNothing(const QosLimit& maximum, const Capabilities& capabilities);

/// `before` with the limits that `maximum` sets. nullopt: none was ever set.
QosLimit Merged(const std::optional<QosLimit>& before, const QosLimit& maximum);

/// The limits that undo `maximum`. One that was never set was unlimited.
QosLimit Inverse(const std::optional<QosLimit>& before, const QosLimit& maximum);

/// `limits` as they are told: what was never set is unlimited. nullopt: there are none.
std::optional<QosLimit> Told(const std::optional<QosLimit>& limits);

/// Each limit that `limits` has set, as unlimited.
QosLimit Unlimited(const QosLimit& limits);

bool HasLimits(const QosLimit& limits);
bool SameLimits(const QosLimit& a, const QosLimit& b);

}  // namespace sma::core
