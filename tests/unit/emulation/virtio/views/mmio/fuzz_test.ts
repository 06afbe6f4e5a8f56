/** Register accesses at random against a virtio-mmio device: nothing but violations comes of them, and a reset makes it whole. */
import { assert, assertEquals } from "@std/assert";
import type { DeviceModel } from "../../../../../../lib/emulation/device_model.ts";
import { NetModel } from "../../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../../lib/emulation/virtio/net/switch.ts";
import { RngModel } from "../../../../../../lib/emulation/virtio/rng/model.ts";
import type { MmioViewOptions } from "../../../../../../lib/emulation/virtio/views/mmio/options.ts";
import { MmioView } from "../../../../../../lib/emulation/virtio/views/mmio/view.ts";
import { campaign, Random, rounds } from "../../../../../random.ts";
import { FakeMmio, REG, RULES } from "./rig.ts";

const ACCESSES = 1_000_000;
const WIDTHS = [4, 4, 4, 4, 4, 4, 2, 2, 1, 8];
/** A driver's process ends so often. */
const LIFE = 400;

const SHAPES: readonly MmioViewOptions[] = [
  { mmio: { form: "modern" } },
  { mmio: { form: "modern" }, notificationData: true },
  { mmio: { form: "legacy" } },
  { mmio: { form: "v3", notify: { base: 0x204, multiplier: 4 } } },
  { mmio: { form: "v3" } },
  { mmio: { form: "msi-v2", notify: { base: 0x301, multiplier: 3 } } },
  { mmio: { form: "msi-v2", sharing: true, stateBits: "linux" } },
];

const MODELS: readonly (() => DeviceModel)[] = [
  () => new RngModel({ queueSize: 16 }),
  () => new NetModel(new NetSwitch("s0"), { mac: "52:54:00:12:34:56", queuePairs: 2, queueSize: 16 }),
];

/** Values that lead somewhere, and any. */
function value(random: Random, device: FakeMmio): number {
  const near = [
    0,
    1,
    2,
    3,
    7,
    8,
    11,
    15,
    16,
    64,
    4096,
    0x1001,
    0x2000,
    0x2001,
    0x8000,
    0xfee0_0000,
    0xffff_ffff,
  ];
  switch (random.below(4)) {
    case 0:
      return random.next();
    case 1:
      return Number(device.client.at(16 * random.below(4096)) & 0xffff_ffffn);
    case 2:
      return 1 << random.below(31);
    default:
      return random.pick(near);
  }
}

function offset(random: Random, device: FakeMmio): number {
  const all = Object.values(REG);
  switch (random.below(8)) {
    case 0:
      return random.below(device.view.windowBytes);
    case 1:
      return 0x0c0 + 4 * random.below(8);
    case 2:
      return random.pick([0x204, 0x208, 0x301, 0x304, 0x0c2]);
    default:
      return random.pick(all) + (random.below(8) === 0 ? 4 : 0);
  }
}

/** One thing that a driver, its process or the machine does. */
function step(random: Random, device: FakeMmio): void {
  const { view } = device;
  switch (random.below(60)) {
    case 0:
      return void view.poll(16);
    case 1:
      return void view.arm();
    case 2:
      return view.rang(0, random.pick([0x50, 0x204, 0x301]), random.pick([0, 1, 9]));
    case 3:
      return void view.doorbells(0);
    case 4:
      return void view.queueReport!();
    // A driver in order, so that what follows meets a device that runs.
    case 5:
      for (const status of [0, 1, 3]) device.status = status;
      device.accept(RULES | (random.below(2) === 0 ? 1n << 40n : 0n));
      device.status = 11;
      device.program(random.below(2), 8);
      device.write(REG.queueReady, 1);
      device.status = 15;
      return;
    default:
  }
  const at = offset(random, device), width = random.pick(WIDTHS);
  if (at + width > view.windowBytes) return;
  if (random.below(3) === 0) device.read(at, width);
  else device.write(at, value(random, device), width);
}

/** What holds whatever a driver does. */
function check(device: FakeMmio): void {
  device.port.take();
  const status = device.status;
  assertEquals(status & ~0xcf, 0, "bits of Status that mean nothing");
  const pending = device.read(REG.interruptStatus);
  if (!device.port.take().some((one) => one.startsWith("N-7.2"))) {
    assertEquals(device.port.line, pending !== 0);
  } else assert(!device.port.line, "N-7.1: the line is low while MSI is enabled");
  device.port.messages.length = 0;
}

Deno.test(
  campaign("virtio-mmio: 10^6 register accesses, in four forms, of a driver that does anything", () => {
    const random = new Random(0x7177);
    for (let done = 0, life = 0; done < rounds(ACCESSES); life++) {
      const model = MODELS[life % MODELS.length]!();
      const shape = SHAPES[life % SHAPES.length]!;
      using device = new FakeMmio(new MmioView(model, shape), 1 << 20);
      for (let i = 0; i < LIFE; i++, done++) {
        step(random, device);
        if (i % 16 === 0) check(device);
      }
      device.view.reset(random.pick(["device", "flr", "detached"] as const));
      check(device);
      assertEquals([device.status, device.read(REG.interruptStatus), device.port.line], [0, 0, false]);
      if (shape.mmio.form === "legacy") continue;
      device.bringUp(RULES);
      assertEquals(
        [device.status, device.read(REG.queueReady), device.port.take()],
        [15, 1, []],
        "it is whole again",
      );
    }
  }),
);
