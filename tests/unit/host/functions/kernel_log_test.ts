import { assertEquals } from "@std/assert";
import { makeDirectory, O, OwnedFd, writeAll } from "../../../../ffi/mod.ts";
import { listenToKernelLog, messageAbout } from "../../../../lib/host/functions/kernel_log.ts";
import { SCRATCH } from "../temporary.ts";

const PF = "0000:01:00.0";

Deno.test("kernel log: a record is about a function by its text or by its properties", () => {
  const line = "3,1041,5140900,-;ice 0000:01:00.0: Only 0 MSI-X interrupts available for SR-IOV";
  assertEquals(messageAbout(line, PF), "Only 0 MSI-X interrupts available for SR-IOV");
  assertEquals(messageAbout(line, "0000:01:00.1"), undefined);
  const named =
    "4,7,1,-;eth1: Reject SRIOV config request since if is down!\n SUBSYSTEM=net\n DEVICE=+pci:0000:01:00.0";
  assertEquals(messageAbout(named, PF), "eth1: Reject SRIOV config request since if is down!");
  assertEquals(messageAbout("6,1,1,-;pci 0000:01:00.0 is here", PF), "is here");
  assertEquals(messageAbout("", PF), undefined);
});

Deno.test("kernel log: what was there before is not heard, what comes later is", () => {
  makeDirectory(SCRATCH);
  const path = `${SCRATCH}/kmsg-${crypto.randomUUID()}`;
  using file = OwnedFd.open(path, O.WRONLY | O.CREAT | O.APPEND);
  const log = (text: string) => writeAll(file, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
  log(`6,1,1,-;ice ${PF}: of yesterday\n`);
  using heard = listenToKernelLog(path)!;
  assertEquals(heard.linesAbout(PF), []);
  log(`3,2,2,-;ice ${PF}: not enough MMIO resources for SR-IOV\n`);
  assertEquals(heard.linesAbout(PF), ["not enough MMIO resources for SR-IOV"]);
  assertEquals(listenToKernelLog(`${SCRATCH}/no-such-file`), undefined);
});
