// SPDX-License-Identifier: Apache-2.0

#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <istream>
#include <string>

#include "absl/status/status.h"
#include "sma.pb.h"

namespace sma::cli {

/// The command-line options for a volume that is a logical unit of an iSCSI target.
class IscsiOptions {
 public:
  /// Adds the options to `command`. This object must live as long as `command`.
  void AddTo(CLI::App& command, const std::string& group);

  /// Returns true if any of the options was given.
  bool any() const;

  /// Fills in `parameters`. Returns INVALID_ARGUMENT if an option is invalid or missing.
  absl::Status Build(sma::iscsi::VolumeConnectionParameters& parameters,
                     std::istream& standard_input) const;

 private:
  // The secret is read from a file, because a command line is visible to other users.
  struct Credentials {
    std::string user;
    std::string secret_file;
  };
  static absl::Status Add(const char* option, const Credentials& credentials,
                          sma::iscsi::ChapCredentials& chap, std::istream& standard_input);

  std::string portal_;
  std::string target_iqn_;
  std::string initiator_iqn_;
  uint32_t lun_ = 0;
  Credentials chap_;
  Credentials mutual_chap_;
};

}  // namespace sma::cli
