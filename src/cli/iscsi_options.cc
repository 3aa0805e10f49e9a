// SPDX-License-Identifier: Apache-2.0

#include "cli/iscsi_options.h"

#include <fmt/format.h>

#include "absl/strings/ascii.h"
#include "cli/session.h"

namespace sma::cli {

void IscsiOptions::AddTo(CLI::App& command, const std::string& group) {
  auto add = [&](const char* name, std::string& value, const char* help, const char* type) {
    command.add_option(name, value, help)->type_name(type)->group(group);
  };
  add("--iscsi", portal_, "Portal of the iSCSI target that has the volume", "ADDRESS:PORT");
  add("--target-iqn", target_iqn_, "iSCSI name of the target", "IQN");
  command.add_option("--lun", lun_, "Logical unit number; default 0")
      ->type_name("NUMBER")
      ->group(group);
  add("--initiator-iqn", initiator_iqn_, "iSCSI name of the initiator", "IQN");
  add("--chap-user", chap_.user, "CHAP user name of the initiator", "NAME");
  add("--chap-secret-file", chap_.secret_file, "File (- for standard input) with the CHAP secret",
      "FILE");
  add("--mutual-chap-user", mutual_chap_.user,
      "CHAP user name that the iSCSI target must authenticate as", "NAME");
  add("--mutual-chap-secret-file", mutual_chap_.secret_file, "File with the secret of that user",
      "FILE");
}

bool IscsiOptions::any() const {
  return !portal_.empty() || !target_iqn_.empty() || !initiator_iqn_.empty() || lun_ != 0 ||
         !chap_.user.empty() || !chap_.secret_file.empty() || !mutual_chap_.user.empty() ||
         !mutual_chap_.secret_file.empty();
}

absl::Status IscsiOptions::Build(sma::iscsi::VolumeConnectionParameters& parameters,
                                 std::istream& standard_input) const {
  if (portal_.empty() || target_iqn_.empty() || initiator_iqn_.empty()) {
    return absl::InvalidArgumentError(
        "a volume on an iSCSI target requires --iscsi, --target-iqn and --initiator-iqn");
  }
  parameters.set_portal(portal_);
  parameters.set_target_iqn(target_iqn_);
  parameters.set_initiator_iqn(initiator_iqn_);
  parameters.set_lun(lun_);
  absl::Status status;
  if (!chap_.user.empty() || !chap_.secret_file.empty()) {
    status = Add("--chap", chap_, *parameters.mutable_chap(), standard_input);
  }
  if (status.ok() && (!mutual_chap_.user.empty() || !mutual_chap_.secret_file.empty())) {
    status = Add("--mutual-chap", mutual_chap_, *parameters.mutable_mutual_chap(), standard_input);
  }
  return status;
}

absl::Status IscsiOptions::Add(const char* option, const Credentials& credentials,
                               sma::iscsi::ChapCredentials& chap, std::istream& standard_input) {
  if (credentials.user.empty() || credentials.secret_file.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{0}-user and {0}-secret-file must be given together", option));
  }
  absl::StatusOr<std::string> secret = ReadFile(credentials.secret_file, standard_input);
  if (!secret.ok()) return secret.status();
  chap.set_user(credentials.user);
  chap.set_secret(std::string(absl::StripTrailingAsciiWhitespace(*secret)));
  return absl::OkStatus();
}

}  // namespace sma::cli
