/** The races of `bench/peers`, short: that all drivers ran and moved something, not how fast. */
import { assert, assertEquals } from "@std/assert";
import type { Section } from "../../bench/report.ts";
import { peerTest } from "./rig/needing.ts";

const MAIN = new URL("../../bench/main.ts", import.meta.url).pathname;

async function race(section: string): Promise<Section> {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", "--allow-env", "--allow-run", "--allow-sys"]
      .concat(MAIN, "--short", "--json", "--only", section),
    stdin: "null",
    stderr: "inherit",
  }).output();
  assertEquals(code, 0);
  const { sections } = JSON.parse(new TextDecoder().decode(stdout)) as { sections: Section[] };
  return sections[0]!;
}

peerTest(
  ["dpdk-testpmd", "second processor"],
  "its driver in three modes, and ours in two, move frames through one device",
  async () => {
    const { figures } = await race("peers-net");
    assertEquals(figures.map(({ beside }) => beside.map(({ name }) => name)), [
      ["ours, in order", "DPDK, scalar", "DPDK, in order", "DPDK, vectorised"],
      ["ours, in order", "DPDK, scalar", "DPDK, in order", "DPDK, vectorised"],
    ]);
    for (const { beside } of figures) for (const { ratio } of beside) assert(ratio > 0);
  },
);

peerTest(
  ["qemu-storage-daemon", "libblkio to compile for", "C compiler", "second processor"],
  "libblkio's driver and ours read from one device",
  async () => {
    const { figures } = await race("peers-blk");
    assertEquals(figures.length, 12);
    for (const { beside } of figures) assert(beside[0]!.ratio > 0);
  },
);
