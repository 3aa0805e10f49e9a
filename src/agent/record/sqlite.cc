// SPDX-License-Identifier: Apache-2.0

#include "agent/record/sqlite.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace sma::record {

absl::Status SqliteStatus(int code, std::string_view detail, int system_errno) {
  code &= 0xff;                                    // the primary result code
  if (code == SQLITE_FULL) system_errno = ENOSPC;  // SQLite clears it
  std::string why(detail);
  if (system_errno != 0) why += fmt::format(": {}", std::strerror(system_errno));
  const bool is_full = system_errno == ENOSPC || system_errno == EDQUOT;
  const bool is_read_only = code == SQLITE_READONLY || code == SQLITE_PERM ||
                            code == SQLITE_CANTOPEN || system_errno == EROFS;
  if (is_full) {
    return absl::ResourceExhaustedError(
        fmt::format("no space left for the agent's record: {}", why));
  }
  if (is_read_only) {
    return absl::FailedPreconditionError(
        fmt::format("the agent's record cannot be written: {}", why));
  }
  const std::string_view kind = sqlite3_errstr(code);
  if (kind != why) why += fmt::format(" ({})", kind);
  return absl::InternalError(fmt::format("the agent's record: {}", why));
}

namespace {

// Returns the status of the last call for the connection, which failed with `code`.
absl::Status LastStatus(sqlite3* connection, int code) {
  return SqliteStatus(code, sqlite3_errmsg(connection), sqlite3_system_errno(connection));
}

}  // namespace

void Statement::BindInt(int parameter, int64_t value) {
  sqlite3_bind_int64(statement_.get(), parameter, value);
}

void Statement::BindText(int parameter, std::string_view text) {
  sqlite3_bind_text64(statement_.get(), parameter, text.data() == nullptr ? "" : text.data(),
                      text.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

void Statement::BindBlob(int parameter, std::string_view bytes) {
  sqlite3_bind_blob64(statement_.get(), parameter, bytes.data() == nullptr ? "" : bytes.data(),
                      bytes.size(), SQLITE_TRANSIENT);
}

absl::StatusOr<bool> Statement::Step() {
  int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return LastStatus(sqlite3_db_handle(statement_.get()), code);
}

absl::Status Statement::Run() {
  absl::Status status = Step().status();
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  return status;
}

int64_t Statement::Int(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::string Statement::Bytes(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  auto size = static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column));
  return bytes == nullptr ? std::string() : std::string(static_cast<const char*>(bytes), size);
}

absl::StatusOr<Connection> Connection::Open(const std::string& path) {
  sqlite3* raw = nullptr;
  // NOMUTEX is safe because only one thread at a time uses the connection.
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
  int code = sqlite3_open_v2(path.c_str(), &raw, kFlags, /*zVfs=*/nullptr);
  Connection connection(raw);
  if (code != SQLITE_OK) {
    return SqliteStatus(code, raw == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(raw));
  }
  sqlite3_extended_result_codes(raw, 1);
  return connection;
}

absl::Status Connection::Execute(const std::string& sql) {
  int code = sqlite3_exec(connection_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : LastStatus(connection_.get(), code);
}

absl::StatusOr<Statement> Connection::Prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  int code = sqlite3_prepare_v3(connection_.get(), sql.data(), static_cast<int>(sql.size()),
                                SQLITE_PREPARE_PERSISTENT, &raw, /*pzTail=*/nullptr);
  if (code != SQLITE_OK) return LastStatus(connection_.get(), code);
  return Statement(raw);
}

absl::StatusOr<int64_t> Connection::QueryInt(const std::string& sql) {
  absl::StatusOr<Statement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  return *row ? statement->Int(0) : 0;
}

absl::StatusOr<std::string> Connection::QueryText(const std::string& sql) {
  absl::StatusOr<Statement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  return *row ? statement->Bytes(0) : std::string();
}

}  // namespace sma::record
