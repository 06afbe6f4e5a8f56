import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors/mod.ts";
import * as spec from "../../../../lib/virtio/spec/mod.ts";
import {
  featureName,
  MANAGEMENT_DEVICE,
  packedStateFromTvq,
  packedStateToTvq,
  TVQ_ACK,
  TVQ_COMMAND,
  TVQ_MSI_STATE,
  TVQ_PACKED_STATE,
  TVQ_PADDED_HEADER,
  TVQ_TIGHT_HEADER,
  TVQ_VQ_ADDR,
  TVQ_VQ_STATUS,
  tvqAckName,
  tvqCommand,
  tvqCommandName,
  tvqMask,
  type TvqPayload,
} from "../../../../lib/virtio/spec/mod.ts";

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Offsets of each field, then the size: `packed`, and `aligned`. By name, in the order of reference 4.3. */
const LAYOUTS: readonly (readonly [keyof typeof spec, Record<string, readonly [number, number]>])[] = [
  ["TVQ_AVAIL_RES", {
    num_avail_vqs: [0, 0],
    min_mdev_vqs: [2, 2],
    max_mdev_vqs: [4, 4],
    num_avail_mdev: [6, 6],
    size: [8, 8],
  }],
  ["TVQ_MDEV_ATTRIBUTE", { virtio_device_id: [0, 0], device_features: [4, 8], size: [12, 16] }],
  ["TVQ_CONFIG_GET", { offset: [0, 0], "size ": [4, 4], size: [8, 8] }],
  ["TVQ_CONFIG_SET", { offset: [0, 0], "size ": [4, 4], size: [8, 8] }],
  ["TVQ_MSI_VQ_CONFIG", { queue_index: [0, 0], address: [2, 8], data: [10, 16], size: [14, 24] }],
  ["TVQ_MSI_VQ_ENABLE", { queue_index: [0, 0], enable: [2, 2], size: [3, 8] }],
  ["TVQ_MSI_VQ_MASK", { queue_index: [0, 0], mask: [2, 2], size: [3, 8] }],
  ["TVQ_MSI_CONFIG", { address: [0, 0], data: [8, 8], size: [12, 16] }],
  ["TVQ_VQ_ADDR", {
    queue_index: [0, 0],
    descriptor_area: [2, 8],
    device_area: [10, 16],
    driver_area: [18, 24],
    size: [26, 32],
  }],
  ["TVQ_VQ_STATUS_SET", { queue_index: [0, 0], status: [2, 2], size: [3, 8] }],
  ["TVQ_VQ_SIZE_SET", { queue_index: [0, 0], "size ": [2, 2], size: [4, 8] }],
  ["TVQ_VQ_NOTIFICATION_AREA", { address: [0, 0], "size ": [8, 8], size: [16, 16] }],
  ["TVQ_SPLIT_VQ_STATE_SET", { queue_index: [0, 0], avail_index: [2, 2], size: [4, 8] }],
  ["TVQ_SPLIT_VQ_STATE_GET", { avail_index: [0, 0], size: [2, 2] }],
  ["TVQ_PACKED_VQ_STATE_SET", {
    queue_index: [0, 0],
    avail_counter: [2, 2],
    avail_index: [4, 4],
    used_counter: [6, 6],
    used_index: [8, 8],
    size: [10, 16],
  }],
  ["TVQ_PACKED_VQ_STATE_GET", {
    avail_counter: [0, 0],
    avail_index: [2, 2],
    used_counter: [4, 4],
    used_index: [6, 6],
    size: [8, 8],
  }],
  ["TVQ_VQ_ASID_SET", { queue_index: [0, 0], asid: [2, 4], size: [6, 8] }],
];

Deno.test("4.3, A-4.7, R-4.A: every payload by offset, packed and aligned", () => {
  for (const [name, offsets] of LAYOUTS) {
    const payload = spec[name] as TvqPayload;
    const measured = (layout: spec.TvqLayout) => ({
      ...Object.fromEntries(
        Object.entries(payload[layout].fields).map((
          [field, { offset }],
        ) => [field === "size" ? "size " : field, offset]),
      ),
      size: payload[layout].sizeBytes,
    });
    const expected = (at: 0 | 1) =>
      Object.fromEntries(Object.entries(offsets).map(([field, both]) => [field, both[at]]));
    assertEquals(measured("packed"), expected(0), `${name}, packed`);
    assertEquals(measured("aligned"), expected(1), `${name}, aligned`);
  }
});

Deno.test("4.3: vq_addr has the device area before the driver area, little-endian (A-4.8)", () => {
  const areas = {
    queue_index: 0x0102,
    descriptor_area: 0x1111_1111_1111_1112n,
    device_area: 0x2222_2222_2222_2223n,
    driver_area: 0x3333_3333_3333_3334n,
  };
  assertEquals(
    hex(TVQ_VQ_ADDR.packed.encode(areas)),
    "0201" + "1211111111111111" + "2322222222222222" + "3433333333333333",
  );
  assertEquals(
    hex(TVQ_VQ_ADDR.aligned.encode(areas)),
    "0201000000000000" + "1211111111111111" + "2322222222222222" + "3433333333333333",
  );
});

Deno.test("A-4.32: scalars are exact in both layouts", () => {
  const sizes = (payload: TvqPayload) => [payload.aligned.sizeBytes, payload.packed.sizeBytes];
  assertEquals(sizes(TVQ_COMMAND.STATUS_SET.out), [1, 1]);
  assertEquals(sizes(TVQ_COMMAND.STATUS_GET.in), [1, 1]);
  assertEquals(sizes(TVQ_COMMAND.GENERATION_GET.in), [1, 1]);
  assertEquals(sizes(TVQ_COMMAND.MSI_CONFIG_ENABLE.out), [1, 1]);
  assertEquals(sizes(TVQ_COMMAND.MSI_CONFIG_MASK.out), [1, 1]);
  assertEquals(sizes(TVQ_COMMAND.VQ_SIZE_GET.out), [2, 2]);
  assertEquals(sizes(TVQ_COMMAND.VQ_SIZE_GET.in), [2, 2]);
  assertEquals(sizes(TVQ_COMMAND.VQ_STATE_GET.in), [2, 2]);
  assertEquals(sizes(TVQ_COMMAND.VQ_ENABLE_GET.in), [1, 1]);
  assertEquals(sizes(TVQ_COMMAND.MDEV_CREATE.in), [8, 8]);
  assertEquals(sizes(TVQ_COMMAND.FEAT_DEVICE_GET.in), [8, 8]);
  assertEquals(sizes(TVQ_COMMAND.MDEV_DESTROY.out), [0, 0]);
});

Deno.test("4.1, A-4.1: all commands with their numbers, the irregular ones as printed; one spelling", () => {
  const numbers = Object.fromEntries(
    Object.entries(TVQ_COMMAND).map(([key, { name, class: ofClass, command }]) => {
      assertEquals(name, key);
      assertEquals(tvqCommand(ofClass, command)?.name, key);
      return [key, `${ofClass}.${command}`];
    }),
  );
  assertEquals(numbers, {
    AVAIL_RES_GET: "1.0",
    MDEV_CREATE: "2.0",
    MDEV_DESTROY: "2.1",
    FEAT_DEVICE_GET: "3.0",
    FEAT_DRIVER_SET: "3.1",
    FEAT_DRIVER_GET: "3.2",
    STATUS_SET: "4.0",
    STATUS_GET: "4.1",
    GENERATION_GET: "5.0",
    CONFIG_GET: "6.0",
    CONFIG_SET: "6.1",
    MSI_VQ_SET: "7.0",
    MSI_VQ_ENABLE: "7.1",
    MSI_VQ_MASK: "7.2",
    MSI_CONFIG_SET: "7.3",
    MSI_CONFIG_ENABLE: "7.4",
    MSI_CONFIG_MASK: "7.5",
    VQ_ADDR_SET: "8.0",
    VQ_ENABLE_SET: "9.0",
    VQ_ENABLE_GET: "9.1",
    VQ_SIZE_SET: "10.0",
    VQ_SIZE_GET: "10.1",
    VQ_NOTIFY_GET: "11.1",
    VQ_STATE_SET: "12.0",
    VQ_STATE_GET: "12.1",
    VQ_ASID_SET: "13.1",
    VQ_RESET_DO: "14.1",
  });
  assertEquals(tvqCommandName(14, 0), "class 14, command 0");
  assertEquals(tvqCommandName(12, 1), "VQ_STATE_GET");
  assertEquals(tvqCommand(0, 0), undefined);
  assertEquals(tvqCommand(1, 0x10000), undefined);
  assertThrows(() => tvqCommandName("1" as unknown as number, 0), UsageError);
});

Deno.test("A-4.2, A-4.3: values of class MSI are no commands, and a mask is inverted", () => {
  assertEquals(TVQ_COMMAND.MSI_VQ_ENABLE.command, 1);
  assertEquals(TVQ_COMMAND.MSI_VQ_MASK.command, 2);
  assertEquals(TVQ_MSI_STATE, {
    VQ_ENABLE: 1,
    VQ_DISABLE: 0,
    VQ_MASK: 0,
    VQ_UNMASK: 1,
    CFG_ENABLE: 1,
    CFG_DISABLE: 0,
    CFG_MASK: 0,
    CFG_UNMASK: 1,
  });
  assertEquals([tvqMask(true), tvqMask(false)], [0, 1]);
  assertEquals(TVQ_VQ_STATUS, { ENABLE: 1, DISABLE: 0 });
});

Deno.test("A-4.18, A-4.19, A-4.29: one structure and one flag, whatever headings and texts call them; sizes have a class of their own", () => {
  assertEquals(TVQ_COMMAND.VQ_ENABLE_SET.out.packed.name, "transportq_ctrl_mdev_vq_status_set");
  assertEquals(Object.keys(TVQ_COMMAND.VQ_ENABLE_SET.out.packed.fields), ["queue_index", "status"]);
  assertEquals(Object.keys(TVQ_COMMAND.VQ_ENABLE_GET.in.packed.fields), ["status"]);
  assertEquals(TVQ_VQ_STATUS, { ENABLE: 1, DISABLE: 0 });
  assertEquals([TVQ_COMMAND.VQ_ENABLE_SET.class, TVQ_COMMAND.VQ_SIZE_SET.class], [9, 10]);
  assertEquals(TVQ_COMMAND.VQ_SIZE_SET.out.packed.name, "transportq_ctrl_mdev_vq_size_set");
});

Deno.test("A-4.21, A-4.22: a packed state's counters stand alone, and GET has no queue number", () => {
  const state = { layout: "packed", availableSlot: 5, availableWrap: 0, usedSlot: 3, usedWrap: 1 } as const;
  const set = TVQ_PACKED_STATE.SET.out.packed.encode({ queue_index: 7, ...packedStateToTvq(state) });
  assertEquals(hex(set), "07000000050001000300");
  const got = TVQ_PACKED_STATE.GET.in.aligned.decode(set.slice(2));
  assertEquals(packedStateFromTvq(got), state);
  assertEquals(TVQ_PACKED_STATE.GET.class, TVQ_COMMAND.VQ_STATE_GET.class);
  assertEquals(TVQ_PACKED_STATE.SET.command, TVQ_COMMAND.VQ_STATE_SET.command);
});

Deno.test("4.2, A-4.9: the header, padded and tight", () => {
  const header = { deviceId: 0x0102_0304_0506_0708n, class: 0x0a0b, command: 0x0c0d };
  for (
    const [codec, bytes, ackBytes] of [
      [TVQ_PADDED_HEADER, "0807060504030201" + "0b0a" + "0d0c" + "00000000", 8],
      [TVQ_TIGHT_HEADER, "0807060504030201" + "0b0a" + "0d0c", 1],
    ] as const
  ) {
    const into = new Uint8Array(codec.headerBytes + 1).fill(0xee);
    codec.encodeHeader(header, into);
    assertEquals(hex(into), bytes + "ee");
    assertEquals(codec.decodeHeader(into), header);
    assertThrows(() => codec.decodeHeader(into.subarray(0, codec.headerBytes - 1)), UsageError);
    assertEquals(codec.ackBytes, ackBytes);
    const answer = new Uint8Array(ackBytes + 1).fill(0xee);
    codec.encodeAck(255, answer);
    assertEquals(hex(answer), "ff" + "00".repeat(ackBytes - 1) + "ee");
    assertEquals(codec.decodeAck(answer), 255);
    assertThrows(() => codec.decodeAck(new Uint8Array()), UsageError);
    for (const wrong of [undefined, null, 5, "x", {}, new Uint8Array()]) {
      const no = wrong as never;
      assertThrows(() => codec.encodeHeader(no, into), UsageError);
      assertThrows(() => codec.encodeHeader(header, no), UsageError);
      assertThrows(() => codec.encodeAck(1, no), UsageError);
      if (typeof wrong !== "number") assertThrows(() => codec.encodeAck(no, answer), UsageError);
    }
  }
});

Deno.test("4.2: acknowledgements: 0, 255 and reasons between them", () => {
  assertEquals([TVQ_ACK.OK, TVQ_ACK.ERR], [0, 255]);
  const codes = Object.values(TVQ_ACK);
  assertEquals(new Set(codes).size, codes.length);
  assert(codes.every((code) => code >= 0 && code <= 255));
  assertEquals(tvqAckName(4), "QUEUE_INDEX");
  assertEquals(tvqAckName(200), undefined);
});

Deno.test("R-0: bits 44 and 45 have names under profile transport-vq only", () => {
  assertEquals(featureName(44, MANAGEMENT_DEVICE.id, "transport-vq"), "VIRTIO_F_TRANSPT_VQ");
  assertEquals(featureName(45, MANAGEMENT_DEVICE.id, "transport-vq"), "VIRTIO_F_TRANSPT_VQ_MDEV");
  assertEquals(featureName(44, MANAGEMENT_DEVICE.id), "bit 44");
  assertEquals(MANAGEMENT_DEVICE.id, 63);
  assertEquals(spec.deviceTypeName(63), "management device");
});
