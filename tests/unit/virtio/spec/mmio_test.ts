import { assert, assertEquals } from "@std/assert";
import type { RegisterTable } from "../../../../lib/registers/mod.ts";
import {
  fixedMsiVector,
  MMIO_CONFIG_OFFSET,
  MMIO_MAGIC,
  MMIO_NO_SHARED_MEMORY,
  MMIO_TABLES,
  MMIO_VERSION,
  type MmioForm,
  MSI_V2_COMMAND,
  MSI_V2_NO_VECTOR,
  MSI_V2_STATE_LINUX,
  MSI_V3_OP,
  MSI_V3_QUEUES_MAX,
} from "../../../../lib/virtio/spec/mod.ts";

/** Offset, width and direction of each register by the standard's name, from the texts: virtio 1.2 §4.2.2, §4.2.4, reference 7.2, 7.3. */
const EVERYWHERE = [
  ..."MagicValue@0 Version@4 DeviceID@8 VendorID@c".split(" ").map((one) => `${one} 4 R`),
  ..."QueueSel@30 QueueSize@38 InterruptACK@64".split(" ").map((one) => `${one} 4 W`),
  ..."QueueSizeMax@34 InterruptStatus@60".split(" ").map((one) => `${one} 4 R`),
  "Status@70 4 RW",
];
const FEATURES = [
  "DeviceFeatures@10 4 R",
  ..."DeviceFeaturesSel@14 DriverFeatures@20 DriverFeaturesSel@24".split(" ").map((one) => `${one} 4 W`),
];
const MODERN = [
  ...EVERYWHERE,
  ...FEATURES,
  "QueueReady@44 4 RW",
  ..."QueueDesc@80 QueueDriver@90 QueueDevice@a0".split(" ").map((one) => `${one} 8 W`),
  "SHMSel@ac 4 W",
  ..."SHMLen@b0 SHMBase@b8".split(" ").map((one) => `${one} 8 R`),
  "ConfigGeneration@fc 4 R",
];
const EXPECTED: Readonly<Record<MmioForm, readonly string[]>> = {
  "modern": [...MODERN, "QueueNotify@50 4 W", "QueueReset@c0 4 RW"],
  "legacy": [
    ...EVERYWHERE.map((one) => one.replace("QueueSize", "QueueNum")),
    ...FEATURES.map((one) => one.replace("Device", "Host").replace("Driver", "Guest")),
    "QueueNotify@50 4 W",
    ..."GuestPageSize@28 QueueAlign@3c".split(" ").map((one) => `${one} 4 W`),
    "QueuePFN@40 4 RW",
  ],
  "v3": [
    ...MODERN,
    "QueueNotify@50 4 RW",
    "MsiStatus@c0 2 R",
    "MsiCmd@c2 2 W",
    "MsiAddress@c4 8 W",
    "MsiData@cc 4 W",
  ],
  "msi-v2": [
    ...MODERN,
    "QueueNotify@50 4 RW",
    "MsiVecNum@c0 4 R",
    "MsiState@c4 4 R",
    "MsiCmd@c8 4 W",
    "MsiVecSel@d0 4 W",
    "MsiAddr@d4 8 W",
    "MsiData@dc 4 W",
  ],
};

function described(table: RegisterTable): string[] {
  return Object.values(table).map(({ name, offset, width, access }) =>
    `${name}@${offset.toString(16)} ${width} ${access}`
  );
}

Deno.test("7.1, 7.2, 7.3 registers of the four forms: name, offset, width, direction", () => {
  for (const [form, table] of Object.entries(MMIO_TABLES)) {
    assertEquals(described(table).sort(), [...EXPECTED[form as MmioForm]].sort(), form);
  }
});

Deno.test("7.1 no two registers of a form overlap, and none reaches the config space", () => {
  for (const [form, table] of Object.entries(MMIO_TABLES)) {
    const taken = new Set<number>();
    for (const { offset, width } of Object.values(table)) {
      for (let at = offset; at < offset + width; at++) {
        assert(!taken.has(at) && at < MMIO_CONFIG_OFFSET, `${form} ${at}`);
        taken.add(at);
      }
    }
  }
});

Deno.test("7.1 magic, versions (A-7.1, N-7.8) and what says that a region is absent", () => {
  assertEquals(
    new TextDecoder().decode(new Uint8Array(Uint32Array.of(MMIO_MAGIC).buffer)),
    "virt",
  );
  assertEquals(MMIO_VERSION, { "modern": 2, "legacy": 1, "v3": 3, "msi-v2": 2 });
  assertEquals(MMIO_NO_SHARED_MEMORY, 0xffff_ffff_ffff_ffffn);
  assertEquals(MMIO_CONFIG_OFFSET, 0x100);
});

Deno.test("7.2, 7.3 commands, and fields of the drafts (A-7.9: both places of MsiState)", () => {
  assertEquals(MSI_V3_OP, { UPDATE: 1, ENABLE: 2 });
  assertEquals(MSI_V3_QUEUES_MAX, 2 ** 11 - 1);
  assertEquals(MSI_V2_COMMAND, {
    ENABLE: 1,
    DISABLE: 2,
    CONFIGURE: 3,
    MASK: 4,
    UNMASK: 5,
    MAP_CONFIG: 6,
    MAP_QUEUE: 7,
  });
  assertEquals(MSI_V2_NO_VECTOR, 0xffff_ffff);
  const bits = (form: MmioForm, register: string) =>
    Object.fromEntries(
      Object.entries(MMIO_TABLES[form][register]!.fields!).map(([name, field]) => [name, field.bits]),
    );
  assertEquals(bits("v3", "msi_status"), { max_queue_num: [10, 0], msi_enabled: 15 });
  assertEquals(bits("v3", "msi_cmd"), { cmd_arg: [11, 0], cmd_op: [15, 12] });
  assertEquals(bits("v3", "queue_notify"), { base: [15, 0], multiplier: [31, 16] });
  assertEquals(bits("msi-v2", "queue_notify"), { base: [15, 0], multiplier: [31, 16] });
  assertEquals(bits("msi-v2", "msi_state"), { msi_enabled: 0, msi_sharing: 1 });
  const { msi_enabled, msi_sharing } = MSI_V2_STATE_LINUX.fields;
  assertEquals([msi_enabled.bits, msi_sharing.bits, MSI_V2_STATE_LINUX.offset], [31, 30, 0xc4]);
});

Deno.test("A-7.13 MsiCtrlStat and MsoAddrHigh are stale names: no table has them, MsiState and the high half of MsiAddr stand there", () => {
  const names = Object.values(MMIO_TABLES).flatMap((table) => Object.values(table).map(({ name }) => name));
  assertEquals(names.filter((name) => /CtrlStat|^Mso/.test(name!)), []);
  const { msi_state, msi_addr } = MMIO_TABLES["msi-v2"];
  assertEquals([msi_state!.name, msi_state!.offset, msi_state!.width], ["MsiState", 0x0c4, 4]);
  assertEquals([msi_addr!.name, msi_addr!.offset + msi_addr!.width - 4], ["MsiAddr", 0x0d8]);
});

Deno.test("A-7.10, A-7.16 where the mapping is fixed, vector 0 is the config space's and i + 1 queue i's", () => {
  assertEquals(["config" as const, 0, 1, 2046].map(fixedMsiVector), [0, 1, 2, 2047]);
});
