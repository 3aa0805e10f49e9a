// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <span>

#include "absl/status/status.h"
#include "agent/record/sqlite.h"

namespace sma::record {

/// The migrations of the record's schema: `[i]` is the SQL from version i to i + 1. A new database
/// has version 0.
std::span<const char* const> Migrations();

/// Migrates a database to the current version of the schema. Returns FAILED_PRECONDITION if the
/// database belongs to another program, or its version is newer than `migrations`.
absl::Status Migrate(Connection& connection, std::span<const char* const> migrations);

}  // namespace sma::record
