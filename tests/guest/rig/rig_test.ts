/** The parts of the rig that need no guest. */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { debianMirrors, parseDeb822, parseOneLine } from "./apt_sources.ts";
import { ConsoleStream } from "./console_stream.ts";
import { deviceArguments } from "./devices.ts";
import { GuestOptionsError } from "./errors.ts";
import { commandScript, initScript, quote } from "./init_script.ts";
import { MACHINES } from "./machines.ts";
import { builtinParameters, loadOrder, moduleDepends, moduleName } from "./modules.ts";
import type { ModuleIndex } from "./modules.ts";
import { writeNewc } from "./newc.ts";
import { guestRoot } from "./paths.ts";
import { qemuCommand } from "./qemu.ts";
import { inLanes } from "./lanes.ts";
import { TestSummary } from "./test_summary.ts";

Deno.test("apt sources: both styles are read, and Debian's own archive wins over others with its suite", () => {
  const sources = [
    ...parseOneLine(
      "# deb http://off.example/debian trixie main\n" +
        "deb [arch=amd64 signed-by=/k.gpg] http://other.example/php trixie main # third party\n",
    ),
    ...parseDeb822(
      "Types: deb deb-src\n# comment\nURIs: http://mirror.example/debian\nSuites: trixie\n trixie-updates\n" +
        "Components: main contrib\n\nTypes: deb\nEnabled: no\nURIs: http://no.example/debian\nSuites: trixie\n" +
        "Components: main\n",
    ),
  ];
  assertEquals(debianMirrors(sources, "trixie"), [
    "http://mirror.example/debian",
    "http://other.example/php",
  ]);
  assertEquals(debianMirrors(sources, "bookworm"), []);
});

Deno.test("newc: headers, padding and missing parent folders", () => {
  const archive = new TextDecoder().decode(writeNewc([
    { path: "a/b", content: { kind: "file", data: new TextEncoder().encode("hello"), executable: true } },
    { path: "dev/console", content: { kind: "character-device", major: 5, minor: 1 } },
  ]));
  assertEquals(archive.length % 4, 0);
  const members: { name: string; mode: number; data: string }[] = [];
  for (let offset = 0; offset < archive.length;) {
    const field = (n: number): number => parseInt(archive.slice(offset + 6 + 8 * n, offset + 14 + 8 * n), 16);
    assertEquals(archive.slice(offset, offset + 6), "070701");
    const nameEnd = offset + 110 + field(11);
    const dataStart = (nameEnd + 3) & ~3;
    members.push({
      name: archive.slice(offset + 110, nameEnd - 1),
      mode: field(1),
      data: archive.slice(dataStart, dataStart + field(6)),
    });
    offset = (dataStart + field(6) + 3) & ~3;
  }
  assertEquals(members, [
    { name: "a", mode: 0o040755, data: "" },
    { name: "a/b", mode: 0o100755, data: "hello" },
    { name: "dev", mode: 0o040755, data: "" },
    { name: "dev/console", mode: 0o020600, data: "" },
    { name: "TRAILER!!!", mode: 0, data: "" },
  ]);
});

const INDEX: ModuleIndex = {
  builtin: ["virtio"],
  modules: {
    vfio: { file: "vfio.ko", depends: [] },
    vfio_pci_core: { file: "vfio_pci_core.ko", depends: ["vfio", "virtio"] },
    vfio_pci: { file: "vfio_pci.ko", depends: ["vfio_pci_core"] },
  },
};

Deno.test("modules: dependencies come first, once, and built-in ones take their parameters from the kernel", () => {
  const steps = loadOrder(INDEX, [{ name: "vfio-pci", parameters: "enable_sriov=1" }, { name: "vfio" }]);
  assertEquals(steps.map((step) => `${step.name} ${step.parameters}`.trim()), [
    "vfio",
    "vfio_pci_core",
    "vfio_pci enable_sriov=1",
  ]);
  assertEquals(builtinParameters(INDEX, [{ name: "virtio", parameters: "a=1 b=2" }]), [
    "virtio.a=1",
    "virtio.b=2",
  ]);
  assertEquals(loadOrder(INDEX, [{ name: "nope", optional: true }]), []);
  assertThrows(() => loadOrder(INDEX, [{ name: "nope" }]), GuestOptionsError, 'no module "nope"');
});

Deno.test("modules: names and dependencies are read from files", () => {
  assertEquals(moduleName("kernel/drivers/vfio/pci/vfio-pci-core.ko.xz"), "vfio_pci_core");
  const file = new TextEncoder().encode("\x7fELF\0license=GPL\0depends=vfio-pci-core,vfio\0name=x\0");
  assertEquals(moduleDepends(file), ["vfio_pci_core", "vfio"]);
  assertEquals(moduleDepends(new TextEncoder().encode("\0depends=\0")), []);
});

Deno.test("console: carriage returns of line ends go, also when a chunk ends between them", async () => {
  let seen = "";
  const stream = new ConsoleStream((text) => seen += text, 8);
  const bytes = new TextEncoder().encode("one\r\ntwo\r\r\n50%\r100% é\r\nend");
  await stream.drain(ReadableStream.from(Array.from(bytes, (byte) => Uint8Array.of(byte))));
  assertEquals(seen, "one\ntwo\n50%\r100% é\nend\n");
  assertEquals(stream.tail(), "% é\nend");
});

Deno.test("console: a message of one stream does not fall into a line of another", async () => {
  let seen = "";
  const console = new ConsoleStream((text) => seen += text);
  const [task, kernel] = [
    new TransformStream<Uint8Array, Uint8Array>(),
    new TransformStream<Uint8Array, Uint8Array>(),
  ];
  const drained = Promise.all([
    console.drain(task.readable),
    console.drain(kernel.readable, (text) => `[${text}`),
  ]);
  const [taskWriter, kernelWriter] = [task.writable.getWriter(), kernel.writable.getWriter()];
  const encoder = new TextEncoder();
  await taskWriter.write(encoder.encode('report: {"a":'));
  await kernelWriter.write(encoder.encode("vfio: odd\n"));
  await taskWriter.write(encoder.encode("1}\n"));
  await Promise.all([taskWriter.close(), kernelWriter.close()]);
  await drained;
  assertEquals(seen.split("\n").sort(), ["", "[vfio: odd", 'report: {"a":1}'].sort());
});

Deno.test("task script: words survive the shell", () => {
  assertEquals(quote("it's"), `'it'\\''s'`);
  const script = commandScript(["echo", "$HOME"], { A: "b c" });
  assertEquals(script.includes("export A='b c'\nexec 'echo' '$HOME'\n"), true);
});

Deno.test("machines: each has the QEMU, the consoles, the root and the IOMMU of its own", () => {
  const command = (kind: keyof typeof MACHINES, iommu: boolean): string =>
    qemuCommand({
      machine: MACHINES[kind],
      ...{ accel: "tcg", cpus: 1, memoryMiB: 256, sharedMemory: true, iommu, devices: [], uplinks: [] },
      ...{ ownNetwork: false, shareHost: true, kernelImage: "k", kernelArgs: ["last"], initramfs: "i" },
      ...{ statusFile: "s", runFolder: "/none", extraArgs: [] },
    }).argv.join(" ");
  const q35 = command("q35", true);
  for (
    const part of ["qemu-system-x86_64", "intel-iommu", "local,path=/,", "console=ttyS0 ", "intel_iommu=on"]
  ) {
    assertStringIncludes(q35, part);
  }
  assertEquals(command("q35", false).includes("intel-iommu,"), false);
  const microvm = command("microvm", true);
  assertStringIncludes(microvm, "-machine microvm,acpi=on,pcie=on");
  assertMatch(microvm, /memory-backend=ram .*tsc_early_khz=[1-9]\d{5,} last$/);
  const virt = command("virt", true);
  for (
    const part of ["qemu-system-aarch64", "iommu=smmuv3", `path=${guestRoot("aarch64")},`, "console=ttyAMA0 "]
  ) {
    assertStringIncludes(virt, part);
  }
  assertEquals(command("virt", false).includes("smmu"), false);
  for (const { consoles } of Object.values(MACHINES)) {
    const script = initScript({ kind: "script", text: "" }, [], consoles);
    assertStringIncludes(script, `> /dev/${consoles.status}`);
    assertStringIncludes(script, `cat < /output > /dev/${consoles.task} `);
  }
});

Deno.test("devices: VFs come before their PF, and every device has an id", () => {
  const { args, sharedMemory } = deviceArguments(
    [{ kind: "virtio-net-sriov", vfs: 2 }, { kind: "edu" }],
    "/none",
  );
  const devices = args.filter((_, index) => args[index - 1] === "-device");
  assertEquals(devices.map((device) => /id=([^,]+)/.exec(device)?.[1]), [
    "rp0",
    "d0vf2",
    "d0vf1",
    "d0pf",
    "rp1",
    "d1",
  ]);
  assertEquals(sharedMemory, false);
  assertEquals(deviceArguments([{ kind: "vfio-user", socket: "/s" }], "/none").sharedMemory, true);
  assertThrows(
    () => deviceArguments([{ kind: "virtio-net-sriov", vfs: 8 }], "/none"),
    GuestOptionsError,
    "1 to 7",
  );
});

Deno.test("devices: ring features are said only when they are asked for", () => {
  const last = (device: Parameters<typeof deviceArguments>[0][number]): string =>
    deviceArguments([device], "/none").args.at(-1) ?? "";
  const rings = { packed: true, inOrder: false, eventIndex: false, indirect: true, ringReset: false };
  assertStringIncludes(
    last({ kind: "virtio-net", rings }),
    ",packed=on,in_order=off,event_idx=off,indirect_desc=on,queue_reset=off,",
  );
  const image = { path: "/disk", format: "qcow2" } as const;
  const disk = last({ kind: "virtio-blk", image, queues: 4, serial: "s", rings: { packed: true } });
  assertStringIncludes(disk, ",drive=d0-disk,num-queues=4,serial=s,packed=on,");
  for (const word of ["packed", "in_order", "event_idx", "indirect_desc", "queue_reset"]) {
    assertEquals(last({ kind: "virtio-rng" }).includes(word), false);
  }
});

Deno.test("summary: runs are added up, and reasons for skipping counted, whatever the chunks and colours", () => {
  const summary = new TestSummary();
  const output = "running 3 tests from ./a_test.ts\n" +
    "by group: a ... \x1b[0m\x1b[32mok\x1b[0m (1s)\n" +
    "by cdev: a (skipped: no /dev/iommu (here)) ... \x1b[33mignored\x1b[0m (0ms)\n" +
    "b (skipped: no /dev/iommu (here)) ... ignored (0ms)\nc ... ignored (0ms)\n\n" +
    "\x1b[32mok\x1b[0m | 12 passed (4 steps) | 0 failed | 3 ignored (1m10s)\n\n";
  for (const character of output) summary.add(character);
  summary.end();
  summary.add("FAILED | 1 passed | 2 failed | 5 filtered out (3s)");
  summary.end();
  assertEquals(summary.lines(), [
    "guest tests: 13 passed, 2 failed, 3 skipped, 5 filtered out",
    "  2 skipped: no /dev/iommu (here)",
    "  1 skipped: no reason given",
  ]);
});

Deno.test("lanes: jobs begin in their order, never more at once than there are lanes, and results keep the order", async () => {
  const begun: number[] = [], running = new Set<number>();
  const ends: (() => void)[] = [];
  const jobs = [0, 1, 2, 3].map((job) => async (lane: number) => {
    begun.push(job);
    assert(!running.has(lane), `lane ${lane} has two jobs`);
    running.add(lane);
    await new Promise<void>((resolve) => ends[job] = resolve);
    running.delete(lane);
    return `${job}`;
  });
  const all = inLanes(2, jobs);
  for (const next of [1, 0, 3, 2]) {
    while (ends[next] === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
    ends[next]!();
  }
  assertEquals(await all, ["0", "1", "2", "3"]);
  assertEquals(begun, [0, 1, 2, 3]);
  assertEquals(await inLanes(3, []), []);
});
