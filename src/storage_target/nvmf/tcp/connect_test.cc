// SPDX-License-Identifier: Apache-2.0

#include "storage_target/nvme/identify_namespace.h"
#include "storage_target/nvme/log_page.h"
#include "storage_target/nvmf/tcp/testing/test_target.h"

namespace sma::storage_target::nvmf::tcp {
namespace {

using nvme::ConnectCommand;
using nvme::ConnectData;
using nvme::Status;

nvme::Command Admin(nvme::AdminOpcode opcode) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  return command;
}

void ExpectStatus(const nvme::Completion& completion, Status status, uint32_t dw0 = 0) {
  EXPECT_EQ(nvme::StatusOf(completion.status), status) << std::hex << completion.status;
  EXPECT_EQ(completion.dw0, dw0);
}

TEST(ConnectTest, CreatesAController) {
  TestTarget target;
  TestHost host = target.Dial();
  host.Initialize();
  nvme::Completion completion = host.Connect(TestHost::ConnectDataFor(TestTarget::kNqn));
  ExpectStatus(completion, Status::kSuccess, 1);
  EXPECT_EQ(completion.sq_head, 1);
  EXPECT_EQ(host.GetProperty(nvme::Property::kVs).dw0, nvme::MakeVersion(1, 4));
  EXPECT_EQ(host.GetProperty(nvme::Property::kCap, nvme::kPropertySize8).dw0 & 0xffff, 127u);
  EXPECT_EQ(host.GetProperty(nvme::Property::kCsts).dw0, 0u);
  ExpectStatus(host.Enable(), Status::kSuccess);
  EXPECT_EQ(host.GetProperty(nvme::Property::kCsts).dw0, nvme::kCstsReady);
}

TEST(ConnectTest, ReportsTheInvalidField) {
  TestTarget target;
  TestHost host = target.Dial();
  host.Initialize();
  constexpr Status kInvalid = Status::kConnectInvalidParameters;
  ExpectStatus(host.Connect(TestHost::ConnectDataFor("nqn.2016-06.io.spdk:none")), kInvalid,
               nvme::InvalidConnectData(offsetof(ConnectData, subsystem_nqn)));
  ConnectData no_host = TestHost::ConnectDataFor(TestTarget::kNqn);
  no_host.host_nqn.fill('x');  // not NUL-terminated
  ExpectStatus(host.Connect(no_host), kInvalid,
               nvme::InvalidConnectData(offsetof(ConnectData, host_nqn)));
  ConnectData data = TestHost::ConnectDataFor(TestTarget::kNqn, 7);
  ExpectStatus(host.Connect(data), kInvalid,
               nvme::InvalidConnectData(offsetof(ConnectData, controller_id)));
  ExpectStatus(host.Connect(data, 1), kInvalid,
               nvme::InvalidConnectData(offsetof(ConnectData, controller_id)));
  data = TestHost::ConnectDataFor(TestTarget::kNqn);
  for (uint16_t sq_size : {uint16_t{0}, uint16_t{128}, uint16_t{65535}}) {
    ExpectStatus(host.Connect(data, 0, sq_size), kInvalid,
                 nvme::InvalidConnectCommand(offsetof(ConnectCommand, sq_size)));
  }
  // Then a correct Connect command succeeds.
  ExpectStatus(host.Connect(data), Status::kSuccess, 1);
  ExpectStatus(host.Connect(data), Status::kCommandSequenceError);
}

TEST(ConnectTest, ChecksTheHost) {
  TestTarget target;
  target.InControl([&] { target.subsystem().set_allow_any_host(false); });
  TestHost host = target.Dial();
  host.Initialize();
  ConnectData data = TestHost::ConnectDataFor(TestTarget::kNqn);
  nvme::Completion refused = host.Connect(data);
  ExpectStatus(refused, Status::kConnectInvalidHost);
  EXPECT_FALSE(nvme::DoNotRetry(refused.status));  // the host may be added later
  target.InControl([&] { EXPECT_EQ(target.subsystem().AddHost(TestHost::kHostNqn), 0); });
  ExpectStatus(host.Connect(data), Status::kSuccess, 1);
  // Removing the host ends its controller.
  target.Wait(
      [&](auto done) { EXPECT_EQ(target.subsystem().RemoveHost(TestHost::kHostNqn, done), 0); });
  EXPECT_TRUE(host.IsClosed());
}

TEST(ConnectTest, AHostWithoutANqnMayConnectWhereAnyHostMay) {
  TestTarget target;
  TestHost host = target.Dial();
  host.Initialize();
  ConnectData data = TestHost::ConnectDataFor(TestTarget::kNqn);
  data.host_nqn.fill('\0');
  target.InControl([&] { target.subsystem().set_allow_any_host(false); });
  ExpectStatus(host.Connect(data), Status::kConnectInvalidHost);
  target.InControl([&] { target.subsystem().set_allow_any_host(true); });
  ExpectStatus(host.Connect(data), Status::kSuccess, 1);
}

TEST(ConnectTest, IoQueueBelongsToAController) {
  TestTarget target;
  TestHost admin = target.Dial();
  admin.Initialize();
  ExpectStatus(admin.Connect(TestHost::ConnectDataFor(TestTarget::kNqn)), Status::kSuccess, 1);
  TestHost io = target.Dial();
  io.Initialize();
  ConnectData data = TestHost::ConnectDataFor(TestTarget::kNqn, 1);
  ExpectStatus(io.Connect(data, 1), Status::kCommandSequenceError);  // not enabled
  ExpectStatus(admin.Enable(), Status::kSuccess);
  ConnectData other_host = data;
  other_host.host_nqn[5] = '9';
  ExpectStatus(io.Connect(other_host, 1), Status::kConnectInvalidParameters,
               nvme::InvalidConnectData(offsetof(ConnectData, host_nqn)));
  other_host = data;
  other_host.host_id[0] = 9;
  ExpectStatus(io.Connect(other_host, 1), Status::kConnectInvalidParameters,
               nvme::InvalidConnectData(offsetof(ConnectData, host_id)));
  ExpectStatus(io.Connect(data, 128), Status::kConnectInvalidParameters,
               nvme::InvalidConnectCommand(offsetof(ConnectCommand, queue_id)));
  ExpectStatus(io.Connect(data, 1), Status::kSuccess, 1);
  TestHost twin = target.Dial();
  twin.Initialize();
  ExpectStatus(twin.Connect(data, 1), Status::kCommandSequenceError);
  // Closing the admin queue ends the association.
  admin.Close();
  EXPECT_TRUE(io.IsClosed());
}

TEST(ConnectTest, CommandsBeforeConnectFail) {
  TestTarget target;
  TestHost host = target.Dial();
  host.Initialize();
  EXPECT_EQ(host.Execute(Admin(nvme::AdminOpcode::kKeepAlive)).status(),
            Status::kCommandSequenceError);
  ExpectStatus(host.GetProperty(nvme::Property::kVs), Status::kCommandSequenceError);
}

TEST(ConnectTest, ShutdownAndResetEndIoQueues) {
  TestTarget target;
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  ExpectStatus(admin.SetProperty(nvme::Property::kCc,
                                 nvme::kCcEnable | nvme::kShutdownNormal << nvme::kCcShnShift),
               Status::kSuccess);
  EXPECT_TRUE(io.IsClosed());
  uint32_t csts = 0;
  for (int i = 0; i < 1000 && csts != (nvme::kCstsReady | nvme::kCstsShutdownComplete); ++i) {
    csts = admin.GetProperty(nvme::Property::kCsts).dw0;
  }
  EXPECT_EQ(csts, nvme::kCstsReady | nvme::kCstsShutdownComplete);
  ExpectStatus(admin.SetProperty(nvme::Property::kCc, 0), Status::kSuccess);
  ExpectStatus(admin.Enable(), Status::kSuccess);
  EXPECT_EQ(admin.GetProperty(nvme::Property::kCsts).dw0, nvme::kCstsReady);
  TestHost again = target.DialIo();
}

TEST(ConnectTest, SilentHostIsDisconnected) {
  Options options;
  options.limits.keep_alive_granularity_ms = 10;
  options.limits.min_keep_alive_ms = 10;
  TestTarget target(options);
  TestHost host = target.Dial();
  host.Initialize();
  host.Connect(TestHost::ConnectDataFor(TestTarget::kNqn), 0, 31, 30);
  host.Enable();
  EXPECT_TRUE(host.IsClosed());
}

TEST(DiscoveryTest, EveryListenerServesDiscovery) {
  TestTarget target;
  TestHost host = target.Dial();
  host.Initialize();
  ExpectStatus(host.Connect(TestHost::ConnectDataFor(nvme::kDiscoveryNqn), 0, 31, 120000),
               Status::kSuccess, 1);
  host.Enable();
  nvme::Command events = Admin(nvme::AdminOpcode::kSetFeatures);
  events.cdw10 = static_cast<uint32_t>(nvme::Feature::kAsyncEventConfig);
  events.cdw11 = nvme::kAecDiscoveryLogChange;
  EXPECT_EQ(host.Execute(events).status(), Status::kSuccess);

  nvme::Command read = Admin(nvme::AdminOpcode::kGetLogPage);
  nvme::GetLogPage page{.page = nvme::LogPage::kDiscovery,
                        .retain_event = false,
                        .size_bytes = 3072,
                        .offset_bytes = 0,
                        .offset_is_index = false};
  page.Encode(read);
  read.sgl.length = 3072;
  TestHost::Pdu pdu = host.Execute(read);
  ASSERT_EQ(pdu.type(), nvme::tcp::PduType::kC2hData);
  nvme::DiscoveryLogHeader header;
  nvme::DiscoveryLogEntry entry;
  ASSERT_EQ(pdu.data.size(), 3072u);
  std::memcpy(&header, pdu.data.data(), sizeof header);
  std::memcpy(&entry, pdu.data.data() + sizeof header, sizeof entry);
  EXPECT_EQ(header.record_count, 1u);
  EXPECT_EQ(nvme::NulTerminated(entry.subsystem_nqn), TestTarget::kNqn);
  EXPECT_EQ(nvme::Unpadded(entry.transport_address), "127.0.0.1");
  EXPECT_EQ(nvme::Unpadded(entry.service_id), target.address().service_id);
  EXPECT_EQ(pdu.data[2048], std::byte{0});  // beyond the end

  host.SendCommand(Admin(nvme::AdminOpcode::kAsyncEventRequest));
  target.InControl([&] { target.subsystem().set_allow_any_host(false); });
  auto event = host.Receive();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->As<nvme::tcp::CapsuleResp>().completion.dw0, 0x70f002u);
  pdu = host.Execute(read);
  uint64_t generation = header.generation;
  std::memcpy(&header, pdu.data.data(), sizeof header);
  EXPECT_GT(header.generation, generation);
  EXPECT_EQ(header.record_count, 0u);  // this host is no longer allowed
}

TEST(NamespaceTest, IsAddedAndRemovedWhileAHostIsConnected) {
  TestTarget target;
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  nvme::Command events = Admin(nvme::AdminOpcode::kSetFeatures);
  events.cdw10 = static_cast<uint32_t>(nvme::Feature::kAsyncEventConfig);
  events.cdw11 = nvme::kAecNamespaceAttributes;
  admin.Execute(events);
  admin.SendCommand(Admin(nvme::AdminOpcode::kAsyncEventRequest));

  target.InControl([&] { target.AddDisk("second"); });
  target.Wait([&](auto done) {
    target.subsystem().namespaces().Add({.bdev_name = "second", .nsid = 5}, [done](auto nsid) {
      EXPECT_EQ(*nsid, 5u);
      done();
    });
  });
  auto event = admin.Receive();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->As<nvme::tcp::CapsuleResp>().completion.dw0, 0x40002u);

  nvme::Command list = Admin(nvme::AdminOpcode::kIdentify);
  list.cdw10 = static_cast<uint32_t>(nvme::Cns::kActiveNamespaceList);
  list.sgl.length = 4096;
  nvme::NamespaceList namespaces;
  std::memcpy(&namespaces, admin.Execute(list).data.data(), sizeof namespaces);
  EXPECT_EQ(namespaces[0], 1u);
  EXPECT_EQ(namespaces[1], 5u);
  EXPECT_EQ(namespaces[2], 0u);

  nvme::Command flush;
  flush.nsid = 5;
  EXPECT_EQ(io.Execute(flush).status(), Status::kSuccess);
  // The bdev is removed, and its namespace with it.
  target.Wait(
      [&](auto done) { target.registry().Unregister(*target.registry().Find("second"), done); });
  EXPECT_EQ(io.Execute(flush).status(), Status::kInvalidNamespaceOrFormat);
}

TEST(SubsystemTest, DeletingItDisconnectsItsHosts) {
  TestTarget target;
  TestHost admin = target.DialAdmin();
  TestHost io = target.DialIo();
  target.Wait([&](auto done) { target.target().DeleteSubsystem(target.subsystem(), done); });
  EXPECT_TRUE(io.IsClosed());
  EXPECT_TRUE(admin.IsClosed());
}

}  // namespace
}  // namespace sma::storage_target::nvmf::tcp
