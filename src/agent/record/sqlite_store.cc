// SPDX-License-Identifier: Apache-2.0

#include "agent/record/sqlite_store.h"

#include <fmt/format.h>

#include <utility>

#include "agent/record/schema.h"

namespace sma::record {
namespace {

int64_t ToNanoseconds(Time time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

Time FromNanoseconds(int64_t nanoseconds) {
  return Time(std::chrono::duration_cast<Time::duration>(std::chrono::nanoseconds(nanoseconds)));
}

void BindError(Statement& statement, int first, const LastError& error) {
  statement.BindInt(first, static_cast<int64_t>(error.code));
  statement.BindText(first + 1, error.message);
  statement.BindInt(first + 2, ToNanoseconds(error.time));
}

// Binds the state of a device or volume, its times and its last error to six parameters.
template <typename Object>
void BindState(Statement& statement, int first, const Object& object) {
  statement.BindInt(first, static_cast<int64_t>(object.state));
  statement.BindInt(first + 1, ToNanoseconds(object.created));
  statement.BindInt(first + 2, ToNanoseconds(object.state_since));
  BindError(statement, first + 3, object.last_error);
}

LastError ReadError(const Statement& statement, int first) {
  return {.code = static_cast<absl::StatusCode>(statement.Int(first)),
          .message = statement.Bytes(first + 1),
          .time = FromNanoseconds(statement.Int(first + 2))};
}

absl::Status Damaged(std::string_view table) {
  return absl::FailedPreconditionError(
      fmt::format("the agent's record is damaged: a row of {} cannot be read", table));
}

absl::StatusOr<Device> ReadDevice(const Statement& row) {
  Device device{.handle = row.Bytes(0),
                .manager = row.Bytes(1),
                .params = {},
                .mark = row.Bytes(9),
                .place = row.Bytes(10),
                .state = static_cast<DeviceState>(row.Int(3)),
                .created = FromNanoseconds(row.Int(4)),
                .state_since = FromNanoseconds(row.Int(5)),
                .last_error = ReadError(row, 6)};
  bool known_state = row.Int(3) >= 1 && row.Int(3) <= 4;
  if (!known_state || !device.params.ParseFromString(row.Bytes(2))) return Damaged("devices");
  return device;
}

absl::StatusOr<Volume> ReadVolume(const Statement& row) {
  std::optional<base::Uuid> id = base::Uuid::FromBytes(row.Bytes(0));
  Volume volume{.id = id.value_or(base::Uuid()),
                .device_handle = row.Bytes(1),
                .params = {},
                .sealed = row.Bytes(3),
                .bdev_name = row.Bytes(4),
                .attachment = row.Bytes(5),
                .connection = row.Bytes(12),
                .layer_key = row.Bytes(13),
                .state = static_cast<VolumeState>(row.Int(6)),
                .created = FromNanoseconds(row.Int(7)),
                .state_since = FromNanoseconds(row.Int(8)),
                .last_error = ReadError(row, 9)};
  bool known_state = row.Int(6) >= 1 && row.Int(6) <= 3;
  if (!id || !known_state || !volume.params.ParseFromString(row.Bytes(2))) {
    return Damaged("volumes");
  }
  return volume;
}

absl::StatusOr<VolumeLimits> ReadLimits(const Statement& row) {
  std::optional<base::Uuid> id = base::Uuid::FromBytes(row.Bytes(0));
  VolumeLimits limits{.volume_id = id.value_or(base::Uuid()),
                      .limits = {},
                      .detached = FromNanoseconds(row.Int(2))};
  if (!id || !limits.limits.ParseFromString(row.Bytes(1))) return Damaged("limits");
  return limits;
}

// Runs the query `sql`, and appends the result of `read` for each row to `rows`.
template <typename Row>
absl::Status LoadRows(Connection& connection, std::string_view sql,
                      absl::StatusOr<Row> (*read)(const Statement&), std::vector<Row>& rows) {
  absl::StatusOr<Statement> statement = connection.Prepare(sql);
  if (!statement.ok()) return statement.status();
  while (true) {
    absl::StatusOr<bool> more = statement->Step();
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    absl::StatusOr<Row> row = read(*statement);
    if (!row.ok()) return row.status();
    rows.push_back(*std::move(row));
  }
}

absl::Status CheckIntegrity(Connection& connection) {
  absl::StatusOr<std::string> result = connection.QueryText("PRAGMA quick_check(1)");
  if (!result.ok()) return result.status();
  if (*result == "ok") return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format("the agent's record is damaged: {}", *result));
}

}  // namespace

// The upsert and delete statements. Their parameters are in the order of the table's columns.
struct SqliteStore::Statements {
  Statement put_device;
  Statement remove_device;
  Statement put_volume;
  Statement remove_volume;
  Statement put_limits;
  Statement remove_limits;
};

SqliteStore::SqliteStore(StateFolder folder, Connection connection)
    : folder_(std::move(folder)), connection_(std::move(connection)) {}

SqliteStore::~SqliteStore() = default;

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& folder) {
  absl::StatusOr<StateFolder> state_folder = StateFolder::Open(folder);
  if (!state_folder.ok()) return state_folder.status();
  std::string path = state_folder->path() + "/record.db";
  {
    // The file is created here, with mode 0600, so that other users can never read it. It is closed
    // before SQLite locks it: closing it later would release SQLite's locks (fcntl(2), "F_SETLK").
    absl::StatusOr<base::UniqueFd> file = state_folder->OpenFile("record.db");
    if (!file.ok()) return file.status();
  }
  absl::StatusOr<Connection> connection = Connection::Open(path);
  if (!connection.ok()) return connection.status();
  std::unique_ptr<SqliteStore> store(
      new SqliteStore(*std::move(state_folder), *std::move(connection)));
  if (absl::Status status = store->Prepare(); !status.ok()) {
    return absl::FailedPreconditionError(
        fmt::format("{}: {}", path, std::string(status.message())));
  }
  return store;
}

absl::Status SqliteStore::Prepare() {
  absl::Status status = connection_.Execute(
      "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
      "PRAGMA cache_size = -512; PRAGMA trusted_schema = OFF");
  if (status.ok()) status = CheckIntegrity(connection_);
  if (status.ok()) status = Migrate(connection_, Migrations());
  if (!status.ok()) return status;
  std::vector<Statement> prepared;
  for (const char* sql :
       {"INSERT OR REPLACE INTO devices VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        "DELETE FROM devices WHERE handle = ?",
        "INSERT OR REPLACE INTO volumes VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        "DELETE FROM volumes WHERE id = ?", "INSERT OR REPLACE INTO limits VALUES (?,?,?)",
        "DELETE FROM limits WHERE volume_id = ?"}) {
    absl::StatusOr<Statement> statement = connection_.Prepare(sql);
    if (!statement.ok()) return statement.status();
    prepared.push_back(*std::move(statement));
  }
  statements_ = std::make_unique<Statements>(Statements{.put_device = std::move(prepared[0]),
                                                        .remove_device = std::move(prepared[1]),
                                                        .put_volume = std::move(prepared[2]),
                                                        .remove_volume = std::move(prepared[3]),
                                                        .put_limits = std::move(prepared[4]),
                                                        .remove_limits = std::move(prepared[5])});
  return absl::OkStatus();
}

absl::StatusOr<Contents> SqliteStore::Load() {
  Contents contents;
  absl::Status status =
      LoadRows(connection_, "SELECT * FROM devices", ReadDevice, contents.devices);
  if (status.ok()) {
    status = LoadRows(connection_, "SELECT * FROM volumes", ReadVolume, contents.volumes);
  }
  if (status.ok()) {
    status = LoadRows(connection_, "SELECT * FROM limits", ReadLimits, contents.limits);
  }
  if (!status.ok()) return status;
  return contents;
}

absl::Status SqliteStore::Commit(std::span<const Change* const> changes, Durability durability) {
  absl::Status status = SetDurability(durability);
  if (status.ok()) status = CommitAll(changes);
  if (!status.ok() && connection_.in_transaction()) {
    connection_.Execute("ROLLBACK").IgnoreError();
  }
  // Whatever the reason is, it is not the caller's fault, and the caller may repeat the call.
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  return absl::UnavailableError(status.message());
}

absl::Status SqliteStore::SetDurability(Durability durability) {
  if (durability != durability_) {
    // In WAL mode, FULL syncs the log with each commit, including earlier commits that were not
    // synced; NORMAL does not (SQLite documentation, "PRAGMA synchronous").
    absl::Status status =
        connection_.Execute(durability == Durability::kHost ? "PRAGMA synchronous = FULL"
                                                            : "PRAGMA synchronous = NORMAL");
    if (!status.ok()) return status;
    durability_ = durability;
  }
  return absl::OkStatus();
}

absl::Status SqliteStore::CommitAll(std::span<const Change* const> changes) {
  absl::Status status = connection_.Execute("BEGIN IMMEDIATE");
  for (const Change* change : changes) {
    if (status.ok()) status = Write(*change);
  }
  return status.ok() ? connection_.Execute("COMMIT") : status;
}

absl::Status SqliteStore::Write(const Change& change) {
  absl::Status status;
  for (const Device& device : change.put_devices) status.Update(Put(device));
  for (const std::string& handle : change.remove_devices) {
    statements_->remove_device.BindText(1, handle);
    status.Update(statements_->remove_device.Run());
  }
  for (const Volume& volume : change.put_volumes) status.Update(Put(volume));
  for (const base::Uuid& id : change.remove_volumes) {
    statements_->remove_volume.BindBlob(1, id.ToBytes());
    status.Update(statements_->remove_volume.Run());
  }
  for (const VolumeLimits& limits : change.put_limits) status.Update(Put(limits));
  for (const base::Uuid& id : change.remove_limits) {
    statements_->remove_limits.BindBlob(1, id.ToBytes());
    status.Update(statements_->remove_limits.Run());
  }
  return status;
}

absl::Status SqliteStore::Put(const Device& device) {
  Statement& row = statements_->put_device;
  row.BindText(1, device.handle);
  row.BindText(2, device.manager);
  row.BindBlob(3, device.params.SerializeAsString());
  BindState(row, 4, device);
  row.BindText(10, device.mark);
  row.BindText(11, device.place);
  return row.Run();
}

absl::Status SqliteStore::Put(const Volume& volume) {
  Statement& row = statements_->put_volume;
  row.BindBlob(1, volume.id.ToBytes());
  row.BindText(2, volume.device_handle);
  row.BindBlob(3, volume.params.SerializeAsString());
  row.BindBlob(4, volume.sealed);
  row.BindText(5, volume.bdev_name);
  row.BindText(6, volume.attachment);
  BindState(row, 7, volume);
  row.BindText(13, volume.connection);
  row.BindText(14, volume.layer_key);
  return row.Run();
}

absl::Status SqliteStore::Put(const VolumeLimits& limits) {
  Statement& row = statements_->put_limits;
  row.BindBlob(1, limits.volume_id.ToBytes());
  row.BindBlob(2, limits.limits.SerializeAsString());
  row.BindInt(3, ToNanoseconds(limits.detached));
  return row.Run();
}

}  // namespace sma::record
