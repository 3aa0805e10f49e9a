// SPDX-License-Identifier: Apache-2.0

#include "storage_target/rpc/vhost/vhost_rpc.h"

#include <gtest/gtest.h>

#include <string_view>

#include "harness/vhost_user/front_end.h"
#include "jsonrpc/server.h"
#include "storage_target/vhost_user/testing/test_target.h"

namespace sma::storage_target::rpc {
namespace {

class VhostRpcTest : public testing::Test {
 protected:
  void SetUp() override {
    target_.AddDisk("disk");
    target_.Run([this](bdev::Registry&, vhost_user::ControllerTable& table) {
      RegisterVhostRpc(server_, table);
      server_.set_phase(Phase::kRuntime);
    });
  }

  // Returns the result, or {"code": ..., "message": ...}.
  Json Call(const std::string& method, const Json& params = nullptr) {
    Json answer;
    target_.Run([&](bdev::Registry&, vhost_user::ControllerTable&) {
      server_.Call(method, params, Reply([&answer](RpcResult result) {
                     answer = result.ok() ? result.result()
                                          : Json{{"code", result.error().code},
                                                 {"message", result.error().message}};
                   }));
    });
    return answer;
  }

  bool OffersPackedRings(const std::string& controller) {
    harness::FrontEnd front_end;
    EXPECT_TRUE(front_end.Connect(target_.SocketPath(controller)));
    auto features = front_end.AskNumber(vhost_user::Request::kGetFeatures);
    front_end.Disconnect();
    EXPECT_TRUE(target_.WaitForSessions(controller, 0));
    return features && (*features >> virtio::kRingPacked & 1) != 0;
  }

  vhost_user::TestTarget target_;
  jsonrpc::Server jsonrpc_;
  RpcServer server_{jsonrpc_};
};

const Json kNoDevice = {{"code", -32602}, {"message", "No such device"}};
const Json kInvalid = {{"code", -32602}, {"message", "Invalid argument"}};

TEST_F(VhostRpcTest, CreatesListsAndDeletes) {
  EXPECT_EQ(Call("vhost_get_controllers"), Json::array());
  EXPECT_EQ(Call("vhost_create_blk_controller", {{"ctrlr", "c"}, {"dev_name", "disk"}}), true);
  EXPECT_FALSE(OffersPackedRings("c"));
  const Json all = Call("vhost_get_controllers");
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0],
            (Json{{"ctrlr", "c"},
                  {"cpumask", "0x3"},
                  {"delay_base_us", 0},
                  {"iops_threshold", 60000},
                  {"socket", target_.SocketPath("c")},
                  {"sessions", Json::array()},
                  {"backend_specific",
                   {{"block",
                     {{"readonly", false}, {"bdev", "disk"}, {"transport", "vhost_user_blk"}}}}}}));
  EXPECT_EQ(Call("vhost_get_controllers", {{"name", "c"}}), all);
  EXPECT_EQ(Call("vhost_get_controllers", {{"name", "d"}}),
            (Json{{"code", -32603}, {"message", "No such device"}}));
  EXPECT_EQ(Call("vhost_delete_controller", {{"ctrlr", "c"}}), true);
  EXPECT_EQ(Call("vhost_delete_controller", {{"ctrlr", "c"}}), kNoDevice);
}

TEST_F(VhostRpcTest, AcceptsSpdkOptions) {
  EXPECT_EQ(Call("vhost_create_blk_controller", {{"ctrlr", "c"},
                                                 {"dev_name", "disk"},
                                                 {"readonly", true},
                                                 {"packed_ring", true},
                                                 {"cpumask", "0x2"},
                                                 {"transport", "vhost_user_blk"}}),
            true);
  const Json controller = Call("vhost_get_controllers")[0];
  EXPECT_EQ(controller["cpumask"], "0x2");
  EXPECT_EQ(controller["backend_specific"]["block"]["readonly"], true);
  EXPECT_TRUE(OffersPackedRings("c"));
  for (const Json& wrong :
       {Json{{"ctrlr", "d"}}, Json{{"ctrlr", "d"}, {"dev_name", "disk"}, {"cpumask", "x"}},
        Json{{"ctrlr", "d"}, {"dev_name", "disk"}, {"cpumask", "0x4"}},
        Json{{"ctrlr", "d"}, {"dev_name", "disk"}, {"transport", "other"}},
        Json{{"ctrlr", "a/b"}, {"dev_name", "disk"}}}) {
    EXPECT_EQ(Call("vhost_create_blk_controller", wrong), kInvalid) << wrong;
  }
}

TEST_F(VhostRpcTest, ListsFrontEndsAndRefusesToDeleteWhileConnected) {
  Call("vhost_create_blk_controller", {{"ctrlr", "c"}, {"dev_name", "disk"}});
  harness::FrontEnd front_end;
  ASSERT_TRUE(front_end.Connect(target_.SocketPath("c")));
  ASSERT_TRUE(front_end.AskNumber(vhost_user::Request::kGetFeatures));
  const Json sessions = Call("vhost_get_controllers")[0]["sessions"];
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0]["started"], false);
  EXPECT_EQ(sessions[0]["inflight_task_cnt"], 0);
  EXPECT_EQ(Call("vhost_delete_controller", {{"ctrlr", "c"}}),
            (Json{{"code", -32602}, {"message", "Device or resource busy"}}));
}

TEST_F(VhostRpcTest, SavesCallsThatRecreateTheControllers) {
  Call("vhost_create_blk_controller", {{"ctrlr", "c"},
                                       {"dev_name", "disk"},
                                       {"readonly", true},
                                       {"cpumask", "1"},
                                       {"packed_ring", true}});
  target_.AddDisk("gone");
  Call("vhost_create_blk_controller", {{"ctrlr", "d"}, {"dev_name", "gone"}});
  target_.RemoveDisk("gone");
  Json saved;
  target_.Run([&](bdev::Registry&, vhost_user::ControllerTable&) {
    saved = server_.subsystems().front().save();
  });
  EXPECT_EQ(Call("vhost_get_controllers", {{"name", "d"}})[0]["backend_specific"]["block"]["bdev"],
            nullptr);
  Call("vhost_delete_controller", {{"ctrlr", "c"}});
  ASSERT_EQ(saved.size(), 1u);
  EXPECT_EQ(Call(saved[0]["method"], saved[0]["params"]), true);
  const Json again = Call("vhost_get_controllers", {{"name", "c"}})[0];
  EXPECT_EQ(again["cpumask"], "0x1");
  EXPECT_EQ(again["backend_specific"]["block"]["readonly"], true);
  EXPECT_TRUE(OffersPackedRings("c"));
}

}  // namespace
}  // namespace sma::storage_target::rpc
