// SPDX-License-Identifier: Apache-2.0

#include "agent/record/sqlite_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "agent/record/schema.h"

namespace sma::record {
namespace {

using testing::HasSubstr;

class SqliteStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "sma-record-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    folder_ = root_ + "/state/of/sma";
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::unique_ptr<SqliteStore> Open() {
    auto store = SqliteStore::Open(folder_);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  void ExpectRefused(const std::string& reason) {
    absl::Status status = SqliteStore::Open(folder_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr(reason));
  }
  static mode_t Mode(const std::string& path) {
    struct stat info {};
    return stat(path.c_str(), &info) == 0 ? info.st_mode & 07777U : 0U;
  }
  std::string DatabasePath() const { return folder_ + "/record.db"; }

  std::string root_;
  std::string folder_;
};

Time At(int64_t nanoseconds) {
  return Time(std::chrono::duration_cast<Time::duration>(std::chrono::nanoseconds(nanoseconds)));
}

Change FullChange() {
  Device device{.handle = "nvmf-tcp:nqn.2016-06.io.spdk:a",
                .manager = "nvmf_tcp",
                .params = {},
                .mark = "serial",
                .place = "vm",
                .state = DeviceState::kDeleting,
                .created = At(1),
                .state_since = At(2),
                .last_error = {absl::StatusCode::kUnavailable, "gone", At(3)}};
  device.params.mutable_nvmf_tcp()->add_hosts("h");
  Volume volume{.id = *base::Uuid::Parse("00112233-4455-6677-8899-aabbccddeeff"),
                .device_handle = device.handle,
                .params = {},
                .sealed = std::string("\0\xff", 2),
                .bdev_name = "bdev",
                .attachment = "7",
                .connection = "discovery d0",
                .layer_key = "others-1",
                .state = VolumeState::kAttached,
                .created = At(4),
                .state_since = At(5),
                .last_error = {absl::StatusCode::kNotFound, "", At(6)}};
  volume.params.set_volume_id(volume.id.ToBytes());
  VolumeLimits limits{.volume_id = volume.id, .limits = {}};
  limits.limits.set_rd_bandwidth(UINT64_MAX);
  Change change;
  change.put_devices = {device};
  change.put_volumes = {volume};
  change.put_limits = {limits};
  return change;
}

absl::Status Commit(Store& store, const Change& change, Durability durability = Durability::kHost) {
  const Change* one = &change;
  return store.Commit({&one, 1}, durability);
}

TEST_F(SqliteStoreTest, KeepsEveryField) {
  const Change change = FullChange();
  EXPECT_TRUE(Commit(*Open(), change).ok());
  auto contents = Open()->Load();
  ASSERT_TRUE(contents.ok()) << contents.status();
  ASSERT_EQ(contents->devices.size(), 1u);
  const Device& device = contents->devices[0];
  const Device& put = change.put_devices[0];
  EXPECT_EQ(device.handle, put.handle);
  EXPECT_EQ(device.manager, put.manager);
  EXPECT_EQ(device.params.SerializeAsString(), put.params.SerializeAsString());
  EXPECT_EQ(device.mark, put.mark);
  EXPECT_EQ(device.place, put.place);
  EXPECT_EQ(device.state, put.state);
  EXPECT_EQ(device.created, put.created);
  EXPECT_EQ(device.state_since, put.state_since);
  EXPECT_EQ(device.last_error, put.last_error);
  ASSERT_EQ(contents->volumes.size(), 1u);
  const Volume& volume = contents->volumes[0];
  const Volume& put_volume = change.put_volumes[0];
  EXPECT_EQ(volume.id, put_volume.id);
  EXPECT_EQ(volume.device_handle, put_volume.device_handle);
  EXPECT_EQ(volume.params.SerializeAsString(), put_volume.params.SerializeAsString());
  EXPECT_EQ(volume.sealed, put_volume.sealed);
  EXPECT_EQ(volume.bdev_name, put_volume.bdev_name);
  EXPECT_EQ(volume.connection, put_volume.connection);
  EXPECT_EQ(volume.layer_key, put_volume.layer_key);
  EXPECT_EQ(volume.attachment, put_volume.attachment);
  EXPECT_EQ(volume.state, put_volume.state);
  EXPECT_EQ(volume.created, put_volume.created);
  EXPECT_EQ(volume.state_since, put_volume.state_since);
  EXPECT_EQ(volume.last_error, put_volume.last_error);
  ASSERT_EQ(contents->limits.size(), 1u);
  EXPECT_EQ(contents->limits[0].limits.rd_bandwidth(), UINT64_MAX);
}

TEST_F(SqliteStoreTest, PutReplacesAndRemoveRemoves) {
  auto store = Open();
  Change change = FullChange();
  ASSERT_TRUE(Commit(*store, change, Durability::kProcess).ok());
  change.put_devices[0].state = DeviceState::kReady;
  ASSERT_TRUE(Commit(*store, change).ok());
  auto contents = store->Load();
  ASSERT_EQ(contents->devices.size(), 1u);
  EXPECT_EQ(contents->devices[0].state, DeviceState::kReady);
  Change removal;
  removal.remove_devices = {change.put_devices[0].handle, "unknown"};
  removal.remove_volumes = {change.put_volumes[0].id};
  removal.remove_limits = {change.put_volumes[0].id};
  ASSERT_TRUE(Commit(*store, removal).ok());
  store.reset();
  contents = Open()->Load();
  EXPECT_TRUE(contents->devices.empty());
  EXPECT_TRUE(contents->volumes.empty());
  EXPECT_TRUE(contents->limits.empty());
}

TEST_F(SqliteStoreTest, OnlyTheOwnerMayAccessFolderAndFiles) {
  std::filesystem::create_directories(folder_);
  ::chmod(folder_.c_str(), 0775);
  auto store = Open();
  ASSERT_TRUE(Commit(*store, FullChange()).ok());
  struct stat info {};
  ASSERT_EQ(stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    ASSERT_EQ(stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0077, 0u) << entry.path();
  }
}

TEST_F(SqliteStoreTest, RefusesASharedFolderAndDoesNotChangeIt) {
  std::filesystem::create_directories(folder_);
  for (mode_t mode : {01777U, 01700U, 0777U, 0702U}) {
    ASSERT_EQ(chmod(folder_.c_str(), mode), 0);
    ExpectRefused("is shared with other users");
    EXPECT_EQ(Mode(folder_), mode);
  }
  // The mode of /etc or of a home folder.
  ASSERT_EQ(chmod(folder_.c_str(), 0755), 0);
  std::ofstream(folder_ + "/other").close();
  ExpectRefused("other files");
  EXPECT_EQ(Mode(folder_), 0755u);
  EXPECT_FALSE(std::filesystem::exists(DatabasePath()));
}

TEST_F(SqliteStoreTest, MakesAFolderWithARecordPrivate) {
  Open();
  ASSERT_EQ(chmod(folder_.c_str(), 0755), 0);
  std::ofstream(folder_ + "/other").close();
  Open();
  EXPECT_EQ(Mode(folder_), 0700u);
}

TEST_F(SqliteStoreTest, DoesNotFollowALinkInPlaceOfAFile) {
  const std::string victim = root_ + "/victim";
  for (const char* name : {"lock", "record.db", "record.db-wal", "record.db-shm"}) {
    for (bool exists : {false, true}) {
      std::filesystem::create_directories(folder_);
      ASSERT_EQ(chmod(folder_.c_str(), 0700), 0);
      if (exists) std::ofstream(victim).close();
      std::filesystem::create_symlink(victim, folder_ + "/" + name);
      ExpectRefused(name);
      EXPECT_EQ(std::filesystem::exists(victim), exists) << name;
      if (exists) {
        EXPECT_EQ(std::filesystem::file_size(victim), 0u) << name;
      }
      std::filesystem::remove_all(folder_);
      std::filesystem::remove(victim);
    }
  }
}

TEST_F(SqliteStoreTest, RefusesFilesOfOtherKindsAndOwners) {
  std::filesystem::create_directories(folder_);
  ASSERT_EQ(chmod(folder_.c_str(), 0700), 0);
  ASSERT_EQ(mkfifo((folder_ + "/lock").c_str(), 0600), 0);
  ExpectRefused("not a regular file");
  std::filesystem::remove(folder_ + "/lock");
  std::ofstream(root_ + "/victim").close();
  std::filesystem::create_hard_link(root_ + "/victim", DatabasePath());
  ExpectRefused("hard link");
  std::filesystem::remove(DatabasePath());
  if (geteuid() != 0) return;
  std::ofstream(DatabasePath()).close();
  ASSERT_EQ(chown(DatabasePath().c_str(), 65534, 65534), 0);
  ExpectRefused("another user");
}

TEST_F(SqliteStoreTest, AFolderMayBeALinkOfTheSameUserOnly) {
  std::filesystem::create_directories(root_ + "/elsewhere");
  std::filesystem::create_directories(root_ + "/state/of");
  std::filesystem::create_symlink(root_ + "/elsewhere", folder_);
  Open();
  EXPECT_TRUE(std::filesystem::exists(root_ + "/elsewhere/record.db"));
  if (geteuid() != 0) return;
  ASSERT_EQ(lchown(folder_.c_str(), 65534, 65534), 0);
  ExpectRefused("symbolic link owned by untrusted user 65534");
}

TEST_F(SqliteStoreTest, OneAgentAtATime) {
  auto first = Open();
  auto second = SqliteStore::Open(folder_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use by another agent"));
  first.reset();
  EXPECT_TRUE(SqliteStore::Open(folder_).ok());
}

TEST_F(SqliteStoreTest, RefusesAnotherFile) {
  std::filesystem::create_directories(folder_);
  std::ofstream(DatabasePath()) << std::string(5000, 'x');
  auto store = SqliteStore::Open(folder_);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(store.status().message()), HasSubstr(DatabasePath()));
}

TEST_F(SqliteStoreTest, RefusesAnotherProgramsDatabase) {
  std::filesystem::create_directories(folder_);
  std::ofstream(DatabasePath()).close();
  {
    auto connection = Connection::Open(DatabasePath());
    ASSERT_TRUE(connection->Execute("CREATE TABLE t (x)").ok());
  }
  auto store = SqliteStore::Open(folder_);
  EXPECT_THAT(std::string(store.status().message()), HasSubstr("another program"));
}

TEST_F(SqliteStoreTest, RefusesANewerRecord) {
  Open();
  {
    auto connection = Connection::Open(DatabasePath());
    ASSERT_TRUE(connection->Execute("PRAGMA user_version = 99").ok());
  }
  auto store = SqliteStore::Open(folder_);
  EXPECT_THAT(std::string(store.status().message()), HasSubstr("newer agent"));
}

TEST_F(SqliteStoreTest, RefusesADamagedRow) {
  ASSERT_TRUE(Commit(*Open(), FullChange()).ok());
  {
    auto connection = Connection::Open(DatabasePath());
    ASSERT_TRUE(connection->Execute("UPDATE devices SET state = 9").ok());
  }
  EXPECT_EQ(Open()->Load().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SqliteStoreTest, RefusesAFolderThatIsAFile) {
  std::filesystem::create_directories(root_ + "/state/of");
  std::ofstream(folder_).close();
  EXPECT_EQ(SqliteStore::Open(folder_).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SqliteStoreTest, MigratesStepByStep) {
  std::filesystem::create_directories(folder_);
  std::ofstream(DatabasePath()).close();
  auto connection = Connection::Open(DatabasePath());
  const char* first[] = {"CREATE TABLE t (x);INSERT INTO t VALUES (1);"};
  ASSERT_TRUE(Migrate(*connection, first).ok());
  ASSERT_TRUE(Migrate(*connection, first).ok());
  const char* both[] = {first[0], "UPDATE t SET x = x + 1;"};
  ASSERT_TRUE(Migrate(*connection, both).ok());
  ASSERT_TRUE(Migrate(*connection, both).ok());
  EXPECT_EQ(*connection->QueryInt("SELECT x FROM t"), 2);
  EXPECT_EQ(*connection->QueryInt("PRAGMA user_version"), 2);
  EXPECT_FALSE(Migrate(*connection, first).ok());
}

// A database as written by the first version of the agent, with a row in each table. Never change
// it.
constexpr char kRecordOfVersion1[] = R"(
  CREATE TABLE devices (
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
  CREATE TABLE limits (volume_id BLOB PRIMARY KEY, limits BLOB NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO devices VALUES ('nvmf-tcp:nqn.2016-06.io.spdk:a', 'nvmf_tcp',
    x'22170a156e716e2e323031362d30362e696f2e7370646b3a61', 2, 1000, 2000, 0, '', 0);
  INSERT INTO volumes VALUES (x'00112233445566778899aabbccddeeff',
    'nvmf-tcp:nqn.2016-06.io.spdk:a', x'0a1000112233445566778899aabbccddeeff', x'00ff', 'bdev',
    '7', 2, 3000, 4000, 14, 'gone', 5000);
  INSERT INTO limits VALUES (x'00112233445566778899aabbccddeeff', x'1805');
  PRAGMA application_id = 0x534d4131;
  PRAGMA user_version = 1;)";

TEST_F(SqliteStoreTest, ReadsARecordOfVersion1) {
  std::filesystem::create_directories(folder_);
  std::ofstream(DatabasePath()).close();
  {
    auto connection = Connection::Open(DatabasePath());
    ASSERT_TRUE(connection->Execute(kRecordOfVersion1).ok());
  }
  for (int i = 0; i < 2; ++i) {  // the second time, it is already migrated
    auto contents = Open()->Load();
    ASSERT_TRUE(contents.ok()) << contents.status();
    ASSERT_EQ(contents->devices.size(), 1u);
    const Device& device = contents->devices[0];
    EXPECT_EQ(device.handle, "nvmf-tcp:nqn.2016-06.io.spdk:a");
    EXPECT_EQ(device.manager, "nvmf_tcp");
    EXPECT_EQ(device.params.nvmf_tcp().subnqn(), "nqn.2016-06.io.spdk:a");
    EXPECT_EQ(device.state, DeviceState::kReady);
    EXPECT_EQ(device.created, At(1000));
    EXPECT_EQ(device.state_since, At(2000));
    EXPECT_EQ(device.last_error, LastError());
    ASSERT_EQ(contents->volumes.size(), 1u);
    const Volume& volume = contents->volumes[0];
    EXPECT_EQ(volume.id.ToString(), "00112233-4455-6677-8899-aabbccddeeff");
    EXPECT_EQ(volume.device_handle, device.handle);
    EXPECT_EQ(volume.params.volume_id(), volume.id.ToBytes());
    EXPECT_EQ(volume.sealed, std::string("\0\xff", 2));
    EXPECT_EQ(volume.bdev_name, "bdev");
    EXPECT_EQ(volume.attachment, "7");
    EXPECT_EQ(volume.connection, "");
    EXPECT_EQ(volume.state, VolumeState::kAttached);
    EXPECT_EQ(volume.last_error, (LastError{absl::StatusCode::kUnavailable, "gone", At(5000)}));
    ASSERT_EQ(contents->limits.size(), 1u);
    EXPECT_EQ(contents->limits[0].limits.rw_iops(), 5u);
  }
  EXPECT_TRUE(Commit(*Open(), FullChange()).ok());
}

TEST_F(SqliteStoreTest, FailedMigrationChangesNothing) {
  std::filesystem::create_directories(folder_);
  std::ofstream(DatabasePath()).close();
  auto connection = Connection::Open(DatabasePath());
  const char* bad[] = {"CREATE TABLE t (x);NONSENSE;"};
  EXPECT_FALSE(Migrate(*connection, bad).ok());
  EXPECT_EQ(*connection->QueryInt("SELECT count(*) FROM sqlite_schema"), 0);
  EXPECT_EQ(*connection->QueryInt("PRAGMA user_version"), 0);
}

// When the disk is full, a write fails and earlier rows are kept. Writes succeed again once there
// is space.
TEST_F(SqliteStoreTest, FullDiskRefusesAndRecovers) {
  auto store = Open();
  ASSERT_TRUE(Commit(*store, FullChange()).ok());
  Change large = FullChange();
  large.put_devices[0].handle = "large";
  large.put_devices[0].manager = std::string(1 << 20, 'x');
  auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 256 * 1024;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  absl::Status refused = Commit(*store, large);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("File too large"));
  EXPECT_EQ(store->Load()->devices.size(), 1u);
  EXPECT_TRUE(Commit(*store, large).ok());
  EXPECT_EQ(store->Load()->devices.size(), 2u);
}

TEST(SqliteStatusTest, HasTheCodeAndTheReason) {
  EXPECT_EQ(SqliteStatus(SQLITE_FULL, "").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(SqliteStatus(SQLITE_READONLY_DBMOVED, "").code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(SqliteStatus(SQLITE_IOERR_WRITE, "").code(), absl::StatusCode::kInternal);
  EXPECT_EQ(SqliteStatus(SQLITE_IOERR_WRITE, "", EDQUOT).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(SqliteStatus(SQLITE_IOERR_WRITE, "disk I/O error", EROFS),
            absl::FailedPreconditionError("the agent's record cannot be written: disk I/O error: "
                                          "Read-only file system"));
  EXPECT_THAT(std::string(SqliteStatus(SQLITE_FULL, "").message()),
              testing::HasSubstr("No space left on device"));
}

}  // namespace
}  // namespace sma::record
