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

/// One change of the record and of the target: the only place that knows what is written when and
/// how durably, what is undone, what the target may still do late, and who is woken. A use case is
///
///   Operation operation(core, context, "volume 1");
///   operation.Attach(row);                              // what the record is about to say
///   operation.Begin();                                  // it says so
///   step; operation.OnUndo(...); step; ...              // the target
///   operation.Commit(change) or operation.Abandon(why)  // the record says how it ended
///
/// Under the locks of its objects, which outlive it, and in one thread, whose calls to the target
/// are about these objects from Begin() to the end (jsonrpc::CallScope). Without a Commit() or an
/// Abandon() it is abandoned as unknown.
class Operation {
 public:
  /// `name`: in front of reasons. Both references outlive the operation.
  Operation(Core& core, const base::Context& context, std::string name);
  ~Operation();

  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Before Begin(): the rows that change.

  /// A new row, in its state "creating" or "attaching". Abandoned: removed, or settled later.
  void Create(record::Device row);
  void Attach(record::Volume row);
  /// A row that goes. Once this is written it is never taken back: what cannot be done now is done
  /// later. With `can_be_refused` an outcome that is "not done" puts the rows back as they were.
  void Delete(record::Device row);
  void Detach(record::Volume row);
  void CanBeRefused() { can_be_refused_ = true; }
  /// Limits that change, of a volume of the device or of LimitsKeyOf it. `intent` is what to set
  /// should the operation not end; where it is `before`, nothing has to be written.
  void Limit(const std::string& handle, const base::Uuid& id, std::optional<QosLimit> before,
             QosLimit intent);

  /// Writes the intent. An error: the operation is over, with nothing written, but for a removal
  /// where the target hangs: that is written, and done later.
  absl::Status Begin();

  /// Whether the target may still act on earlier calls about these objects that were given up. To
  /// be asked before something is taken away: it may come back otherwise.
  bool MayActLate() const;

  /// What takes back a step that was done, on Abandon(), the last step first.
  void OnUndo(std::function<Outcome(const base::Context&)> undo) {
    undo_.push_back(std::move(undo));
  }

  /// Writes `done`, which outlives the host then. Undone instead when the caller's time is over: it
  /// has been told so. Returns what Abandon() has where it cannot be written.
  Outcome Commit(record::Change done);

  /// A removal that was done: the rows go, or are settled later when something `may_come_back`. OK
  /// when that is on disk.
  absl::Status CommitRemoval(bool may_come_back);

  /// Ends the operation because of `why`, which is not done; returns it with the operation's name.
  /// Unknown where not all is undone, or not yet: what is left is settled later.
  Outcome Abandon(Outcome why);

 private:
  template <typename Row>
  struct Entry {
    std::optional<Row> before;  // what is there when all is undone; nullopt: nothing
    Row intent;
    Row unsettled;  // when it is not
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
  std::set<std::string> handles_;  // of the devices concerned
  std::optional<jsonrpc::CallScope> scope_;
};

/// Names of a device and of volumes for jsonrpc::CallScope and Caller::MayActLate.
std::string ObjectOf(std::string_view device_handle);
std::string ObjectOf(const base::Uuid& volume);
std::vector<std::string> ObjectsOf(std::string_view device_handle,
                                   const std::vector<record::Volume>& volumes);

/// Whether the target may still act on a call about these objects that was given up.
bool MayActLate(const Core& core, const std::vector<std::string>& objects);

}  // namespace sma::core
