/** Firmware as the driver of our disk: machines that boot from it, also with much memory, and a Linux that reads it into memory above 4 GiB. */
import { assert, assertEquals } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { Random } from "../../random.ts";
import { sha256 } from "../disk_writes.ts";
import { bootGuest } from "../rig/guest.ts";
import { vfioUserGuest } from "../rig/vfio_user.ts";
import { bootable, bootFromDisk, sumOn } from "./boot_disk.ts";
import { whyNoGuest } from "./job_guest.ts";

const NET = "0000:01:00.0";
const DISK = "0000:02:00.0";
const RNG = "0000:03:00.0";
const DISK_BYTES = (1 << 20) + 512;
/** A boot takes a second, and more where others want the processors, too. */
const BOOTS = Deno.env.get("RINGSIDE_GUEST_FULL") === "1" ? 200 : 20;
const PATIENCE_MS = 120_000;
/** Below 4 GiB a machine of this kind has 2 GiB of memory at most; what there is more of lies above. */
const LARGE_MIB = 6144;

const why = whyNoGuest();

Deno.test({
  name:
    `SeaBIOS boots from our disk ${BOOTS} times, with 512 MiB to ${LARGE_MIB} MiB of memory; Linux reads it into all of that${
      why === undefined ? "" : ` (skipped: ${why})`
    }`,
  ignore: why !== undefined,
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    const folder = await Deno.makeTempDir();
    const [image, topology] = [`${folder}/disk.img`, `${folder}/host.json`];
    const expected = bootable(new Random(11).bytes(DISK_BYTES));
    const blank = expected.slice();
    blank.fill(0, blank.length - 512);
    await Deno.writeFile(image, blank);
    const functions = [
      { address: NET, kind: "virtio-net", totalVfs: 0 },
      { address: DISK, kind: "virtio-blk", file: image },
      { address: RNG, kind: "virtio-rng" },
    ];
    await Deno.writeTextFile(topology, JSON.stringify({ functions }));
    const served = await startEmulatedHost({ topology });
    try {
      {
        using host = EmulatedHost.connect(served.directory);
        for (const { address } of functions) host.bind(address);
      }
      const sockets = functions.map(({ address }) => `${served.directory}/${address}.sock`);
      const sizes = [512, 2048, 4096, LARGE_MIB];
      for (let boot = 0; boot < BOOTS; boot++) {
        await Deno.writeFile(image, blank);
        const { done, said } = await bootFromDisk(sockets, sizes[boot % sizes.length]!, PATIENCE_MS);
        assert(done, `boot ${boot}: ${said}`);
        const now = await Deno.readFile(image);
        assertEquals(sumOn(now), sumOn(expected), `boot ${boot}: what the boot sector read`);
        assertEquals(served.violations(), [], `boot ${boot}`);
      }
      await linux(sockets, await sha256(await Deno.readFile(image)));
      assertEquals(served.violations(), []);
    } finally {
      await served.stop();
      await Deno.remove(folder, { recursive: true });
    }
  },
});

/** Linux takes memory from its upper end: what it reads, at 4 GiB and up. */
async function linux(sockets: readonly string[], hash: string): Promise<void> {
  let said = "";
  const { exitCode } = await bootGuest({
    ...await vfioUserGuest({
      sockets,
      script: `grep MemTotal /proc/meminfo
sha256sum < /dev/vda
dd if=/dev/hwrng of=/tmp/random bs=1024 count=4 && wc -c < /tmp/random
grep -A3 'zone *Normal' /proc/zoneinfo | head -4; cat /proc/iomem | tail -5`,
    }),
    memoryMiB: LARGE_MIB,
    onConsole: (text) => void (said += text),
  });
  assertEquals(exitCode, 0, said);
  assert(said.includes(hash), said);
  assert(Number(/MemTotal: *(\d+)/.exec(said)?.[1]) > 5 << 20, said);
}
