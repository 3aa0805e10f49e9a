// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record/sqlite.h"
#include "agent/record/state_folder.h"
#include "agent/record/store.h"

namespace sma::record {

/// Keeps rows in an SQLite database, `record.db` in the state folder, with a write-ahead log.
class SqliteStore : public Store {
 public:
  /// Locks the folder, opens or creates the database and migrates its schema. Returns
  /// FAILED_PRECONDITION with the reason if the folder is in use or not writable, or if the file is
  /// damaged, belongs to another program, or was written by a newer agent.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& folder);

  ~SqliteStore() override;

  absl::StatusOr<Contents> Load() override;
  absl::Status Commit(std::span<const Change* const> changes, Durability durability) override;

 private:
  struct Statements;
  SqliteStore(StateFolder folder, Connection connection);

  absl::Status Prepare();
  absl::Status SetDurability(Durability durability);
  absl::Status CommitAll(std::span<const Change* const> changes);
  absl::Status Write(const Change& change);
  absl::Status Put(const Device& device);
  absl::Status Put(const Volume& volume);
  absl::Status Put(const VolumeLimits& limits);

  // Destroyed in reverse order: first the statements, then their connection, then the lock.
  const StateFolder folder_;
  Connection connection_;
  std::unique_ptr<Statements> statements_;
  Durability durability_ = Durability::kHost;  // current setting of the connection
};

}  // namespace sma::record
