// SPDX-License-Identifier: Apache-2.0

// Calls one method of an agent from many threads and prints the durations of the calls as JSON.
// Used by control_plane.py, which runs it for each method in turn, and by tests of concurrent
// callers.

#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "sma.grpc.pb.h"

namespace {

using Clock = std::chrono::steady_clock;
using Stub = sma::StorageManagementAgent::Stub;

constexpr int kCallersPerConnection = 16;
constexpr std::chrono::seconds kCallTimeout{120};

struct Options {
  std::string address;
  std::string method;
  std::string trsvcid;  // port of the listener that all devices share
  int callers = 1;
  uint32_t first = 0;   // number of the first device
  uint32_t count = 1;   // number of devices, with one call each
  double seconds = 0;   // if not 0: calls for the devices in turn, repeatedly, for this time
  double pause_ms = 0;  // pause of a caller after each call
};

struct Result {
  double milliseconds = 0;
  grpc::Status status;
};

std::string Nqn(uint32_t number) { return absl::StrFormat("nqn.2016-06.io.spdk:bench-%u", number); }

std::string Handle(uint32_t number) { return "nvmf-tcp:" + Nqn(number); }

// Returns 00000000-0000-4000-8000-NNNNNNNNNNNN, the UUID that control_plane.py gives to bdev number
// N.
std::string VolumeId(uint32_t number) {
  std::string id(16, '\0');
  id[6] = 0x40;
  id[8] = static_cast<char>(0x80);
  for (int i = 0; i < 4; ++i) id[15 - i] = static_cast<char>(number >> (8 * i));
  return id;
}

grpc::Status Create(Stub& stub, grpc::ClientContext& context, const Options& options,
                    uint32_t number) {
  sma::CreateDeviceRequest request;
  auto& params = *request.mutable_nvmf_tcp();
  params.set_subnqn(Nqn(number));
  params.set_adrfam("ipv4");
  params.set_traddr("127.0.0.1");
  params.set_trsvcid(options.trsvcid);
  params.set_allow_any_host(true);
  sma::CreateDeviceResponse response;
  return stub.CreateDevice(&context, request, &response);
}

grpc::Status CreateNvme(Stub& stub, grpc::ClientContext& context, const Options&, uint32_t number) {
  sma::CreateDeviceRequest request;
  request.mutable_nvme()->set_physical_id(number);
  sma::CreateDeviceResponse response;
  return stub.CreateDevice(&context, request, &response);
}

grpc::Status Delete(Stub& stub, grpc::ClientContext& context, const Options&, uint32_t number) {
  sma::DeleteDeviceRequest request;
  request.set_handle(Handle(number));
  sma::DeleteDeviceResponse response;
  return stub.DeleteDevice(&context, request, &response);
}

grpc::Status Attach(Stub& stub, grpc::ClientContext& context, const Options&, uint32_t number) {
  sma::AttachVolumeRequest request;
  request.set_device_handle(Handle(number));
  request.mutable_volume()->set_volume_id(VolumeId(number));
  sma::AttachVolumeResponse response;
  return stub.AttachVolume(&context, request, &response);
}

grpc::Status Detach(Stub& stub, grpc::ClientContext& context, const Options&, uint32_t number) {
  sma::DetachVolumeRequest request;
  request.set_device_handle(Handle(number));
  request.set_volume_id(VolumeId(number));
  sma::DetachVolumeResponse response;
  return stub.DetachVolume(&context, request, &response);
}

grpc::Status SetLimit(Stub& stub, grpc::ClientContext& context, uint32_t number, uint64_t rw_iops) {
  sma::SetQosRequest request;
  request.set_device_handle(Handle(number));
  request.set_volume_id(VolumeId(number));
  request.mutable_maximum()->set_rw_iops(rw_iops);
  sma::SetQosResponse response;
  return stub.SetQos(&context, request, &response);
}

grpc::Status SetQos(Stub& stub, grpc::ClientContext& context, const Options&, uint32_t number) {
  return SetLimit(stub, context, number, 10);
}

// Removes the limits of the volume.
grpc::Status ClearQos(Stub& stub, grpc::ClientContext& context, const Options&, uint32_t number) {
  return SetLimit(stub, context, number, 0);
}

using Method = grpc::Status (*)(Stub&, grpc::ClientContext&, const Options&, uint32_t);
const std::map<std::string, Method> kMethods = {
    {"create", Create}, {"create_nvme", CreateNvme}, {"delete", Delete},     {"attach", Attach},
    {"detach", Detach}, {"set_qos", SetQos},         {"clear_qos", ClearQos}};

// Opens the connections, so that the first timed call does not include that.
std::vector<std::shared_ptr<grpc::Channel>> Connect(const Options& options) {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i * kCallersPerConnection < options.callers; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("channel", i);  // channels with equal arguments would share a connection
    auto channel =
        grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(), arguments);
    if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10))) {
      throw std::runtime_error("cannot connect to " + options.address);
    }
    channels.push_back(std::move(channel));
  }
  return channels;
}

std::vector<Result> Run(const Options& options, double* seconds) {
  auto channels = Connect(options);
  Method method = kMethods.at(options.method);
  std::vector<std::vector<Result>> results(options.callers);
  std::atomic<uint32_t> next{0};
  auto start = Clock::now();
  auto is_over = [&](uint32_t i) {
    if (options.seconds == 0) return i >= options.count;
    return Clock::now() - start >= std::chrono::duration<double>(options.seconds);
  };
  auto caller = [&](int index) {
    auto stub = sma::StorageManagementAgent::NewStub(channels[index / kCallersPerConnection]);
    for (uint32_t i = next++; !is_over(i); i = next++) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
      Result result;
      auto begin = Clock::now();
      result.status = method(*stub, context, options, options.first + i % options.count);
      result.milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
      results[index].push_back(std::move(result));
      std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(options.pause_ms));
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < options.callers; ++i) threads.emplace_back(caller, i);
  if (options.seconds != 0) std::fputs("calling\n", stderr);
  for (std::thread& thread : threads) thread.join();
  *seconds = std::chrono::duration<double>(Clock::now() - start).count();
  std::vector<Result> all;
  for (auto& of_caller : results) {
    all.insert(all.end(), std::make_move_iterator(of_caller.begin()),
               std::make_move_iterator(of_caller.end()));
  }
  return all;
}

nlohmann::json Summary(const std::vector<Result>& results, double seconds) {
  std::vector<double> times;
  std::string first_error;
  for (const Result& result : results) {
    if (result.status.ok()) {
      times.push_back(result.milliseconds);
    } else if (first_error.empty()) {
      first_error =
          absl::StrFormat("%d: %s", result.status.error_code(), result.status.error_message());
    }
  }
  std::sort(times.begin(), times.end());
  auto percentile = [&](double p) {
    return times.empty() ? 0.0 : times[static_cast<size_t>(p * (times.size() - 1))];
  };
  return {{"calls", results.size()},      {"errors", results.size() - times.size()},
          {"first_error", first_error},   {"seconds", seconds},
          {"median_ms", percentile(0.5)}, {"p99_ms", percentile(0.99)},
          {"samples_ms", times}};
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Load generator for agents of the service sma.StorageManagementAgent"};
  app.add_option("--address", options.address, "of the agent, HOST:PORT")->required();
  app.add_option("--method", options.method, "what to call")
      ->required()
      ->check(CLI::IsMember(kMethods));
  app.add_option("--trsvcid", options.trsvcid, "TCP port of the devices' listener");
  app.add_option("--callers", options.callers, "threads that call")->check(CLI::Range(1, 1024));
  app.add_option("--first", options.first, "number of the first device");
  app.add_option("--count", options.count, "calls, one for each device")
      ->check(CLI::PositiveNumber);
  app.add_option("--seconds", options.seconds, "call for the devices in turn for so long")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--pause-ms", options.pause_ms, "of a caller after each call")
      ->check(CLI::NonNegativeNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    double seconds = 0;
    auto results = Run(options, &seconds);
    std::puts(Summary(results, seconds).dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "agent_load: %s\n", error.what());
    return 1;
  }
  return 0;
}
