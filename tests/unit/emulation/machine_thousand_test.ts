/** A PF with as many VFs as real ones have, in one process. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  EventFd,
  makeDirectory,
  openFdCount,
  readDirectory,
  removeDirectory,
  resourceLimit,
  RLIMIT,
  setSoftLimit,
} from "../../../ffi/mod.ts";
import { defaultTopology, readTopology } from "../../../lib/emulation/mod.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import type { SysfsTree } from "../../../lib/emulation/sysfs_tree.ts";
import { ExhaustedError } from "../../../lib/errors/mod.ts";
import { PciAddress } from "../../../lib/pci/address.ts";
import { REGION } from "../../../lib/vfio/device.ts";

const PF = "0000:01:00.0";
const COUNT = 1024;
const DEVICES = "/sys/bus/pci/devices";
const NUM_VFS = `${DEVICES}/${PF}/sriov_numvfs`;
const SRIOV = 0x148;
const FOUR_GIB = 2n ** 32n;

function thousand(extra: Record<string, unknown> = {}, directory?: string): EmulatedMachine {
  const topology = readTopology({
    functions: [{ address: PF, kind: "virtio-net", queuePairs: 1, totalVfs: COUNT, ...extra }],
  });
  return new EmulatedMachine({
    topology,
    models: createVirtioModels(),
    ...(directory === undefined ? {} : { directory }),
  });
}

/** Every path of a tree: links with targets, directories, attributes with their text (config space apart, which may be large). */
function everything(tree: SysfsTree, path = "/sys", into: string[] = []): string[] {
  const links = new Map(tree.links(path));
  for (const name of tree.list(path)) {
    const at = `${path}/${name}`;
    const target = links.get(name);
    if (target !== undefined) {
      into.push(`${at} -> ${target}`);
      continue;
    }
    let entries: string[] | undefined;
    try {
      entries = tree.list(at);
    } catch {
      // An attribute.
    }
    if (entries !== undefined) {
      into.push(`${at}/`);
      everything(tree, at, into);
    } else if (name !== "config") {
      let text = "(write-only)";
      try {
        text = tree.readText(at);
      } catch {
        // As it says.
      }
      into.push(`${at}: ${text}`);
    }
  }
  return into;
}

Deno.test("PCIe 9.2.1.2: 1024 VFs, over five buses, with Linux's way to write ARI function numbers; then none, and all is as before", () => {
  const fdsBefore = openFdCount();
  {
    using machine = thousand();
    const { tree } = machine.kernel;
    const before = everything(tree);
    tree.writeText(NUM_VFS, `${COUNT}`);
    const expected = Array.from({ length: COUNT }, (_, i) => {
      const routingId = 0x0101 + i;
      const [bus, devfn] = [routingId >> 8, routingId & 0xff];
      const text = (value: number) => value.toString(16).padStart(2, "0");
      return `0000:${text(bus)}:${text(devfn >> 3)}.${devfn & 7}`;
    });
    assertEquals(tree.list(DEVICES), [PF, ...expected]);
    assertEquals([expected[254], expected[255], expected.at(-1)], [
      "0000:01:1f.7",
      "0000:02:00.0",
      "0000:05:00.0",
    ]);
    expected.forEach((vf, i) => {
      assertEquals(tree.readLink(`${DEVICES}/${PF}/virtfn${i}`), `../${vf}`);
      assertEquals(tree.readLink(`${DEVICES}/${vf}/physfn`), `../${PF}`);
      // The VFs of buses that nothing else is on hang below the PF's root, as Linux's virtual buses do.
      assertEquals(tree.readLink(`${DEVICES}/${vf}`), `../../../devices/pci0000:01/${vf}`);
    });
    assertEquals(new Set(expected.map((vf) => tree.readLink(`${DEVICES}/${vf}/iommu_group`))).size, COUNT);
    assertEquals(tree.list("/sys/class/net").length, COUNT + 1);
    assertEquals(
      new Set(tree.list("/sys/class/net").map((name) => tree.readText(`/sys/class/net/${name}/address`)))
        .size,
      COUNT + 1,
    );

    const config = new Uint8Array(0x40);
    machine.device(PF).readRegion(REGION.config, SRIOV, config);
    const view = new DataView(config.buffer);
    assertEquals([view.getUint16(0x0c, true), view.getUint16(0x0e, true), view.getUint16(0x10, true)], [
      COUNT,
      COUNT,
      COUNT,
    ]);
    assertEquals(
      [view.getUint16(0x14, true), view.getUint16(0x16, true)],
      [1, 1],
      "First VF Offset, VF Stride",
    );

    const enabled = everything(tree);
    tree.writeText(NUM_VFS, "0");
    assertEquals(everything(tree), before);
    assertEquals(machine.addresses, [PF]);
    // Over two of the buses.
    tree.writeText(NUM_VFS, "300");
    const given = new Set(enabled);
    const ofVfs = everything(tree).filter((line) => /virtfn|0000:0[1-5]:(?!00\.0)/.test(line));
    assert(ofVfs.length > 3000);
    assertEquals(ofVfs.filter((line) => !given.has(line)), [], "what was given back is given again");
  }
  assertEquals(openFdCount(), fdsBefore);
});

Deno.test("VF BARs of 1024 VFs: 64-bit ones above 4 GiB, back to back, inside what the PF's `resource` says, none overlapping another", () => {
  using machine = thousand();
  const { tree } = machine.kernel;
  tree.writeText(NUM_VFS, `${COUNT}`);
  const lines = (address: string) =>
    tree.readText(`${DEVICES}/${address}/resource`).trim().split("\n").map((line) =>
      line.split(" ").map(BigInt) as [bigint, bigint, bigint]
    );
  const pf = lines(PF);
  const taken: [bigint, bigint][] = pf.slice(0, 6).filter(([start]) => start !== 0n).map((
    [start, end],
  ) => [start, end]);
  const sizes = new Map<number, bigint>();
  for (const vf of tree.list(DEVICES).filter((name) => name !== PF)) {
    lines(vf).slice(0, 6).forEach(([start, end], bar) => {
      const [from, to, flags] = pf[7 + bar]!;
      assertEquals(start === 0n, from === 0n);
      if (start === 0n) return;
      const size = end - start + 1n;
      assertEquals(size, sizes.get(bar) ?? size);
      sizes.set(bar, size);
      assertEquals(start % size, 0n);
      assert(start >= from && end <= to);
      if ((flags & 0x100000n) !== 0n) assert(start >= FOUR_GIB);
      taken.push([start, end]);
    });
  }
  sizes.forEach((size, bar) => assertEquals(pf[7 + bar]![1] - pf[7 + bar]![0] + 1n, size * BigInt(COUNT)));
  assert(sizes.size >= 2);
  taken.sort(([a], [b]) => a < b ? -1 : 1);
  taken.forEach(([start], i) => assert(i === 0 || start > taken[i - 1]![1]));
});

Deno.test("VF addresses of every offset and stride are the standard's, and a collision far away is found at the start", () => {
  for (const [firstVfOffset, vfStride] of [[1, 1], [128, 2], [256, 1], [3, 64]] as const) {
    const count = vfStride === 2 ? 900 : 300;
    using machine = thousand({ firstVfOffset, vfStride, totalVfs: count });
    machine.kernel.tree.writeText(NUM_VFS, `${count}`);
    const pf = PciAddress.parse(PF);
    const expected = Array.from(
      { length: count },
      (_, i) => PciAddress.fromRoutingId(pf.routingId + firstVfOffset + i * vfStride).toString(),
    );
    assertEquals(machine.addresses, [PF, ...expected].sort());
  }
  const with999 = (address: string) =>
    readTopology({
      functions: [{ address: PF, kind: "virtio-net", totalVfs: 999 }, { address, kind: "virtio-rng" }],
    });
  const last = PciAddress.fromRoutingId(0x100 + 999).toString();
  const error = assertThrows(() => with999(last));
  assert(error instanceof Error && error.message.includes(`VF 998 would be ${last}`), String(error));
  with999(PciAddress.fromRoutingId(0x100 + 1000).toString());
  assertThrows(() =>
    readTopology({ functions: [{ address: "fe:00.0", kind: "virtio-net", totalVfs: 1000 }] })
  );
});

Deno.test("the default host has room for its VFs, however many", () => {
  for (const totalVfs of [0, 4, 254, 255, 256, 1000, 4096]) {
    const [pf, rng, management] = defaultTopology(totalVfs).functions;
    assertEquals([pf!.address, pf!.totalVfs], [PF, totalVfs]);
    assert(PciAddress.parse(rng!.address).routingId > 0x100 + totalVfs);
    assert(PciAddress.parse(management!.address).routingId > PciAddress.parse(rng!.address).routingId);
  }
  assertEquals(defaultTopology().functions.map(({ address }) => address), [
    PF,
    "0000:02:00.0",
    "0000:03:00.0",
    "a003e00.virtio_mmio",
  ]);
  assertThrows(() => defaultTopology(0xffff));
});

Deno.test("VFs without a user hold no descriptors; on vfio-pci each holds its socket and nothing else", () => {
  const directory = `/tmp/ringside-thousand-${Deno.pid}`;
  makeDirectory(directory, 0o700);
  try {
    using machine = thousand({}, directory);
    const { tree } = machine.kernel;
    const before = openFdCount();
    tree.writeText(NUM_VFS, "300");
    assertEquals(openFdCount(), before);
    tree.writeText(NUM_VFS, "0");
    tree.writeText(`/sys/bus/pci/drivers/virtio-pci/unbind`, PF);
    tree.writeText(`${DEVICES}/${PF}/driver_override`, "vfio-pci");
    tree.writeText("/sys/bus/pci/drivers_probe", PF);
    tree.writeText(NUM_VFS, "300");
    assertEquals(openFdCount(), before + 301);
    tree.writeText(NUM_VFS, "0");
    assertEquals(openFdCount(), before + 1);
  } finally {
    removeDirectory(directory);
  }
});

Deno.test("more VFs than there are descriptors: ExhaustedError with numbers, VF Enable reads 0, nothing is left, and fewer fit", () => {
  const directory = `/tmp/ringside-exhausted-${Deno.pid}`;
  makeDirectory(directory, 0o700);
  const { soft } = resourceLimit(RLIMIT.openFiles);
  try {
    using machine = thousand({ driver: "vfio-pci" }, directory);
    const { tree } = machine.kernel;
    const before = everything(tree);
    const names = readDirectory(directory);
    const fds = openFdCount();
    const next = new EventFd();
    const limit = next.fd.number + 60;
    next.close();
    setSoftLimit(RLIMIT.openFiles, limit);
    try {
      const error = assertThrows(() => tree.writeText(NUM_VFS, "100"), ExhaustedError);
      assert(error.message.includes(`its limit is ${limit}`), error.message);
      assert(error.hint.includes("ulimit -n"), error.hint);
      assertEquals(tree.readText(NUM_VFS), "0\n");
      const control = new Uint8Array(2);
      machine.device(PF).readRegion(REGION.config, SRIOV + 8, control);
      assertEquals(control[0]! & 1, 0, "VF Enable");
      assertEquals(everything(tree), before);
      assertEquals([openFdCount(), readDirectory(directory)], [fds, names]);
      tree.writeText(NUM_VFS, "50");
      assertEquals(machine.addresses.length, 51);
      assert(machine.offered(machine.addresses.at(-1)!));
      tree.writeText(NUM_VFS, "0");
    } finally {
      setSoftLimit(RLIMIT.openFiles, soft);
    }
  } finally {
    removeDirectory(directory);
  }
});
