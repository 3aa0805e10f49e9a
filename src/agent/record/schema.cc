// SPDX-License-Identifier: Apache-2.0

#include "agent/record/schema.h"

#include <fmt/format.h>

#include <string>

namespace sma::record {
namespace {

// "SMA1", which identifies the database to file(1) and to the agent.
constexpr int64_t kApplicationId = 0x534d4131;

constexpr const char* kMigrations[] = {
    // Version 0 → 1. Times are nanoseconds since 1970, parameters are serialized protobuf messages,
    // UUIDs are 16 bytes.
    R"(CREATE TABLE devices (
         handle TEXT PRIMARY KEY, manager TEXT NOT NULL, params BLOB NOT NULL,
         state INTEGER NOT NULL, created INTEGER NOT NULL, state_since INTEGER NOT NULL,
         error_code INTEGER NOT NULL, error_message TEXT NOT NULL, error_time INTEGER NOT NULL
       ) STRICT, WITHOUT ROWID;
       CREATE TABLE volumes (
         id BLOB PRIMARY KEY, device_handle TEXT NOT NULL, params BLOB NOT NULL,
         sealed BLOB NOT NULL, bdev_name TEXT NOT NULL, attachment TEXT NOT NULL,
         state INTEGER NOT NULL, created INTEGER NOT NULL, state_since INTEGER NOT NULL,
         error_code INTEGER NOT NULL, error_message TEXT NOT NULL, error_time INTEGER NOT NULL
       ) STRICT, WITHOUT ROWID;
       CREATE TABLE limits (
         volume_id BLOB PRIMARY KEY, limits BLOB NOT NULL
       ) STRICT, WITHOUT ROWID;)",
    // Version 1 → 2: adds the connections that volumes share with others.
    "ALTER TABLE volumes ADD COLUMN connection TEXT NOT NULL DEFAULT '';",
    // Version 2 → 3: adds the mark by which the agent recognises a device's object on the target.
    "ALTER TABLE devices ADD COLUMN mark TEXT NOT NULL DEFAULT '';",
    // Version 3 → 4: adds the time at which volumes with limits were detached.
    "ALTER TABLE limits ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;",
    // Version 4 → 5: adds the names of the keys of adopted crypto bdevs.
    "ALTER TABLE volumes ADD COLUMN layer_key TEXT NOT NULL DEFAULT '';",
    // Version 5 → 6: adds the VMs into which devices were plugged.
    "ALTER TABLE devices ADD COLUMN place TEXT NOT NULL DEFAULT '';",
};

}  // namespace

std::span<const char* const> Migrations() { return kMigrations; }

absl::Status Migrate(Connection& connection, std::span<const char* const> migrations) {
  absl::StatusOr<int64_t> version = connection.QueryInt("PRAGMA user_version");
  if (!version.ok()) return version.status();
  absl::StatusOr<int64_t> application = connection.QueryInt("PRAGMA application_id");
  if (!application.ok()) return application.status();
  absl::StatusOr<int64_t> tables = connection.QueryInt("SELECT count(*) FROM sqlite_schema");
  if (!tables.ok()) return tables.status();
  bool is_new = *application == 0 && *version == 0 && *tables == 0;
  if (*application != kApplicationId && !is_new) {
    return absl::FailedPreconditionError("the database belongs to another program");
  }
  if (*version < 0 || static_cast<uint64_t>(*version) > migrations.size()) {
    return absl::FailedPreconditionError(
        fmt::format("the record was written by a newer agent (schema version {}, supported {})",
                    *version, migrations.size()));
  }
  for (auto next = static_cast<size_t>(*version); next < migrations.size(); ++next) {
    std::string sql =
        fmt::format("BEGIN IMMEDIATE;{}PRAGMA user_version = {};PRAGMA application_id = {};COMMIT",
                    migrations[next], next + 1, kApplicationId);
    absl::Status status = connection.Execute(sql);
    if (!status.ok()) {
      if (connection.in_transaction()) connection.Execute("ROLLBACK").IgnoreError();
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace sma::record
