import { assertEquals } from "@std/assert";
import {
  AVAIL_OFFSET,
  COMMON_CFG,
  describeStatus,
  DEVICE_ID,
  deviceTypeName,
  FEATURE,
  FEATURE_BIT,
  featureBit,
  featureName,
  featureNames,
  NET_CONFIG,
  NET_FEATURE,
  NET_FEATURE_BIT,
  NET_FEATURE_REQUIRES,
  NET_HDR,
  netControlQueue,
  netQueues,
  splitRingBytes,
  STATUS,
  statusNames,
  USED_OFFSET,
  VIRTQ_DESC,
} from "../../../../lib/virtio/spec/mod.ts";

Deno.test("1.1 status bits by name", () => {
  assertEquals(statusNames(0), []);
  assertEquals(statusNames(0xff), [
    "ACKNOWLEDGE",
    "DRIVER",
    "DRIVER_OK",
    "FEATURES_OK",
    "SUSPEND",
    "0x20",
    "DEVICE_NEEDS_RESET",
    "FAILED",
  ]);
  assertEquals(describeStatus(11), "ACKNOWLEDGE | DRIVER | FEATURES_OK (0xb)");
  assertEquals(describeStatus(0), "reset (0x0)");
});

Deno.test("1.2 reserved feature bits", () => {
  assertEquals(FEATURE_BIT, {
    NOTIFY_ON_EMPTY: 24,
    ANY_LAYOUT: 27,
    INDIRECT_DESC: 28,
    EVENT_IDX: 29,
    VERSION_1: 32,
    ACCESS_PLATFORM: 33,
    RING_PACKED: 34,
    IN_ORDER: 35,
    ORDER_PLATFORM: 36,
    SR_IOV: 37,
    NOTIFICATION_DATA: 38,
    NOTIF_CONFIG_DATA: 39,
    RING_RESET: 40,
    ADMIN_VQ: 41,
    SUSPEND: 43,
  });
  assertEquals(FEATURE.VERSION_1, 0x1_0000_0000n);
});

Deno.test("0.3, R-0: bits 39 and 40 are named by the profile", () => {
  const names = (profile: "spec" | "queue-state" | "mmio-msi-v2" | "transport-vq") =>
    [39, 40].map((bit) => featureName(bit, DEVICE_ID.net, profile));
  assertEquals(names("spec"), ["VIRTIO_F_NOTIF_CONFIG_DATA", "VIRTIO_F_RING_RESET"]);
  assertEquals(names("transport-vq"), ["VIRTIO_F_NOTIF_CONFIG_DATA", "VIRTIO_F_RING_RESET"]);
  assertEquals(names("queue-state"), ["VIRTIO_F_NOTIF_CONFIG_DATA", "VIRTIO_F_QUEUE_STATE"]);
  assertEquals(names("mmio-msi-v2"), ["VIRTIO_F_MMIO_NOTIFICATION", "VIRTIO_F_MMIO_MSI"]);
});

Deno.test("feature names and back", () => {
  assertEquals(featureNames(NET_FEATURE.MAC | FEATURE.VERSION_1 | 1n << 49n, DEVICE_ID.net), [
    "VIRTIO_NET_F_MAC",
    "VIRTIO_F_VERSION_1",
    "bit 49",
  ]);
  assertEquals(featureName(5, DEVICE_ID.entropy), "bit 5");
  assertEquals(featureBit("VIRTIO_NET_F_MQ", DEVICE_ID.net), 22);
  assertEquals(featureBit("VIRTIO_NET_F_MQ", DEVICE_ID.entropy), undefined);
  for (let bit = 0; bit < 64; bit++) {
    assertEquals(featureBit(featureName(bit, DEVICE_ID.net), DEVICE_ID.net), bit);
  }
});

Deno.test("5 device types", () => {
  assertEquals([1, 4, 44, 60, 999].map(deviceTypeName), [
    "network device",
    "entropy source",
    "internal shared memory (ISM) device",
    "device type 60",
    "device type 999",
  ]);
});

Deno.test("1.3, 1.4 ring layouts by offset", () => {
  assertEquals(VIRTQ_DESC.sizeBytes, 16);
  assertEquals(
    [...VIRTQ_DESC.encode({ addr: 0x0102030405060708n, len: 0x11121314, flags: 0x2122, next: 0x3132 })],
    [8, 7, 6, 5, 4, 3, 2, 1, 0x14, 0x13, 0x12, 0x11, 0x22, 0x21, 0x32, 0x31],
  );
  assertEquals(splitRingBytes(256), { descriptorArea: 4096, driverArea: 518, deviceArea: 2054 });
  assertEquals([AVAIL_OFFSET.idx, AVAIL_OFFSET.ring, USED_OFFSET.idx, USED_OFFSET.ring], [2, 4, 2, 4]);
});

Deno.test("2.2 the common configuration: fields follow each other without gaps, 64 bytes in all", () => {
  let end = 0;
  for (const [name, { offset, width }] of Object.entries(COMMON_CFG)) {
    assertEquals(offset, end, name);
    end = offset + width;
  }
  assertEquals(end, 64);
  const { fields, ...status } = COMMON_CFG.device_status;
  assertEquals(status, { offset: 20, width: 1, access: "RW" });
  // 1.1: its bits are those that drivers write and read.
  assertEquals(Object.fromEntries(Object.entries(fields).map(([name, { bits }]) => [name, 1 << bits])), {
    acknowledge: STATUS.acknowledge,
    driver: STATUS.driver,
    driver_ok: STATUS.driverOk,
    features_ok: STATUS.featuresOk,
    suspend: STATUS.suspend,
    device_needs_reset: STATUS.deviceNeedsReset,
    failed: STATUS.failed,
  });
  assertEquals(COMMON_CFG.queue_reset.offset, 58);
});

Deno.test("5.1 network layouts and feature bits", () => {
  assertEquals([NET_HDR.sizeBytes, NET_HDR.fields.num_buffers.offset], [12, 10]);
  assertEquals([NET_CONFIG.sizeBytes, NET_CONFIG.fields.status.offset, NET_CONFIG.fields.mtu.offset], [
    28,
    6,
    10,
  ]);
  assertEquals(NET_CONFIG.fields.supported_tunnel_types.offset, 24);
  assertEquals([NET_FEATURE_BIT.MQ, NET_FEATURE_BIT.CTRL_MAC_ADDR, NET_FEATURE_BIT.SPEED_DUPLEX], [
    22,
    23,
    63,
  ]);
  assertEquals(NET_FEATURE.SPEED_DUPLEX, 1n << 63n);
  assertEquals(new Set(Object.values(NET_FEATURE_BIT)).size, Object.keys(NET_FEATURE_BIT).length);
  assertEquals(NET_FEATURE_REQUIRES.find((one) => one.feature === "MQ")!.requires, [["CTRL_VQ"]]);
  assertEquals(netQueues(3), { receive: 6, transmit: 7 });
  assertEquals([netControlQueue(4, true), netControlQueue(4, false)], [8, 2]);
});
