import { assert, assertEquals, assertThrows } from "@std/assert";
import { openFdCount, readText, replaceFile, SyscallError } from "../../../../ffi/mod.ts";
import { KernelSysfs } from "../../../../lib/host/sysfs/kernel_sysfs.ts";
import { LinuxHost } from "../../../../lib/host/linux_host.ts";
import { TemporaryDirectory } from "../temporary.ts";

const bytes = (text: string) => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;

Deno.test("kernel sysfs: text loses trailing white space, bytes do not, and nothing stays open", () => {
  using directory = new TemporaryDirectory();
  const path = `${directory.path}/attribute`;
  replaceFile(path, bytes(" vfio-pci \n"));
  const before = openFdCount();
  using sysfs = new KernelSysfs();
  assertEquals(sysfs.readText(path), " vfio-pci");
  assertEquals(sysfs.readBytes(path), bytes(" vfio-pci \n"));
  assertEquals(sysfs.list(directory.path), ["attribute"]);
  assertEquals([sysfs.exists(path), sysfs.exists(`${path}x`)], [true, false]);
  sysfs.writeText(path, "\n");
  assertEquals(readText(path)[0], "\n");
  assertEquals(openFdCount(), before);
});

Deno.test("kernel sysfs: failures are SyscallErrors with the errno of Linux", () => {
  using sysfs = new KernelSysfs();
  const code = (work: () => unknown) => assertThrows(work, SyscallError).code;
  assertEquals(code(() => sysfs.readText("/nonexistent")), "ENOENT");
  assertEquals(code(() => sysfs.writeText("/nonexistent", "1")), "ENOENT");
  assertEquals(code(() => sysfs.list("/proc/self/stat")), "ENOTDIR");
  assertEquals(code(() => sysfs.readLink("/proc/self/stat")), "EINVAL");
});

Deno.test("linux host: looks at this machine without changing or opening anything", () => {
  using directory = new TemporaryDirectory();
  const before = openFdCount();
  using host = new LinuxHost({ stateDirectory: `${directory.path}/a`, lockDirectory: `${directory.path}/b` });
  assertEquals(host.name, "linux");
  for (const one of host.list()) assertEquals(host.describe(one.address).address, one.address);
  assertEquals(host.journal(), []);
  const findings = host.examine();
  assert(findings.some((one) => one.what === "IOMMU"));
  assert(findings.every((one) => one.state === "ok" || one.mend !== undefined));
  assertEquals([openFdCount(), new KernelSysfs().list(directory.path)], [before, []]);
});
