/** Every driver brought up on register windows of every form: the order in which it does so, by what the window saw. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import type { VirtioDriver } from "../../../drivers/driver.ts";
import type { DriverOptions } from "../../../drivers/driver_options.ts";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { openFdCount } from "../../../ffi/mod.ts";
import { UnsupportedError } from "../../../lib/errors/mod.ts";
import { openMmio } from "../../../lib/virtio/transport/mmio/open.ts";
import type { VirtioTransport } from "../../../lib/virtio/transport/transport.ts";
import { FakeMmio, type Form } from "../virtio/transport/mmio/fake_mmio.ts";
import { VirtioEcho } from "./echo_driver.ts";

const bit = (n: number) => 1n << BigInt(n);

/** A driver, its device, and whether it drives legacy ones. */
interface Driven {
  readonly deviceId: number;
  readonly queues: number;
  readonly features: bigint;
  readonly legacy: boolean;
  /** Bytes of its configuration by offset; all others are 0. */
  readonly config?: Readonly<Record<number, number>>;
  open(transport: VirtioTransport, options: DriverOptions): VirtioDriver | Promise<VirtioDriver>;
}

/** A cdid of version 4, chunks of 4096 bytes, notify registers of 4. */
const ISM_CONFIG = { 6: 0x40, 8: 0x80, 16: 1, 25: 0x10, 32: 4 };
const DRIVERS: Readonly<Record<string, Driven>> = {
  net: { deviceId: 1, queues: 2, features: bit(5), legacy: true, open: (t, o) => VirtioNet.open(t, o) },
  blk: {
    deviceId: 2,
    queues: 1,
    features: bit(9),
    legacy: true,
    config: { 0: 8 },
    open: (t, o) => VirtioBlk.open(t, o),
  },
  console: { deviceId: 3, queues: 2, features: 0n, legacy: false, open: (t, o) => VirtioConsole.open(t, o) },
  rng: { deviceId: 4, queues: 1, features: 0n, legacy: false, open: (t, o) => VirtioRng.open(t, o) },
  ism: {
    deviceId: 44,
    queues: 2,
    features: 0n,
    legacy: false,
    config: ISM_CONFIG,
    open: (t, o) => VirtioIsm.open(t, o),
  },
  echo: { deviceId: 60, queues: 1, features: 0n, legacy: false, open: (t, o) => VirtioEcho.open(t, o) },
};
const PROFILE = { "modern": "spec", "legacy": "spec", "v3": "mmio-v3", "msi-v2": "mmio-msi-v2" } as const;

/** Writes at these offsets, in order, each as `offset=value`. */
function writes(mmio: FakeMmio): string[] {
  return mmio.log.filter((one) => one.startsWith("w")).map((one) => one.slice(3));
}

function at(all: readonly string[], wanted: string): number {
  const found = all.indexOf(wanted);
  assert(found >= 0, `${wanted} was never written: ${all}`);
  return found;
}

/** What the text demands of the order, whatever the driver. */
function checkOrder(form: Form, mmio: FakeMmio, kind: string): void {
  const all = writes(mmio);
  const featuresOk = form === "legacy" ? -1 : at(all, "70=b");
  const driverOk = at(all, form === "legacy" ? "70=7" : "70=f");
  assert(
    at(all, "70=0") < at(all, "70=1") && at(all, "70=1") < at(all, "70=3"),
    "reset, ACKNOWLEDGE, DRIVER",
  );
  const enables = all.flatMap((one, i) => /^(44=1|40=[1-9a-f].*)$/.test(one) ? [i] : []);
  assert(enables.length > 0, "a queue");
  for (const one of enables) {
    assert(one > featuresOk && one < driverOk, "queues between FEATURES_OK and DRIVER_OK");
  }
  if (form === "legacy") assert(at(all, "28=1000") < enables[0]!, "GuestPageSize before any QueuePFN");
  const commands = all.flatMap((one, i) =>
    (form === "v3" ? /^c2=1/ : /^c8=3$/).test(one) && form !== "modern" ? [i] : []
  );
  if (kind !== "msi") return assertEquals(commands, [], "no vectors without MSI");
  // N-7.4: the config space's first, then each queue's before it is made ready, then ENABLE, then DRIVER_OK.
  assertEquals(commands.length, enables.length + 1);
  enables.forEach((one, queue) => assert(commands[queue + 1]! < one, `vector of queue ${queue}`));
  const on = at(all, form === "v3" ? "c2=2001" : "c8=1");
  assert(on > enables.at(-1)! && on < driverOk, "ENABLE after all vectors");
}

for (const [name, { deviceId, queues, features, legacy, config = {}, open }] of Object.entries(DRIVERS)) {
  Deno.test(`7.1, N-7.4: ${name} on register windows of every form: the order of its bring-up, with MSI, the line and polling`, async () => {
    const before = openFdCount();
    for (const form of ["modern", "legacy", "v3", "msi-v2"] as const) {
      for (const interrupts of ["auto", "intx", "none"] as const) {
        using mmio = new FakeMmio({
          form,
          deviceId,
          features: features | (form === "legacy" ? 0n : bit(32)) |
            (form === "msi-v2" ? bit(39) | bit(40) : 0n),
          queueSizes: Array.from({ length: queues }, () => 16),
          messages: 8,
          sizeBytes: 0x10_0000,
        });
        mmio.config.fill(0);
        for (const [offset, value] of Object.entries(config)) mmio.config[Number(offset)] = value;
        mmio.regions.set(1, { length: 0x8_0000n, base: 0xa00_3e00n + 0x2_0000n });
        mmio.regions.set(2, { length: 0x1000n, base: 0xa00_3e00n + 0xf_0000n });
        using transport = openMmio(mmio, { profile: PROFILE[form] });
        if (form === "legacy" && !legacy) {
          await assertRejects(async () => await open(transport, { interrupts }), UnsupportedError, "legacy");
          continue;
        }
        await using driver = await open(transport, { interrupts });
        const kind = interrupts !== "auto" ? interrupts : form === "v3" || form === "msi-v2" ? "msi" : "intx";
        assertEquals(driver.interruptKind, kind, form);
        checkOrder(form, mmio, kind);
        mmio.log.length = 0;
        await driver.reset();
        checkOrder(form, mmio, kind);
        driver.close();
        assertEquals([mmio.status, mmio.msiEnabled, mmio.allotted.size, mmio.interrupts.kind], [
          0,
          false,
          0,
          null,
        ]);
      }
    }
    assertEquals(openFdCount(), before);
  });
}
