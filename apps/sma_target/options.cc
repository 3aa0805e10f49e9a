// SPDX-License-Identifier: Apache-2.0

#include "sma_target/options.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/version.h"

namespace sma::apps {
namespace {

constexpr int kMaxCores = 1024;

// Options of spdk_tgt for features that this target does not have.
constexpr const char* kIgnoredFlags[] = {
    "-d,--limit-coredump", "-g,--single-file-segments", "-u,--no-pci",    "-R,--huge-unlink",
    "--interrupt-mode",    "--disable-cpumask-locks",   "--enforce-numa", "--no-huge",
};
constexpr const char* kIgnoredOptions[] = {
    "-s,--mem-size",  "-i,--shm-id",      "-e,--tpoint-group",  "-n,--mem-channels",
    "-p,--main-core", "-A,--pci-allowed", "-B,--pci-blocked",   "-L,--logflag",
    "--huge-dir",     "--iova-mode",      "--base-virtaddr",    "--num-trace-entries",
    "--env-context",  "--vfio-vf-token",  "--msg-mempool-size", "--max-delay",
};

std::optional<std::vector<int>> CoresOfMask(const std::string& digits) {
  std::vector<int> cores;
  int core = 0;
  for (size_t i = digits.size(); i-- > 0; core += 4) {
    int bits = 0;
    auto [end, error] = std::from_chars(&digits[i], &digits[i] + 1, bits, 16);
    if (error != std::errc()) return std::nullopt;
    for (int bit = 0; bit < 4; ++bit) {
      if ((bits >> bit & 1) != 0) cores.push_back(core + bit);
    }
  }
  return cores;
}

std::optional<std::vector<int>> CoresOfList(const std::string& list) {
  std::vector<int> cores;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(list, ','))) {
    std::vector<std::string> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0;
    int last = 0;
    if (!absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last)) {
      return std::nullopt;
    }
    if (first < 0 || last < first || last >= kMaxCores) return std::nullopt;
    for (int core = first; core <= last; ++core) cores.push_back(core);
  }
  return cores;
}

std::optional<std::vector<int>> CoresOfCount(const std::string& text) {
  int count = 0;
  if (!absl::SimpleAtoi(text, &count) || count < 1 || count > kMaxCores) return std::nullopt;
  return std::vector<int>(static_cast<size_t>(count), -1);
}

void AddCores(CLI::App& app, const char* names, const char* help, bool plain_is_mask,
              TargetOptions& options) {
  app.add_option_function<std::string>(
      names,
      [&options, plain_is_mask](const std::string& text) {
        auto cores = ParseCores(text, plain_is_mask);
        if (!cores) throw CLI::ValidationError("cores", "invalid set of cores: " + text);
        options.cores = *cores;
      },
      help);
}

void AddIgnored(CLI::App& app, TargetOptions& options) {
  const char* group = "Options of spdk_tgt without effect here";
  for (const char* names : kIgnoredFlags) {
    app.add_flag_function(
           names, [&options, names](int64_t) { options.ignored.emplace_back(names); }, "")
        ->group(group);
  }
  for (const char* names : kIgnoredOptions) {
    app.add_option_function<std::string>(
           names, [&options, names](const std::string&) { options.ignored.emplace_back(names); },
           "")
        ->group(group)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
}

void AddOptions(CLI::App& app, TargetOptions& options) {
  app.add_option("-r,--rpc-socket", options.rpc_socket, "Unix socket of the JSON-RPC server")
      ->capture_default_str();
  app.add_option("-c,--config,--json", options.config_path,
                 "Configuration to load at start, in SPDK's JSON format");
  app.add_flag("--json-ignore-init-errors", options.ignore_config_errors,
               "Continue if a call of the configuration fails");
  app.add_flag("--wait-for-rpc", options.wait_for_rpc,
               "Wait for the call framework_start_init before initialization");
  app.add_option("-S", options.vhost_dir, "Folder of vhost-user sockets")->capture_default_str();
  app.add_option_function<std::string>(
      "--guest-socket-mode",
      [&options](const std::string& text) {
        uint32_t mode = 0;
        const char* const text_end = text.data() + text.size();
        const auto [end, error] = std::from_chars(text.data(), text_end, mode, 8);
        if (error != std::errc() || end != text_end || mode > 0777) {
          throw CLI::ValidationError("--guest-socket-mode", "invalid octal mode: " + text);
        }
        options.guest_socket_mode = mode;
      },
      "Octal mode of the vhost-user and vfio-user sockets, regardless of the umask [0600]");
  app.add_option("--guest-socket-group", options.guest_socket_group,
                 "Group of these sockets, for a VMM that runs as another user");
  app.add_option("-f", options.pid_file, "File to write the process id to");
  AddCores(app, "--cores", "Number of I/O threads, or the cores they run on: [0,2-3]", false,
           options);
  AddCores(app, "-m,--cpumask,--lcores",
           "Cores of the I/O threads in the format of spdk_tgt: 0x3 or [0,1]", true, options);
  app.add_option(
         "--poll-us", options.poll_us,
         "How long an I/O thread polls after its last work before it sleeps, in microseconds")
      ->capture_default_str()
      ->check(CLI::Range(0U, 1'000'000U));
  app.add_option("--rpc-delay-ms", options.rpc_delay_ms,
                 "Delay of JSON-RPC responses, like that of a target that polls its socket")
      ->capture_default_str()
      ->check(CLI::Range(0U, 10'000U));
  app.add_flag("!--no-io-uring", options.io_uring, "Use threads instead of io_uring for file I/O");
  app.add_flag("!--no-rpc-server", options.rpc_server, "Do not start the JSON-RPC server");
  app.add_option("--rpcs-allowed", options.rpcs_allowed, "Serve only these methods")
      ->delimiter(',');
  app.add_option("--log-level", options.log_level,
                 "trace, debug, info, warning, error, critical or off")
      ->capture_default_str()
      ->envname("SMA_LOGLEVEL");
  app.add_flag_callback(
         "--silence-noticelog", [&options] { options.log_level = "warning"; }, "")
      ->group("Options of spdk_tgt");
}

}  // namespace

std::optional<std::vector<int>> ParseCores(const std::string& text, bool plain_is_mask) {
  std::optional<std::vector<int>> cores;
  if (text.starts_with("[") && text.ends_with("]")) {
    cores = CoresOfList(text.substr(1, text.size() - 2));
  } else if (text.starts_with("0x") || text.starts_with("0X")) {
    cores = CoresOfMask(text.substr(2));
  } else {
    cores = plain_is_mask ? CoresOfMask(text) : CoresOfCount(text);
  }
  if (!cores || cores->empty() || cores->size() > kMaxCores) return std::nullopt;
  return cores;
}

ParsedOptions ParseTargetOptions(int argc, const char* const* argv) {
  CLI::App app("The embedded storage target of the Storage Management Agent");
  app.set_version_flag("-v,--version", std::string("sma-target ") + base::GetVersion().text);
  ParsedOptions parsed;
  TargetOptions& options = parsed.options.emplace();
  AddOptions(app, options);
  AddIgnored(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exit_status = app.exit(error);
    parsed.options.reset();
  }
  return parsed;
}

}  // namespace sma::apps
