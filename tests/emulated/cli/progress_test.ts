/** How far a change of many functions is: told function by function, and said when it takes long. */
import { assertEquals, assertThrows } from "@std/assert";
import { slowly } from "../../../cli/progress.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { cli } from "./run_cli.ts";

const PF = "0000:01:00.0", RNG = "0000:02:00.0", BLK = "0000:03:00.0";
const FUNCTIONS = [
  { address: PF, kind: "virtio-net", totalVfs: 4, switch: "s0" },
  { address: RNG, kind: "virtio-rng" },
  { address: BLK, kind: "virtio-blk", sizeBytes: 1 << 20 },
];

Deno.test("a line every two seconds, none for what is over sooner, and none at the end", () => {
  let ms = 5000;
  const said: string[] = [];
  const tell = slowly("binding", (line) => said.push(line), () => ms);
  for (const [done, after] of [[1, 10], [2, 2000], [3, 100], [4, 1900], [5, 0], [6, 9000]] as const) {
    ms += after;
    tell(done, 6);
  }
  assertEquals(said, ["binding 2 of 6 functions", "binding 4 of 6 functions"]);
});

Deno.test("bind, sriov and restore tell of each function; who throws then ends the change, which is taken back", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  const { host } = served;
  let told: number[][] = [];
  const onProgress = (done: number, total: number) => void told.push([done, total]);
  const taken = (): number[][] => {
    const all = told;
    told = [];
    return all;
  };
  host.bind([PF, RNG, BLK], { onProgress });
  assertEquals(taken(), [[1, 3], [2, 3], [3, 3]]);
  host.bind([PF, RNG, BLK], { onProgress });
  assertEquals(taken(), []);
  const vfs = host.setVfCount(PF, 4, { onProgress });
  assertEquals(taken(), [[1, 1]]);
  host.bind(vfs, { driver: "virtio-pci", onProgress });
  assertEquals(taken(), [[1, 4], [2, 4], [3, 4], [4, 4]]);
  assertEquals(host.restore(undefined, { onProgress }).failed, []);
  const all = taken();
  assertEquals([all.map(([done]) => done), all.at(-1)], [all.map((_, i) => i + 1), [all.length, all.length]]);

  const enough = new Error("enough");
  const stop = (done: number): void => {
    if (done === 2) throw enough;
  };
  assertEquals(assertThrows(() => host.bind([PF, RNG, BLK], { onProgress: stop })), enough);
  assertEquals([PF, RNG, BLK].map((one) => host.describe(one).driver), Array(3).fill("virtio-pci"));
  assertEquals(host.journal(), []);
});

Deno.test("what is no terminal reads of no progress", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  const { code, err } = await cli("--host", served.directory, "bind", PF, RNG, BLK);
  assertEquals([code, err], [0, ""]);
});
