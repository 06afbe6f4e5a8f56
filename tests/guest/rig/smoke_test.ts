/** What every other guest test takes for granted; when one of these fails, look at the rig first. */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { guestHasCdev, inGuest } from "./in_guest.ts";

const PCI = "/sys/bus/pci/devices";

interface Function {
  readonly address: string;
  readonly id: string;
}

function read(path: string): string {
  return Deno.readTextFileSync(path).trim();
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
}

function functions(id: string): Function[] {
  return names(PCI)
    .map((address) => ({
      address,
      id: `${read(`${PCI}/${address}/vendor`)}:${read(`${PCI}/${address}/device`)}`.replaceAll("0x", ""),
    }))
    .filter((entry) => entry.id === id);
}

function only(list: readonly Function[], what: string): string {
  assertEquals(list.length, 1, `${what}: found ${list.map((entry) => entry.address).join(" ") || "none"}`);
  return list[0]?.address ?? "";
}

function virtioNetPf(): string {
  const pfs = functions("1af4:1041").filter(({ address }) =>
    names(`${PCI}/${address}`).includes("sriov_totalvfs")
  );
  return only(pfs, "virtio-net PF");
}

function driverOf(address: string): string | undefined {
  try {
    return Deno.readLinkSync(`${PCI}/${address}/driver`).split("/").at(-1);
  } catch {
    return undefined;
  }
}

function bindTo(address: string, driver: string): void {
  Deno.writeTextFileSync(`${PCI}/${address}/driver_override`, driver);
  if (driverOf(address) !== undefined) Deno.writeTextFileSync(`${PCI}/${address}/driver/unbind`, address);
  Deno.writeTextFileSync("/sys/bus/pci/drivers_probe", address);
  assertEquals(driverOf(address), driver);
}

function run(program: string, ...args: string[]): string {
  const output = new Deno.Command(program, { args, stdout: "piped", stderr: "piped" }).outputSync();
  const text = new TextDecoder().decode(output.stdout) + new TextDecoder().decode(output.stderr);
  assert(output.success, `${program} ${args.join(" ")}: ${text}`);
  return text;
}

function guestTest(name: string, fn: () => void | Promise<void>): void {
  Deno.test({
    name: `guest rig: ${name}`,
    ignore: !inGuest(),
    sanitizeOps: true,
    sanitizeResources: true,
    fn,
  });
}

guestTest("the IOMMU is on and every function has a group", () => {
  assertGreater(names("/sys/kernel/iommu_groups").length, 0);
  for (const address of names(PCI)) {
    assert(names(`${PCI}/${address}`).includes("iommu_group"), `${address} has no IOMMU group`);
  }
});

guestTest("the standard functions are there", () => {
  const pf = virtioNetPf();
  assertEquals(read(`${PCI}/${pf}/sriov_totalvfs`), "3");
  assertEquals(driverOf(pf), "virtio-pci");
  assertEquals(read(`${PCI}/${only(functions("8086:10c9"), "igb")}/sriov_totalvfs`), "7");
  assertEquals(functions("1af4:1041").length, 3);
  assertEquals(functions("1af4:1044").length, 3);
  assertEquals(functions("1af4:1042").length, 2);
  only(functions("1234:11e8"), "edu");
});

guestTest("functions with MSI-X, with MSI only and with INTx only are there", () => {
  const capabilities = (address: string): string => run("lspci", "-vv", "-s", address);
  const [first = "", second = ""] = functions("1af4:1044").map((entry) => capabilities(entry.address));
  assert(first.includes("MSI-X:"), first);
  assert(!second.includes("MSI-X:") && !second.includes("MSI:"), second);
  assert(second.includes("Interrupt: pin A"), second);
  const edu = capabilities(only(functions("1234:11e8"), "edu"));
  assert(edu.includes("MSI:") && !edu.includes("MSI-X:"), edu);
});

guestTest("VFs of a PF on vfio-pci appear and get VFIO device nodes", () => {
  const pf = virtioNetPf();
  const groupNode = (address: string): string =>
    `/dev/vfio/${Deno.readLinkSync(`${PCI}/${address}/iommu_group`).split("/").at(-1)}`;
  try {
    bindTo(pf, "vfio-pci");
    Deno.writeTextFileSync(`${PCI}/${pf}/sriov_numvfs`, "2");
    const vf = `${pf.slice(0, -1)}1`;
    bindTo(vf, "vfio-pci");
    assert(Deno.statSync(groupNode(vf)).isCharDevice);
    assert(Deno.readLinkSync(`${PCI}/${vf}/iommu_group`) !== Deno.readLinkSync(`${PCI}/${pf}/iommu_group`));
    if (guestHasCdev() !== false) {
      assert(Deno.statSync("/dev/iommu").isCharDevice);
      const [name = ""] = names(`${PCI}/${vf}/vfio-dev`);
      assert(Deno.statSync(`/dev/vfio/devices/${name}`).isCharDevice);
    }
  } finally {
    Deno.writeTextFileSync(`${PCI}/${pf}/sriov_numvfs`, "0");
    bindTo(pf, "virtio-pci");
    Deno.writeTextFileSync(`${PCI}/${pf}/driver_override`, "\n");
  }
});

guestTest("frames pass between the VFs of one PF", async () => {
  const pf = virtioNetPf();
  Deno.writeTextFileSync(`${PCI}/${pf}/sriov_numvfs`, "2");
  try {
    // Each link gets a network namespace of its own, or the kernel would answer itself without sending a frame.
    for (const vf of [1, 2]) {
      const address = `${pf.slice(0, -1)}${vf}`;
      const virtio = names(`${PCI}/${address}`).find((name) => name.startsWith("virtio"));
      const link = names(`${PCI}/${address}/${virtio}/net`)[0] ?? "";
      run("ip", "netns", "add", `vf${vf}`);
      run("ip", "link", "set", link, "netns", `vf${vf}`);
      run("ip", "-n", `vf${vf}`, "addr", "add", `192.0.2.${vf}/24`, "dev", link);
      run("ip", "-n", `vf${vf}`, "link", "set", link, "up");
    }
    const answer = await retry(() =>
      run("ip", "netns", "exec", "vf1", "ping", "-c", "1", "-W", "2", "192.0.2.2")
    );
    assert(answer.includes(" 0% packet loss"), answer);
  } finally {
    for (const vf of [1, 2]) run("ip", "netns", "del", `vf${vf}`);
    Deno.writeTextFileSync(`${PCI}/${pf}/sriov_numvfs`, "0");
  }
});

guestTest("file systems a program relies on are writable where they should be", () => {
  for (const folder of ["/tmp", "/run", "/dev/shm"]) {
    const file = Deno.makeTempFileSync({ dir: folder });
    Deno.removeSync(file);
  }
  const project = Deno.makeTempFileSync({ dir: ".rig" });
  Deno.removeSync(project);
  assert(read("/proc/mounts").includes(" /dev/hugepages hugetlbfs "));
  assertGreater(Number(/^HugePages_Free:\s+(\d+)/m.exec(read("/proc/meminfo"))?.[1]), 0);
});

guestTest("FFI reaches libc, and hugepages can be mapped from a memfd", () => {
  const libc = Deno.dlopen("libc.so.6", {
    memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
    ftruncate: { parameters: ["i32", "i64"], result: "i32" },
    mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
    mlock: { parameters: ["pointer", "usize"], result: "i32" },
    munmap: { parameters: ["pointer", "usize"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
  });
  const sizeBytes = 2 * 1024 * 1024;
  const MFD_HUGETLB = 4;
  const PROT_READ_WRITE = 3;
  const MAP_SHARED = 1;
  try {
    const fd = libc.symbols.memfd_create(new TextEncoder().encode("smoke\0"), MFD_HUGETLB);
    assertGreater(fd, 0);
    assertEquals(libc.symbols.ftruncate(fd, BigInt(sizeBytes)), 0);
    const address = libc.symbols.mmap(null, BigInt(sizeBytes), PROT_READ_WRITE, MAP_SHARED, fd, 0n);
    if (address === null) throw new Error("mmap returned null");
    assert(Deno.UnsafePointer.value(address) !== 0xffff_ffff_ffff_ffffn, "mmap returned MAP_FAILED");
    const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(address, sizeBytes));
    bytes[sizeBytes - 1] = 7;
    assertEquals(bytes[sizeBytes - 1], 7);
    assertEquals(libc.symbols.mlock(address, BigInt(sizeBytes)), 0);
    assertEquals(libc.symbols.munmap(address, BigInt(sizeBytes)), 0);
    assertEquals(libc.symbols.close(fd), 0);
  } finally {
    libc.close();
  }
});

guestTest("UNIX sockets work in /run", async () => {
  const path = "/run/ringside-smoke.sock";
  using listener = Deno.listen({ transport: "unix", path });
  const [server, client] = await Promise.all([listener.accept(), Deno.connect({ transport: "unix", path })]);
  await client.write(new Uint8Array([7]));
  const received = new Uint8Array(1);
  await server.read(received);
  client.close();
  server.close();
  assertEquals(received[0], 7);
});

async function retry(action: () => string): Promise<string> {
  for (let attempt = 1;; attempt++) {
    try {
      return action();
    } catch (error) {
      // Links come up a moment after they are told to.
      if (attempt === 3) throw error;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }
}
