// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sma::record {

/// A prepared SQL statement, which can be run repeatedly. Parameters are numbered from 1, columns
/// from 0. Not thread-safe; used by the thread that uses the connection.
class Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  /// Bind a parameter; the value is copied.
  void BindInt(int parameter, int64_t value);
  void BindText(int parameter, std::string_view text);
  void BindBlob(int parameter, std::string_view bytes);

  /// Returns true if there is another row, false after the last one.
  absl::StatusOr<bool> Step();

  /// Runs a statement that returns no rows, and resets it for the next run.
  absl::Status Run();

  int64_t Int(int column) const;
  /// Returns the bytes of a text or a blob.
  std::string Bytes(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// A connection to an SQLite database file. Not thread-safe.
class Connection {
 public:
  /// Opens the existing file `path`.
  static absl::StatusOr<Connection> Open(const std::string& path);

  /// Runs SQL statements; rows that they return are ignored.
  absl::Status Execute(const std::string& sql);
  absl::StatusOr<int64_t> QueryInt(const std::string& sql);
  absl::StatusOr<std::string> QueryText(const std::string& sql);
  absl::StatusOr<Statement> Prepare(std::string_view sql);

  /// Returns true if a transaction is open.
  bool in_transaction() const { return sqlite3_get_autocommit(connection_.get()) == 0; }

 private:
  struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
  };
  explicit Connection(sqlite3* connection) : connection_(connection) {}
  std::unique_ptr<sqlite3, Close> connection_;
};

/// Converts an SQLite result code: RESOURCE_EXHAUSTED if the disk or a quota is full,
/// FAILED_PRECONDITION if the database cannot be written, otherwise INTERNAL. `system_errno` is the
/// error of the system call that failed; 0 if there is none.
absl::Status SqliteStatus(int code, std::string_view detail, int system_errno = 0);

}  // namespace sma::record
