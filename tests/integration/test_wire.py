# SPDX-License-Identifier: Apache-2.0
"""Tests that the protocol is the published one: it has the names and numbers on which clients rely that are generated
from the published files."""

from harness import wire

# The fields of each message, as "number name type". Fields from 1000 up are additions and optional.
PUBLISHED = {
    "sma.VolumeCryptoParameters": ["1 key bytes", "2 key2 bytes", "3 cipher sma.VolumeCryptoParameters.Cipher",
                                   "4 tweak_mode sma.VolumeCryptoParameters.TweakMode"],
    "sma.VolumeParameters": ["1 volume_id bytes", "2 nvmf sma.nvmf.VolumeConnectionParameters",
                             "3 crypto sma.VolumeCryptoParameters"],
    "sma.CreateDeviceRequest": ["1 volume sma.VolumeParameters", "2 nvme sma.nvme.DeviceParameters",
                                "3 virtio_blk sma.virtio_blk.DeviceParameters",
                                "4 nvmf_tcp sma.nvmf_tcp.DeviceParameters"],
    "sma.CreateDeviceResponse": ["1 handle string"],
    "sma.DeleteDeviceRequest": ["1 handle string"],
    "sma.DeleteDeviceResponse": [],
    "sma.AttachVolumeRequest": ["1 volume sma.VolumeParameters", "2 device_handle string"],
    "sma.AttachVolumeResponse": [],
    "sma.DetachVolumeRequest": ["1 volume_id bytes", "2 device_handle string"],
    "sma.DetachVolumeResponse": [],
    "sma.QosLimit": ["1 rd_iops uint64", "2 wr_iops uint64", "3 rw_iops uint64", "4 rd_bandwidth uint64",
                     "5 wr_bandwidth uint64", "6 rw_bandwidth uint64"],
    "sma.SetQosRequest": ["1 device_handle string", "2 volume_id bytes", "3 maximum sma.QosLimit"],
    "sma.SetQosResponse": [],
    "sma.GetQosCapabilitiesRequest": ["1 device_type sma.DeviceType"],
    "sma.GetQosCapabilitiesResponse": ["1 max_device_caps sma.GetQosCapabilitiesResponse.QosCapabilities",
                                       "2 max_volume_caps sma.GetQosCapabilitiesResponse.QosCapabilities"],
    "sma.GetQosCapabilitiesResponse.QosCapabilities": ["1 rd_iops bool", "2 wr_iops bool", "3 rw_iops bool",
                                                       "4 rd_bandwidth bool", "5 wr_bandwidth bool",
                                                       "6 rw_bandwidth bool"],
    "sma.nvme.DeviceParameters": ["1 physical_id uint32", "2 virtual_id uint32"],
    "sma.virtio_blk.DeviceParameters": ["1 physical_id uint32", "2 virtual_id uint32"],
    "sma.nvmf_tcp.DeviceParameters": ["1 subnqn string", "2 adrfam string", "3 traddr string", "4 trsvcid string",
                                      "5 allow_any_host bool", "6 hosts repeated string"],
    "sma.nvmf.Address": ["1 trtype string", "2 traddr string", "3 trsvcid string"],
    "sma.nvmf.VolumeDiscoveryParameters": ["1 discovery_endpoints repeated sma.nvmf.Address"],
    "sma.nvmf.VolumeConnectionParameters": ["1 subnqn string", "2 hostnqn string",
                                            "3 discovery sma.nvmf.VolumeDiscoveryParameters"],
}
ENUMS = {
    "sma.DeviceType": {"DEVICE_TYPE_INVALID": 0, "DEVICE_TYPE_NVME": 1, "DEVICE_TYPE_VIRTIO_BLK": 2,
                       "DEVICE_TYPE_NVMF_TCP": 3},
    "sma.VolumeCryptoParameters.Cipher": {"AES_CBC": 0, "AES_XTS": 1},
    "sma.VolumeCryptoParameters.TweakMode": {
        "TWEAK_MODE_SIMPLE_LBA": 0, "TWEAK_MODE_JOIN_NEG_LBA_WITH_LBA": 1, "TWEAK_MODE_INCR_512_FULL_LBA": 2,
        "TWEAK_MODE_INCR_512_UPPER_LBA": 3},
}
ONEOFS = {"sma.VolumeParameters": "connection_params", "sma.CreateDeviceRequest": "params",
          "sma.nvmf.VolumeConnectionParameters": "connection_params"}
FIRST_ADDITION = 1000
POOL = wire.sma.DESCRIPTOR.pool


def describe(field):
    kind = (field.message_type or field.enum_type).full_name if field.message_type or field.enum_type else {
        field.TYPE_BYTES: "bytes", field.TYPE_STRING: "string", field.TYPE_BOOL: "bool", field.TYPE_UINT32: "uint32",
        field.TYPE_UINT64: "uint64"}[field.type]
    return f"{field.number} {field.name} {'repeated ' if field.is_repeated else ''}{kind}"


def test_messages():
    for name, published in PUBLISHED.items():
        fields = sorted(POOL.FindMessageTypeByName(name).fields, key=lambda field: field.number)
        assert [describe(f) for f in fields if f.number < FIRST_ADDITION] == published, name


def test_enums():
    for name, published in ENUMS.items():
        assert {v.name: v.number for v in POOL.FindEnumTypeByName(name).values} == published


def test_alternatives():
    for name, oneof in ONEOFS.items():
        assert [o.name for o in POOL.FindMessageTypeByName(name).oneofs] == [oneof]


def test_the_service():
    service = POOL.FindServiceByName("sma.StorageManagementAgent")
    assert {(m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming or m.server_streaming)
            for m in service.methods} == {
        (name, f"sma.{name}Request", f"sma.{name}Response", False)
        for name in ("CreateDevice", "DeleteDevice", "AttachVolume", "DetachVolume", "SetQos", "GetQosCapabilities")}


def test_go_packages():
    for file, suffix in (("sma", ""), ("nvme", "/nvme"), ("nvmf", "/nvmf"), ("nvmf_tcp", "/nvmf_tcp"),
                         ("virtio_blk", "/virtio_blk")):
        options = POOL.FindFileByName(f"{file}.proto").GetOptions()
        assert options.go_package == f"github.com/spdk/sma-goapi/v1alpha1{suffix}"
