// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/core/core.h"
#include "base/context.h"
#include "jsonrpc/call_scope.h"
#include "sma/outcome.h"

namespace sma::core {

/// One change to the record and the target. Only this class decides what is written to the record,
/// when and how durably; what is rolled back; whether the target may still act on an abandoned
/// call; and which devices are checked in the background afterwards. A use case looks like this:
///
///   Operation operation(core, context, "volume 1");
///   operation.Attach(row);                              // adds to the intent
///   operation.Begin();                                  // writes the intent
///   step; operation.OnUndo(...); step; ...              // changes the target
///   operation.Commit(change) or operation.Abandon(why)  // writes the outcome
///
/// The caller holds the locks of the objects for longer than the operation lives, and uses one
/// thread, whose calls to the target are tagged with these objects from Begin() on
/// (jsonrpc::CallScope). The destructor abandons an operation that was neither committed nor
/// abandoned, with the outcome unknown.
class Operation {
 public:
  /// `name` is the prefix of error messages. Both references must outlive the operation.
  Operation(Core& core, const base::Context& context, std::string name);
  ~Operation();

  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Called before Begin(): add rows to the intent.

  /// Adds a new row, in state kCreating or kAttaching. If the operation is abandoned, the row is
  /// removed, or settled later.
  void Create(record::Device row);
  void Attach(record::Volume row);
  /// Add a row that is to be removed from the record. Once the intent is written, the removal is
  /// not rolled back: the parts that cannot be done now are done later. If CanBeRefused() was
  /// called, the outcome "not done" restores the rows instead.
  void Delete(record::Device row);
  void Detach(record::Volume row);
  void CanBeRefused() { can_be_refused_ = true; }
  /// Adds a change of limits, of a volume of the device or of the device itself (LimitsKeyOf).
  /// `intent` holds the limits to set if the operation is interrupted; if it equals `before`,
  /// nothing is written.
  void Limit(const std::string& handle, const base::Uuid& id, std::optional<QosLimit> before,
             QosLimit intent);

  /// Writes the intent. After an error the operation has ended and nothing was written, with one
  /// exception: if the target is hung, a removal is written and completed later.
  absl::Status Begin();

  /// Returns true if the target may still act on abandoned earlier calls about these objects. Call
  /// this before removing an object, which such a call could recreate.
  bool MayActLate() const;

  /// Adds the rollback of a completed step. Abandon() calls the rollbacks in reverse order.
  void OnUndo(std::function<Outcome(const base::Context&)> undo) {
    undo_.push_back(std::move(undo));
  }

  /// Writes `done` so that it survives a crash of the host. If the caller's context has ended, so
  /// that the caller has already received an error, or if writing fails, abandons the operation
  /// instead and returns the outcome of Abandon().
  Outcome Commit(record::Change done);

  /// Ends a removal that is done on the target: removes the rows, or leaves them to be settled
  /// later if an object may reappear (`may_come_back`). Returns OK once this is on disk.
  absl::Status CommitRemoval(bool may_come_back);

  /// Rolls back and ends the operation because of `why`, an outcome other than done, and returns
  /// `why` with the operation's name prepended. If the rollback is incomplete, returns an unknown
  /// outcome, and the rest is settled later.
  Outcome Abandon(Outcome why);

 private:
  template <typename Row>
  struct Entry {
    std::optional<Row> before;  // after a complete rollback; nullopt: no row
    Row intent;
    Row unsettled;  // after an incomplete rollback
  };
  struct Limits {
    base::Uuid id;
    std::optional<QosLimit> before;
    QosLimit intent;
  };

  static bool HasIntent(const Limits& limits);
  void Wake() const;
  record::Change Restored() const;
  record::Change Unsettled(const absl::Status& error) const;
  absl::Status WriteEnd(record::Change change, record::Durability durability);

  Core& core_;
  const base::Context context_;
  const std::string name_;
  std::vector<Entry<record::Device>> devices_;
  std::vector<Entry<record::Volume>> volumes_;
  std::vector<Limits> limits_;
  std::vector<std::function<Outcome(const base::Context&)>> undo_;
  bool can_be_refused_ = false;
  bool is_removal_ = false;
  bool is_open_ = false;
  std::vector<std::string> objects_;
  std::set<std::string> handles_;  // of the devices to be checked
  std::optional<jsonrpc::CallScope> scope_;
};

/// Return the names that identify a device or volumes in jsonrpc::CallScope and Caller::MayActLate.
std::string ObjectOf(std::string_view device_handle);
std::string ObjectOf(const base::Uuid& volume);
std::vector<std::string> ObjectsOf(std::string_view device_handle,
                                   const std::vector<record::Volume>& volumes);

/// Returns true if the target may still act on an abandoned call about these objects.
bool MayActLate(const Core& core, const std::vector<std::string>& objects);

}  // namespace sma::core
