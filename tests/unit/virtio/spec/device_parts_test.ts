import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ProtocolError, UsageError } from "../../../../lib/errors/mod.ts";
import {
  commonCfgPart,
  decodePartHeaders,
  decodeParts,
  DEV_PART,
  DEV_PART_OPTIONAL,
  DEVICE_ID,
  type DevicePart,
  encodePartHeaders,
  encodeParts,
  FEATURE,
  featuresPart,
  NET_FEATURE,
  netCvqCfgPart,
  partHeader,
  partOrderProblem,
  partProblem,
  readCommonCfgPart,
  readFeaturesPart,
  readNetCvqCfgPart,
  readStatusPart,
  readVqCfgPart,
  readVqNotifyCfgPart,
  statusPart,
  vqCfgPart,
  vqNotifyCfgPart,
} from "../../../../lib/virtio/spec/mod.ts";
import { describeParts, loadParts, saveParts } from "../../../../lib/virtio/admin/device_part_text.ts";

const NET = DEVICE_ID.net;
const QUEUE = {
  queue: 0x0102,
  size: 0x0304,
  vector: 0x0506,
  enabled: true,
  descriptorArea: 0x1112_1314_1516_1718n,
  driverArea: 0x2122_2324_2526_2728n,
  deviceArea: 0x3132_3334_3536_3738n,
};

function all(): DevicePart[] {
  return [
    featuresPart(DEV_PART.DEV_FEATURES, FEATURE.VERSION_1 | NET_FEATURE.MQ | 1n << 63n),
    featuresPart(DEV_PART.DRV_FEATURES, FEATURE.VERSION_1),
    commonCfgPart("config_msix_vector", 0x0201),
    commonCfgPart("num_queues", 3),
    commonCfgPart("config_generation", 9),
    statusPart(15),
    vqCfgPart({ ...QUEUE, queue: 0 }),
    vqCfgPart({ ...QUEUE, queue: 1, vector: null, enabled: false }),
    vqNotifyCfgPart({ queue: 0, notifyOff: 7, notifyData: 0x8001 }),
    netCvqCfgPart({ class: 1, command: 1, data: Uint8Array.of(2, 0, 0, 0, 0, 7) }),
    netCvqCfgPart({ class: 4, command: 0, data: Uint8Array.of(2, 0) }),
  ];
}

Deno.test("3.6 virtio_dev_part_hdr: every field at its offset", () => {
  const bytes = encodeParts([{
    type: 0x1234,
    flags: 1,
    selector: 0x0807_0605_0403_0201n,
    value: Uint8Array.of(0xee),
  }]);
  assertEquals([...bytes], [0x34, 0x12, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 0, 0, 0xee]);
  const [part] = decodeParts(bytes);
  assertEquals(part, {
    type: 0x1234,
    flags: 1,
    selector: 0x0807_0605_0403_0201n,
    value: Uint8Array.of(0xee),
  });
});

Deno.test("3.6 DEV_FEATURES and DRV_FEATURES: le64 words, the first optional", () => {
  const dev = featuresPart(DEV_PART.DEV_FEATURES, 0x8000_0001_0000_0020n);
  assertEquals([...encodeParts([dev])], [
    ...[0x00, 0x01, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0],
    ...[0x20, 0, 0, 0, 1, 0, 0, 0x80],
  ]);
  const drv = featuresPart(DEV_PART.DRV_FEATURES, 5n);
  assertEquals([drv.type, drv.flags], [0x101, 0]);
  const wide = { ...drv, value: Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0) };
  assertEquals([readFeaturesPart(dev), readFeaturesPart(wide)], [0x8000_0001_0000_0020n, 1n << 64n | 5n]);
  assertThrows(() => featuresPart(DEV_PART.DRV_FEATURES, 1n << 64n), UsageError);
  assertThrows(() => readFeaturesPart({ ...dev, value: new Uint8Array(7) }), ProtocolError);
});

Deno.test("3.6 PCI_COMMON_CFG: the selector is the offset of one field, the value as wide as the field", () => {
  const part = commonCfgPart("num_queues", 0x0203);
  assertEquals([...encodeParts([part])], [2, 1, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 2]);
  assertEquals(readCommonCfgPart(part), { register: "num_queues", value: 0x203n });
  assertEquals(readCommonCfgPart(commonCfgPart("queue_desc", 1n << 63n)).value, 1n << 63n);
  assertThrows(() => readCommonCfgPart({ ...part, selector: 19n }), ProtocolError, "no field");
  assertThrows(() => readCommonCfgPart({ ...part, value: new Uint8Array(4) }), ProtocolError, "must have 2");
  assertThrows(() => commonCfgPart("config_generation", 256), UsageError);
});

Deno.test("3.6 DEVICE_STATUS: one byte", () => {
  assertEquals([...encodeParts([statusPart(0x4f)])], [3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x4f]);
  assertEquals(readStatusPart(statusPart(0x4f)), 0x4f);
});

Deno.test("3.6 VQ_CFG: 32 bytes, every field at its offset", () => {
  const part = vqCfgPart(QUEUE);
  assertEquals([...encodeParts([part])], [
    ...[4, 1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0],
    ...[4, 3, 6, 5, 1, 0, 0, 0],
    ...[0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11],
    ...[0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21],
    ...[0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31],
  ]);
  assertEquals(readVqCfgPart(part), QUEUE);
  const none = vqCfgPart({ ...QUEUE, vector: null });
  assertEquals([...none.value.slice(2, 4)], [0xff, 0xff]);
  assertEquals(readVqCfgPart(none).vector, null);
  const twice = vqCfgPart(QUEUE);
  twice.value[4] = 2;
  assertThrows(() => readVqCfgPart(twice), ProtocolError, "enabled is 2");
  assertThrows(() => readVqCfgPart({ ...part, selector: 0x1_0000n }), ProtocolError, "no queue number");
});

Deno.test("3.6 VQ_NOTIFY_CFG: 8 bytes, every field at its offset", () => {
  const part = vqNotifyCfgPart({ queue: 5, notifyOff: 0x0102, notifyData: 0x0304 });
  assertEquals([...encodeParts([part])], [
    ...[5, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0],
    ...[2, 1, 4, 3, 0, 0, 0, 0],
  ]);
  assertEquals(readVqNotifyCfgPart(part), { queue: 5, notifyOff: 0x102, notifyData: 0x304 });
});

Deno.test("1.4 §5.1.8 NET_CVQ_CFG: class and command are the first bytes of the selector", () => {
  const part = netCvqCfgPart({ class: 1, command: 2, data: Uint8Array.of(9) });
  assertEquals([...encodeParts([part])], [0, 2, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9]);
  assertEquals(readNetCvqCfgPart(part), { class: 1, command: 2, data: Uint8Array.of(9) });
});

Deno.test("3.6 parts and headers one behind the other, and back", () => {
  const parts = all();
  assertEquals(decodeParts(encodeParts(parts)), parts);
  const headers = encodePartHeaders(parts.map(partHeader));
  assertEquals(headers.length, 16 * parts.length);
  assertEquals(decodePartHeaders(headers), parts.map(partHeader));
  assertEquals(decodePartHeaders(headers, 2), parts.slice(0, 2).map(partHeader));
  for (const part of decodeParts(encodeParts(parts))) assertEquals(partProblem(part, NET), undefined);
});

Deno.test("N-3.3 up to 7 zeros may follow the parts, and nothing else", () => {
  const bytes = encodeParts(all());
  for (let zeros = 0; zeros < 8; zeros++) {
    const padded = new Uint8Array(bytes.length + zeros);
    padded.set(bytes);
    assertEquals(decodeParts(padded).length, all().length);
  }
  const eight = new Uint8Array(bytes.length + 8);
  eight.set(bytes);
  assertThrows(() => decodeParts(eight), ProtocolError, "there are 8");
  const dirty = new Uint8Array(bytes.length + 1).fill(1);
  dirty.set(bytes);
  assertThrows(() => decodeParts(dirty), ProtocolError);
});

Deno.test("3.6 parts that are cut off anywhere are a ProtocolError, never anything else", () => {
  const bytes = encodeParts(all());
  const ends = new Set<number>();
  let end = 0;
  for (const part of all()) ends.add(end += 16 + part.value.length);
  let refused = 0;
  for (let length = 1; length < bytes.length; length++) {
    try {
      decodeParts(bytes.subarray(0, length));
    } catch (error) {
      assert(error instanceof ProtocolError, String(error));
      refused++;
    }
  }
  // Whole parts pass, and those after whose last up to seven bytes of a next header are zeros are padding: no header here begins so.
  assertEquals(refused, bytes.length - 1 - (ends.size - 1) - countZeroStarts(bytes, ends));
  const long = encodeParts(all().slice(0, 1));
  new DataView(long.buffer).setUint32(12, 0xffff_ffff, true);
  assertThrows(() => decodeParts(long), ProtocolError, "4294967295 bytes");
  assertThrows(() => decodePartHeaders(new Uint8Array(24).fill(1)), ProtocolError, "header 1");
  assertThrows(() => decodePartHeaders(new Uint8Array(16), 2), ProtocolError, "header 1");
});

/** Lengths that end in zeros behind a whole part. */
function countZeroStarts(bytes: Uint8Array, ends: ReadonlySet<number>): number {
  let count = 0;
  for (const end of [0, ...ends]) {
    for (let at = end; at < Math.min(end + 7, bytes.length - 1) && bytes[at] === 0; at++) count++;
  }
  return count;
}

Deno.test("3.6 the order of the table, and what must stand before what", () => {
  const parts = all();
  assertEquals(partOrderProblem(parts), undefined);
  assertEquals(parts.map((one) => one.type).toSorted((a, b) => a - b), parts.map((one) => one.type));
  for (let i = 0; i + 1 < parts.length; i++) {
    if (parts[i]!.type === parts[i + 1]!.type) continue;
    const swapped = [...parts];
    [swapped[i], swapped[i + 1]] = [parts[i + 1]!, parts[i]!];
    assert(partOrderProblem(swapped) !== undefined, `${i}`);
  }
  const missing: [number, string][] = [
    [0x100, "PCI_COMMON_CFG at offset 16 needs DEV_FEATURES"],
    [0x101, "PCI_COMMON_CFG at offset 16 needs DRV_FEATURES"],
    [0x102, "DEVICE_STATUS needs PCI_COMMON_CFG"],
    [0x103, "VQ_CFG of queue 0 needs DEVICE_STATUS"],
    [0x104, "VQ_NOTIFY_CFG of queue 0 needs VQ_CFG"],
  ];
  for (const [type, message] of missing) {
    const without = parts.filter((one) => one.type !== type);
    assertEquals(partOrderProblem(without), `${message} before it`);
    assertEquals(partOrderProblem(without, [type]), undefined);
  }
  assertEquals(partOrderProblem([parts[0]!, parts[0]!]), "DEV_FEATURES comes twice");
});

Deno.test("3.6 partProblem: unknown parts must be optional, lengths must be those of the standard", () => {
  const wrong = (part: DevicePart, message: string, deviceId: number = NET) =>
    assertStringIncludes(partProblem(part, deviceId) ?? "", message);
  const unknown = { type: 0x106, flags: 0, selector: 0n, value: new Uint8Array(3) };
  wrong(unknown, "part 0x0106 is unknown");
  assertEquals(partProblem({ ...unknown, flags: DEV_PART_OPTIONAL }, NET), undefined);
  const net = netCvqCfgPart({ class: 0, command: 0, data: Uint8Array.of(1) });
  assertEquals(partProblem(net, NET), undefined);
  wrong(net, "is unknown", DEVICE_ID.block);
  wrong({ ...featuresPart(DEV_PART.DRV_FEATURES, 0n), value: new Uint8Array(12) }, "no le64 words");
  for (const part of all().slice(2, 9)) {
    wrong({ ...part, value: new Uint8Array(part.value.length + 1) }, "it must have");
  }
});

Deno.test("parts in words: names, selectors, values; nothing is refused", () => {
  const words = describeParts(all(), NET);
  assertEquals(words[0], {
    name: "DEV_FEATURES",
    optional: true,
    selector: "",
    value: {
      features: "0x8000000100400000",
      names: ["VIRTIO_NET_F_MQ", "VIRTIO_F_VERSION_1", "VIRTIO_NET_F_SPEED_DUPLEX"],
    },
  });
  assertEquals(words[2]!.selector, "config_msix_vector");
  assertEquals(words[2]!.value, { config_msix_vector: 0x201 });
  assertEquals(words[5]!.value.status, 15);
  assertEquals(words[7]!.selector, "queue 1");
  assertEquals(words[7]!.value.vector, null);
  assertEquals(words[7]!.value.descriptorArea, "0x1112131415161718");
  assertEquals(words[8]!.value, { notifyOff: 7, notifyData: 0x8001 });
  assertEquals(words[9], {
    name: "NET_CVQ_CFG",
    optional: false,
    selector: "MAC.ADDR_SET",
    value: { mac: "02:00:00:00:00:07" },
  });
  assertEquals(words[10]!.value, { pairs: 2 });
  const tables = Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0);
  const odd = describeParts([
    netCvqCfgPart({ class: 1, command: 0, data: tables }),
    netCvqCfgPart({ class: 1, command: 0, data: tables.slice(1) }),
    netCvqCfgPart({ class: 9, command: 3, data: Uint8Array.of(0xab) }),
    { type: 0x999, flags: 0, selector: 0x10n, value: Uint8Array.of(1, 2) },
    { ...vqCfgPart(QUEUE), value: new Uint8Array(5) },
    { ...vqCfgPart(QUEUE), value: new Uint8Array(32).fill(9) },
  ], NET);
  assertEquals(odd[0]!.value, { unicast: ["02:00:00:00:00:09"], multicast: [] });
  assertEquals(odd[1]!.value, { bytes: tables.slice(1).toHex() });
  assertEquals(odd[2], {
    name: "NET_CVQ_CFG",
    optional: false,
    selector: "class 9.command 3",
    value: { bytes: "ab" },
  });
  assertEquals(odd[3], { name: "part 0x0999", optional: false, selector: "0x10", value: { bytes: "0102" } });
  assertEquals(odd[4]!.value, { bytes: "0000000000" });
  assertEquals(odd[5]!.value, { bytes: "09".repeat(32) });
});

Deno.test("saved parts survive JSON, and what a file says is checked", () => {
  const text = JSON.stringify(saveParts(all(), NET));
  assertEquals(loadParts(JSON.parse(text)), { deviceId: NET, parts: all() });
  assertEquals(loadParts(JSON.parse(text), NET).parts.length, all().length);
  const wrong: [(saved: Record<string, unknown> & { parts: Record<string, unknown>[] }) => void, string][] = [
    [(saved) => saved.version = 2, "version 2 is not known"],
    [(saved) => saved.kind = "net", 'kind "net"'],
    [(saved) => saved.deviceId = "1", "deviceId"],
    [(saved) => saved.deviceId = DEVICE_ID.block, "NET_CVQ_CFG 1.1 is unknown"],
    [(saved) => saved.parts = {} as never, "parts is not a list"],
    [(saved) => saved.parts[3] = null as never, "parts[3] is not an object"],
    [(saved) => saved.parts[3]!.type = 0x10000, "parts[3].type"],
    [(saved) => saved.parts[3]!.name = "VQ_CFG", "parts[3].name"],
    [(saved) => saved.parts[3]!.optional = 1, "parts[3].optional"],
    [(saved) => saved.parts[3]!.selector = "18", "parts[3].selector"],
    [(saved) => saved.parts[3]!.selector = "0x10000000000000000", "parts[3].selector"],
    [(saved) => saved.parts[3]!.selector = "0x13", "no field"],
    [(saved) => saved.parts[3]!.value = "0", "parts[3].value"],
    [(saved) => saved.parts[3]!.value = "000000", "must have 2"],
    [(saved) => saved.parts.reverse(), "comes after"],
    [(saved) => saved.parts.push(saved.parts[10]!), "comes twice"],
  ];
  for (const [change, message] of wrong) {
    const saved = JSON.parse(text);
    change(saved);
    assertThrows(() => loadParts(saved), UsageError, message);
  }
  for (const value of [null, 3, "x", []]) assertThrows(() => loadParts(value), UsageError);
  assertThrows(() => loadParts(JSON.parse(text), DEVICE_ID.block), UsageError, "they are those of a network");
});
