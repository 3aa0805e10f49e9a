#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sma::record {

/// One SQL statement, to be used again and again. Parameters count from 1, columns from 0. Belongs
/// to the thread that uses its connection.
class Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  /// What is bound is copied.
  void BindInt(int parameter, int64_t value);
  void BindText(int parameter, std::string_view text);
  void BindBlob(int parameter, std::string_view bytes);

  /// True when there is a row, false at the end.
  absl::StatusOr<bool> Step();

  /// Steps a statement that has no rows to its end and makes it ready for the next time.
  absl::Status Run();

  int64_t Int(int column) const;
  /// The bytes of a text or a blob.
  std::string Bytes(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// A connection to an SQLite database file. Used by one thread at a time.
class Connection {
 public:
  /// Opens `path`, which exists.
  static absl::StatusOr<Connection> Open(const std::string& path);

  /// Runs statements that give no rows (or whose rows do not matter).
  absl::Status Execute(const std::string& sql);
  absl::StatusOr<int64_t> QueryInt(const std::string& sql);
  absl::StatusOr<std::string> QueryText(const std::string& sql);
  absl::StatusOr<Statement> Prepare(std::string_view sql);

  /// True between a BEGIN and its end.
  bool in_transaction() const { return sqlite3_get_autocommit(connection_.get()) == 0; }

 private:
  struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
  };
  explicit Connection(sqlite3* connection) : connection_(connection) {}
  std::unique_ptr<sqlite3, Close> connection_;
};

/// The status of what SQLite answered with `code`: RESOURCE_EXHAUSTED when the disk is full,
/// FAILED_PRECONDITION when it cannot be written, else INTERNAL.
absl::Status SqliteStatus(int code, std::string_view detail);

}  // namespace sma::record
