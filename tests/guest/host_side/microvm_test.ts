/** QEMU's own virtio-mmio devices, in a microvm whose kernel leaves them to us: an independent judge of both published versions. */
import { assert, assertEquals, assertGreater, assertGreaterOrEqual, assertStringIncludes } from "@std/assert";
import { applyWrites, sha256 } from "../disk_writes.ts";
import { writesOf } from "./disk_job.ts";
import { bootJob, whyNoGuest } from "./job_guest.ts";
import type {
  BlkReport,
  DriveReport,
  MapReport,
  MicrovmReport,
  MicrovmTask,
  NetReport,
  RngReport,
} from "./microvm_job.ts";

const JOB = new URL("./microvm_job.ts", import.meta.url).pathname;
const MAC = "52:54:00:00:00:0";
const DISK_SECTORS = 8192;
const TASK: MicrovmTask = { seeds: [0x5eed, 0xfeed], pings: 100 };

/** Virtio device ids of the machine's devices, in the order of their windows: three as QEMU has them, three with packed rings. */
const DEVICE_IDS = [4, 1, 2, 4, 1, 2];
/** Windows of a microvm with a second interrupt controller begin here. */
const FIRST_WINDOW = 0xfeb0_0000;
const WINDOW_BYTES = 0x200;

/** QEMU's arguments for the devices. */
function deviceArguments(version: 1 | 2, disks: readonly string[]): string[] {
  const devices = DEVICE_IDS.flatMap((id, index) => {
    const common = `bus=virtio-mmio-bus.${index}${index < 3 ? "" : ",packed=on"}`;
    switch (id) {
      case 4:
        return [
          ...["-object", `rng-builtin,id=source${index}`],
          ...["-device", `virtio-rng-device,rng=source${index},${common}`],
        ];
      case 1:
        return [
          ...["-netdev", `user,id=link${index}`],
          ...["-device", `virtio-net-device,netdev=link${index},mac=${MAC}${index},${common}`],
        ];
      default: {
        const file = { driver: "file", "node-name": `disk${index}`, filename: disks[index < 3 ? 0 : 1] };
        return [
          ...["-blockdev", JSON.stringify(file)],
          ...["-device", `virtio-blk-device,drive=disk${index},${common}`],
        ];
      }
    }
  });
  return [...devices, "-global", `virtio-mmio.force-legacy=${version === 1 ? "on" : "off"}`];
}

/**
 * What the register map reads (virtio 1.2 §4.2.2, §4.2.4), where QEMU has the register. What is missing here reads 0: the write-only registers, those that
 * the other version has, those that are 0 after a reset.
 */
function expectedRegisters(version: 1 | 2, id: number, features: number): Record<string, number> {
  return {
    "0": 0x7472_6976,
    "4": version,
    "8": id,
    "c": 0x554d_4551,
    "10": features,
    "34": id === 4 ? 8 : 256,
    // SHMLen of a region that is not there; QEMU has it in version 1, too.
    "b0": 0xffff_ffff,
    "b4": 0xffff_ffff,
  };
}

/** Low and high halves of what QEMU offers. */
const FEATURE_BITS = {
  /** NOTIFY_ON_EMPTY. */
  legacyOnly: 0x0100_0000,
  /** INDIRECT_DESC, EVENT_IDX. */
  ring: 0x3000_0000,
  version1: 1 << 0,
  packed: 1 << 2,
  ringReset: 1 << 8,
} as const;

function checkMap(version: 1 | 2, index: number, map: MapReport): void {
  const id = DEVICE_IDS[index]!;
  const [low = 0, high = 0] = map.features;
  assertEquals(map.registers, expectedRegisters(version, id, low));
  assertEquals(low & FEATURE_BITS.ring, FEATURE_BITS.ring);
  const legacyOnly = low & FEATURE_BITS.legacyOnly;
  assertEquals(legacyOnly, version === 1 ? FEATURE_BITS.legacyOnly : 0);
  // QEMU offers RING_RESET, but has no QueueReset: that one reads 0 above.
  const { version1, packed, ringReset } = FEATURE_BITS;
  assertEquals(high, version === 1 ? 0 : version1 | ringReset | (index < 3 ? 0 : packed));
  assertEquals(map.queueSizes, { 4: [8, 0, 0, 0], 1: [256, 256, 64, 0], 2: [256, 0, 0, 0] }[id]);
  assertEquals(map.statuses, [1, 3, 11, 11, 0]);
  assertEquals(map.queue, version === 1 ? [5, 0] : [1, 0]);
  assertEquals(map.sharedMemory, [0xffff_ffff, 0xffff_ffff, 0, 0]);
  const capacity = [DISK_SECTORS & 0xff, DISK_SECTORS >> 8, 0, 0, 0, 0, 0, 0];
  const start = {
    // No configuration: QEMU gives ones for what lies behind its end.
    4: Array.from({ length: 8 }, () => 0xff),
    1: [0x52, 0x54, 0, 0, 0, index, 1, 0],
    2: capacity,
  }[id]!;
  assertEquals(map.config.slice(0, 8), start);
  const pairs = Array.from({ length: 6 }, (_, i) => map.config[2 * i]! | map.config[2 * i + 1]! << 8);
  assertEquals(map.configBy16, pairs);
}

/** The disk once its writes are done. */
function expectedDisk(seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(DISK_SECTORS * 512);
  const { one, many } = writesOf(seed, DISK_SECTORS);
  applyWrites(bytes, one);
  applyWrites(bytes, many);
  return bytes;
}

function checkDriven(version: 1 | 2, index: number, one: DriveReport): void {
  const id = DEVICE_IDS[index]!;
  assertEquals([one.kind, one.legacy, one.deviceId], ["mmio", version === 1, id]);
  assertEquals(one.queueSizes, { 4: [8], 1: [256, 256, 64], 2: [256] }[id]);
  // No driver of ours takes a legacy entropy device: see `RngReport.driver`.
  if (version === 1 && id === 4) return;
  const has = (name: string): boolean => one.features.includes(`VIRTIO_F_${name}`);
  const packed = version === 2 && index >= 3;
  assertEquals([has("VERSION_1"), has("RING_PACKED"), has("EVENT_IDX")], [version === 2, packed, true]);
}

/** Of 256 that there are; that one is missing among thousands is next to impossible. */
const MANY_BYTES = 250;

function checkRng(version: 1 | 2, one: RngReport): void {
  assertEquals(one.interruptStatus, [1, 0]);
  assertGreater(one.different, MANY_BYTES);
  if (version === 1) {
    assertEquals(one.queueReset, undefined);
    assertStringIncludes(String(one.driver), "does not drive legacy devices");
    return;
  }
  // QEMU has RING_RESET and no register for it: that a queue was not reset has to be seen.
  if (one.queueReset !== undefined) assertStringIncludes(one.queueReset, "QueueReset");
  assertGreater(Number(one.driver), MANY_BYTES);
}

function checkNet(index: number, one: NetReport): void {
  assertEquals([one.mac, one.echoes], [`${MAC}${index}`, TASK.pings]);
  // Besides the echoes, an address is asked for.
  assertGreater(one.transmitted, TASK.pings);
  assertGreater(one.received, TASK.pings);
}

async function checkBlk(one: BlkReport, seed: number, file: string): Promise<void> {
  const expected = await sha256(expectedDisk(seed));
  assertEquals([one.capacitySectors, one.readBack], [DISK_SECTORS, expected]);
  assertGreaterOrEqual(one.depth, 16);
  assertEquals(await sha256(await Deno.readFile(file)), expected, "what is in the disk's file");
}

const why = whyNoGuest();

for (const version of [1, 2] as const) {
  Deno.test({
    name: `QEMU's virtio-mmio, version ${version}, over /dev/mem: registers, rng, net and blk${
      why === undefined ? "" : ` (skipped: ${why})`
    }`,
    ignore: why !== undefined,
    sanitizeOps: true,
    sanitizeResources: true,
    fn: async () => {
      const disks = await Promise.all([0, 1].map(() => Deno.makeTempFile({ suffix: ".img" })));
      for (const disk of disks) await Deno.truncate(disk, DISK_SECTORS * 512);
      try {
        const reports: MicrovmReport[] = [];
        const { exitCode, console } = await bootJob({
          job: JOB,
          task: TASK,
          onReport: (one) => reports.push(one as MicrovmReport),
          guest: {
            machine: "microvm",
            modules: [],
            memoryMiB: 768,
            hugepages: 96,
            qemuArgs: deviceArguments(version, disks),
          },
        });
        assertEquals(exitCode, 0, console);
        const windows = reports.filter((one) => one.what === "window");
        assertEquals(
          windows.map(({ physical, sizeBytes, driven }) => ({ physical, sizeBytes, driven })),
          DEVICE_IDS.map((_, index) => ({
            physical: FIRST_WINDOW + index * WINDOW_BYTES,
            sizeBytes: WINDOW_BYTES,
            driven: false,
          })),
        );
        assert(windows.every(({ name }) => name.startsWith("LNRO0005:")));
        const maps = reports.filter((one) => one.what === "map");
        const drives = reports.filter((one) => one.what === "drive");
        assertEquals([maps.length, drives.length], [DEVICE_IDS.length, DEVICE_IDS.length]);
        maps.forEach((map, index) => checkMap(version, index, map));
        drives.forEach((drive, index) => checkDriven(version, index, drive));
        for (const half of [0, 1]) {
          const [rng, net, blk] = drives.slice(3 * half) as [RngReport, NetReport, BlkReport];
          checkRng(version, rng);
          checkNet(3 * half + 1, net);
          await checkBlk(blk, TASK.seeds[half]!, disks[half]!);
        }
      } finally {
        await Promise.all(disks.map((disk) => Deno.remove(disk)));
      }
    },
  });
}
