/** Through how many files the calls go that matter most: docs/architecture.md names them, and the stack does here. */
import { assert, assertEquals } from "@std/assert";
import { main } from "../../../cli/main.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { EventFd, makeDirectory, readText, removeDirectory } from "../../../ffi/mod.ts";
import { readTopology } from "../../../lib/emulation/mod.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { NetModel } from "../../../lib/emulation/virtio/net/model.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { PackedQueue } from "../../../lib/virtio/queue/packed.ts";
import { WireFunction } from "../../unit/sockets/vfio_user/wire_function.ts";
import { LegacyHost } from "../legacy/legacy_host.ts";

const ROOT = new URL("../../../", import.meta.url).href;
const FRAME = new RegExp(`${ROOT}([\\w/]+\\.ts)`, "g");
const PF = "0000:01:00.0";
const QUIET = { out: () => {}, err: () => {} };

/** The files from outermost to innermost, each once, of the first call of `name` while `run` runs. */
async function filesTo(holder: object, name: string, run: () => unknown): Promise<string[]> {
  const found = Object.getOwnPropertyDescriptor(holder, name)!;
  const limit = Error.stackTraceLimit;
  let stack = "";
  // The file that has the method, which a stack seen from outside ends without.
  Error.stackTraceLimit = 100;
  Object.defineProperty(holder, name, {
    ...found,
    value(this: unknown, ...args: unknown[]) {
      stack ||= new Error().stack!;
      return found.value.apply(this, args);
    },
  });
  try {
    await run();
  } finally {
    Object.defineProperty(holder, name, found);
    Error.stackTraceLimit = limit;
  }
  assert(stack !== "", `nothing called ${name}`);
  const files = [...stack.matchAll(FRAME)].map(([, path]) => path!).reverse();
  // What types the errors of a call is around each of them.
  return [...new Set(files)].filter((path) => !path.startsWith("tests/") && path !== "lib/errors/doors.ts");
}

/** What the page says of a way, which begins in `first`, ends in `last`, and has so many files at most. */
function assertDocumented(way: string, most: number, files: readonly string[]): void {
  const page = readText(new URL("../../../docs/architecture.md", import.meta.url).pathname);
  const line = page.split("\n").find((line) => line.startsWith(`| ${way} `)) ?? "";
  assertEquals([...line.matchAll(/`([\w/]+\.ts)`/g)].map(([, path]) => path), files, way);
  assert(files.length <= most, `${way}: ${files.length} files`);
}

Deno.test("a frame goes from transmit to the doorbell through at most 6 files", async () => {
  await using host = await LegacyHost.start({ kind: "virtio-net", switch: "s0" });
  await using net = await VirtioNet.open(host.modern(1), { interrupts: "none" });
  const files = await filesTo(EventFd.prototype, "signal", () => net.send(new Uint8Array(60)));
  assertDocumented("a frame, from `send` to the doorbell", 6, files);
});

Deno.test("a read of a VF's legacy register goes to the ring of its owner's queue through at most 7 files", async () => {
  await using host = await LegacyHost.start({ kind: "virtio-net", switch: "s0" });
  const { legacy } = host.admin.member(0);
  const files = await filesTo(PackedQueue.prototype, "publish", () => legacy.readCommon(18, 1));
  assertDocumented("`readCommon` of a VF's legacy register, to the ring", 7, [
    ...files,
    "lib/virtio/queue/packed.ts",
  ]);
});

Deno.test("bind goes from arguments to sysfs through at most 9 files", async () => {
  await using host = await LegacyHost.start({ kind: "virtio-net", switch: "s0" });
  const args = ["--host", host.served.directory, "bind", host.vfs[1]!, "--driver", "virtio-pci"];
  const files = await filesTo(SocketSysfs.prototype, "writeText", () => main(args, QUIET));
  assertDocumented("`bind`, from arguments to sysfs", 9, [...files, "lib/host/sysfs/socket_sysfs.ts"]);
});

Deno.test("a register write over vfio-user goes from the socket to the model through at most 6 files", async () => {
  const directory = `/tmp/ringside-paths-${crypto.randomUUID().slice(0, 8)}`;
  makeDirectory(directory, 0o700);
  const topology = readTopology({ functions: [{ address: PF, kind: "virtio-net", driver: "vfio-pci" }] });
  try {
    using machine = new EmulatedMachine({ topology, models: createVirtioModels(), directory });
    using f = new WireFunction(machine, `${directory}/${PF}.sock`);
    f.start(1n << 32n, []);
    const files = await filesTo(NetModel.prototype, "reset", () => f.set(20, 1, 0));
    // Before it: who waits for what, and finds the socket readable.
    const socket = files.findIndex((path) => path.endsWith("server/connection.ts"));
    assertDocumented("a register write, from the socket to the model", 6, [
      ...files.slice(socket),
      "lib/emulation/virtio/net/model.ts",
    ]);
  } finally {
    removeDirectory(directory);
  }
});
