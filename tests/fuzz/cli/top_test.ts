import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { interruptsOf, kernelInterrupts, type Sample } from "../../../cli/top/sample.ts";
import { topLines } from "../../../cli/top/table.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { cli, startCli } from "../../emulated/cli/run_cli.ts";

const PF = "0000:01:00.0";
const [VF0, VF1] = ["0000:01:00.1", "0000:01:00.2"];
const COUNT = 3000;

interface Shown {
  readonly function: string;
  readonly holder: string | null;
  readonly queues: readonly { readonly queue: number; readonly taken: number; readonly held: number }[];
  readonly interrupts: Readonly<Record<string, number>>;
  readonly network: { readonly framesIn: number; readonly framesOut: number } | null;
}

Deno.test("top counts what an embedded host's devices do, and who holds them", async (t) => {
  const served = await startEmulatedHost();
  const look = async (): Promise<Map<string, Shown>> => {
    const { code, out, err } = await cli("--host", served.directory, "top", "--once", "--json");
    assertEquals([code, err], [0, ""]);
    return new Map(JSON.parse(out).functions.map((one: Shown) => [one.function, one]));
  };
  try {
    assertEquals((await look()).size, 0);
    const nothing = await cli("--host", served.directory, "top", "--once");
    assertMatch(nothing.out, /nothing is on a VFIO driver, and nothing was changed\n$/);
    using host = openHost(served.directory);
    host.bind(PF);
    host.setVfCount(PF, 2);
    await t.step("free functions that the journal is about", async () => {
      const shown = await look();
      assertEquals([...shown.keys()], [PF, VF0, VF1]);
      assertEquals([shown.get(PF)!.holder, shown.get(PF)!.queues], [null, []]);
    });
    await t.step("frames that went through the switch", async () => {
      const loop = await cli("--host", served.directory, "net", "loop", VF0!, VF1!, "--count", String(COUNT));
      assertEquals(loop.code, 0, loop.err);
      const shown = await look();
      assertEquals(shown.get(VF0!)!.network!.framesIn, COUNT);
      assertEquals(shown.get(VF1!)!.network!.framesOut, COUNT);
      // Each frame was awaited by an interrupt.
      const came = Object.values(shown.get(VF1!)!.interrupts).reduce((sum, one) => sum + one, 0);
      assert(came >= COUNT / 2, `${came} interrupts for ${COUNT} frames`);
    });
    await t.step("queues and the holder, by its command, while it runs", async () => {
      const receiver = startCli({}, "--host", served.directory, "net", "receive", VF1!, "/dev/null");
      const ended = receiver.output();
      try {
        for (let i = 0; i < 1500 && host.describe(VF1!).heldBy === undefined; i++) {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        let shown: Shown | undefined;
        for (let i = 0; i < 500 && (shown?.queues.length ?? 0) < 2; i++) shown = (await look()).get(VF1!);
        assertMatch(
          shown!.holder!,
          new RegExp(
            `^pid ${receiver.pid} ringside --host ${served.directory} net receive ${VF1} /dev/null$`,
          ),
        );
        assertEquals(shown!.queues.map(({ queue }) => queue).slice(0, 2), [0, 1]);
        const text = (await cli("--host", served.directory, "top", "--once")).out;
        assertMatch(text, /0000:01:00\.2 {2}Virtio 1\.0 network device {2}held by pid \d+ ringside /);
        assertMatch(text, /\n {2}queue 0 +\d/);
      } finally {
        receiver.kill("SIGINT");
        await ended;
      }
      assertEquals((await look()).get(VF1!)!.holder, null);
    });
    await t.step("again and again, until it is interrupted, which is status 0", async () => {
      const child = startCli({}, "--host", served.directory, "top", "--json", "--seconds", "0.1");
      const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      while (text.split("\n").length < 4) text += (await reader.read()).value ?? "";
      child.kill("SIGINT");
      while (!(await reader.read()).done);
      assertEquals((await child.status).code, 0);
      await child.stderr.cancel();
      const [first, second] = text.split("\n").map((line) => (line === "" ? null : JSON.parse(line)));
      assertEquals(first.functions.length, 3);
      assert(Date.parse(second.time) > Date.parse(first.time));
    });
    host.restore();
  } finally {
    await served.stop();
  }
});

Deno.test("top: rates are what came since the look before; a queue that was set up anew counts from 0", () => {
  const sample = (time: number, taken: number, interrupts: Record<string, number>): Sample => ({
    time,
    functions: [{
      function: VF0!,
      name: "network device",
      driver: "vfio-pci",
      holder: null,
      queues: [{ queue: 0, size: 256, layout: "packed", taken, held: 0 }],
      interrupts,
      network: { framesIn: 1000, framesOut: 0, bytesIn: 2048, bytesOut: 0, dropped: 3 },
    }],
  });
  const first = topLines(sample(1000, 500, {}), undefined).map((one) => one.text);
  assertEquals(first[0], `${VF0}  network device  on vfio-pci, free`);
  assertEquals(first[1], `  queue 0${"500".padStart(21)}${"-".padStart(14)}`);
  const later = topLines(sample(3000, 4500, { "vector 1": 20 }), sample(1000, 500, { "vector 1": 0 }));
  const numbers = (lines: typeof later) =>
    lines.filter((one) => one.kind === "count").map(({ text }) => text.trim().split(/  +/));
  assertEquals(numbers(later).slice(0, 2), [["queue 0", "4,500", "2,000"], ["vector 1", "20", "10"]]);
  assertEquals(numbers(later).slice(2), [
    ["frames sent", "1,000", "0"],
    ["bytes sent", "2 KiB", "0 B"],
    ["frames got", "0", "0"],
    ["bytes got", "0 B", "0 B"],
    ["frames lost", "3", "0"],
  ]);
  const anew = topLines(sample(2000, 100, {}), sample(1000, 4500, {}));
  assertEquals(numbers(anew)[0], ["queue 0", "100", "100"]);
  assert(topLines(sample(2000, 1, {}), undefined, 40).every(({ text }) => text.length <= 40));
});

Deno.test("top: what the kernel counts of vfio-pci's interrupts, over all processors", () => {
  const text = `           CPU0       CPU1
  8:          0          1   IO-APIC   8-edge      rtc0
 45:         10         32   IR-PCI-MSIX-0000:01:00.1    0-edge      vfio-msix[0](0000:01:00.1)
 46:          0          5   IR-PCI-MSIX-0000:01:00.1    1-edge      vfio-msix[1](0000:01:00.1)
 47:          7          0   PCI-MSI 524288-edge      vfio-intx(0000:02:00.0)
NMI:          1          2   Non-maskable interrupts
`;
  const all = kernelInterrupts(text);
  assertEquals(all.length, 4);
  assertEquals(interruptsOf(all, "0000:01:00.1"), { "vfio-msix[0]": 42, "vfio-msix[1]": 5 });
  assertEquals(interruptsOf(all, "0000:02:00.0"), { "vfio-intx": 7 });
  assertEquals(interruptsOf(all, "0000:03:00.0"), {});
  assertEquals(kernelInterrupts(""), []);
});
