/** The commands on functions of the 82576: frames, registers by name, traces. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { main } from "../../cli/main.ts";
import { makeTemporaryDirectory, removeTree } from "../../cli/temporary_directory.ts";
import { IGB_REGISTERS } from "../../drivers/net/igb/registers.ts";
import { TestFrames } from "../../drivers/net/virtio/test_frames.ts";
import { readText } from "../../ffi/mod.ts";
import { CaptureReader, CaptureWriter } from "../../lib/capture/mod.ts";
import { parseTrace } from "../../lib/trace/mod.ts";
import { anyPathTest, ID, netInterface, physicalFunction } from "./guest_host.ts";
import { run, TOKEN } from "./igb_rig.ts";

/** Runs a command in this process: a start of another takes seconds here. */
async function ringside(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = "", err = "";
  const code = await main(args, { out: (text) => out += text, err: (text) => err += text });
  return { code, out, err };
}

/** One that must do. @returns what it prints */
async function succeeds(...args: string[]): Promise<string> {
  const { code, out, err } = await ringside(...args);
  assertEquals(code, 0, `ringside ${args.join(" ")}: ${out}${err}`);
  return out;
}

anyPathTest(
  "igb: ringside net loop, send and receive, with --trace; peek, poke and regs",
  async (host, path) => {
    const scratch = makeTemporaryDirectory();
    const pf = physicalFunction(ID.igb), virtio = physicalFunction(ID.net);
    const how = ["--path", path];
    const link = netInterface(pf);
    try {
      // VFs of Linux's igb.
      await run("ip", "link", "set", link, "up");
      const both = host.setVfCount(pf, 2);
      for (const vf of both) host.bind(vf);
      const looped = await succeeds("net", "loop", ...both, "--count", "20", ...how);
      assertMatch(looped, /: 20 frames, 1280 bytes, every byte as sent; .* each awaited by msix\n$/);
      host.restore();

      // Ours, with a VF that it serves.
      host.bind(pf);
      const [vf = ""] = host.setVfCount(pf, 1);
      host.bind(vf);
      const token = ["--vf-token", TOKEN, ...how];
      for (const way of [[vf, pf], [pf, vf]]) {
        const polled = await succeeds(
          "net",
          "loop",
          ...way,
          "--count",
          "100",
          "--interrupts",
          "none",
          ...token,
        );
        assertMatch(polled, /: 100 frames, 6400 bytes, every byte as sent; .*, polled\n$/);
      }
      const refused = await ringside("net", "loop", pf, vf, "--interrupts", "intx", ...token);
      assertEquals([refused.code, refused.out], [2, ""]);
      assertMatch(refused.err, /cannot be driven by intx/);

      // A capture out of the one, and into a file by the other.
      host.bind(virtio);
      const frames = new TestFrames(new Uint8Array(6).fill(0xff), Uint8Array.of(2, 0, 0, 0, 0, 1), 60, 1514);
      const bytes = new Uint8Array(1514), sent: string[] = [];
      {
        using writer = new CaptureWriter(`${scratch}/sent.pcap`);
        for (let number = 0; number < 20; number++) {
          const frame = bytes.subarray(0, frames.fill(number, bytes));
          writer.write(frame);
          sent.push(frame.toHex());
        }
        writer.close();
      }
      for (const [from, to] of [[virtio, pf], [pf, virtio]] as const) {
        const received = `${scratch}/received.pcap`;
        const traces = [`${scratch}/send.trace`, `${scratch}/receive.trace`];
        const receiving = succeeds(
          ...["net", "receive", to, received, "--count", "20", "--seconds", "60", "--promiscuous"],
          ...["--trace", traces[1]!, ...token],
        );
        // It is listening when its trace says that it waits.
        while (!listens(traces[1]!)) await new Promise((resolve) => setTimeout(resolve, 20));
        await succeeds("net", "send", from, `${scratch}/sent.pcap`, "--trace", traces[0]!, ...token);
        assertMatch(await receiving, /20 frames/);
        using reader = CaptureReader.open(received);
        assertEquals([...reader].map((one) => one.bytes.toHex()), sent);
        for (const trace of traces) assertEquals(parseTrace(readText(trace)).at(-1)!.kind, "close");
        if (to === pf) {
          const shown = await succeeds("trace", "show", traces[1]!);
          assertStringIncludes(shown, "igb:RCTL ");
          assertMatch(shown, /write +igb:RDBAL\[1\]/);
        }
      }

      // Registers of our driver's table, by name and by place.
      const status = await succeeds("peek", pf, "igb:STATUS", ...token);
      assertMatch(status, /^0x[0-9a-f]{8} .*NUM_VFS 1/);
      const [, value = ""] = /(0x[0-9a-f]{8})/.exec(status)!;
      assertStringIncludes(await succeeds("peek", pf, "0:0x8.32", ...token), value);
      assertEquals(await succeeds("peek", pf, "STATUS", "--json", ...token).then(JSON.parse).then(nameOf), [
        "igb:STATUS",
      ]);
      assertMatch(await succeeds("poke", pf, "igb:MTA[3]", "0x1234", ...token), /reads 0x00001234/);
      assertMatch(await succeeds("poke", pf, "0:0x520c.32", "0x4321", ...token), /: 0x00004321$/m);
      assertMatch(await succeeds("peek", pf, "config:VENDOR_ID", "CAP_EXP+8.w", "command"), /0x8086/);
      const before = `${scratch}/before.json`;
      Deno.writeTextFileSync(before, await succeeds("regs", pf, "igb:*", "--json", ...token));
      assertEquals(await succeeds("regs", pf, "igb:*", "--diff", before, ...token), "no difference\n");
      Deno.writeTextFileSync(`${scratch}/nic.txt`, "STATUS 0x0008 32 R\n  LU 1 RO\n");
      const table = ["--table", `${scratch}/nic.txt`, "--bar", "0"];
      assertStringIncludes(await succeeds("regs", pf, "table:*", ...table, ...token), value);
      assertMatch(await succeeds("regs", vf, "igbvf:*", ...token), /igbvf:RXDCTL\[1\]/);
      assertMatch(await succeeds("regs", virtio, "common:*", ...how), /common:device_status/);
    } finally {
      removeTree(scratch);
      host.restore(undefined, { force: true });
      await run("ip", "link", "set", netInterface(pf), "down");
    }
    assert(host.journal().length === 0);
  },
);

function nameOf(peeked: { readonly values: readonly { readonly name: string }[] }): string[] {
  return peeked.values.map(({ name }) => name);
}

/** Whether who is traced has given its buffers to the device, with its link up, and waits: what comes before that can come in another order. */
function listens(trace: string): boolean {
  const { offset } = IGB_REGISTERS.EIMS, RECEIVE_VECTOR = 1 << 1;
  try {
    return parseTrace(readText(trace)).some((record) =>
      record.kind === "doorbell" ||
      (record.kind === "write" && record.region === 0 && record.offset === offset &&
        Number(record.value) === RECEIVE_VECTOR)
    );
  } catch {
    // It is not there, or half a line is.
    return false;
  }
}
