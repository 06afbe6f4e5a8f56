/** How commands open a function behind an IOMMU: in this process, with a function that is registers only. */
import { parse } from "@optique/core/parser";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { adminCaps } from "../../../cli/admin/caps.ts";
import { blkInfo } from "../../../cli/blk.ts";
import { consoleBridge } from "../../../cli/console.ts";
import { ismInfo } from "../../../cli/ism/info.ts";
import { netReceive } from "../../../cli/net_receive.ts";
import { type Invocation, type Of, parser } from "../../../cli/parser.ts";
import { printingTo } from "../../../cli/printing_to.ts";
import { rng } from "../../../cli/rng.ts";
import type { Host } from "../../../lib/host/mod.ts";
import { FakeFunction, USUAL } from "../../unit/virtio/fake_function.ts";

const FUNCTION = "0000:0a:00.0";
const VERSION_1 = 1n << 32n;
const ADMIN_VQ = 1n << 41n;

/** Each way of opening, with its device type. */
const COMMANDS:
  readonly (readonly [number, readonly string[], (host: Host, parsed: Invocation) => Promise<unknown>])[] = [
    [
      1,
      ["net", "receive", FUNCTION, "/nowhere/x.pcap"],
      (host, parsed) => netReceive(host, parsed as Of<"net receive">),
    ],
    [1, ["admin", FUNCTION, "caps"], (host, parsed) => adminCaps(host, parsed as Of<"admin caps">)],
    [2, ["blk", "info", FUNCTION], (host, parsed) => blkInfo(host, parsed as Of<"blk info">)],
    [3, ["console", FUNCTION, "--list"], (host, parsed) => consoleBridge(host, parsed as Of<"console">)],
    [4, ["rng", FUNCTION], (host, parsed) => rng(host, parsed as Of<"rng">)],
    [44, ["ism", FUNCTION, "info"], (host, parsed) => ismInfo(host, parsed as Of<"ism info">)],
  ];

for (const [deviceId, words, run] of COMMANDS) {
  Deno.test(`1.2 ${words[0]}: a device without ACCESS_PLATFORM is refused behind an IOMMU, and driven with --assume-access-platform`, async () => {
    for (const insist of [false, true]) {
      const device = new FakeFunction(USUAL, 0x1040 + deviceId);
      device.addSriov(0);
      device.iommu.iommu = true;
      device.features = VERSION_1 | ADMIN_VQ;
      // Far enough: no queue can be enabled.
      device.keep = { enable: 0 };
      const host = {
        open: () => device,
        describe: () => ({ address: FUNCTION, bus: "pci", sriov: { numVfs: 0, vfs: [] } }),
      } as unknown as Host;
      const parsed = parse(parser, insist ? [...words, "--assume-access-platform"] : words);
      if (!parsed.success) throw new Error(`${words.join(" ")} is not understood`);
      const { value } = parsed;
      const error = await assertRejects(() => run(host, value), Error);
      assertEquals(error.message.includes("VIRTIO_F_ACCESS_PLATFORM"), !insist, error.message);
      assertEquals((device.driverFeatures & VERSION_1) !== 0n, insist);
      assert(device.closed);
    }
  });
}

Deno.test("--trace -: each access to a virtio register, by name, on standard error, and nothing of it without", async () => {
  for (const trace of [false, true]) {
    const device = new FakeFunction(USUAL, 0x1044);
    device.features = VERSION_1;
    device.keep = { enable: 0 };
    const host = {
      open: () => device,
      describe: () => ({ address: FUNCTION, bus: "pci", sriov: { numVfs: 0, vfs: [] } }),
    } as unknown as Host;
    const parsed = parse(parser, trace ? ["rng", FUNCTION, "--trace", "-"] : ["rng", FUNCTION]);
    if (!parsed.success) throw new Error("rng is not understood");
    const lines: string[] = [];
    const output = { out: () => {}, err: (text: string) => void lines.push(text) };
    await assertRejects(() => printingTo(output, () => rng(host, parsed.value as Of<"rng">)), Error);
    const { name } = device;
    assertEquals(
      lines.slice(0, 5),
      trace
        ? [
          `${name} read  num_queues 0x0003\n`,
          `${name} write device_status 0x00\n`,
          `${name} read  device_status 0x00\n`,
          `${name} read  device_status 0x00\n`,
          `${name} write device_status 0x01\n`,
        ]
        : [],
    );
    assertEquals(lines.some((line) => line.includes("write driver_feature 0x00000001")), trace);
  }
});
