#pragma once

#include <span>

#include "absl/status/status.h"
#include "agent/record/sqlite.h"

namespace sma::record {

/// The record's schema: `[i]` is SQL that turns version i into i + 1. A new database has version 0.
std::span<const char* const> Migrations();

/// Brings a database's schema up to date. FAILED_PRECONDITION: it is another program's, or newer
/// than all `migrations`.
absl::Status Migrate(Connection& connection, std::span<const char* const> migrations);

}  // namespace sma::record
