import { assert, assertEquals, AssertionError } from "@std/assert";
import { readDirectory } from "../../ffi/mod.ts";
import { type Section, sectionText, type Statistic } from "../../bench/report.ts";

const MAIN = new URL("../../bench/main.ts", import.meta.url).pathname;
const TASK_FLAGS = [
  "--allow-ffi",
  "--allow-env",
  "--allow-run",
  "--allow-sys",
  "--v8-flags=--expose-gc,--min-semi-space-size=256,--max-semi-space-size=256",
];
const TITLES = [
  "Nanoseconds of processor time a chain, driver and device",
  "Nanoseconds of processor time a chain of one part",
  "Nanoseconds a descriptor",
  "Slots per second, driver's side of a ring alone",
  "Where the nanoseconds of a frame of 64 bytes go",
  "Where the nanoseconds of a frame of 1514 bytes go",
  "Register reads, mapped",
  "Register reads, traced",
  "Heap bytes allocated for a million chains",
  "Heap bytes allocated for a million packets",
  "Frames per second, driver and device in one process",
  "Two queue pairs with a Worker each, beside one",
  "Frames per second, VF to VF by polling, over two processes",
  "Block requests per second, the driver alone",
  "Heap bytes allocated for a million block requests",
  "Block requests per second of 4096 bytes, over two processes",
  "Latency of block requests of 4096 bytes, over two processes",
  "Interrupt wake latency, round trip, device asleep",
  "Interrupt wake latency, round trip, back to back",
  "Administration commands per second",
  "An access to a legacy register by command",
  "Heap bytes that a command allocates",
  "Legacy identities of 100 VFs",
  "Management commands per second",
  "A managed network device, from nothing",
  "Managed devices at once",
  "Frames per second, managed device to managed device",
  "Register reads and doorbells of virtio-mmio",
  "Interrupt wake latency of virtio-mmio",
  "Frames per second, virtio-mmio to virtio-mmio",
  "Bytes per second one way between two processes",
  "Round trip of 64 bytes between two processes",
  "Memory of a channel",
  "Start-up time of commands",
  "Bring-up time",
  "Many VFs on one PF",
  "Memory after",
];
/** Of these, nothing is allocated for each. */
const PACKETS = [
  "Heap bytes allocated for a million block requests",
  "Heap bytes allocated for a million chains",
  "Heap bytes allocated for a million packets",
];

function numbers(statistic: Statistic): number[] {
  if (statistic.kind === "rounds") return [statistic.min, statistic.median, statistic.max];
  return statistic.kind === "samples" ? [statistic.p50, statistic.p99, statistic.max] : [statistic.value];
}

Deno.test("a short bench measures every section beside something else, and leaves nothing behind", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", ...TASK_FLAGS, MAIN, "--short", "--json"],
    stdin: "null",
    stdout: "piped",
    // Not piped: a process that was left behind would hold it open.
    stderr: "inherit",
  }).spawn();
  const { pid } = child;
  const { code, stdout } = await child.output();
  assertEquals(code, 0);
  const { sections } = JSON.parse(new TextDecoder().decode(stdout)) as { sections: Section[] };
  for (const title of TITLES) {
    const section = sections.find((one) => one.title.startsWith(title));
    if (section === undefined) throw new AssertionError(`no section "${title}"`);
    assert(section.figures.length > 0, title);
    const text = sectionText(section);
    for (const { name, value, beside } of section.figures) {
      assert(text.includes(name), `${title}: ${name} is not printed`);
      assert(beside.length > 0, `${title}: ${name} stands alone`);
      for (const { ratio } of beside) assert(Number.isFinite(ratio), `${title}: ${name}: ratio ${ratio}`);
      const all = numbers(value);
      assert(all.every(Number.isFinite), `${title}: ${name}: ${all}`);
      assertEquals(all, [...all].sort((a, b) => a - b), `${title}: ${name}`);
      // Bytes, not time: an object for each packet anywhere between two drivers would be one or more times what a small one takes.
      // The least of the rounds: the compiler, which works beside them, may be late where the machine is busy.
      if (!PACKETS.includes(title)) continue;
      const ratio = all[0]! / numbers(beside[0]!.value)[0]!;
      assert(ratio < 0.5, `${title}: ${name}: ${all} bytes, ${ratio} of an object`);
    }
  }
  assertEquals(sections.length, TITLES.length);
  const left = readDirectory("/tmp").filter(({ name }) => name.match(`^ringside-(bench-)?${pid}-`));
  assertEquals(left, []);
});
