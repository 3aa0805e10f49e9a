// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <string>

#include "agent/core/admin_messages.h"
#include "agent/core/core.h"
#include "sma_admin.pb.h"

namespace sma::core {

class Reconciler;

/// Builds the admin service's messages from rows of the record and other facts about the objects.
/// Thread-safe; makes no remote calls.
class RowMessages {
 public:
  /// Both must outlive this object.
  RowMessages(const Core& core, const Reconciler& reconciler)
      : core_(core), reconciler_(reconciler) {}

  admin::v1::Device Of(const record::Device& row) const;
  admin::v1::Volume Of(const record::Volume& row) const;
  /// Returns the status of the agent and the target.
  admin::v1::Status OfAgent() const;

 private:
  void SetCommon(const std::string& manager, bool is_remote, const base::Uuid& limits_key,
                 CommonFacts& facts) const;

  const Core& core_;
  const Reconciler& reconciler_;
};

}  // namespace sma::core
