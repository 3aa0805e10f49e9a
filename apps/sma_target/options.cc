#include "sma_target/options.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/version.h"

namespace sma::apps {
namespace {

constexpr int kMaxCores = 1024;

// Options of spdk_tgt that set up what does not exist here.
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
        if (!cores) throw CLI::ValidationError("cores", "not a set of cores: " + text);
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
                 "Configuration to start with, in SPDK's JSON form");
  app.add_flag("--json-ignore-init-errors", options.ignore_config_errors,
               "Go on when a call of the configuration fails");
  app.add_flag("--wait-for-rpc", options.wait_for_rpc,
               "Wait for framework_start_init before anything else");
  app.add_option("-S", options.vhost_dir, "Folder of vhost-user sockets")->capture_default_str();
  app.add_option_function<std::string>(
      "--guest-socket-mode",
      [&options](const std::string& text) {
        size_t end = 0;
        const unsigned long mode = std::isdigit(text.c_str()[0]) ? std::stoul(text, &end, 8) : 0;
        if (end != text.size() || mode > 0777) {
          throw CLI::ValidationError("--guest-socket-mode", "no octal mode: " + text);
        }
        options.guest_socket_mode = static_cast<uint32_t>(mode);
      },
      "Mode of the sockets of vhost-user and vfio-user, octal, whatever the umask [0600]");
  app.add_option("--guest-socket-group", options.guest_socket_group,
                 "Group of those sockets, for a VMM that another user runs");
  app.add_option("-f", options.pid_file, "File to write the process id to");
  AddCores(app, "--cores", "I/O threads: their number, or the cores they run on: [0,2-3]", false,
           options);
  AddCores(app, "-m,--cpumask,--lcores", "The cores as spdk_tgt takes them: 0x3 or [0,1]", true,
           options);
  app.add_option(
         "--poll-us", options.poll_us,
         "How long an I/O thread polls after the last work before it sleeps, in microseconds")
      ->capture_default_str()
      ->check(CLI::Range(0U, 1'000'000U));
  app.add_option("--rpc-delay-ms", options.rpc_delay_ms,
                 "Answer calls this much later, as a target does that polls its socket")
      ->capture_default_str()
      ->check(CLI::Range(0U, 10'000U));
  app.add_flag("!--no-io-uring", options.io_uring, "Do file I/O with threads");
  app.add_flag("!--no-rpc-server", options.rpc_server, "Without JSON-RPC server");
  app.add_option("--rpcs-allowed", options.rpcs_allowed, "The only methods to serve")
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
